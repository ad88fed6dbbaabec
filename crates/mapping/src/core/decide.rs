//! What people are asked, and what they decide about ports.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::map::truncated;
use super::{Core, Ends};
use crate::snapshot::{AskKey, PortKey};
use crate::{
    AskedPinhole, AuditAction, Change, Client, CloseReason, DecideRequest, Decision, External,
    ExternalPort, FilterChange, Filters, Grant, Host, InternalPort, Mac, MapRequest, Mapping,
    MappingId, MappingNonce, Now, Outcome, Permission, Pinhole, PinholeRequest, PinholeTuple,
    Protocol, Refusal, Requester, Subject, Via, Waiting, Waits,
};

impl Core {
    /// Asks a person about a port.
    pub(super) fn ask(&mut self, host: &Host, request: &MapRequest, via: Via, now: Now) -> Refusal {
        let question = Question {
            protocol: request.protocol,
            internal_port: request.internal_port,
            external: request.external,
            via,
            pinhole: None,
            filters: &request.filters,
            requester: request.requester,
            nonce: request.nonce,
            description: request.description.as_deref(),
        };
        self.ask_about(host, &question, now)
    }

    /// Asks a person about a pinhole.
    pub(super) fn ask_for_pinhole(
        &mut self,
        host: &Host,
        request: &PinholeRequest,
        now: Now,
    ) -> Refusal {
        let tuple = &request.tuple;
        let question = Question {
            protocol: tuple.protocol,
            internal_port: tuple.port,
            external: External::Exact(ExternalPort(tuple.port.0)),
            via: Via::Ipv6,
            pinhole: Some(AskedPinhole {
                addr: tuple.addr,
                remote: tuple.remote,
            }),
            filters: &request.filters,
            requester: request.requester,
            nonce: request.nonce,
            description: request.description.as_deref(),
        };
        self.ask_about(host, &question, now)
    }

    fn ask_about(&mut self, host: &Host, question: &Question<'_>, now: Now) -> Refusal {
        let Ok(filters) = question.filters.apply(&Filters::default()) else {
            return Refusal::TooManyFilters;
        };
        let waiting = Waiting {
            id: self.next_mapping,
            host: host.mac,
            server: host.addr,
            protocol: question.protocol,
            internal_port: question.internal_port,
            external: question.external,
            via: question.via,
            pinhole: question.pinhole,
            filters,
            requester: question.requester,
            nonce: question.nonce,
            description: truncated(question.description),
            first_asked: now.wall,
            last_asked: now.wall,
            expires: self.expiry(self.snapshot.policy.max_lease, now),
        };
        self.wait(host, waiting, now)
    }

    /// Lets a request wait; one that waits already is only seen again.
    fn wait(&mut self, host: &Host, mut waiting: Waiting, now: Now) -> Refusal {
        let known = self.snapshot.waiting_by.get(&waiting_key(&waiting));
        let known = known.and_then(|id| self.snapshot.waiting.get(id)).cloned();
        if known.is_none() && self.held(host) >= self.quota(host) {
            return Refusal::QuotaExceeded;
        }
        if let Some(known) = &known {
            (waiting.id, waiting.first_asked) = (known.id, known.first_asked);
        }
        match known {
            Some(known) if !is_news(&known, &waiting, now) => {}
            Some(known) => {
                self.unschedule(known.expires, Ends::Waiting(known.id));
                self.insert_waiting(Arc::new(waiting));
            }
            None => {
                self.next_mapping = MappingId(waiting.id.0.saturating_add(1));
                let waiting = Arc::new(waiting);
                self.insert_waiting(Arc::clone(&waiting));
                let action = AuditAction::MappingRequested;
                self.audit(waiting.requester, action, describe_waiting(&waiting), now);
                self.record(Change::MappingRequested(waiting));
            }
        }
        Refusal::Waiting
    }

    /// Puts a request that waits into every index, to be stored.
    fn insert_waiting(&mut self, waiting: Arc<Waiting>) {
        let work = self.work();
        work.waiting.insert(waiting.id, Some(Arc::clone(&waiting)));
        work.dirty = true;
        self.index_waiting(waiting);
    }

