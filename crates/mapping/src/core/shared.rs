//! The ports of the IPv4 address that all servers share: which are taken, and which are kept for
//! the host that gave them up.

use std::time::Duration;

use imbl::{OrdMap, OrdSet};

use super::{Core, Ends};
use crate::port_set::PortSet;
use crate::{ExternalPort, Instant, Mac, Mapping, Now, Protocol, Requester};

/// What is known of the ports besides their mappings.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedPorts {
    /// Those that have a mapping or are kept.
    taken: PerProtocol,
    /// Those of NAT-PMP, whose companions are its client's too.
    natpmp: PerProtocol,
    kept: OrdMap<(Protocol, ExternalPort), (Mac, Instant)>,
    /// The same by host, the next to end first.
    kept_of: OrdSet<(Mac, Instant, Protocol, ExternalPort)>,
}

/// A set of ports for each protocol.
#[derive(Debug, Clone, Default)]
struct PerProtocol {
    tcp: PortSet,
    udp: PortSet,
}

impl PerProtocol {
    const fn of(&self, protocol: Protocol) -> &PortSet {
        match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
        }
    }

    const fn of_mut(&mut self, protocol: Protocol) -> &mut PortSet {
        match protocol {
            Protocol::Tcp => &mut self.tcp,
            Protocol::Udp => &mut self.udp,
        }
    }
}

impl SharedPorts {
    /// Returns the first port from `port` on that nobody else can have a right to.
    pub(super) fn next_gap(
        &self,
        protocol: Protocol,
        requester: Requester,
        port: u16,
    ) -> Option<u16> {
        let companions = match requester {
            Requester::NatPmp => &self.taken,
            Requester::Cli
            | Requester::Dashboard
            | Requester::Dhcp
            | Requester::Pcp
            | Requester::Policy
            | Requester::Upnp
            | Requester::Wan => &self.natpmp,
        };
        let mut port = port;
        loop {
            let gap = self.taken.of(protocol).next_gap(port)?;
            port = companions.of(protocol.companion()).next_gap(gap)?;
            if port == gap {
                return Some(port);
            }
        }
    }

    /// Returns the ports that are kept for a host.
    pub(super) fn kept_for(
        &self,
        host: Mac,
        protocol: Protocol,
    ) -> impl Iterator<Item = ExternalPort> {
        self.of_host(host)
            .filter(move |(_, _, kept, _)| *kept == protocol)
            .map(|(_, _, _, port)| *port)
    }

    /// Tells whether a port is kept for another host.
    pub(super) fn is_kept_from(&self, host: Mac, protocol: Protocol, port: ExternalPort) -> bool {
        let kept = self.kept.get(&(protocol, port));
        kept.is_some_and(|(owner, _)| *owner != host)
    }

    fn of_host(&self, host: Mac) -> impl Iterator<Item = &(Mac, Instant, Protocol, ExternalPort)> {
        let first = (host, Instant::default(), Protocol::Tcp, LOWEST);
        self.kept_of
            .range(first..)
            .take_while(move |(owner, ..)| *owner == host)
    }
}

impl Core {
    /// A mapping takes its port of the shared address.
    pub(super) fn take_shared(&mut self, mapping: &Mapping) {
        if !mapping.via.has_ipv4() {
            return;
        }
        let (protocol, port) = (mapping.protocol, mapping.external_port);
        let by_shared = &mut self.snapshot.by_shared;
        by_shared.insert((protocol, port, mapping.peer), mapping.id);
        self.shared.taken.of_mut(protocol).insert(port.get());
        self.note_natpmp(protocol, port);
        if let Some(until) = self.forget_kept(protocol, port) {
            self.ends.remove(&(until, Ends::Kept(protocol, port)));
        }
    }

    /// A mapping gives its port of the shared address up.
    pub(super) fn give_up_shared(&mut self, mapping: &Mapping) {
        if !mapping.via.has_ipv4() {
            return;
        }
        let (protocol, port) = (mapping.protocol, mapping.external_port);
        self.snapshot
            .by_shared
            .remove(&(protocol, port, mapping.peer));
        if self.is_unmapped(protocol, port) {
            self.shared.taken.of_mut(protocol).remove(port.get());
        }
        self.note_natpmp(protocol, port);
    }

