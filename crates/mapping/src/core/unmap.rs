//! Closing ports (RFC 6887 §15, RFC 6886 §3.4, WANIPConnection:2 `DeletePortMapping`).

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::Core;
use super::map::{describe, external, is_admin, may_change};
use crate::by_internal::internal;
use crate::{
    AuditAction, Change, CloseReason, Grant, InternalPort, Mapping, MappingId, Now, Outcome,
    Refusal, Requester, Subject, UnmapRequest, UnmapTarget, Waits,
};

impl Core {
    pub(super) fn unmap(&mut self, request: &UnmapRequest, now: Now) -> (Outcome, Waits) {
        match self.try_unmap(request, now) {
            Ok(count) => (Outcome::Granted(Grant::Unmapped(count)), self.packets()),
            Err(refusal) => (Outcome::Refused(refusal), Waits::default()),
        }
    }

    /// Closes a mapping that may exist.
    pub(super) fn close_mapping(
        &mut self,
        id: MappingId,
        reason: CloseReason,
        requester: Requester,
        now: Now,
    ) {
        let Some(mapping) = self.remove_row(id) else {
            return;
        };
        self.let_go(mapping.host);
        if mapping.via.has_ipv6() {
            self.snapshot.by_external.remove(&external(&mapping));
            self.snapshot.admission.remove(&external(&mapping));
        }
        self.give_up_shared(&mapping);
        if reason != CloseReason::Superseded {
            self.keep_shared(&mapping, now);
        }
        self.snapshot.by_internal.remove(internal(&mapping), id);
        // what takes its place must be stored first: until then it stays open
        if reason != CloseReason::Superseded {
            self.work().closings.mappings.insert(id);
        }
        let target = format!("{} {}", describe(&mapping), reason.as_str());
        self.audit(requester, AuditAction::MappingClosed, target, now);
        self.record(Change::MappingClosed { mapping, reason });
        self.touch_packets();
    }

    // DEVIATION RFC 6887 §15: what is deleted closes at once, though its server may have sent
    // lately, because what is closed must be closed, and the port is kept from others all the same
    // (M-8): at the shared address for as long as an idle mapping lives, at the server's own for
    // ever.
    fn try_unmap(&mut self, request: &UnmapRequest, now: Now) -> Result<usize, Refusal> {
        let server = match (request.subject, request.target) {
            (Subject::Admin(_), UnmapTarget::Id(_)) => Ipv4Addr::UNSPECIFIED,
            (Subject::Admin(_), _) => self.subject(request.subject)?.addr,
            // M-5, NP-8: who has no lease has nothing, and may close that as often as it likes
            (Subject::Client(client), _) => match self.snapshot.host_of(client) {
                Some(host) => host.addr,
                None => Ipv4Addr::UNSPECIFIED,
            },
        };
        let nonce = match request.target {
            UnmapTarget::Internal(_, _, nonce) | UnmapTarget::InternalSet(_, _, _, nonce) => nonce,
            UnmapTarget::All(_)
            | UnmapTarget::External(..)
            | UnmapTarget::Id(_)
            | UnmapTarget::Range(..) => None,
        };
        let targets = self.targets(server, request)?;
        let mut refusal = None;
        let mut count: usize = 0;
        for mapping in targets {
            if mapping.expires.is_none() && !is_admin(request.requester) {
                refusal = Some(Refusal::StaticMapping);
            } else if !may_change(&mapping, request.requester, nonce) {
                refusal = Some(self.foreign(&mapping, now));
            } else {
                self.close_mapping(mapping.id, CloseReason::Removed, request.requester, now);
                count = count.saturating_add(1);
            }
        }
        match refusal {
            // NP-8: what can be closed is closed, and the rest is told
            Some(refusal) => Err(refusal),
            None => Ok(count),
        }
    }

    fn targets(
        &self,
        server: Ipv4Addr,
        request: &UnmapRequest,
    ) -> Result<Vec<Arc<Mapping>>, Refusal> {
        let snapshot = &self.snapshot;
        Ok(match request.target {
            UnmapTarget::All(protocol) => {
                let mappings = snapshot.mappings_of(server);
                mappings
                    .filter(|mapping| mapping.protocol == protocol && !mapping.peer)
                    .cloned()
                    .collect()
            }
            UnmapTarget::External(protocol, port) => {
                let own = snapshot.mapping_by_external(server, protocol, port);
                let shared = || {
                    let mapping = snapshot.mapping_by_shared(protocol, port);
                    mapping.filter(|mapping| mapping.server == server)
                };
                let mapping = own.or_else(shared).ok_or(Refusal::NotFound)?;
                vec![Arc::clone(mapping)]
            }
            UnmapTarget::Id(id) => {
                let own = |mapping: &&Arc<Mapping>| {
                    matches!(request.subject, Subject::Admin(_)) || mapping.server == server
                };
                let mapping = snapshot.mapping(id).filter(own).ok_or(Refusal::NotFound)?;
                vec![Arc::clone(mapping)]
            }
            UnmapTarget::Internal(protocol, port, _) => {
                let found = snapshot.mappings_by_internal(server, protocol, port);
                inbound(found.cloned().collect(), request.requester)?
            }
            UnmapTarget::InternalSet(protocol, first, size, _) => {
                let last = first.get().saturating_add(size.get() - 1);
                let found = (first.get()..=last)
                    .filter_map(InternalPort::new)
                    .flat_map(|port| snapshot.mappings_by_internal(server, protocol, port));
                inbound(found.cloned().collect(), request.requester)?
            }
            UnmapTarget::Range(protocol, first, last) => {
                // U-10: what may not be deleted is passed over (WANIPConnection:2 §2.5.19.2)
                let mappings: Vec<_> = snapshot
                    .mappings_of(server)
                    .filter(|mapping| mapping.protocol == protocol && !mapping.peer)
                    .filter(|mapping| (first..=last).contains(&mapping.external_port))
                    .filter(|mapping| may_change(mapping, request.requester, None))
                    .cloned()
                    .collect();
                if mappings.is_empty() {
                    return Err(Refusal::NotFound);
                }
                mappings
            }
        })
    }
}

/// RFC 6887 §15.1: who deletes by an internal port means the inbound mappings. What PEER made ends
/// by itself; only PCP is told that it is there.
fn inbound(found: Vec<Arc<Mapping>>, requester: Requester) -> Result<Vec<Arc<Mapping>>, Refusal> {
    let (outbound, inbound): (Vec<_>, Vec<_>) = found.into_iter().partition(|it| it.peer);
    if inbound.is_empty() && !outbound.is_empty() && requester == Requester::Pcp {
        return Err(Refusal::OutboundMapping);
    }
    Ok(inbound)
}
