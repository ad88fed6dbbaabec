//! The peers, and for each a client, a gateway and a server.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::{Node, cable};
use net::netlink::{Route, Target};
use tempfile::TempDir;
use tokio::process::Child;

use crate::cpu::Whose;
use crate::load;
use crate::support::{self, inside};

/// What stands between client and server.
#[derive(Debug, Clone)]
pub enum Peer {
    /// The kernel forwards IPv6: nothing is translated, no translator can be faster.
    Forwarding,
    /// The kernel's own translation of an IPv4 destination.
    Dnat44,
    /// As Debian ships it.
    Tayga(PathBuf),
    TaygaMain(PathBuf),
    Tundra(PathBuf),
    /// A build of ours, with its name in the tables.
    Portico(String, PathBuf),
}

impl Peer {
    pub fn name(&self) -> &str {
        match self {
            Self::Forwarding => FORWARDING,
            Self::Dnat44 => DNAT44,
            Self::Tayga(_) => TAYGA,
            Self::TaygaMain(_) => TAYGA_MAIN,
            Self::Tundra(_) => TUNDRA,
            Self::Portico(name, _) => name,
        }
    }

    /// Where the client knocks, and what the server sees of it is of which family.
    fn target(&self) -> (IpAddr, Family) {
        match self {
            Self::Forwarding => (SERVER6.into(), Family::V6),
            Self::Dnat44 => (GATEWAY_OUTSIDE4.into(), Family::V4),
            _ => (SERVER_IN_PREF64.into(), Family::V4),
        }
    }
}

/// How the server sees the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Whether client and server hand whole super-packets to their cards; most do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offloads {
    On,
    Off,
}

impl fmt::Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// A peer in its place. Everything vanishes with the value.
#[derive(Debug)]
pub struct Site {
    pub peer: Peer,
    pub client: Node,
    pub server: Node,
    /// How the server must see the client.
    pub seen_as: Family,
    /// Whose processor time counts.
    pub whose: Whose,
    target: IpAddr,
    program: Option<Child>,
    _gateway: Node,
    _folder: TempDir,
}

impl Site {
    pub async fn build(peer: &Peer, offloads: Offloads, shared: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let client = Node::new("client")?;
        let gateway = Node::new("gateway")?;
        let server = Node::new("server")?;
        cable(client.end("eth0"), gateway.end("wan").gro()).await?;
        cable(server.end("eth0"), gateway.end("lan").gro()).await?;
        gateway.forward().await?;
        address(&client, "eth0", &[CLIENT6.into(), CLIENT4.into()]).await?;
        address(
            &gateway,
            "wan",
            &[GATEWAY_WAN6.into(), GATEWAY_OUTSIDE4.into()],
        )
        .await?;
        address(&gateway, "lan", &[GATEWAY_LAN6.into(), GATEWAY_LAN4.into()]).await?;
        address(&server, "eth0", &[SERVER6.into(), SERVER4.into()]).await?;
        default_route(&client, GATEWAY_WAN6.into()).await?;
        default_route(&client, GATEWAY_OUTSIDE4.into()).await?;
        default_route(&server, GATEWAY_LAN6.into()).await?;
        default_route(&server, GATEWAY_LAN4.into()).await?;
        if offloads == Offloads::Off {
            for node in [&client, &server] {
                node.run(async || Ok(net::ethtool::set_send_offloads("eth0", false)?))
                    .await?;
            }
        }
        let program = start(peer, &gateway, &folder).await?;
        let (target, seen_as) = peer.target();
        let site = Self {
            peer: peer.clone(),
            client,
            server,
            seen_as,
            whose: if shared {
                Whose::Ours(program.as_ref().and_then(Child::id))
            } else {
                Whose::Machine
            },
            target,
            program,
            _gateway: gateway,
            _folder: folder,
        };
        site.wait_ready()?;
        Ok(site)
    }

    /// Where the client finds a port of the server.
    pub const fn target(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.target, port)
    }

    /// Where the server listens for it.
    pub const fn listen(&self, port: u16) -> SocketAddr {
        match self.seen_as {
            Family::V4 => SocketAddr::new(IpAddr::V4(SERVER4), port),
            Family::V6 => SocketAddr::new(IpAddr::V6(SERVER6), port),
        }
    }

    /// The process that translates; the kernel has none.
    pub fn process(&self) -> Option<u32> {
        self.program.as_ref().and_then(Child::id)
    }

    /// No packet may have reached a host with a wrong checksum.
    pub fn check_checksums(&self) -> Result<()> {
        for (node, name) in [(&self.client, "client"), (&self.server, "server")] {
            for file in ["snmp", "snmp6"] {
                let text = inside(node, || {
                    Ok(fs::read_to_string(format!("/proc/thread-self/net/{file}"))?)
                })?;
                let wrong = checksum_errors(&text);
                let peer = self.peer.name();
                ensure!(wrong == 0, "{peer}: {wrong} wrong checksums at the {name}");
            }
        }
        Ok(())
    }

    fn wait_ready(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match load::connect(self, load::PORT) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context("nothing passes"));
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

/// Finds Debian's TAYGA, or installs it.
pub fn tayga_of_debian() -> Result<PathBuf> {
    support::of_debian("/usr/sbin/tayga", &["tayga"])
}

