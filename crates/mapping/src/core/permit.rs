//! What the policy says about a port: it opens, a person is asked, or it stays closed.

use std::time::Duration;

use super::Core;
use crate::{
    Access, ExternalPort, Host, InternalPort, MapRequest, Now, Permission, Protocol, Subject,
};

/// What becomes of a port that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grade {
    /// A person is asked.
    Asks,
    /// Never.
    Denied,
    /// At once.
    Opens,
}

impl Core {
    /// Grades a port at which remotes knock.
    pub(super) fn grade_external(
        &self,
        host: &Host,
        request: &MapRequest,
        port: ExternalPort,
    ) -> Grade {
        // M-4: whatever the policy says, nobody opens the ports of port control itself
        if request.protocol == Protocol::Udp && PORT_CONTROL.contains(&port.get()) {
            return Grade::Denied;
        }
        self.grade(host, request, port.get())
    }

    /// The policy holds for the port where remotes knock and for the one where they arrive.
    pub(super) fn grade(&self, host: &Host, request: &MapRequest, port: u16) -> Grade {
        if self.snapshot.policy.always_rejects(port) {
            return Grade::Denied;
        }
        if matches!(request.subject, Subject::Admin(_)) {
            return Grade::Opens;
        }
        self.grade_client(host, request.protocol, request.internal_port, port)
    }

    /// A device that may open nothing is not helped by what a person once allowed; else that
    /// counts before the class of ports.
    pub(super) fn grade_client(
        &self,
        host: &Host,
        protocol: Protocol,
        internal: InternalPort,
        port: u16,
    ) -> Grade {
        let own = self.snapshot.host_policy(host);
        let in_class = own.ports.is_some_and(|class| class.contains(port));
        let permission = self.permission(host, protocol, internal);
        match (own.access, permission) {
            (Access::Deny, _) => Grade::Denied,
            (Access::Allow | Access::Ask, Some(permission)) => match permission.allow {
                true => Grade::Opens,
                false => Grade::Denied,
            },
            (Access::Allow | Access::Ask, None) if in_class => Grade::Opens,
            (Access::Allow, None) => Grade::Denied,
            (Access::Ask, None) => Grade::Asks,
        }
    }

    /// Returns the longest lifetime that a mapping may get now.
    pub(super) fn longest(&self, host: &Host, request: &MapRequest, now: Now) -> Duration {
        let longest = self.snapshot.policy.max_lease;
        if matches!(request.subject, Subject::Admin(_)) {
            return longest;
        }
        let until = self
            .permission(host, request.protocol, request.internal_port)
            .and_then(|permission| permission.until);
        until.map_or(longest, |until| {
            self.snapshot.remaining(until, now).min(longest)
        })
    }

    fn permission(
        &self,
        host: &Host,
        protocol: Protocol,
        internal: InternalPort,
    ) -> Option<&Permission> {
        self.snapshot
            .permissions
            .get(&(host.mac, protocol, internal))
    }
}

/// RFC 6887 §11.3.
const PORT_CONTROL: [u16; 2] = [5350, 5351];
