//! What the policy says about a port: it opens, a person is asked, or it stays closed.

use std::time::Duration;

use super::Core;
use crate::{
    Access, Expiry, ExternalPort, Host, HostPolicy, InternalPort, MapRequest, Mapping, Now,
    Permission, Pinhole, Protocol, Subject,
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
    /// Grades an external port.
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

    /// Grades an external or an internal port: the policy holds for both.
    pub(super) fn grade(&self, host: &Host, request: &MapRequest, port: u16) -> Grade {
        if self.snapshot.policy.always_rejects(port) {
            return Grade::Denied;
        }
        if matches!(request.subject, Subject::Admin(_)) {
            return Grade::Opens;
        }
        // RFC 6887 §12: PEER opens no more than the server's own first packet would
        if request.peer && self.snapshot.host_policy(host).access != Access::Deny {
            return Grade::Opens;
        }
        self.grade_client(host, request.protocol, request.internal_port, port)
    }

    /// Grades a port for a device by what holds for it now.
    pub(super) fn grade_client(
        &self,
        host: &Host,
        protocol: Protocol,
        internal: InternalPort,
        port: u16,
    ) -> Grade {
        let own = self.snapshot.host_policy(host);
        self.grade_by(own, host, protocol, internal, port)
    }

    /// A device that may open nothing is not helped by what a person once allowed; else that
    /// counts before the class of ports.
    fn grade_by(
        &self,
        own: HostPolicy,
        host: &Host,
        protocol: Protocol,
        internal: InternalPort,
        port: u16,
    ) -> Grade {
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

    /// Tells whether a device could open its pinhole now.
    pub(super) fn permits_pinhole(&self, host: &Host, pinhole: &Pinhole) -> bool {
        let (protocol, port) = (pinhole.protocol, pinhole.port);
        !self.snapshot.policy.always_rejects(port.get())
            && self.grade_client(host, protocol, port, port.get()) == Grade::Opens
    }

    /// Tells whether a device could open its mapping now.
    pub(super) fn permits_mapping(&self, host: &Host, mapping: &Mapping) -> bool {
        let ports = [mapping.internal_port.get(), mapping.external_port.get()];
        if ports
            .into_iter()
            .any(|port| self.snapshot.policy.always_rejects(port))
        {
            return false;
        }
        if mapping.peer {
            return self.snapshot.host_policy(host).access != Access::Deny;
        }
        let (protocol, internal) = (mapping.protocol, mapping.internal_port);
        ports
            .into_iter()
            .all(|port| self.grade_client(host, protocol, internal, port) == Grade::Opens)
    }

    /// Returns the longest lifetime that a mapping or a pinhole may get now.
    pub(super) fn longest(
        &self,
        host: &Host,
        subject: Subject,
        port: (Protocol, InternalPort),
        peer: bool,
        now: Now,
    ) -> Duration {
        let longest = self.snapshot.policy.max_lease;
        if matches!(subject, Subject::Admin(_)) {
            return longest;
        }
        let left = |until| self.snapshot.remaining(until, now).min(longest);
        let (protocol, internal) = port;
        match self.permission(host, protocol, internal) {
            Some(permission) => permission.until.map_or(longest, left),
            None if peer => longest,
            None => {
                let until = self.borrowed_until(host, protocol, internal);
                until.map_or(longest, left)
            }
        }
    }

    /// Returns when a port closes again that opens only because of what holds for the host for a
    /// time.
    fn borrowed_until(
        &self,
        host: &Host,
        protocol: Protocol,
        internal: InternalPort,
    ) -> Option<Expiry> {
        let until = host.policy?.until?;
        let later = self.snapshot.default_policy();
        let opens = self.grade_by(later, host, protocol, internal, internal.get()) == Grade::Opens;
        (!opens).then_some(until)
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
