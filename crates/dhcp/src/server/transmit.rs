//! Where an answer goes.

use std::net::{Ipv4Addr, SocketAddrV4};

use mapping::Mac;

use crate::wire::{BROADCAST, Received};

/// A datagram to be sent from the gateway's address and port 67.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where it goes.
    pub destination: Destination,
    /// The DHCP message, without IP and UDP headers.
    pub bytes: Vec<u8>,
}

/// Where an answer goes (RFC 2131 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To everybody on the LAN, port 68.
    Broadcast,
    /// To a client that has an address.
    Udp(SocketAddrV4),
    /// To a client that does not answer ARP for its new address yet.
    UnicastMac(Mac, SocketAddrV4),
}

/// H-4, for a client that does not use its address yet.
pub(super) fn unconfigured(message: &Received, addr: Ipv4Addr) -> Destination {
    if message.flags & BROADCAST != 0 {
        Destination::Broadcast
    } else {
        Destination::UnicastMac(message.mac, SocketAddrV4::new(addr, CLIENT_PORT))
    }
}

pub(super) const fn configured(addr: Ipv4Addr) -> Destination {
    Destination::Udp(SocketAddrV4::new(addr, CLIENT_PORT))
}

/// RFC 2131 §4.1.
pub(crate) const CLIENT_PORT: u16 = 68;
