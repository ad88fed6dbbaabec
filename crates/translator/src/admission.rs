//! What remotes may reach: the open ports of servers, patched as the snapshot changes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;

use mapping::{Admission, ExternalPort, InternalPort, Protocol};

/// Names a rule; sessions remember by which rule they came in. Numbers of rules that have gone
/// are given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuleId(pub(crate) u32);

/// The open ports, and the servers that have any.
#[derive(Debug, Default)]
pub(crate) struct Admissions {
    ports: BTreeMap<(Ipv4Addr, Protocol, ExternalPort), Port>,
    servers: BTreeMap<Ipv4Addr, Server>,
    rules: Vec<Rule>,
    free: Vec<RuleId>,
}

/// What becomes of the sessions of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// They have ended; some may not have been looked at.
    Ended,
    /// The number is given to no rule.
    Free,
    /// They go on, and there will be no others.
    Lingering,
    /// They go on.
    Open,
}

#[derive(Debug, Clone, Copy)]
struct Port {
    rule: RuleId,
    internal: InternalPort,
}

#[derive(Debug, Clone, Copy)]
struct Server {
    /// The rule by which echo requests come in.
    echo: RuleId,
    open_ports: u32,
}

/// Rules that have gone, and whose numbers are kept until [`Admissions::free`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ended {
    pub(crate) port: Option<RuleId>,
    pub(crate) echo: Option<RuleId>,
}

impl Admissions {
    /// Returns the rule and the internal port for an external port.
    pub(crate) fn port(
        &self,
        server: Ipv4Addr,
        protocol: Protocol,
        port: ExternalPort,
    ) -> Option<(RuleId, InternalPort)> {
        self.ports
            .get(&(server, protocol, port))
            .map(|port| (port.rule, port.internal))
    }

    /// Returns the rule by which a server may be pinged: it has an open port.
    pub(crate) fn echo(&self, server: Ipv4Addr) -> Option<RuleId> {
        self.servers.get(&server).map(|server| server.echo)
    }

    /// Tells whether an open port leads to an internal port of a server.
    pub(crate) fn leads_to(&self, server: Ipv4Addr, protocol: Protocol, internal: u16) -> bool {
        self.ports
            .range((server, protocol, FIRST)..=(server, protocol, LAST))
            .any(|(_, port)| port.internal.get() == internal)
    }

    /// Tells whether the sessions of a rule go on.
    pub(crate) fn keeps(&self, rule: RuleId) -> bool {
        matches!(self.rule(rule), Some(Rule::Lingering | Rule::Open))
    }

    /// Lets the sessions of a rule that has gone go on.
    pub(crate) fn linger(&mut self, rule: RuleId) {
        self.set(rule, Rule::Lingering);
    }

    /// Says that a rule has no session: if it has gone, its number may be given out again.
    pub(crate) fn free(&mut self, rule: RuleId) {
        if matches!(self.rule(rule), Some(Rule::Ended | Rule::Lingering)) {
            self.set(rule, Rule::Free);
            self.free.push(rule);
        }
    }

    /// Applies a change and returns the rules that have gone.
    pub(crate) fn apply(&mut self, change: &Admission) -> Ended {
        match change {
            Admission::Close(server, protocol, port) => self.close(*server, *protocol, *port),
            // a rule that admits some remotes only admits nobody until filters are read here
            Admission::Open(server, protocol, port, rule) if !rule.filters.is_empty() => {
                self.close(*server, *protocol, *port)
            }
            Admission::Open(server, protocol, port, rule) => {
                self.open(*server, *protocol, *port, rule.internal)
            }
        }
    }