    fn is_unmapped(&self, protocol: Protocol, port: ExternalPort) -> bool {
        let mut mappings = self.snapshot.mappings_by_shared(protocol, port);
        mappings.next().is_none()
    }

    fn note_natpmp(&mut self, protocol: Protocol, port: ExternalPort) {
        let mut holders = self.snapshot.mappings_by_shared(protocol, port);
        let natpmp = holders.any(|mapping| mapping.requester == Requester::NatPmp);
        let ports = self.shared.natpmp.of_mut(protocol);
        match natpmp {
            true => ports.insert(port.get()),
            false => ports.remove(port.get()),
        }
    }

    /// M-8: a port that was given up is no other host's for as long as packets to the old one may
    /// still come, which also takes the gain out of closing a neighbour's port to have it
    /// (RFC 6887 §15).
    // DEVIATION RFC 6887 §15: the whole host may have its port back, whatever its internal port
    // and nonce, because it takes nothing from anybody, and a person who moves a service to
    // another internal port expects it where it was.
    pub(super) fn keep_shared(&mut self, mapping: &Mapping, now: Now) {
        let (protocol, port) = (mapping.protocol, mapping.external_port);
        if !mapping.via.has_ipv4() || !self.is_unmapped(protocol, port) {
            return;
        }
        let host = mapping.host;
        let until = now.mono
            + match protocol {
                Protocol::Tcp => KEPT_TCP,
                Protocol::Udp => KEPT_UDP,
            };
        self.keep(host, protocol, port, until);
        // a host keeps no more ports than it may hold, however often it opens and closes
        let quota = self.snapshot.host(host).map_or(0, |host| self.quota(host));
        let kept: Vec<_> = self.shared.of_host(host).copied().collect();
        let more = kept.len().saturating_sub(quota.min(KEPT_MOST));
        for (_, until, protocol, port) in kept.into_iter().take(more) {
            self.ends.remove(&(until, Ends::Kept(protocol, port)));
            self.end_kept(protocol, port);
        }
    }

    /// Goes on keeping what another core kept.
    pub(super) fn keep_on(&mut self, other: &SharedPorts) {
        for (&(protocol, port), &(host, until)) in &other.kept {
            if self.is_unmapped(protocol, port) {
                self.keep(host, protocol, port, until);
            }
        }
    }

    fn keep(&mut self, host: Mac, protocol: Protocol, port: ExternalPort, until: Instant) {
        self.shared.kept.insert((protocol, port), (host, until));
        self.shared.kept_of.insert((host, until, protocol, port));
        self.shared.taken.of_mut(protocol).insert(port.get());
        self.ends.insert((until, Ends::Kept(protocol, port)));
    }

    /// A port is kept no longer.
    pub(super) fn end_kept(&mut self, protocol: Protocol, port: ExternalPort) {
        self.forget_kept(protocol, port);
        if self.is_unmapped(protocol, port) {
            self.shared.taken.of_mut(protocol).remove(port.get());
        }
    }

    fn forget_kept(&mut self, protocol: Protocol, port: ExternalPort) -> Option<Instant> {
        let (host, until) = self.shared.kept.remove(&(protocol, port))?;
        self.shared.kept_of.remove(&(host, until, protocol, port));
        Some(until)
    }
}

/// RFC 6887 §15: as long as an idle mapping lives, 2 min for UDP and 124 min for TCP; two segment
/// lifetimes are within.
const KEPT_UDP: Duration = Duration::from_secs(2 * 60);
const KEPT_TCP: Duration = Duration::from_secs(124 * 60);

/// For one host, whatever its quota: each port that it closes costs a look at all of them.
const KEPT_MOST: usize = 64;

const LOWEST: ExternalPort = match ExternalPort::new(1) {
    Some(port) => port,
    None => unreachable!(),
};
