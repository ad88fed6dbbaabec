//! What a person reads when a port is taken.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;

/// A socket that could not be bound, and who holds the port if `/proc` tells.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind {transport} {local}{}{}", Device(.device.as_deref()), Owner(.owner.as_deref()))]
pub struct BindError {
    /// What kind of socket.
    pub transport: Transport,
    /// The address and port, or the path, that was asked for.
    pub local: String,
    /// The device that the socket was to be bound to.
    pub device: Option<String>,
    /// The name and id of the process that has the port already.
    pub owner: Option<String>,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl BindError {
    pub(crate) fn new(
        transport: Transport,
        addr: SocketAddr,
        device: Option<&str>,
        source: io::Error,
    ) -> Self {
        let owner = match source.kind() {
            io::ErrorKind::AddrInUse => owner_of(transport, addr.port()),
            _ => None,
        };
        Self {
            transport,
            local: addr.to_string(),
            device: device.map(str::to_owned),
            owner,
            source,
        }
    }
}

/// The transport of a socket, as a person calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// A Unix stream socket.
    Unix,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Unix => "Unix socket",
        })
    }
}

struct Device<'a>(Option<&'a str>);

impl fmt::Display for Device<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(device) => write!(f, " on {device}"),
            None => Ok(()),
        }
    }
}

struct Owner<'a>(Option<&'a str>);

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(owner) => write!(f, ", which {owner} uses"),
            None => Ok(()),
        }
    }
}

/// Finds the process that holds `port` in the caller's network namespace.
fn owner_of(transport: Transport, port: u16) -> Option<String> {
    let tables = match transport {
        Transport::Tcp => ["tcp", "tcp6"],
        Transport::Udp => ["udp", "udp6"],
        Transport::Unix => return None,
    };
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok())
        .flat_map(|text| inodes_at(&text, transport, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let holds = fs::read_dir(format!("/proc/{pid}/fd"))
            .ok()?
            .flatten()
            .any(|fd| {
                fs::read_link(fd.path()).is_ok_and(|target| {
                    inodes
                        .iter()
                        .any(|inode| target.as_os_str() == inode.as_str())
                })
            });
        if !holds {
            return None;
        }
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some(format!("{} (process {pid})", name.trim()))
    })
}

fn inodes_at(table: &str, transport: Transport, port: u16) -> Vec<u64> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let local = fields.get(1)?.rsplit(':').next()?;
            if u16::from_str_radix(local, 16).ok()? != port {
                return None;
            }
            if transport == Transport::Tcp && *fields.get(3)? != TCP_LISTEN {
                return None;
            }
            fields.get(9)?.parse().ok().filter(|inode| *inode != 0)
        })
        .collect()
}

/// The state of a listening socket in `/proc/net/tcp`.
const TCP_LISTEN: &str = "0A";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_kernel_yields_the_inode() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            119: 0100007F:14E7 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0\n\
            120: 0100007F:14E8 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0 0\n";

        assert_eq!(inodes_at(table, Transport::Udp, 5351), [4711]);
        assert!(inodes_at(table, Transport::Tcp, 5351).is_empty());
        assert!(inodes_at("garbage\nmore garbage", Transport::Udp, 5351).is_empty());
    }
}
