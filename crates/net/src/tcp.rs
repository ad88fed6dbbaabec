//! TCP listeners with errors that name what could not be bound.

use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockAddr, Type};
use tokio::net::TcpListener;

use crate::bind::{BindError, Transport};

/// Listens on `addr`, on one interface if `device` names it; must run inside a tokio runtime.
///
/// # Errors
///
/// Names the address, the device and, for a port in use, its owner.
pub fn listen(addr: SocketAddr, device: Option<&str>) -> Result<TcpListener, BindError> {
    listen_std(addr, device).and_then(|listener| {
        TcpListener::from_std(listener)
            .map_err(|source| BindError::new(Transport::Tcp, addr, device, source))
    })
}

/// Listens like [`listen`], but needs no runtime; the listener is non-blocking.
///
/// # Errors
///
/// Names the address, the device and, for a port in use, its owner.
pub fn listen_std(
    addr: SocketAddr,
    device: Option<&str>,
) -> Result<std::net::TcpListener, BindError> {
    let open = || {
        let socket =
            socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // A restart must not wait for the connections of the last run to be forgotten.
        socket.set_reuse_address(true)?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if let Some(device) = device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        socket.bind(&SockAddr::from(addr))?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|source| BindError::new(Transport::Tcp, addr, device, source))
}

const BACKLOG: i32 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_owner() {
        let first = listen_std("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let addr = first.local_addr().unwrap();

        let error = listen_std(addr, None).unwrap_err();

        let text = error.to_string();
        let own = format!("(process {})", std::process::id());
        assert!(
            text.starts_with(&format!("cannot bind TCP {addr}, which ")),
            "{text}"
        );
        assert!(text.contains(&own), "{text}");
    }
}
