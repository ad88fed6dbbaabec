//! What remotes may reach: the open ports of servers and whom they admit, patched as the snapshot
//! changes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use mapping::{Admission, AdmissionRule, ExternalPort, Filters, InternalPort, Protocol};

use crate::session::SixTuple;
use crate::transport::Transport;
use crate::verdict::DropReason;

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
    /// Those go on whose remote is still admitted; of the oldest so many may not have been looked
    /// at.
    Narrowed(u32),
    /// They go on.
    Open,
}

#[derive(Debug)]
struct Port {
    rule: RuleId,
    internal: InternalPort,
    filters: Filters,
}

#[derive(Debug, Clone, Copy)]
struct Server {
    /// The rule by which echo requests come in.
    echo: RuleId,
    open_ports: u32,
    /// Those of them that admit everybody.
    open_to_all: u32,
}

/// What a change takes from sessions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gone {
    /// Rules that have gone, and whose numbers are kept until [`Admissions::free`].
    pub(crate) ended: [Option<RuleId>; 2],
    /// Rules that no longer admit everybody whom they have let in.
    pub(crate) narrowed: [Option<RuleId>; 2],
}

/// A remote's address, and its port where it has one.
type Source = (Ipv6Addr, Option<u16>);

impl Admissions {
    /// Returns the rule and the internal port for what a remote asks for; of an echo the port is
    /// zero.
    pub(crate) fn admit(&self, six: &SixTuple) -> Result<(RuleId, u16), DropReason> {
        let protocol = match six.transport {
            Transport::IcmpQuery => {
                let rule = self.echo(six.server, six.remote)?;
                return Ok((rule, 0));
            }
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        };
        let port = ExternalPort::new(six.external_port)
            .and_then(|port| self.ports.get(&(six.server, protocol, port)))
            .ok_or(DropReason::Closed)?;
        if port.admits((six.remote, Some(six.remote_port))) {
            Ok((port.rule, port.internal.get()))
        } else {
            Err(DropReason::Filtered)
        }
    }

    /// Returns the rule by which a remote may ping a server: it has a port that is open to that
    /// remote.
    pub(crate) fn echo(&self, server: Ipv4Addr, remote: Ipv6Addr) -> Result<RuleId, DropReason> {
        let entry = self.servers.get(&server).ok_or(DropReason::Closed)?;
        let admits = entry.open_to_all > 0
            || self
                .ports
                .range((server, Protocol::Tcp, FIRST)..=(server, Protocol::Udp, LAST))
                .any(|(_, port)| port.admits((remote, None)));
        admits.then_some(entry.echo).ok_or(DropReason::Filtered)
    }

    /// Tells whether a server has an open port.
    pub(crate) fn has_open_port(&self, server: Ipv4Addr) -> bool {
        self.servers.contains_key(&server)
    }

    /// Tells whether an open port leads to an internal port of a server.
    pub(crate) fn leads_to(&self, server: Ipv4Addr, protocol: Protocol, internal: u16) -> bool {
        self.ports
            .range((server, protocol, FIRST)..=(server, protocol, LAST))
            .any(|(_, port)| port.internal.get() == internal)
    }

    /// Tells whether a session that a rule has let in goes on.
    pub(crate) fn keeps(&self, rule: RuleId, six: &SixTuple) -> bool {
        match self.rule(rule) {
            Some(Rule::Lingering | Rule::Open) => true,
            Some(Rule::Narrowed(_)) => self.admit(six).is_ok(),
            Some(Rule::Ended | Rule::Free) | None => false,
        }
    }

    /// Tells whether all sessions of a rule end.
    pub(crate) fn has_ended(&self, rule: RuleId) -> bool {
        matches!(self.rule(rule), Some(Rule::Ended | Rule::Free) | None)
    }

    /// From now on compares the sessions of a rule with whom it admits; so many were let in
    /// before.
    pub(crate) fn narrow(&mut self, rule: RuleId, sessions: u32) {
        self.set(rule, Rule::Narrowed(sessions));
    }

    /// Takes note that one more of the sessions that a narrowed rule has let in is looked at;
    /// `false` when all were.
    pub(crate) fn look(&mut self, rule: RuleId) -> bool {
        let left = match self.rule(rule) {
            Some(Rule::Narrowed(left)) => left.checked_sub(1),
            _ => None,
        };
        if let Some(left) = left {
            self.set(rule, Rule::Narrowed(left));
        }
        left.is_some()
    }

