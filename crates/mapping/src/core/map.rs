//! Ports: opening, renewing and closing (RFC 6887 §11, RFC 6886 §3, WANIPConnection:2).

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::Core;
use super::external::Assigned;
use super::permit::Grade;
use crate::by_internal::internal;
use crate::remote::TooMany;
use crate::{
    AdmissionRule, AuditAction, Change, CloseReason, External, ExternalPort, Filters, Grant, Host,
    Mac, MapRequest, Mapping, MappingId, MappingNonce, Now, Outcome, Protocol, Refusal, Requester,
    Subject, Via, Waits,
};

impl Core {
    pub(super) fn map(&mut self, request: &MapRequest, now: Now) -> (Outcome, Waits) {
        match self.try_map(request, now) {
            Ok(mapping) => {
                let waits = Waits::for_packets(mapping.changed_in);
                (self.mapped(mapping, now), waits)
            }
            Err(refusal) => (Outcome::Refused(refusal), Waits::default()),
        }
    }

    pub(super) fn try_map(
        &mut self,
        request: &MapRequest,
        now: Now,
    ) -> Result<Arc<Mapping>, Refusal> {
        let host = self.subject(request.subject)?;
        let via = self.carried(request.via)?;
        let by_client = matches!(request.subject, Subject::Client(_));
        if by_client && !via.has_ipv4() && self.snapshot.generations.is_empty() {
            return Err(Refusal::NoPrefix);
        }
        match self.grade(&host, request, request.internal_port.get()) {
            Grade::Denied => return Err(Refusal::PortDenied),
            Grade::Asks => return Err(self.ask(&host, request, via, now)),
            Grade::Opens => {}
        }
        if let Some(existing) = self.existing(&host, request, via, now)? {
            return self.renew(&existing, request, via, now);
        }
        let external = match self.assign(&host, request, via)? {
            Assigned::Port(port) => port,
            Assigned::Asks => return Err(self.ask(&host, request, via, now)),
        };
        let replaced = self.holders(&host, request, external, via);
        if replaced.is_empty() && self.held(&host) >= self.quota(&host) {
            return Err(Refusal::QuotaExceeded);
        }
        let filters = request.filters.apply(&Filters::default());
        let filters = filters.map_err(|TooMany| Refusal::TooManyFilters)?;
        for mapping in replaced {
            self.close_mapping(mapping.id, CloseReason::Superseded, request.requester, now);
        }
        Ok(self.open(&host, external, via, filters, request, now))
    }

    /// Returns at which addresses a mapping can be reached that is asked for at `via`.
    fn carried(&self, via: Via) -> Result<Via, Refusal> {
        match (via, self.snapshot.carriers.ipv4) {
            (Via::Both, None) => Ok(Via::Ipv6),
            (Via::Ipv4, None) => Err(Refusal::NotCarried),
            (Via::Both | Via::Ipv4 | Via::Ipv6, _) => Ok(via),
        }
    }

    pub(super) fn quota(&self, host: &Host) -> usize {
        let quota = self.snapshot.host_policy(host).quota.unwrap_or_default();
        usize::try_from(quota).unwrap_or(usize::MAX)
    }

    /// How much of its quota a host uses: what is open, and what a person is asked about.
    pub(super) fn held(&self, host: &Host) -> usize {
        self.held.get(&host.mac).copied().unwrap_or_default()
    }

    /// Something counts against the quota of a host from now on. It is counted as it comes and
    /// goes, since a request must not cost more where a host holds more.
    pub(super) fn hold(&mut self, host: Mac) {
        let held = self.held.get(&host).copied().unwrap_or_default();
        self.held.insert(host, held.saturating_add(1));
    }

    /// It counts no longer.
    pub(super) fn let_go(&mut self, host: Mac) {
        match self.held.get(&host).copied() {
            Some(held) if held > 1 => {
                self.held.insert(host, held.saturating_sub(1));
            }
            Some(_) | None => {
                self.held.remove(&host);
            }
        }
    }

    /// Returns the host for which a request is made; it must have a lease.
    pub(super) fn subject(&self, subject: Subject) -> Result<Arc<Host>, Refusal> {
        let host = match subject {
            Subject::Admin(mac) => self.snapshot.host(mac).ok_or(Refusal::NotFound)?,
            Subject::Client(client) => self.snapshot.host_of(client).ok_or(Refusal::NoLease)?,
        };
        host.lease.ok_or(Refusal::NoLease)?;
        Ok(Arc::clone(host))
    }

