//! Ports of hosts that have IPv6 addresses of their own (RFC 6092 §3.4).

use std::sync::Arc;
use std::time::Duration;

use super::map::{is_admin, truncated};
use super::permit::Grade;
use super::{Core, Ends};
use crate::remote::TooMany;
use crate::{
    AuditAction, Carriers, Change, ClosePinholeRequest, CloseReason, Epoch, Expiry, Filters, Grant,
    Host, Mac, MappingNonce, Now, Outcome, Pinhole, PinholeId, PinholeRequest, PinholeTarget,
    PinholeTuple, Refusal, Requester, Subject, UpdatePinholeRequest, Waits,
};

impl Core {
    /// What the followers of packets carry came or went.
    pub(super) fn carriers(&mut self, carriers: Carriers, now: Now) -> (Outcome, Waits) {
        let old = self.snapshot.carriers;
        if self.snapshot.counters.shared_ipv4 != carriers.ipv4 {
            // P-9, NP-10: the external IPv4 address is not the one that it was, maybe before the
            // program started
            let epoch = Epoch::starting(self.snapshot.boot, now.mono);
            let counters = &mut self.snapshot.counters;
            counters.shared_ipv4 = carriers.ipv4;
            counters.pcp_epoch = epoch;
            counters.natpmp_epoch = epoch;
            self.work().dirty = true;
        }
        if old != carriers {
            self.snapshot.carriers = carriers;
            self.touch_packets();
            self.record(Change::WanChanged);
        }
        (Outcome::Granted(Grant::Done), self.packets())
    }

    pub(super) fn pinhole(&mut self, request: &PinholeRequest, now: Now) -> (Outcome, Waits) {
        let pinholed = self.try_pinhole(request, now);
        self.pinholed(pinholed, now)
    }

    pub(super) fn update_pinhole(
        &mut self,
        request: &UpdatePinholeRequest,
        now: Now,
    ) -> (Outcome, Waits) {
        let updated = self.try_update(request, now);
        self.pinholed(updated, now)
    }

    pub(super) fn close_pinholes(
        &mut self,
        request: &ClosePinholeRequest,
        now: Now,
    ) -> (Outcome, Waits) {
        match self.try_close(request, now) {
            Ok(count) => (Outcome::Granted(Grant::Unmapped(count)), self.packets()),
            Err(refusal) => (Outcome::Refused(refusal), Waits::default()),
        }
    }

    /// Closes a pinhole that may exist.
    pub(super) fn close_pinhole(
        &mut self,
        id: PinholeId,
        reason: CloseReason,
        requester: Requester,
        now: Now,
    ) {
        let Some(pinhole) = self.snapshot.pinholes.remove(&id) else {
            return;
        };
        self.let_go(pinhole.host);
        self.snapshot.pinholes_by.remove(&pinhole.tuple());
        self.snapshot.pinholes_of.remove(&(pinhole.host, id));
        self.unschedule(pinhole.expires, Ends::Pinhole(id));
        let work = self.work();
        work.pinholes.insert(id, None);
        work.closings.pinholes.insert(id);
        let target = format!("{} {}", describe(&pinhole), reason.as_str());
        self.audit(requester, AuditAction::PinholeClosed, target, now);
        self.record(Change::PinholeClosed { pinhole, reason });
        self.touch_packets();
    }

    pub(super) fn close_pinholes_of(&mut self, host: Mac, requester: Requester, now: Now) {
        let ids: Vec<_> = self.snapshot.pinholes_of(host).map(|it| it.id).collect();
        for id in ids {
            self.close_pinhole(id, CloseReason::HostGone, requester, now);
        }
    }