async fn start(peer: &Peer, gateway: &Node, folder: &TempDir) -> Result<Option<Child>> {
    match peer {
        Peer::Forwarding => Ok(None),
        Peer::Dnat44 => {
            gateway.command("nft").arg(DNAT).text().await?;
            Ok(None)
        }
        Peer::Tayga(path) | Peer::TaygaMain(path) => {
            let config = folder.path().join("tayga.conf");
            let folder = folder.path().display();
            fs::write(&config, format!("{TAYGA_CONF}data-dir {folder}\n"))?;
            let command = || gateway.command(path).arg("--config").arg(&config);
            command().arg("--mktun").output().await?;
            lead_to_tun(gateway).await?;
            quiet(command().arg("--nodetach").stderr(Stdio::null())).await
        }
        Peer::Tundra(path) => {
            let config = folder.path().join("tundra.conf");
            fs::write(&config, TUNDRA_CONF)?;
            let command = || gateway.command(path).arg("--config-file").arg(&config);
            command().arg("mktun").text().await?;
            lead_to_tun(gateway).await?;
            quiet(command().arg("translate").stderr(Stdio::null())).await
        }
        Peer::Portico(_, path) => {
            let pref64 = format!("{PREF64}/96");
            let pool = format!("{POOL}/{POOL_LEN}");
            let command = gateway
                .command(path)
                .args(["translate", "--quiet", "--pref64", &pref64, "--pool", &pool])
                .env("PORTICO_LOG", "error");
            let command = ["tcp", "udp"]
                .into_iter()
                .fold(command, |command, protocol| {
                    command.args(["--open", &format!("{protocol},{SERVER4}:{}", load::PORT)])
                });
            quiet(command).await
        }
    }
}

async fn quiet(command: lab::Command) -> Result<Option<Child>> {
    Ok(Some(command.stdout(Stdio::null()).spawn().await?))
}

/// Leads what is to be translated to the device that `mktun` made.
async fn lead_to_tun(gateway: &Node) -> Result<()> {
    let netlink = gateway.netlink();
    let device = netlink.index(TUN).await?;
    netlink.set_up(device).await?;
    for (network, len) in [(IpAddr::V6(PREF64), 96), (IpAddr::V4(POOL), POOL_LEN)] {
        let route = Route::new(network, len, Target::Device(device));
        netlink.add_route(route).await?;
    }
    Ok(())
}

async fn address(node: &Node, ifname: &str, addrs: &[IpAddr]) -> Result<()> {
    for addr in addrs {
        let len = if addr.is_ipv4() { 24 } else { 64 };
        node.add_address(ifname, &format!("{addr}/{len}")).await?;
    }
    Ok(())
}

async fn default_route(node: &Node, gateway: IpAddr) -> Result<()> {
    let route = Route::default_via(gateway, None);
    Ok(node.netlink().add_route(route).await?)
}

/// Sums the counters of wrong checksums: `snmp` has a line of names above each line of values,
/// `snmp6` a name and a value a line.
fn checksum_errors(text: &str) -> u64 {
    let lines: Vec<Vec<_>> = text
        .lines()
        .map(|it| it.split_whitespace().collect())
        .collect();
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for (line, next) in lines.iter().zip(lines.iter().skip(1)) {
        if line.first() == next.first() {
            pairs.extend(line.iter().copied().zip(next.iter().copied()));
        }
    }
    for line in &lines {
        if let [name, value] = line.as_slice() {
            pairs.push((name, value));
        }
    }
    pairs
        .into_iter()
        .filter(|(name, _)| name.ends_with("CsumErrors"))
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum()
}

/// The peers that are no builds of ours, there or absent.
pub const NAMES: [&str; 5] = [FORWARDING, DNAT44, TAYGA, TAYGA_MAIN, TUNDRA];

pub const FORWARDING: &str = "ipv6-forward";
const DNAT44: &str = "nft-dnat44";
pub const TAYGA: &str = "tayga";
pub const TAYGA_MAIN: &str = "tayga-main";
pub const TUNDRA: &str = "tundra";

const SERVER4: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 10);
const GATEWAY_LAN4: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);
const POOL: Ipv4Addr = Ipv4Addr::new(192, 168, 255, 0);
const POOL_LEN: u8 = 24;
const PREF64: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x6400, 0x64, 0, 0, 0, 0);

const SERVER_IN_PREF64: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x6400, 0x64, 0, 0, 0xc0a8, 0x400a);
const CLIENT4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
const GATEWAY_WAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const GATEWAY_OUTSIDE4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const GATEWAY_LAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);

/// What TAYGA and Tundra call their device here.
const TUN: &str = "nat64";

const DNAT: &str = "table ip nat {
    chain prerouting {
        type nat hook prerouting priority -100;
        iifname wan dnat to 192.168.64.10;
    }
}";

const TAYGA_CONF: &str = "tun-device nat64
ipv4-addr 192.168.255.1
prefix 2001:db8:6400:64::/96
dynamic-pool 192.168.255.0/24
";

const TUNDRA_CONF: &str = "program.translator_threads =
program.privilege_drop_user =
program.privilege_drop_group =
io.mode = tun
io.tun.device_path =
io.tun.interface_name = nat64
io.tun.owner_user =
io.tun.owner_group =
io.tun.multi_queue = no
router.ipv4 = 192.168.255.1
router.ipv6 = 2001:db8:3::1
router.generated_packet_ttl = 224
addressing.mode = nat64
addressing.nat64_clat.ipv4 = 192.168.255.2
addressing.nat64_clat.ipv6 = 2001:db8:1::2
addressing.nat64_clat_siit.prefix = 2001:db8:6400:64::
addressing.nat64_clat_siit.allow_translation_of_private_ips = yes
translator.ipv4.outbound_mtu = 1500
translator.ipv6.outbound_mtu = 1500
translator.6to4.copy_dscp_and_ecn = yes
translator.4to6.copy_dscp_and_ecn = yes
";

const PATIENCE: Duration = Duration::from_secs(10);
