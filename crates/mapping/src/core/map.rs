//! Ports: opening, renewing and closing (RFC 6887 §11, RFC 6886 §3, WANIPConnection:2).

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::{Core, Ends};
use crate::{
    AuditAction, Change, CloseReason, External, ExternalPort, Grant, Host, MapRequest, Mapping,
    MappingId, MappingNonce, Now, Outcome, Protocol, Refusal, Requester, Subject, UnmapRequest,
    UnmapTarget, Waits,
};

impl Core {
    pub(super) fn map(&mut self, request: &MapRequest, now: Now) -> (Outcome, Waits) {
        match self.try_map(request, now) {
            Ok(mapping) => {
                let waits = Waits {
                    packets: Some(mapping.changed_in),
                    names: None,
                };
                (self.mapped(mapping, now), waits)
            }
            Err(refusal) => (Outcome::Refused(refusal), Waits::default()),
        }
    }

    pub(super) fn unmap(&mut self, request: &UnmapRequest, now: Now) -> (Outcome, Waits) {
        match self.try_unmap(request, now) {
            Ok(count) => {
                let waits = Waits {
                    packets: Some(self.snapshot.packets_in),
                    names: None,
                };
                (Outcome::Granted(Grant::Unmapped(count)), waits)
            }
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
        let Some(mapping) = self.snapshot.mappings.remove(&id) else {
            return;
        };
        let external = (mapping.server, mapping.protocol, mapping.external_port);
        self.snapshot.by_external.remove(&external);
        self.snapshot.admission.remove(&external);
        let internal = (mapping.server, mapping.protocol, mapping.internal_port, id);
        self.snapshot.by_internal.remove(&internal);
        if let Some(expiry) = mapping.expires {
            self.unschedule(expiry, Ends::Mapping(id));
        }
        let work = self.work();
        work.mappings.insert(id, None);
        // what takes its place must be stored first: until then it stays open
        if reason != CloseReason::Superseded {
            work.closings.mappings.insert(id);
        }
        let target = format!("{} {}", describe(&mapping), reason.as_str());
        self.audit(requester, AuditAction::MappingClosed, target, now);
        self.record(Change::MappingClosed { mapping, reason });
        self.touch_packets();
    }

    fn try_map(&mut self, request: &MapRequest, now: Now) -> Result<Arc<Mapping>, Refusal> {
        let host = self.subject(request.subject)?;
        if matches!(request.subject, Subject::Client(_)) && self.snapshot.generations.is_empty() {
            return Err(Refusal::NoPrefix);
        }
        self.allow(request, request.internal_port.get())?;
        if let Some(existing) = self.existing(host.addr, request, now)? {
            return Ok(self.renew(&existing, request, now));
        }
        let external = self.assign(host.addr, request)?;
        let replaced = self
            .snapshot
            .mapping_by_external(host.addr, request.protocol, external);
        let replaced = replaced.map(|mapping| mapping.id);
        let held = self.snapshot.mappings_of(host.addr).count();
        let quota = usize::try_from(self.snapshot.policy.max_per_device).unwrap_or(usize::MAX);
        if replaced.is_none() && held >= quota {
            return Err(Refusal::QuotaExceeded);
        }
        if let Some(id) = replaced {
            self.close_mapping(id, CloseReason::Superseded, request.requester, now);
        }
        Ok(self.open(&host, external, request, now))
    }

    /// Returns the host for which a request is made; a client must have a lease at its source
    /// address, and its frame's MAC, where known, must be the lease's.
    fn subject(&self, subject: Subject) -> Result<Arc<Host>, Refusal> {
        let host = match subject {
            Subject::Admin(mac) => self.snapshot.host(mac).ok_or(Refusal::NotFound)?,
            Subject::Client(client) => {
                let host = self
                    .snapshot
                    .host_by_addr(client.addr)
                    .ok_or(Refusal::NoLease)?;
                if client.mac.is_some_and(|mac| mac != host.mac) {
                    return Err(Refusal::NoLease);
                }
                host
            }
        };
        host.lease.ok_or(Refusal::NoLease)?;
        Ok(Arc::clone(host))
    }

    /// Tells whether remotes may knock at `port`.
    fn allow_external(&self, request: &MapRequest, port: ExternalPort) -> Result<(), Refusal> {
        // M-4: whatever the policy says, nobody opens the ports of port control itself
        if request.protocol == Protocol::Udp && PORT_CONTROL.contains(&port.get()) {
            return Err(Refusal::PortDenied);
        }
        self.allow(request, port.get())
    }

    /// The policy holds for the port where remotes knock and for the one where they arrive.
    fn allow(&self, request: &MapRequest, port: u16) -> Result<(), Refusal> {
        let policy = &self.snapshot.policy;
        let by_admin = matches!(request.subject, Subject::Admin(_));
        if policy.always_rejects(port) || !(by_admin || policy.auto_allow.contains(port)) {
            return Err(Refusal::PortDenied);
        }
        Ok(())
    }

    /// Returns the mapping that the request renews.
    fn existing(
        &self,
        server: Ipv4Addr,
        request: &MapRequest,
        now: Now,
    ) -> Result<Option<Arc<Mapping>>, Refusal> {
        let (protocol, internal) = (request.protocol, request.internal_port);
        let by_external = |port| self.snapshot.mapping_by_external(server, protocol, port);
        let found = match request.external {
            External::Any(port) | External::Exact(port) => {
                by_external(port).filter(|mapping| mapping.internal_port == internal)
            }
            External::Required(port) => {
                let found = self.by_internal(server, request, Some(port));
                if found.is_some_and(|mapping| mapping.external_port != port) {
                    return Err(Refusal::ExternalPortTaken);
                }
                found
            }
            External::Suggested(port) => self.by_internal(server, request, port),
        };
        let Some(mapping) = found else {
            return Ok(None);
        };
        // RFC 6887 §11.3: a client that shows another nonce gets no say over the mapping; a
        // dialect that has no nonces may only keep it open, see `renew`.
        if request.nonce.is_some() && mapping.nonce.is_some() && request.nonce != mapping.nonce {
            return Err(self.foreign(mapping, now));
        }
        Ok(Some(Arc::clone(mapping)))
    }

    /// UPnP may lead several external ports to one internal port; the one that was asked for,
    /// or else the unchanged one, comes first.
    fn by_internal(
        &self,
        server: Ipv4Addr,
        request: &MapRequest,
        wanted: Option<ExternalPort>,
    ) -> Option<&Arc<Mapping>> {
        self.snapshot
            .mappings_by_internal(server, request.protocol, request.internal_port)
            .min_by_key(|mapping| {
                let same = mapping.external_port.get() == mapping.internal_port.get();
                (wanted != Some(mapping.external_port), !same, mapping.id)
            })
    }

    /// Chooses the external port of a new mapping.
    fn assign(&self, server: Ipv4Addr, request: &MapRequest) -> Result<ExternalPort, Refusal> {
        let holder = |port| {
            self.snapshot
                .mapping_by_external(server, request.protocol, port)
        };
        let free = |port: &ExternalPort| {
            self.allow_external(request, *port).is_ok() && holder(*port).is_none()
        };
        match request.external {
            External::Exact(port) => {
                self.allow_external(request, port)?;
                match holder(port) {
                    Some(mapping) if !may_change(mapping, request.requester, request.nonce) => {
                        Err(Refusal::ExternalPortTaken)
                    }
                    Some(_) | None => Ok(port),
                }
            }
            External::Required(port) => {
                self.allow_external(request, port)?;
                if free(&port) {
                    Ok(port)
                } else {
                    Err(Refusal::ExternalPortTaken)
                }
            }
            External::Any(port) => self.search(Some(port), request, free),
            External::Suggested(port) => self.search(port, request, free),
        }
    }

    /// The wanted port, the internal port, then the next free one above 1023.
    fn search(
        &self,
        wanted: Option<ExternalPort>,
        request: &MapRequest,
        free: impl Fn(&ExternalPort) -> bool,
    ) -> Result<ExternalPort, Refusal> {
        let internal = request.internal_port.get();
        let start = wanted.map_or(internal, ExternalPort::get);
        let above = (start.max(FIRST_HIGH)..=u16::MAX).chain(FIRST_HIGH..start);
        wanted
            .into_iter()
            .chain(ExternalPort::new(internal))
            .chain(above.filter_map(ExternalPort::new))
            .find(free)
            .ok_or(Refusal::ExternalPortTaken)
    }

    fn open(
        &mut self,
        host: &Host,
        external_port: ExternalPort,
        request: &MapRequest,
        now: Now,
    ) -> Arc<Mapping> {
        let id = self.next_mapping;
        self.next_mapping = MappingId(id.0.saturating_add(1));
        let mapping = Arc::new(Mapping {
            id,
            host: host.mac,
            server: host.addr,
            protocol: request.protocol,
            internal_port: request.internal_port,
            external_port,
            requester: request.requester,
            nonce: request.nonce,
            description: truncated(&request.description),
            expires: self.lifetime(request).map(|life| self.expiry(life, now)),
            opened_at: now.wall,
            changed_in: self.next_revision(),
        });
        self.insert_mapping(Arc::clone(&mapping));
        self.work().mappings.insert(id, Some(Arc::clone(&mapping)));
        self.audit(
            request.requester,
            AuditAction::MappingOpened,
            describe(&mapping),
            now,
        );
        self.record(Change::MappingOpened(Arc::clone(&mapping)));
        self.touch_packets();
        mapping
    }

    /// Puts a mapping into every index.
    pub(super) fn insert_mapping(&mut self, mapping: Arc<Mapping>) {
        let snapshot = &mut self.snapshot;
        let external = (mapping.server, mapping.protocol, mapping.external_port);
        snapshot.by_external.insert(external, mapping.id);
        let internal = (
            mapping.server,
            mapping.protocol,
            mapping.internal_port,
            mapping.id,
        );
        snapshot.by_internal.insert(internal);
        if snapshot
            .host(mapping.host)
            .is_some_and(|host| host.lease.is_some())
        {
            snapshot.admission.insert(external, mapping.internal_port);
        }
        if let Some(expiry) = mapping.expires {
            self.schedule(expiry, Ends::Mapping(mapping.id));
        }
        self.snapshot.mappings.insert(mapping.id, mapping);
    }

    fn renew(&mut self, existing: &Arc<Mapping>, request: &MapRequest, now: Now) -> Arc<Mapping> {
        let Some(old) = existing.expires else {
            return Arc::clone(existing); // M-3: a static mapping is given as it is
        };
        let mut mapping = Mapping::clone(existing);
        let mut expires = self.lifetime(request).map(|life| self.expiry(life, now));
        if may_change(existing, request.requester, request.nonce) {
            mapping.requester = request.requester;
            mapping.nonce = request.nonce;
            if !request.description.is_empty() {
                mapping.description = truncated(&request.description);
            }
        } else {
            // a nonce guards the mapping: this client may keep it open, not cut it short
            let left = self.snapshot.remaining(old, now);
            let asked = expires.map_or(Duration::ZERO, |new| new.at.since(now.mono));
            expires = Some(self.expiry(left.max(asked), now));
        }
        mapping.expires = expires;
        self.unschedule(old, Ends::Mapping(mapping.id));
        if let Some(new) = expires {
            self.schedule(new, Ends::Mapping(mapping.id));
        }
        let mapping = Arc::new(mapping);
        self.snapshot
            .mappings
            .insert(mapping.id, Arc::clone(&mapping));
        self.work()
            .mappings
            .insert(mapping.id, Some(Arc::clone(&mapping)));
        self.record(Change::MappingRenewed(Arc::clone(&mapping)));
        mapping
    }

    fn try_unmap(&mut self, request: &UnmapRequest, now: Now) -> Result<usize, Refusal> {
        let host = match (request.subject, request.target) {
            (Subject::Admin(_), UnmapTarget::Id(_)) => None,
            (subject, _) => Some(self.subject(subject)?),
        };
        let server = host.map_or(Ipv4Addr::UNSPECIFIED, |host| host.addr);
        let nonce = match request.target {
            UnmapTarget::Internal(_, _, nonce) => nonce,
            UnmapTarget::All(_) | UnmapTarget::External(..) | UnmapTarget::Id(_) => None,
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
                    .filter(|mapping| mapping.protocol == protocol)
                    .cloned()
                    .collect()
            }
            UnmapTarget::External(protocol, port) => {
                let mapping = snapshot.mapping_by_external(server, protocol, port);
                vec![Arc::clone(mapping.ok_or(Refusal::NotFound)?)]
            }
            UnmapTarget::Id(id) => {
                let own = |mapping: &&Arc<Mapping>| {
                    matches!(request.subject, Subject::Admin(_)) || mapping.server == server
                };
                let mapping = snapshot.mapping(id).filter(own).ok_or(Refusal::NotFound)?;
                vec![Arc::clone(mapping)]
            }
            UnmapTarget::Internal(protocol, port, _) => snapshot
                .mappings_by_internal(server, protocol, port)
                .cloned()
                .collect(),
        })
    }

    /// `None` is static: only an admin may ask for it.
    fn lifetime(&self, request: &MapRequest) -> Option<Duration> {
        let longest = self.snapshot.policy.max_lease;
        match (request.lifetime, request.subject) {
            (Some(asked), _) => Some(asked.min(longest)),
            (None, Subject::Client(_)) => Some(longest),
            (None, Subject::Admin(_)) => None,
        }
    }

    fn foreign(&self, mapping: &Mapping, now: Now) -> Refusal {
        let remaining = mapping
            .expires
            .map(|expiry| self.snapshot.remaining(expiry, now));
        Refusal::ForeignMapping { remaining }
    }

    fn mapped(&self, mapping: Arc<Mapping>, now: Now) -> Outcome {
        let lifetime = mapping
            .expires
            .map(|expiry| self.snapshot.remaining(expiry, now));
        let external_address = self.snapshot.external_address(mapping.server);
        Outcome::Granted(Grant::Mapped {
            mapping,
            lifetime,
            external_address,
        })
    }
}

/// Only who shows the nonce of a mapping, or an admin, may change it.
fn may_change(mapping: &Mapping, requester: Requester, nonce: Option<MappingNonce>) -> bool {
    if is_admin(requester) {
        return true;
    }
    mapping.expires.is_some() && (mapping.nonce.is_none() || mapping.nonce == nonce)
}

const fn is_admin(requester: Requester) -> bool {
    matches!(requester, Requester::Cli | Requester::Dashboard)
}

fn describe(mapping: &Mapping) -> String {
    format!(
        "{} {} {} {}->{}",
        mapping.host,
        mapping.server,
        Protocol::as_str(mapping.protocol),
        mapping.external_port,
        mapping.internal_port
    )
}

/// Cuts a description to what RFC 7220 §3 allows, at the end of a character.
fn truncated(description: &str) -> String {
    let end = description.floor_char_boundary(DESCRIPTION_MAX);
    description.get(..end).unwrap_or_default().to_owned()
}

/// RFC 7220 §3.
const DESCRIPTION_MAX: usize = 1016;

/// Below lie the ports of well-known services, which a search must not hand out.
const FIRST_HIGH: u16 = 1024;

/// RFC 6887 §11.3.
const PORT_CONTROL: [u16; 2] = [5350, 5351];