    pub(super) fn try_pinhole(
        &mut self,
        request: &PinholeRequest,
        now: Now,
    ) -> Result<Arc<Pinhole>, Refusal> {
        let host = self.subject(request.subject)?;
        if !self.snapshot.carriers.pinholes {
            return Err(Refusal::NotCarried);
        }
        let tuple = &request.tuple;
        match self.grade_pinhole(&host, request) {
            Grade::Denied => return Err(Refusal::PortDenied),
            Grade::Asks => return Err(self.ask_for_pinhole(&host, request, now)),
            Grade::Opens => {}
        }
        let is_new = self.snapshot.pinhole_by_tuple(tuple).is_none();
        if is_new && self.held(&host) >= self.quota(&host) {
            return Err(Refusal::QuotaExceeded);
        }
        let port = (tuple.protocol, tuple.port);
        let longest = self.longest(&host, request.subject, port, false, now);
        let lifetime = self
            .bounded(request.lifetime, request.requester)
            .min(longest);
        let expires = self.expiry(lifetime, now);
        let known = self.snapshot.pinhole_by_tuple(&request.tuple).cloned();
        let no_filters = Filters::default();
        let old = known.as_ref().map_or(&no_filters, |known| &known.filters);
        let filters = request.filters.apply(old);
        let filters = filters.map_err(|TooMany| Refusal::TooManyFilters)?;
        let Some(known) = known else {
            let id = self.free_id().ok_or(Refusal::ExternalPortTaken)?;
            let pinhole = Arc::new(Pinhole {
                id,
                host: host.mac,
                addr: request.tuple.addr,
                protocol: request.tuple.protocol,
                port: request.tuple.port,
                remote: request.tuple.remote,
                filters,
                requester: request.requester,
                nonce: request.nonce,
                description: truncated(request.description.as_deref()),
                expires,
                opened_at: now.wall,
                changed_in: self.next_revision(),
            });
            let action = AuditAction::PinholeOpened;
            self.audit(request.requester, action, describe(&pinhole), now);
            self.put_pinhole(Arc::clone(&pinhole));
            self.answer_waiting_pinhole(&pinhole);
            self.record(Change::PinholeOpened(Arc::clone(&pinhole)));
            self.touch_packets();
            return Ok(pinhole);
        };
        if known.host != host.mac {
            return Err(Refusal::ExternalPortTaken);
        }
        if request.nonce.is_some() && known.nonce.is_some() && request.nonce != known.nonce {
            return Err(self.foreign_pinhole(&known, now));
        }
        let renewed = self.renewed(&known, request, filters, lifetime, now);
        Ok(self.renew_pinhole(&known, renewed))
    }

    fn renewed(
        &self,
        known: &Pinhole,
        request: &PinholeRequest,
        filters: Filters,
        lifetime: Duration,
        now: Now,
    ) -> Pinhole {
        let mut pinhole = Pinhole::clone(known);
        if may_change(known, request.requester, request.nonce) {
            pinhole.expires = self.expiry(lifetime, now);
            pinhole.filters = filters;
            pinhole.requester = request.requester;
            pinhole.nonce = request.nonce;
            if let Some(description) = &request.description {
                pinhole.description = truncated(Some(description));
            }
        } else {
            pinhole.expires = self.kept_open(known, lifetime, now);
        }
        pinhole
    }

    /// Puts what a renewal makes of a pinhole in its place.
    fn renew_pinhole(&mut self, known: &Pinhole, mut pinhole: Pinhole) -> Arc<Pinhole> {
        if pinhole.filters != known.filters {
            pinhole.changed_in = self.next_revision();
            self.touch_packets();
        }
        self.unschedule(known.expires, Ends::Pinhole(known.id));
        let pinhole = Arc::new(pinhole);
        self.put_pinhole(Arc::clone(&pinhole));
        self.record(Change::PinholeRenewed(Arc::clone(&pinhole)));
        pinhole
    }

    /// The policy is that of mappings.
    fn grade_pinhole(&self, host: &Host, request: &PinholeRequest) -> Grade {
        let PinholeTuple { protocol, port, .. } = request.tuple;
        if self.snapshot.policy.always_rejects(port.get()) {
            Grade::Denied
        } else if matches!(request.subject, Subject::Admin(_)) {
            Grade::Opens
        } else {
            self.grade_client(host, protocol, port, port.get())
        }
    }

    fn try_update(
        &mut self,
        request: &UpdatePinholeRequest,
        now: Now,
    ) -> Result<Arc<Pinhole>, Refusal> {
        let known = self.own(request.subject, request.id)?;
        let host = self.snapshot.host(known.host).ok_or(Refusal::NoLease)?;
        let port = (known.protocol, known.port);
        let longest = self.longest(host, request.subject, port, false, now);
        let lifetime = self
            .bounded(request.lifetime, request.requester)
            .min(longest);
        let expires = match may_change(&known, request.requester, None) {
            true => self.expiry(lifetime, now),
            false => self.kept_open(&known, lifetime, now),
        };
        let pinhole = Pinhole {
            expires,
            ..Pinhole::clone(&known)
        };
        Ok(self.renew_pinhole(&known, pinhole))
    }