    /// Returns the mapping that the request renews.
    fn existing(
        &self,
        host: &Host,
        request: &MapRequest,
        via: Via,
        now: Now,
    ) -> Result<Option<Arc<Mapping>>, Refusal> {
        let internal = request.internal_port;
        let found = match request.external {
            External::Any(port) | External::Exact(port) => {
                let holders = self.holders(host, request, port, via);
                let own = |mapping: &Arc<Mapping>| {
                    mapping.internal_port == internal && mapping.host == host.mac
                };
                holders.into_iter().find(own)
            }
            External::Required(port) => self
                .by_internal(host.addr, request, via, Some(port))
                .cloned(),
            External::Suggested(port) => self.by_internal(host.addr, request, via, port).cloned(),
        };
        let Some(mapping) = found else {
            return Ok(None);
        };
        // RFC 6887 §11.3: a client that shows another nonce gets no say over the mapping; a
        // dialect that has no nonces may only keep it open, see `renew`.
        if request.nonce.is_some() && mapping.nonce.is_some() && request.nonce != mapping.nonce {
            return Err(self.foreign(&mapping, now));
        }
        match request.external {
            External::Required(port) if mapping.external_port != port => {
                Err(Refusal::ExternalPortTaken)
            }
            External::Any(_)
            | External::Exact(_)
            | External::Required(_)
            | External::Suggested(_) => Ok(Some(mapping)),
        }
    }

    /// UPnP may lead several external ports to one internal port; the one that was asked for,
    /// or else the unchanged one, comes first.
    fn by_internal(
        &self,
        server: Ipv4Addr,
        request: &MapRequest,
        via: Via,
        wanted: Option<ExternalPort>,
    ) -> Option<&Arc<Mapping>> {
        self.snapshot
            .mappings_by_internal(server, request.protocol, request.internal_port)
            // RFC 6887 §11.3: a mapping at an address of the other family is another one
            .filter(|mapping| meets(mapping.via, via) && mapping.peer == request.peer)
            .min_by_key(|mapping| {
                let same = mapping.external_port.get() == mapping.internal_port.get();
                (wanted != Some(mapping.external_port), !same, mapping.id)
            })
    }