    pub(super) fn index_waiting(&mut self, waiting: Arc<Waiting>) {
        self.schedule(waiting.expires, Ends::Waiting(waiting.id));
        self.snapshot
            .waiting_by
            .insert(waiting_key(&waiting), waiting.id);
        let host = waiting.host;
        if self.snapshot.waiting.insert(waiting.id, waiting).is_none() {
            self.hold(host);
        }
    }

    pub(super) fn forget_waiting(&mut self, id: MappingId) {
        let Some(waiting) = self.snapshot.waiting.remove(&id) else {
            return;
        };
        self.let_go(waiting.host);
        self.snapshot.waiting_by.remove(&waiting_key(&waiting));
        self.unschedule(waiting.expires, Ends::Waiting(id));
        let work = self.work();
        work.waiting.insert(id, None);
        work.dirty = true;
    }

    pub(super) fn forget_waiting_of(&mut self, host: Mac) {
        let ids: Vec<_> = self.snapshot.waiting_of(host).map(|it| it.id).collect();
        for id in ids {
            self.forget_waiting(id);
        }
    }

    /// A port that opens is not asked about any more; another external port still is.
    pub(super) fn answer_waiting(&mut self, opened: &Mapping) {
        let (host, protocol, port) = key_of(opened);
        let waiting = self.snapshot.waiting_by.get(&(host, protocol, port, false));
        let waiting = waiting.and_then(|id| self.snapshot.waiting_request(*id));
        let answered = waiting.filter(|waiting| match waiting.external {
            External::Exact(port) | External::Required(port) => port == opened.external_port,
            External::Any(_) | External::Suggested(_) => true,
        });
        if let Some(id) = answered.map(|waiting| waiting.id) {
            self.forget_waiting(id);
        }
    }

    pub(super) fn answer_waiting_pinhole(&mut self, opened: &Pinhole) {
        let key = (opened.host, opened.protocol, opened.port, true);
        if let Some(id) = self.snapshot.waiting_by.get(&key).copied() {
            self.forget_waiting(id);
        }
    }

    pub(super) fn decide(&mut self, request: &DecideRequest, now: Now) -> (Outcome, Waits) {
        let before = self.clone();
        match self.try_decide(request, now) {
            Ok((grant, waits)) => (Outcome::Granted(grant), waits),
            Err(refusal) => {
                *self = before; // a refusal changes nothing
                (Outcome::Refused(refusal), Waits::default())
            }
        }
    }

    fn try_decide(&mut self, request: &DecideRequest, now: Now) -> Result<(Grant, Waits), Refusal> {
        let waiting = self.snapshot.waiting_request(request.id).cloned();
        let open = self.snapshot.mapping(request.id).cloned();
        match (waiting, open, request.decision) {
            (Some(waiting), _, Decision::Allow(lasts)) => {
                self.permit(asked_port(&waiting), true, lasts, request.requester, now);
                let opened = self.open_waiting(&waiting, lasts, now)?;
                self.open_other(&waiting, lasts, now);
                Ok(opened)
            }
            (Some(waiting), _, Decision::Deny) => {
                self.forget_waiting(waiting.id);
                if let Some(other) = self.other_waiting(&waiting) {
                    self.forget_waiting(other.id);
                }
                self.permit(asked_port(&waiting), false, None, request.requester, now);
                // the answer is about the internal port, whichever external one leads there
                let (host, reason) = (waiting.host, CloseReason::Denied);
                self.close_if_not_permitted(host, reason, request.requester, now);
                self.record(Change::MappingDenied(waiting));
                Ok((Grant::Done, self.packets()))
            }
            (None, Some(mapping), Decision::Allow(lasts)) => {
                self.permit(key_of(&mapping), true, lasts, request.requester, now);
                let mapping = self.shorten(&mapping, lasts, now);
                Ok(self.as_grant(mapping, now))
            }
            (None, Some(mapping), Decision::Deny) => {
                self.permit(key_of(&mapping), false, None, request.requester, now);
                self.close_if_not_permitted(
                    mapping.host,
                    CloseReason::Denied,
                    request.requester,
                    now,
                );
                // an admin's own mapping is under no policy
                self.close_mapping(mapping.id, CloseReason::Denied, request.requester, now);
                Ok((Grant::Done, self.packets()))
            }
            (None, None, _) => Err(Refusal::NotFound),
        }
    }