    fn try_close(&mut self, request: &ClosePinholeRequest, now: Now) -> Result<usize, Refusal> {
        let (pinhole, nonce) = match request.target {
            PinholeTarget::Id(id) => (self.own(request.subject, id)?, None),
            PinholeTarget::Tuple(tuple, nonce) => {
                let Some(known) = self.snapshot.pinhole_by_tuple(&tuple).cloned() else {
                    return Ok(0);
                };
                if known.host != self.subject(request.subject)?.mac {
                    return Ok(0);
                }
                (known, nonce)
            }
        };
        if !may_change(&pinhole, request.requester, nonce) {
            return Err(self.foreign_pinhole(&pinhole, now));
        }
        self.close_pinhole(pinhole.id, CloseReason::Removed, request.requester, now);
        Ok(1)
    }

    /// Returns a pinhole of the host for which a request is made; an admin's is anybody's.
    fn own(&self, subject: Subject, id: PinholeId) -> Result<Arc<Pinhole>, Refusal> {
        let pinhole = self.snapshot.pinhole(id).ok_or(Refusal::NotFound)?;
        if let Subject::Client(_) = subject
            && self.subject(subject)?.mac != pinhole.host
        {
            return Err(Refusal::ForeignMapping { remaining: None });
        }
        Ok(Arc::clone(pinhole))
    }

    /// A nonce guards the pinhole: who does not show it may keep it open, not cut it short.
    fn kept_open(&self, known: &Pinhole, lifetime: Duration, now: Now) -> Expiry {
        let left = self.snapshot.remaining(known.expires, now);
        self.expiry(left.max(lifetime), now)
    }

    fn put_pinhole(&mut self, pinhole: Arc<Pinhole>) {
        let work = self.work();
        work.pinholes.insert(pinhole.id, Some(Arc::clone(&pinhole)));
        work.dirty = true;
        self.index_pinhole(pinhole);
    }

    /// Puts a pinhole into every index.
    pub(super) fn index_pinhole(&mut self, pinhole: Arc<Pinhole>) {
        self.schedule(pinhole.expires, Ends::Pinhole(pinhole.id));
        let snapshot = &mut self.snapshot;
        snapshot.pinholes_by.insert(pinhole.tuple(), pinhole.id);
        snapshot.pinholes_of.insert((pinhole.host, pinhole.id));
        let host = pinhole.host;
        if snapshot.pinholes.insert(pinhole.id, pinhole).is_none() {
            self.hold(host);
        }
    }

    /// Numbers of pinholes that are gone are given out last.
    fn free_id(&self) -> Option<PinholeId> {
        let newest = self.snapshot.pinholes.get_max().map_or(0, |(id, _)| id.0);
        let above = newest.checked_add(1).map(PinholeId);
        let free = |id: &PinholeId| !self.snapshot.pinholes.contains_key(id);
        above.or_else(|| (1..=u16::MAX).map(PinholeId).find(free))
    }

    fn foreign_pinhole(&self, pinhole: &Pinhole, now: Now) -> Refusal {
        Refusal::ForeignMapping {
            remaining: Some(self.snapshot.remaining(pinhole.expires, now)),
        }
    }

    fn pinholed(&self, pinhole: Result<Arc<Pinhole>, Refusal>, now: Now) -> (Outcome, Waits) {
        match pinhole {
            Ok(pinhole) => {
                let lifetime: Duration = self.snapshot.remaining(pinhole.expires, now);
                let waits = Waits::for_packets(pinhole.changed_in);
                (
                    Outcome::Granted(Grant::Pinholed { pinhole, lifetime }),
                    waits,
                )
            }
            Err(refusal) => (Outcome::Refused(refusal), Waits::default()),
        }
    }
}

/// Only who shows the nonce of a pinhole, or an admin, may change it.
fn may_change(pinhole: &Pinhole, requester: Requester, nonce: Option<MappingNonce>) -> bool {
    is_admin(requester) || pinhole.nonce.is_none() || pinhole.nonce == nonce
}

fn describe(pinhole: &Pinhole) -> String {
    format!(
        "{} {} {} {}",
        pinhole.host, pinhole.addr, pinhole.protocol, pinhole.port
    )
}
