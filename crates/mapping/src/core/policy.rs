//! What the configuration says about every host, and people about one; what is not permitted any
//! more closes.

use std::sync::Arc;

use super::map::is_admin;
use super::{Core, Ends};
use crate::{
    Access, AuditAction, Change, CloseReason, Expiry, Grant, Host, HostPolicy, HostPolicyRequest,
    Mac, Now, Outcome, Policy, Refusal, Requester, Waits,
};

impl Core {
    /// The policy of the configuration holds from now on, whatever held when the store was last
    /// written. Call it before anything is asked.
    pub fn handle_policy(&mut self, policy: Policy, now: Now) {
        if *self.snapshot.policy == policy {
            return;
        }
        let policy = Arc::new(policy);
        self.snapshot.policy = Arc::clone(&policy);
        let work = self.work();
        work.policy = Some(policy);
        work.dirty = true;
        let target = "the configuration".to_owned();
        self.audit(Requester::Policy, AuditAction::PolicyChanged, target, now);
        let hosts: Vec<_> = self.snapshot.hosts.keys().copied().collect();
        for host in hosts {
            self.close_if_not_permitted(host, CloseReason::Denied, Requester::Policy, now);
            self.forget_waiting_if_denied(host);
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
        self.forget_waiting_if_denied(host.mac);
    }

    /// Nobody is asked about a host that may open nothing.
    fn forget_waiting_if_denied(&mut self, host: Mac) {
        let known = self.snapshot.host(host);
        if known.is_some_and(|it| self.snapshot.host_policy(it).access == Access::Deny) {
            self.forget_waiting_of(host);
        }
    }

    /// Closes what a host holds that it could not open now; an admin's mappings are under no
    /// policy.
    pub(super) fn close_if_not_permitted(
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
            .filter(|mapping| !self.permits_mapping(&host, mapping))
            .map(|mapping| mapping.id)
            .collect();
        let pinholes: Vec<_> = self
            .snapshot
            .pinholes_of(host.mac)
            .filter(|it| !is_admin(it.requester) && !self.permits_pinhole(&host, it))
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

const fn policy_end(host: &Host) -> Option<Expiry> {
    match host.policy {
        Some(policy) => policy.until,
        None => None,
    }
}