    fn open(
        &mut self,
        server: Ipv4Addr,
        protocol: Protocol,
        port: ExternalPort,
        internal: InternalPort,
    ) -> Ended {
        let old = self.port(server, protocol, port);
        if old.is_some_and(|(_, old)| old == internal) {
            return Ended::default();
        }
        let rule = self.new_rule();
        self.ports
            .insert((server, protocol, port), Port { rule, internal });
        if let Some((rule, _)) = old {
            self.set(rule, Rule::Ended);
            return Ended {
                port: Some(rule),
                echo: None,
            };
        }
        match self.servers.get_mut(&server) {
            Some(server) => server.open_ports += 1,
            None => {
                let echo = self.new_rule();
                self.servers.insert(
                    server,
                    Server {
                        echo,
                        open_ports: 1,
                    },
                );
            }
        }
        Ended::default()
    }

    fn close(&mut self, server: Ipv4Addr, protocol: Protocol, port: ExternalPort) -> Ended {
        let Some(old) = self.ports.remove(&(server, protocol, port)) else {
            return Ended::default();
        };
        self.set(old.rule, Rule::Ended);
        let mut ended = Ended {
            port: Some(old.rule),
            echo: None,
        };
        if let Some(entry) = self.servers.get_mut(&server) {
            entry.open_ports -= 1;
            if entry.open_ports == 0 {
                ended.echo = Some(entry.echo);
                let echo = entry.echo;
                self.servers.remove(&server);
                self.set(echo, Rule::Ended);
            }
        }
        ended
    }

    pub(crate) fn new_rule(&mut self) -> RuleId {
        let rule = self.free.pop().unwrap_or_else(|| {
            self.rules.push(Rule::Free);
            RuleId(u32::try_from(self.rules.len() - 1).unwrap_or(u32::MAX))
        });
        self.set(rule, Rule::Open);
        rule
    }

    fn rule(&self, rule: RuleId) -> Option<Rule> {
        self.rules.get(usize::try_from(rule.0).ok()?).copied()
    }

    fn set(&mut self, rule: RuleId, to: Rule) {
        let slot = usize::try_from(rule.0)
            .ok()
            .and_then(|at| self.rules.get_mut(at));
        if let Some(slot) = slot {
            *slot = to;
        }
    }
}

const FIRST: ExternalPort = ExternalPort(NonZeroU16::MIN);
const LAST: ExternalPort = ExternalPort(NonZeroU16::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    const CAMERA: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 7);

    #[test]
    fn echo_is_open_exactly_while_a_port_is() {
        let mut admissions = Admissions::default();
        assert_eq!(admissions.echo(CAMERA), None);

        assert!(admissions.apply(&open(80, 8080)).port.is_none());
        assert!(admissions.apply(&open(443, 8443)).port.is_none());
        let echo = admissions.echo(CAMERA);
        assert!(echo.is_some());

        assert_eq!(admissions.apply(&close(80)).echo, None);
        assert_eq!(admissions.apply(&close(443)).echo, echo);
        assert_eq!(admissions.echo(CAMERA), None);
    }

    #[test]
    fn another_internal_port_ends_the_old_rule() {
        let mut admissions = Admissions::default();
        assert!(admissions.apply(&open(80, 8080)).port.is_none());
        let (old, _) = admissions
            .port(CAMERA, Protocol::Tcp, ExternalPort::new(80).unwrap())
            .unwrap();

        assert!(admissions.apply(&open(80, 8080)).port.is_none());
        assert_eq!(admissions.apply(&open(80, 8081)).port, Some(old));

        let (new, internal) = admissions
            .port(CAMERA, Protocol::Tcp, ExternalPort::new(80).unwrap())
            .unwrap();
        assert_ne!(new, old);
        assert_eq!(internal.get(), 8081);
    }

    fn open(external: u16, internal: u16) -> Admission {
        let external = ExternalPort::new(external).unwrap();
        Admission::Open(
            CAMERA,
            Protocol::Tcp,
            external,
            mapping::AdmissionRule::to(InternalPort::new(internal).unwrap()),
        )
    }

    fn close(external: u16) -> Admission {
        Admission::Close(CAMERA, Protocol::Tcp, ExternalPort::new(external).unwrap())
    }
}