    /// Says that all sessions of a narrowed rule were looked at.
    pub(crate) fn compared(&mut self, rule: RuleId) {
        if matches!(self.rule(rule), Some(Rule::Narrowed(_))) {
            self.set(rule, Rule::Open);
        }
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

    /// Applies a change and returns what it takes from sessions.
    pub(crate) fn apply(&mut self, change: &Admission) -> Gone {
        match change {
            Admission::Close(server, protocol, port) => self.close(*server, *protocol, *port),
            Admission::Open(server, protocol, port, rule) => {
                self.open((*server, *protocol, *port), rule)
            }
        }
    }

    fn open(&mut self, key: PortKey, to: &AdmissionRule) -> Gone {
        let (internal, filters) = (to.internal, Filters::clone(&to.filters));
        let (server, ..) = key;
        let Some(old) = self.ports.get_mut(&key) else {
            let rule = self.new_rule();
            self.count(server, &filters);
            let port = Port {
                rule,
                internal,
                filters,
            };
            self.ports.insert(key, port);
            return Gone::default();
        };
        let old_filters = std::mem::replace(&mut old.filters, filters);
        let narrowed = !holds(&old.filters, &old_filters);
        let (rule, moved) = (old.rule, old.internal != internal);
        if let Some(entry) = self.servers.get_mut(&server) {
            entry.open_to_all -= u32::from(old_filters.is_empty());
            entry.open_to_all += u32::from(to.filters.is_empty());
        }
        let mut gone = Gone::default();
        if moved {
            let new = self.new_rule();
            if let Some(port) = self.ports.get_mut(&key) {
                (port.rule, port.internal) = (new, internal);
            }
            self.set(rule, Rule::Ended);
            gone.ended = [Some(rule), None];
        } else if narrowed {
            gone.narrowed = [Some(rule), None];
        }
        if narrowed {
            gone.narrowed = [gone.narrowed[0], self.narrowed_echo(server)];
        }
        gone
    }

    fn close(&mut self, server: Ipv4Addr, protocol: Protocol, port: ExternalPort) -> Gone {
        let Some(old) = self.ports.remove(&(server, protocol, port)) else {
            return Gone::default();
        };
        self.set(old.rule, Rule::Ended);
        let mut gone = Gone {
            ended: [Some(old.rule), None],
            ..Gone::default()
        };
        if let Some(entry) = self.servers.get_mut(&server) {
            entry.open_ports -= 1;
            entry.open_to_all -= u32::from(old.filters.is_empty());
            if entry.open_ports == 0 {
                let echo = entry.echo;
                gone.ended = [Some(old.rule), Some(echo)];
                self.servers.remove(&server);
                self.set(echo, Rule::Ended);
            }
        }
        gone.narrowed = [None, self.narrowed_echo(server)];
        gone
    }

    /// Returns the rule for echo requests if it does not admit everybody.
    fn narrowed_echo(&self, server: Ipv4Addr) -> Option<RuleId> {
        let entry = self.servers.get(&server)?;
        (entry.open_to_all == 0).then_some(entry.echo)
    }

    /// Counts a new port of a server.
    fn count(&mut self, server: Ipv4Addr, filters: &Filters) {
        if !self.servers.contains_key(&server) {
            let echo = self.new_rule();
            let entry = Server {
                echo,
                open_ports: 0,
                open_to_all: 0,
            };
            self.servers.insert(server, entry);
        }
        if let Some(entry) = self.servers.get_mut(&server) {
            entry.open_ports += 1;
            entry.open_to_all += u32::from(filters.is_empty());
        }
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

impl Port {
    /// Tells whether a remote may begin (RFC 6887 §13.3: one of several filters is enough).
    fn admits(&self, (addr, port): Source) -> bool {
        self.filters.is_empty()
            || self.filters.iter().any(|filter| match port {
                Some(port) => filter.admits(addr, port),
                None => filter.prefix.contains(addr),
            })
    }
}

/// Tells, never wrongly yes, whether `new` admits everybody whom `old` does.
fn holds(new: &Filters, old: &Filters) -> bool {
    new.is_empty() || (!old.is_empty() && old.iter().all(|filter| new.contains(filter)))
}

type PortKey = (Ipv4Addr, Protocol, ExternalPort);

const FIRST: ExternalPort = ExternalPort(NonZeroU16::MIN);
const LAST: ExternalPort = ExternalPort(NonZeroU16::MAX);

#[cfg(test)]
mod tests {
    use mapping::RemoteFilter;

    use super::*;
    use crate::nsps::NspId;

    const CAMERA: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 7);
    const HERE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);
    const THERE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1);

    #[test]
    fn echo_is_open_exactly_while_a_port_is() {
        let mut admissions = Admissions::default();
        assert_eq!(admissions.echo(CAMERA, HERE), Err(DropReason::Closed));

        assert_eq!(admissions.apply(&open(80, 8080, &[])).ended, [None; 2]);
        assert_eq!(admissions.apply(&open(443, 8443, &[])).ended, [None; 2]);
        let echo = admissions.echo(CAMERA, HERE).unwrap();

        assert_eq!(admissions.apply(&close(80)).ended[1], None);
        assert_eq!(admissions.apply(&close(443)).ended[1], Some(echo));
        assert_eq!(admissions.echo(CAMERA, HERE), Err(DropReason::Closed));
    }