    fn open(
        &mut self,
        host: &Host,
        external_port: ExternalPort,
        via: Via,
        filters: Filters,
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
            via,
            peer: request.peer,
            filters,
            requester: request.requester,
            nonce: request.nonce,
            description: truncated(request.description.as_deref()),
            memo: request.memo.clone(),
            expires: self
                .lifetime(host, request, now)
                .map(|life| self.expiry(life, now)),
            opened_at: now.wall,
            changed_in: self.next_revision(),
        });
        self.answer_waiting(&mapping);
        self.insert_mapping(Arc::clone(&mapping));
        self.store_row(&mapping);
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
        if mapping.via.has_ipv6() {
            snapshot.by_external.insert(external(&mapping), mapping.id);
        }
        snapshot.by_internal.insert(internal(&mapping), mapping.id);
        if snapshot.is_here(mapping.host) {
            self.admit(&mapping);
        }
        if self.put_row(Arc::clone(&mapping)) {
            self.hold(mapping.host);
        }
        self.take_shared(&mapping);
    }

    /// Lets the translator pass what a mapping of a host that is here opens.
    pub(super) fn admit(&mut self, mapping: &Mapping) {
        if mapping.via.has_ipv6() && !mapping.peer {
            let rule = AdmissionRule {
                internal: mapping.internal_port,
                filters: Arc::clone(&mapping.filters),
            };
            self.snapshot.admission.insert(external(mapping), rule);
        }
    }

    fn renew(
        &mut self,
        existing: &Arc<Mapping>,
        request: &MapRequest,
        via: Via,
        now: Now,
    ) -> Result<Arc<Mapping>, Refusal> {
        let Some(old) = existing.expires else {
            return Ok(self.given(existing, request));
        };
        let host = self.snapshot.host(existing.host).cloned();
        let host = host.ok_or(Refusal::NoLease)?;
        let mut mapping = Mapping::clone(existing);
        let mut memo = &existing.memo;
        let life = self.lifetime(&host, request, now);
        let mut expires = life.map(|life| self.expiry(life, now));
        if may_change(existing, request.requester, request.nonce) {
            let filters = request.filters.apply(&existing.filters);
            mapping.filters = filters.map_err(|TooMany| Refusal::TooManyFilters)?;
            mapping.requester = request.requester;
            mapping.nonce = request.nonce;
            memo = &request.memo;
            // RFC 7220 §3: an empty description takes the old one away
            if let Some(description) = &request.description {
                mapping.description = truncated(Some(description));
            }
            mapping.via = self.widened(&host, existing, request, via);
        } else {
            // a nonce guards the mapping: this client may keep it open, not cut it short
            let left = self.snapshot.remaining(old, now);
            let asked = expires.map_or(Duration::ZERO, |new| new.at.since(now.mono));
            expires = Some(self.expiry(left.max(asked), now));
        }
        let is_renewal = mapping == **existing;
        mapping.expires = expires;
        mapping.memo.clone_from(memo);
        let moved = mapping.filters != existing.filters || mapping.via != existing.via;
        if moved {
            mapping.changed_in = self.next_revision();
            self.touch_packets();
        }
        let mapping = Arc::new(mapping);
        if moved || mapping.requester != existing.requester {
            self.insert_mapping(Arc::clone(&mapping));
        } else {
            self.put_row(Arc::clone(&mapping));
        }
        if is_renewal {
            self.store_renewal(&mapping);
        } else {
            self.store_row(&mapping);
        }
        self.record(Change::MappingRenewed(Arc::clone(&mapping)));
        Ok(mapping)
    }

    /// M-3: a static mapping is given as it is; only who was given it is noted.
    fn given(&mut self, existing: &Arc<Mapping>, request: &MapRequest) -> Arc<Mapping> {
        if request.memo.is_none() || request.memo == existing.memo {
            return Arc::clone(existing);
        }
        let mapping = Arc::new(Mapping {
            memo: request.memo.clone(),
            ..Mapping::clone(existing)
        });
        self.put_row(Arc::clone(&mapping));
        self.store_renewal(&mapping);
        self.work().dirty = true;
        mapping
    }

    /// A mapping that was opened before there was an IPv4 address gets its port there, if that
    /// is free.
    fn widened(&self, host: &Host, existing: &Mapping, request: &MapRequest, via: Via) -> Via {
        let port = existing.external_port;
        let free = via == Via::Both
            && existing.via == Via::Ipv6
            && self.is_free(host, request, port, Via::Ipv4);
        if free { Via::Both } else { existing.via }
    }

    /// `None` is static: only an admin may ask for it. What a person allowed for a time does not
    /// outlive that time.
    fn lifetime(&self, host: &Host, request: &MapRequest, now: Now) -> Option<Duration> {
        let port = (request.protocol, request.internal_port);
        let longest = self.longest(host, request.subject, port, request.peer, now);
        match (request.lifetime, request.subject) {
            // M-6; what a person set an end to does not outlive it
            (Some(asked), Subject::Client(_)) => {
                Some(self.bounded(asked, request.requester).min(longest))
            }
            (Some(asked), Subject::Admin(_)) => Some(asked.min(longest)),
            (None, Subject::Client(_)) => Some(longest),
            (None, Subject::Admin(_)) => None,
        }
    }

    /// RFC 6887 §15: not shorter than the policy's least, nor longer than its most. A lifetime that
    /// is longer than what was asked must be told: NAT-PMP must not tell it (RFC 6886 §3.3), UPnP
    /// cannot.
    pub(super) fn bounded(&self, asked: Duration, requester: Requester) -> Duration {
        let policy = &self.snapshot.policy;
        let least = match requester {
            Requester::Pcp => policy.min_lease,
            _ => Duration::ZERO,
        };
        asked.max(least).min(policy.max_lease)
    }

    pub(super) fn foreign(&self, mapping: &Mapping, now: Now) -> Refusal {
        let remaining = mapping
            .expires
            .map(|expiry| self.snapshot.remaining(expiry, now));
        Refusal::ForeignMapping { remaining }
    }

    fn mapped(&self, mapping: Arc<Mapping>, now: Now) -> Outcome {
        Outcome::Granted(self.granted(mapping, now))
    }

    pub(super) fn granted(&self, mapping: Arc<Mapping>, now: Now) -> Grant {
        let lifetime = mapping
            .expires
            .map(|expiry| self.snapshot.remaining(expiry, now));
        let external_address = self.snapshot.external_address_of(&mapping);
        Grant::Mapped {
            mapping,
            lifetime,
            external_address,
        }
    }
}

/// Tells whether a mapping is reached at an address at which a request asks for one.
const fn meets(mapping: Via, asked: Via) -> bool {
    (mapping.has_ipv6() && asked.has_ipv6()) || (mapping.has_ipv4() && asked.has_ipv4())
}

pub(super) const fn external(mapping: &Mapping) -> (Ipv4Addr, Protocol, ExternalPort) {
    (mapping.server, mapping.protocol, mapping.external_port)
}

/// Only who shows the nonce of a mapping, or an admin, may change it.
pub(super) fn may_change(
    mapping: &Mapping,
    requester: Requester,
    nonce: Option<MappingNonce>,
) -> bool {
    if is_admin(requester) {
        return true;
    }
    mapping.expires.is_some() && (mapping.nonce.is_none() || mapping.nonce == nonce)
}

pub(super) const fn is_admin(requester: Requester) -> bool {
    matches!(requester, Requester::Cli | Requester::Dashboard)
}

pub(super) fn describe(mapping: &Mapping) -> String {
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
pub(super) fn truncated(description: Option<&str>) -> String {
    let description = description.unwrap_or_default();
    let end = description.floor_char_boundary(DESCRIPTION_MAX);
    description.get(..end).unwrap_or_default().to_owned()
}

/// RFC 7220 §3.
const DESCRIPTION_MAX: usize = 1016;
