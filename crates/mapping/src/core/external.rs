//! Which external port a mapping gets: of the server's own address, and of the IPv4 address that
//! all share.

use std::sync::Arc;

use super::Core;
use super::map::may_change;
use super::permit::Grade;
use crate::{External, ExternalPort, Host, MapRequest, Mapping, Refusal, Requester, Via};

impl Core {
    /// Chooses the external port of a new mapping.
    pub(super) fn assign(
        &self,
        host: &Host,
        request: &MapRequest,
        via: Via,
    ) -> Result<Assigned, Refusal> {
        match request.external {
            External::Exact(port) => {
                let taken = !self.is_own(host, request, port, via);
                self.exactly(host, request, port, taken)
            }
            External::Required(port) => {
                let elsewhere = self.outbound_port(host, request, via);
                let taken = elsewhere.is_some_and(|out| out != port)
                    || !self.is_free(host, request, port, via);
                self.exactly(host, request, port, taken)
            }
            External::Any(port) => {
                let opens = self.grade_external(host, request, port) == Grade::Opens;
                match opens && self.is_own(host, request, port, via) {
                    true => Ok(Assigned::Port(port)),
                    false => self.search(host, request, via, [Some(port), None]),
                }
            }
            External::Suggested(port) => {
                let outbound = self.outbound_port(host, request, via);
                self.search(host, request, via, [outbound, port])
            }
        }
    }

    /// RFC 6887 §11.3: an inbound mapping gets the port of the outbound one that its internal port
    /// has at the shared address.
    fn outbound_port(&self, host: &Host, request: &MapRequest, via: Via) -> Option<ExternalPort> {
        let (protocol, internal) = (request.protocol, request.internal_port);
        self.snapshot
            .mappings_by_internal(host.addr, protocol, internal)
            .find(|mapping| mapping.peer && !request.peer && via.has_ipv4())
            .map(|mapping| mapping.external_port)
    }

    /// Tells whether a port is free, or held by mappings that the request may overwrite.
    fn is_own(&self, host: &Host, request: &MapRequest, port: ExternalPort, via: Via) -> bool {
        let (requester, nonce) = (request.requester, request.nonce);
        let own = |mapping: &Arc<Mapping>| {
            mapping.host == host.mac && may_change(mapping, requester, nonce)
        };
        let holders = self.holders(host, request, port, via);
        holders.iter().all(own) && !self.is_reserved(host, request, port, via)
    }

    fn exactly(
        &self,
        host: &Host,
        request: &MapRequest,
        port: ExternalPort,
        taken: bool,
    ) -> Result<Assigned, Refusal> {
        match self.grade_external(host, request, port) {
            Grade::Denied => Err(Refusal::ExternalPortDenied),
            Grade::Asks | Grade::Opens if taken => Err(Refusal::ExternalPortTaken),
            Grade::Asks => Ok(Assigned::Asks),
            Grade::Opens => Ok(Assigned::Port(port)),
        }
    }

    /// Returns the mappings that hold an external port where a new one would be reached: of the
    /// server itself, and of whoever has it at the shared IPv4 address.
    pub(super) fn holders(
        &self,
        host: &Host,
        request: &MapRequest,
        port: ExternalPort,
        via: Via,
    ) -> Vec<Arc<Mapping>> {
        let (snapshot, protocol) = (&self.snapshot, request.protocol);
        // an inbound and an outbound mapping of one internal port do not stand in each other's way
        let apart = |held: &&Arc<Mapping>| {
            held.peer != request.peer
                && held.host == host.mac
                && held.internal_port == request.internal_port
        };
        let own = snapshot
            .mapping_by_external(host.addr, protocol, port)
            .filter(|_| via.has_ipv6());
        let shared = snapshot
            .mappings_by_shared(protocol, port)
            .filter(|held| via.has_ipv4() && !apart(held))
            .filter(|shared| own.is_none_or(|own| own.id != shared.id));
        own.into_iter().chain(shared).cloned().collect()
    }

    pub(super) fn is_free(
        &self,
        host: &Host,
        request: &MapRequest,
        port: ExternalPort,
        via: Via,
    ) -> bool {
        self.holders(host, request, port, via).is_empty()
            && !self.is_reserved(host, request, port, via)
    }

    /// Tells whether a port of the shared address that has no mapping is another host's all the
    /// same: it gave it up a short while ago, or, NP-5, it maps that of the other protocol by
    /// NAT-PMP (RFC 6886 §3.3), or this one would be.
    fn is_reserved(&self, host: &Host, request: &MapRequest, port: ExternalPort, via: Via) -> bool {
        if !via.has_ipv4() {
            return false;
        }
        let protocol = request.protocol;
        let natpmp = request.requester == Requester::NatPmp;
        let mut companions = self.snapshot.mappings_by_shared(protocol.companion(), port);
        let is_companion = companions.any(|mapping| {
            mapping.host != host.mac && (natpmp || mapping.requester == Requester::NatPmp)
        });
        is_companion || self.shared.is_kept_from(host.mac, protocol, port)
    }

    /// The wanted ports, the internal port, then the next free one above 1023.
    fn search(
        &self,
        host: &Host,
        request: &MapRequest,
        via: Via,
        wanted: [Option<ExternalPort>; 2],
    ) -> Result<Assigned, Refusal> {
        let free = |port: &ExternalPort| {
            self.grade_external(host, request, *port) == Grade::Opens
                && self.is_free(host, request, *port, via)
        };
        let internal = request.internal_port.get();
        let wanted = wanted.into_iter().flatten();
        let start = wanted.clone().next().map_or(internal, ExternalPort::get);
        let above = self.gaps(request, via, start.max(FIRST_HIGH));
        let below = self.gaps(request, via, FIRST_HIGH);
        wanted
            .chain(ExternalPort::new(internal))
            .chain(above)
            .chain(below)
            .chain(self.spare(host, request))
            .find(free)
            .map(Assigned::Port)
            .ok_or(Refusal::ExternalPortTaken)
    }

    /// Iterates over the ports from `start` on, without those that others have at the shared
    /// address: there may be many, and they cost nothing here.
    fn gaps(
        &self,
        request: &MapRequest,
        via: Via,
        start: u16,
    ) -> impl Iterator<Item = ExternalPort> {
        let gap = move |port: u16| match via.has_ipv4() {
            true => {
                let (protocol, requester) = (request.protocol, request.requester);
                self.shared.next_gap(protocol, requester, port)
            }
            false => Some(port),
        };
        std::iter::successors(gap(start), move |port| gap(port.checked_add(1)?))
            .filter_map(ExternalPort::new)
    }

    /// Iterates over what [`Self::gaps`] leaves out, and the host may have all the same: the
    /// companions of its own ports, and what is kept for it.
    fn spare(&self, host: &Host, request: &MapRequest) -> impl Iterator<Item = ExternalPort> {
        let companion = request.protocol.companion();
        let companions = self
            .snapshot
            .mappings_of(host.addr)
            .filter(move |mapping| mapping.protocol == companion)
            .map(|mapping| mapping.external_port);
        companions.chain(self.shared.kept_for(host.mac, request.protocol))
    }
}

/// What comes of the search for an external port.
pub(super) enum Assigned {
    /// A person is asked about it.
    Asks,
    /// This one.
    Port(ExternalPort),
}

/// Below lie the ports of well-known services, which a search must not hand out.
const FIRST_HIGH: u16 = 1024;
