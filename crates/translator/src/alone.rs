//! What a translator does that stands alone, without a gateway that says what is open: sessions
//! from IPv4, static bindings, explicit address mappings, hairpinning.

mod inbound;
mod ledger;
mod stateless;
mod waiting;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::str::FromStr;

use crate::eam::{AddressMap, AddressMaps};
use crate::martian::reserved_v6;
use crate::pool::PoolRange;
use crate::transport::Transport;

pub(crate) use inbound::{Found, Inbound};
pub(crate) use stateless::{Pair, Source, stateless_four, stateless_six};
pub(crate) use waiting::refusal;

/// How a translator behaves that stands alone. Without one of these, no session starts from IPv4
/// and nothing is open but what admissions say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alone {
    /// Explicit address mappings: between two addresses that are both mapped, by a row or by a
    /// prefix, packets are translated without a session (RFC 7757).
    pub maps: AddressMaps,
    /// Static bindings; through them anybody in IPv4 may start a session.
    pub bindings: Vec<Binding>,
    /// Who else in IPv4 may send to a binding.
    pub filtering: Filtering,
    /// Whether IPv6 hosts reach each other by the addresses that they have in IPv4.
    pub hairpin: bool,
    /// Whether only what admissions open is reachable behind the prefixes, instead of everything.
    pub restricted: bool,
}

impl Alone {
    /// Says whether this can be done with these pool ranges.
    ///
    /// # Errors
    /// When pool ranges overlap, when a binding lies outside the pool or at an end of it, there are two for the same,
    /// its host is mapped or can be none, or when a map covers pool addresses.
    pub fn check(&self, pool: &[PoolRange]) -> Result<(), InvalidAlone> {
        for (index, range) in pool.iter().enumerate() {
            let mut before = pool.iter().take(index);
            if let Some(other) = before.find(|other| other.overlaps(*range)) {
                return Err(InvalidAlone::PoolTwice(*range, *other));
            }
        }
        for (index, binding) in self.bindings.iter().enumerate() {
            if !pool.iter().any(|range| range.contains(binding.four.0)) {
                return Err(InvalidAlone::OutsidePool(*binding));
            }
            if !pool.iter().any(|range| range.has_host(binding.four.0)) {
                return Err(InvalidAlone::EndOfPool(*binding));
            }
            let same = |other: &&Binding| {
                other.transport == binding.transport
                    && (other.six == binding.six || other.four == binding.four)
            };
            if self.bindings.iter().take(index).any(|other| same(&other)) {
                return Err(InvalidAlone::BoundTwice(*binding));
            }
            if let Some(what) = reserved_v6(binding.six.0, 128) {
                return Err(InvalidAlone::BoundToNobody(*binding, what));
            }
            if self.maps.four(binding.six.0).is_some() {
                return Err(InvalidAlone::BoundAndMapped(*binding));
            }
        }
        for map in self.maps.iter() {
            let (addr, len) = map.four();
            let covers = |range: &PoolRange| {
                map.holds(range.network()) && range.prefix_len() >= len || range.contains(addr)
            };
            if pool.iter().any(covers) {
                return Err(InvalidAlone::InPool(map));
            }
        }
        Ok(())
    }
}

/// Why a translator cannot stand alone like this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAlone {
    /// The host of a binding is mapped too, so that its answers would leave from another address.
    #[error("the host of the binding {0} is mapped: what it answers would come from its map")]
    BoundAndMapped(Binding),
    /// No host can have the IPv6 address of a binding.
    #[error("the binding {0} has no host: none has {1} addresses")]
    BoundToNobody(Binding, &'static str),
    /// Two bindings have the same host or the same pool address.
    #[error("the binding {0} says again what another one has said")]
    BoundTwice(Binding),
    /// A binding lies where no remote can stand, see [`PoolRange::hosts`].
    #[error(
        "the binding {0} is at the first or last address of its pool, which may stand for the \
         network or for all its hosts: give the pool in smaller parts"
    )]
    EndOfPool(Binding),
    /// A map covers pool addresses.
    #[error("the map {0} covers addresses of the pool")]
    InPool(AddressMap),
    /// A binding lies elsewhere.
    #[error("the binding {0} is outside the pool")]
    OutsidePool(Binding),
    /// Two ranges of the pool have addresses in common.
    #[error("the pool {0} overlaps {1}")]
    PoolTwice(PoolRange, PoolRange),
}

/// Who in IPv4 may send to a pool address and port to which an IPv6 host is bound (RFC 4787 §5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Filtering {
    /// Those to whose address the host has sent.
    #[default]
    AddressDependent,
    /// Everybody.
    EndpointIndependent,
}

/// A static entry of a binding information base (RFC 6146 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// In which of the three bases.
    pub transport: Transport,
    /// The IPv6 host and its port or identifier.
    pub six: (Ipv6Addr, u16),
    /// The pool address and the port or identifier behind which it is reached.
    pub four: (Ipv4Addr, u16),
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((six, six_port), (four, four_port)) = (self.six, self.four);
        let transport = self.transport.as_str();
        write!(f, "{transport},[{six}]:{six_port},{four}:{four_port}")
    }
}

impl FromStr for Binding {
    type Err = InvalidBinding;

    fn from_str(text: &str) -> Result<Self, InvalidBinding> {
        let mut fields = text.splitn(3, ',');
        let mut field = || fields.next().ok_or(InvalidBinding);
        let transport = field()?;
        let six: SocketAddrV6 = field()?.parse().map_err(|_| InvalidBinding)?;
        let four: SocketAddrV4 = field()?.parse().map_err(|_| InvalidBinding)?;
        let transport = Transport::ALL
            .into_iter()
            .find(|known| known.as_str() == transport)
            .ok_or(InvalidBinding)?;
        let is_port = |number| transport == Transport::IcmpQuery || number != 0;
        if !is_port(six.port()) || !is_port(four.port()) || six.scope_id() != 0 {
            return Err(InvalidBinding);
        }
        Ok(Self {
            transport,
            six: (*six.ip(), six.port()),
            four: (*four.ip(), four.port()),
        })
    }
}

/// Not a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a binding such as tcp,[2001:db8::1]:80,192.0.2.1:80")]
pub struct InvalidBinding;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binding_is_read_and_written() {
        for text in [
            "tcp,[2001:db8::1]:80,192.0.2.1:8080",
            "udp,[2001:db8::1]:53,192.0.2.1:53",
            "icmp,[2001:db8::1]:0,192.0.2.1:7",
        ] {
            assert_eq!(text.parse::<Binding>().unwrap().to_string(), text);
        }
        for text in [
            "tcp",
            "tcp,[2001:db8::1]:80",
            "sctp,[2001:db8::1]:80,192.0.2.1:80",
            "tcp,2001:db8::1:80,192.0.2.1:80",
            "tcp,[2001:db8::1]:0,192.0.2.1:80",
            "tcp,[2001:db8::1]:80,192.0.2.1:80,more",
        ] {
            assert_eq!(text.parse::<Binding>(), Err(InvalidBinding), "{text}");
        }
    }
}