    #[test]
    fn another_internal_port_ends_the_old_rule() {
        let mut admissions = Admissions::default();
        admissions.apply(&open(80, 8080, &[]));
        let (old, _) = admissions.admit(&tcp(HERE, 4000)).unwrap();

        assert_eq!(admissions.apply(&open(80, 8080, &[])).ended, [None; 2]);
        assert_eq!(
            admissions.apply(&open(80, 8081, &[])).ended,
            [Some(old), None]
        );

        let (new, internal) = admissions.admit(&tcp(HERE, 4000)).unwrap();
        assert_ne!(new, old);
        assert_eq!(internal, 8081);
    }

    #[test]
    fn filters_admit_whom_one_of_them_fits() {
        let mut admissions = Admissions::default();
        admissions.apply(&open(
            80,
            8080,
            &[("2001:db8:a::/48", Some(4000)), ("2001:db8:b::/64", None)],
        ));
        for (remote, port, admitted) in [
            (HERE, 4000, true),
            (HERE, 4001, false),
            (THERE, 4000, true),
            (THERE, 4001, true),
            ("2001:db8:b:1::1".parse().unwrap(), 4000, false),
            ("2001:db8:c::1".parse().unwrap(), 4000, false),
        ] {
            let result = admissions.admit(&tcp(remote, port)).map(|(_, to)| to);
            let expected = if admitted {
                Ok(8080)
            } else {
                Err(DropReason::Filtered)
            };
            assert_eq!(result, expected, "{remote} {port}");
        }
    }

    #[test]
    fn echo_follows_the_prefixes_of_all_ports() {
        let mut admissions = Admissions::default();
        admissions.apply(&open(80, 80, &[("2001:db8:a::/48", Some(4000))]));
        let echo = admissions.echo(CAMERA, HERE).unwrap();
        assert_eq!(admissions.echo(CAMERA, THERE), Err(DropReason::Filtered));

        admissions.apply(&open(81, 81, &[]));
        assert_eq!(admissions.echo(CAMERA, THERE), Ok(echo));

        // what was open to all closes, then what was filtered opens to all
        assert_eq!(admissions.apply(&close(81)).narrowed[1], Some(echo));
        assert_eq!(admissions.echo(CAMERA, THERE), Err(DropReason::Filtered));
        assert_eq!(admissions.apply(&open(80, 80, &[])).narrowed, [None; 2]);
        assert_eq!(admissions.echo(CAMERA, THERE), Ok(echo));
    }

    #[test]
    fn only_a_rule_that_may_admit_fewer_is_narrowed() {
        let (a, b) = (("2001:db8:a::/48", None), ("2001:db8:b::/48", None));
        let table: [(&[Filter], &[Filter], bool); 7] = [
            (&[], &[], false),
            (&[], &[a], true),
            (&[a], &[], false),
            (&[a], &[a], false),
            (&[a], &[b, a], false),
            (&[a, b], &[b], true),
            (&[a], &[("2001:db8:a::/48", Some(1))], true),
        ];
        for (old, new, narrowed) in table {
            let mut admissions = Admissions::default();
            admissions.apply(&open(80, 80, old));
            let gone = admissions.apply(&open(80, 80, new));
            assert_eq!(gone.narrowed[0].is_some(), narrowed, "{old:?} to {new:?}");
            assert_eq!(gone.ended, [None; 2]);
        }
    }

    type Filter = (&'static str, Option<u16>);

    fn open(external: u16, internal: u16, filters: &[Filter]) -> Admission {
        let external = ExternalPort::new(external).unwrap();
        let filters = filters.iter().map(|(prefix, port)| RemoteFilter {
            prefix: prefix.parse().unwrap(),
            port: port.and_then(NonZeroU16::new),
        });
        let rule = AdmissionRule {
            internal: InternalPort::new(internal).unwrap(),
            filters: filters.collect(),
        };
        Admission::Open(CAMERA, Protocol::Tcp, external, rule)
    }

    fn close(external: u16) -> Admission {
        Admission::Close(CAMERA, Protocol::Tcp, ExternalPort::new(external).unwrap())
    }

    fn tcp(remote: Ipv6Addr, remote_port: u16) -> SixTuple {
        SixTuple {
            transport: Transport::Tcp,
            remote,
            remote_port,
            nsp: NspId(0),
            server: CAMERA,
            external_port: 80,
        }
    }
}
