//! Which external port a mapping gets: of the server's own address, and of the IPv4 address that
//! all share.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::Core;
use super::map::may_change;
use super::permit::Grade;
use crate::{External, ExternalPort, Host, MapRequest, Mapping, Protocol, Refusal, Requester, Via};

impl Core {
    /// Chooses the external port of a new mapping.
    pub(super) fn assign(
        &self,
        host: &Host,
        request: &MapRequest,
        via: Via,
    ) -> Result<Assigned, Refusal> {
        let free = |port: &ExternalPort| {
            self.grade_external(host, request, *port) == Grade::Opens
                && self.is_free(host, request, *port, via)
        };
        match request.external {
            External::Exact(port) => {
                let holders = self.holders(host.addr, request.protocol, port, via);
                let (requester, nonce) = (request.requester, request.nonce);
                let own = |mapping: &Arc<Mapping>| {
                    mapping.host == host.mac && may_change(mapping, requester, nonce)
                };
                let taken =
                    !holders.iter().all(own) || self.companion_is_taken(host, request, port, via);
                self.exactly(host, request, port, taken)
            }
            External::Required(port) => {
                self.exactly(host, request, port, !self.is_free(host, request, port, via))
            }
            External::Any(port) => self.search(Some(port), request, free),
            External::Suggested(port) => self.search(port, request, free),
        }
    }

    fn exactly(
        &self,
        host: &Host,
        request: &MapRequest,
        port: ExternalPort,
        taken: bool,
    ) -> Result<Assigned, Refusal> {
        match self.grade_external(host, request, port) {
            Grade::Denied => Err(Refusal::PortDenied),
            Grade::Asks | Grade::Opens if taken => Err(Refusal::ExternalPortTaken),
            Grade::Asks => Ok(Assigned::Asks),
            Grade::Opens => Ok(Assigned::Port(port)),
        }
    }

    /// Returns the mappings that hold an external port where a new one would be reached: of the
    /// server itself, and of whoever has it at the shared IPv4 address.
    pub(super) fn holders(
        &self,
        server: Ipv4Addr,
        protocol: Protocol,
        port: ExternalPort,
        via: Via,
    ) -> Vec<Arc<Mapping>> {
        let snapshot = &self.snapshot;
        let own = snapshot
            .mapping_by_external(server, protocol, port)
            .filter(|_| via.has_ipv6());
        let shared = snapshot
            .mapping_by_shared(protocol, port)
            .filter(|_| via.has_ipv4())
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
        self.holders(host.addr, request.protocol, port, via)
            .is_empty()
            && !self.companion_is_taken(host, request, port, via)
    }

    /// NP-5: who maps a port of the shared address by NAT-PMP has that of the other protocol too
    /// (RFC 6886 §3.3).
    fn companion_is_taken(
        &self,
        host: &Host,
        request: &MapRequest,
        port: ExternalPort,
        via: Via,
    ) -> bool {
        let companion = match request.protocol {
            Protocol::Tcp => Protocol::Udp,
            Protocol::Udp => Protocol::Tcp,
        };
        let natpmp = request.requester == Requester::NatPmp;
        via.has_ipv4()
            && self
                .snapshot
                .mapping_by_shared(companion, port)
                .is_some_and(|mapping| {
                    mapping.host != host.mac && (natpmp || mapping.requester == Requester::NatPmp)
                })
    }

    /// The wanted port, the internal port, then the next free one above 1023.
    fn search(
        &self,
        wanted: Option<ExternalPort>,
        request: &MapRequest,
        free: impl Fn(&ExternalPort) -> bool,
    ) -> Result<Assigned, Refusal> {
        let internal = request.internal_port.get();
        let start = wanted.map_or(internal, ExternalPort::get);
        let above = (start.max(FIRST_HIGH)..=u16::MAX).chain(FIRST_HIGH..start);
        wanted
            .into_iter()
            .chain(ExternalPort::new(internal))
            .chain(above.filter_map(ExternalPort::new))
            .find(free)
            .map(Assigned::Port)
            .ok_or(Refusal::ExternalPortTaken)
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
