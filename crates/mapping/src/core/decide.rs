//! What people are asked, and what they decide about ports and hosts.

use std::sync::Arc;
use std::time::Duration;

use super::map::{is_admin, truncated};
use super::permit::Grade;
use super::{Core, Ends};
use crate::snapshot::PortKey;
use crate::{
    Access, AuditAction, Change, Client, CloseReason, DecideRequest, Decision, Expiry, External,
    FilterChange, Filters, Grant, Host, HostPolicy, HostPolicyRequest, Mac, MapRequest, Mapping,
    MappingId, Now, Outcome, Permission, Refusal, Requester, Subject, Via, Waiting, Waits,
};

impl Core {
    /// Asks a person about a port; a request that waits already is only seen again.
    pub(super) fn ask(&mut self, host: &Host, request: &MapRequest, via: Via, now: Now) -> Refusal {
        let Ok(filters) = request.filters.apply(&Filters::default()) else {
            return Refusal::TooManyFilters;
        };
        let key = (host.mac, request.protocol, request.internal_port);
        let known = self.snapshot.waiting_by.get(&key);
        let known = known.and_then(|id| self.snapshot.waiting.get(id)).cloned();
        if known.is_none() && self.held(host) >= self.quota(host) {
            return Refusal::QuotaExceeded;
        }
        let waiting = Waiting {
            id: known.as_ref().map_or(self.next_mapping, |known| known.id),
            host: host.mac,
            server: host.addr,
            protocol: request.protocol,
            internal_port: request.internal_port,
            external: request.external,
            via,
            filters,
            requester: request.requester,
            nonce: request.nonce,
            description: truncated(request.description.as_deref()),
            first_asked: known.as_ref().map_or(now.wall, |known| known.first_asked),
            last_asked: now.wall,
            expires: self.expiry(self.snapshot.policy.max_lease, now),
        };
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
        let waiting = self.snapshot.waiting_by.get(&key_of(opened));
        let waiting = waiting.and_then(|id| self.snapshot.waiting_request(*id));
        let answered = waiting.filter(|waiting| match waiting.external {
            External::Exact(port) | External::Required(port) => port == opened.external_port,
            External::Any(_) | External::Suggested(_) => true,
        });
        if let Some(id) = answered.map(|waiting| waiting.id) {
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
                self.permit(waiting_key(&waiting), true, lasts, request.requester, now);
                self.open_waiting(&waiting, lasts, now)
            }
            (Some(waiting), _, Decision::Deny) => {
                self.forget_waiting(waiting.id);
                self.permit(waiting_key(&waiting), false, None, request.requester, now);
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
        // people know it by its number
        let next = std::mem::replace(&mut self.next_mapping, waiting.id);
        let opened = self.try_map(
            &MapRequest {
                subject: Subject::Client(Client {
                    addr: waiting.server.into(),
                    mac: Some(waiting.host),
                }),
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
            },
            now,
        );
        self.next_mapping = next;
        Ok(self.as_grant(opened?, now))
    }

    fn as_grant(&self, mapping: Arc<Mapping>, now: Now) -> (Grant, Waits) {
        let waits = Waits {
            packets: Some(mapping.changed_in),
            names: None,
        };
        (self.granted(mapping, now), waits)
    }

    const fn packets(&self) -> Waits {
        Waits {
            packets: Some(self.snapshot.packets_in),
            names: None,
        }
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
        self.unschedule(old, Ends::Mapping(mapping.id));
        self.schedule(expires, Ends::Mapping(mapping.id));
        let (id, row) = (mapping.id, Arc::clone(&mapping));
        self.snapshot.mappings.insert(id, Arc::clone(&row));
        self.work().mappings.insert(id, Some(row));
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

    pub(super) fn set_host_policy(
        &mut self,
        request: &HostPolicyRequest,
        now: Now,
    ) -> (Outcome, Waits) {
        let Some(known) = self.snapshot.host(request.host).cloned() else {
            return (Outcome::Refused(Refusal::NotFound), Waits::default());
        };
        let policy = request.access.map(|access| HostPolicy {
            access,
            ports: request.ports,
            quota: request.quota,
            until: request.lasts.map(|lasts| self.expiry(lasts, now)),
        });
        self.change_host_policy(&known, policy, CloseReason::Denied, request.requester, now);
        (Outcome::Granted(Grant::Done), self.packets())
    }

    /// The time ended for which a person decided about a host.
    pub(super) fn end_host_policy(&mut self, mac: Mac, now: Now) {
        if let Some(known) = self.snapshot.host(mac).cloned() {
            self.change_host_policy(&known, None, CloseReason::Expired, Requester::Policy, now);
        }
    }

    fn change_host_policy(
        &mut self,
        known: &Arc<Host>,
        policy: Option<HostPolicy>,
        reason: CloseReason,
        requester: Requester,
        now: Now,
    ) {
        if let Some(until) = policy_end(known) {
            self.unschedule(until, Ends::HostPolicy(known.mac));
        }
        let host = Arc::new(Host {
            policy,
            ..Host::clone(known)
        });
        if let Some(until) = policy_end(&host) {
            self.schedule(until, Ends::HostPolicy(host.mac));
        }
        self.replace_host(Some(known), &host);
        let said = policy.map_or("default", |policy| policy.access.as_str());
        let target = format!("{} {} {said}", host.mac, host.name);
        self.audit(requester, AuditAction::HostPolicy, target, now);
        self.record(Change::HostPolicyChanged(Arc::clone(&host)));
        self.close_if_not_permitted(host.mac, reason, requester, now);
        let denied = self.snapshot.host_policy(&host).access == Access::Deny;
        if denied {
            self.forget_waiting_of(host.mac);
        }
    }

    /// Closes what a host holds that it could not open now; an admin's mappings are under no
    /// policy.
    fn close_if_not_permitted(
        &mut self,
        host: Mac,
        reason: CloseReason,
        requester: Requester,
        now: Now,
    ) {
        let Some(host) = self.snapshot.host(host).cloned() else {
            return;
        };
        let closing: Vec<_> = self
            .snapshot
            .mappings_of(host.addr)
            .filter(|mapping| mapping.expires.is_some() && !is_admin(mapping.requester))
            .filter(|mapping| !self.may_stay(&host, mapping))
            .map(|mapping| mapping.id)
            .collect();
        let pinholes: Vec<_> = self
            .snapshot
            .pinholes_of(host.mac)
            .filter(|it| {
                self.grade_client(&host, it.protocol, it.port, it.port.get()) != Grade::Opens
            })
            .map(|pinhole| pinhole.id)
            .collect();
        for id in closing {
            self.close_mapping(id, reason, requester, now);
        }
        for id in pinholes {
            self.close_pinhole(id, reason, requester, now);
        }
    }
}

/// Tells whether a request that is seen again must be stored again: hasty clients ask every
/// second.
fn is_news(known: &Waiting, new: &Waiting, now: Now) -> bool {
    let same = Waiting {
        last_asked: known.last_asked,
        expires: known.expires,
        ..new.clone()
    };
    same != *known || now.wall.since(known.last_asked) >= SEEN_EVERY
}

const fn policy_end(host: &Host) -> Option<Expiry> {
    match host.policy {
        Some(policy) => policy.until,
        None => None,
    }
}

fn waiting_key(waiting: &Waiting) -> PortKey {
    (waiting.host, waiting.protocol, waiting.internal_port)
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