    /// Opens what waited, as if its client had asked again. It is guarded by no nonce: clients
    /// that ask again later may use another one, or another protocol, and adopt it.
    fn open_waiting(
        &mut self,
        waiting: &Waiting,
        lasts: Option<Duration>,
        now: Now,
    ) -> Result<(Grant, Waits), Refusal> {
        self.forget_waiting(waiting.id);
        if let Some(asked) = waiting.pinhole {
            return self.open_asked_pinhole(waiting, asked, lasts, now);
        }
        // people know it by its number
        let next = std::mem::replace(&mut self.next_mapping, waiting.id);
        let opened = self.try_map(
            &MapRequest {
                subject: of_asker(waiting, waiting.server.into()),
                requester: waiting.requester,
                protocol: waiting.protocol,
                internal_port: waiting.internal_port,
                external: waiting.external,
                lifetime: lasts,
                nonce: None,
                via: waiting.via,
                peer: false,
                filters: FilterChange {
                    clear: false,
                    add: waiting.filters.to_vec(),
                },
                description: Some(waiting.description.clone()),
                memo: None,
            },
            now,
        );
        self.next_mapping = next;
        Ok(self.as_grant(opened?, now))
    }

    fn open_asked_pinhole(
        &mut self,
        waiting: &Waiting,
        asked: AskedPinhole,
        lasts: Option<Duration>,
        now: Now,
    ) -> Result<(Grant, Waits), Refusal> {
        let pinhole = self.try_pinhole(
            &PinholeRequest {
                subject: of_asker(waiting, asked.addr.into()),
                requester: waiting.requester,
                tuple: PinholeTuple {
                    addr: asked.addr,
                    protocol: waiting.protocol,
                    port: waiting.internal_port,
                    remote: asked.remote,
                },
                filters: FilterChange {
                    clear: false,
                    add: waiting.filters.to_vec(),
                },
                lifetime: lasts.unwrap_or(self.snapshot.policy.max_lease),
                nonce: None,
                description: Some(waiting.description.clone()),
            },
            now,
        )?;
        let waits = Waits::for_packets(pinhole.changed_in);
        let lifetime = self.snapshot.remaining(pinhole.expires, now);
        Ok((Grant::Pinholed { pinhole, lifetime }, waits))
    }

    /// The answer is about the port: what else waits for it opens too, if it can; else it waits on.
    fn open_other(&mut self, opened: &Waiting, lasts: Option<Duration>, now: Now) {
        if let Some(other) = self.other_waiting(opened) {
            let before = self.clone();
            if self.open_waiting(&other, lasts, now).is_err() {
                *self = before;
            }
        }
    }

    /// Returns the request for a pinhole beside that for a mapping, or the other way round.
    fn other_waiting(&self, waiting: &Waiting) -> Option<Arc<Waiting>> {
        let (host, protocol, port, pinhole) = waiting_key(waiting);
        let other = self
            .snapshot
            .waiting_by
            .get(&(host, protocol, port, !pinhole));
        other.and_then(|id| self.snapshot.waiting.get(id)).cloned()
    }

    fn as_grant(&self, mapping: Arc<Mapping>, now: Now) -> (Grant, Waits) {
        let waits = Waits::for_packets(mapping.changed_in);
        (self.granted(mapping, now), waits)
    }

    pub(super) const fn packets(&self) -> Waits {
        Waits::for_packets(self.snapshot.packets_in)
    }

    /// Allowed for a time, a mapping does not outlive that time.
    fn shorten(
        &mut self,
        mapping: &Arc<Mapping>,
        lasts: Option<Duration>,
        now: Now,
    ) -> Arc<Mapping> {
        let (Some(old), Some(lasts)) = (mapping.expires, lasts) else {
            return Arc::clone(mapping);
        };
        let left = self.snapshot.remaining(old, now).min(lasts);
        let expires = self.expiry(left, now);
        let mapping = Arc::new(Mapping {
            expires: Some(expires),
            ..Mapping::clone(mapping)
        });
        self.put_row(Arc::clone(&mapping));
        self.store_renewal(&mapping);
        self.record(Change::MappingRenewed(Arc::clone(&mapping)));
        mapping
    }

    /// Writes down what a person decided about a port.
    fn permit(
        &mut self,
        key: PortKey,
        allow: bool,
        lasts: Option<Duration>,
        requester: Requester,
        now: Now,
    ) {
        self.drop_permission(&key);
        let (host, protocol, internal_port) = key;
        let permission = Permission {
            host,
            protocol,
            internal_port,
            allow,
            until: lasts.map(|lasts| self.expiry(lasts, now)),
            decided_at: now.wall,
        };
        self.index_permission(permission);
        let work = self.work();
        work.permissions.insert(key, Some(permission));
        work.dirty = true;
        let action = match allow {
            true => AuditAction::MappingApproved,
            false => AuditAction::MappingDenied,
        };
        let mut target = describe_key(&key);
        if let Some(lasts) = lasts {
            target.push_str(&format!(" for {} s", lasts.as_secs()));
        }
        self.audit(requester, action, target, now);
    }

    pub(super) fn index_permission(&mut self, permission: Permission) {
        if let Some(until) = permission.until {
            self.schedule(until, Ends::Permission(permission.key()));
        }
        self.snapshot
            .permissions
            .insert(permission.key(), permission);
    }

    fn drop_permission(&mut self, key: &PortKey) -> Option<Permission> {
        let permission = self.snapshot.permissions.remove(key)?;
        if let Some(until) = permission.until {
            self.unschedule(until, Ends::Permission(*key));
        }
        let work = self.work();
        work.permissions.insert(*key, None);
        work.dirty = true;
        Some(permission)
    }

    pub(super) fn forget_permission(
        &mut self,
        key: PortKey,
        requester: Requester,
        now: Now,
    ) -> (Outcome, Waits) {
        if self.drop_permission(&key).is_none() {
            return (Outcome::Refused(Refusal::NotFound), Waits::default());
        }
        let action = AuditAction::PermissionForgotten;
        self.audit(requester, action, describe_key(&key), now);
        self.close_if_not_permitted(key.0, CloseReason::Denied, requester, now);
        (Outcome::Granted(Grant::Done), self.packets())
    }

    /// The time ended for which a person allowed a port.
    pub(super) fn end_permission(&mut self, key: PortKey, now: Now) {
        if self.drop_permission(&key).is_some() {
            let action = AuditAction::PermissionForgotten;
            self.audit(Requester::Policy, action, describe_key(&key), now);
            self.close_if_not_permitted(key.0, CloseReason::Expired, Requester::Policy, now);
        }
    }

    pub(super) fn forget_permissions_of(&mut self, host: Mac) {
        let keys: Vec<_> = self
            .snapshot
            .permissions_of(host)
            .map(Permission::key)
            .collect();
        for key in keys {
            self.drop_permission(&key);
        }
    }
}

/// What a person is asked about.
struct Question<'a> {
    protocol: Protocol,
    internal_port: InternalPort,
    external: External,
    via: Via,
    pinhole: Option<AskedPinhole>,
    filters: &'a FilterChange,
    requester: Requester,
    nonce: Option<MappingNonce>,
    description: Option<&'a str>,
}

/// Tells whether a request that is seen again must be stored again: some clients ask every
/// second.
fn is_news(known: &Waiting, new: &Waiting, now: Now) -> bool {
    let same = Waiting {
        last_asked: known.last_asked,
        expires: known.expires,
        ..new.clone()
    };
    same != *known || now.wall.since(known.last_asked) >= SEEN_EVERY
}

fn waiting_key(waiting: &Waiting) -> AskKey {
    let (host, protocol, port) = asked_port(waiting);
    (host, protocol, port, waiting.pinhole.is_some())
}

fn asked_port(waiting: &Waiting) -> PortKey {
    (waiting.host, waiting.protocol, waiting.internal_port)
}

/// Who asked, asks again.
const fn of_asker(waiting: &Waiting, addr: IpAddr) -> Subject {
    Subject::Client(Client {
        addr,
        mac: Some(waiting.host),
    })
}

fn key_of(mapping: &Mapping) -> PortKey {
    (mapping.host, mapping.protocol, mapping.internal_port)
}

fn describe_key((host, protocol, port): &PortKey) -> String {
    format!("{host} {protocol} {port}")
}

fn describe_waiting(waiting: &Waiting) -> String {
    format!(
        "{} {} {} {}",
        waiting.host, waiting.server, waiting.protocol, waiting.internal_port
    )
}

/// That a request still waits is written down this often.
const SEEN_EVERY: Duration = Duration::from_secs(60);
