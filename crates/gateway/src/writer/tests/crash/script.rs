//! The requests that the child makes, in order, and what each of them promises.

use super::*;

pub(super) const SCRIPT: [Deed; 17] = [
    Deed::Lease(1),
    Deed::Lease(2),
    Deed::Map(1, 8080),
    Deed::Map(1, 8081),
    Deed::Map(2, 9090),
    Deed::Map(1, 8080),
    Deed::Unmap(1, 8081),
    Deed::Release(2),
    Deed::Unmap(1, 8080),
    Deed::Map(1, 8080),
    Deed::Ask(1, 22),
    Deed::Ask(1, 25),
    Deed::Decide(1, 22, true),
    Deed::Decide(1, 25, false),
    Deed::Decide(1, 8080, false),
    Deed::Map(1, 8082),
    Deed::Prolong(1, 8082),
];

#[derive(Debug, Clone, Copy)]
pub(super) enum Deed {
    /// For a port about which a person is asked.
    Ask(u8, u16),
    /// A person says yes or no about it.
    Decide(u8, u16, bool),
    Lease(u8),
    Map(u8, u16),
    /// Renews a port for longer than it was opened.
    Prolong(u8, u16),
    Release(u8),
    Unmap(u8, u16),
}

impl Deed {
    /// To ask is done when a person is asked.
    pub(super) fn is_done(self, outcome: &Outcome) -> bool {
        match self {
            Self::Ask(..) => *outcome == Outcome::Refused(Refusal::Waiting),
            Self::Decide(..)
            | Self::Lease(_)
            | Self::Map(..)
            | Self::Prolong(..)
            | Self::Release(_)
            | Self::Unmap(..) => {
                matches!(outcome, Outcome::Granted(_))
            }
        }
    }

    pub(super) fn request(self, snapshot: &Snapshot) -> Option<Request> {
        let subject = |n| {
            Subject::Client(Client {
                addr: addr(n).into(),
                mac: None,
            })
        };
        Some(match self {
            Self::Decide(n, port, allow) => {
                let waiting = snapshot.waiting_of(mac(n));
                let waiting = waiting.filter(|it| it.internal_port.get() == port);
                let open = snapshot.mappings_of(addr(n));
                let open = open.filter(|it| it.internal_port.get() == port);
                let id = waiting.map(|it| it.id).chain(open.map(|it| it.id)).next()?;
                let decision = match allow {
                    true => Decision::Allow(None),
                    false => Decision::Deny,
                };
                Request::Decide(DecideRequest {
                    id,
                    requester: Requester::Cli,
                    decision,
                })
            }
            Self::Lease(n) => Request::Lease(LeaseRequest {
                mac: mac(n),
                addr: addr(n),
                lifetime: DAY,
                declared_name: None,
            }),
            Self::Ask(n, port) | Self::Map(n, port) => map_request(addr(n), port),
            Self::Prolong(n, port) => {
                let mut request = map_request(addr(n), port);
                if let Request::Map(map) = &mut request {
                    map.lifetime = Some(OPENED_FOR * 3);
                }
                request
            }
            Self::Release(n) => Request::Release(mapping::ReleaseRequest {
                mac: mac(n),
                addr: addr(n),
            }),
            Self::Unmap(n, port) => {
                let port = InternalPort::new(port).unwrap();
                Request::Unmap(UnmapRequest {
                    subject: subject(n),
                    requester: Requester::NatPmp,
                    target: UnmapTarget::Internal(Protocol::Tcp, port, None),
                })
            }
        })
    }

    /// What is shown must fit the answer; what closes does so whatever the disk does.
    pub(super) fn bug(self, snapshot: &Snapshot, outcome: &Outcome) -> Option<&'static str> {
        let granted = matches!(outcome, Outcome::Granted(_));
        match self {
            Self::Map(n, port) if granted && !is_open(snapshot, n, port) => Some("not open"),
            Self::Unmap(n, port) if is_open(snapshot, n, port) => Some("not closed"),
            Self::Release(n) if is_open(snapshot, n, 9090) => Some("not closed"),
            Self::Decide(n, port, true) if granted && !is_open(snapshot, n, port) => {
                Some("not open")
            }
            Self::Decide(n, port, false) if is_open(snapshot, n, port) => Some("not closed"),
            Self::Ask(..)
            | Self::Decide(..)
            | Self::Lease(_)
            | Self::Map(..)
            | Self::Prolong(..)
            | Self::Unmap(..)
            | Self::Release(_) => None,
        }
    }
}

pub(super) fn is_open(snapshot: &Snapshot, n: u8, port: u16) -> bool {
    snapshot
        .admission(addr(n), Protocol::Tcp, ExternalPort::new(port).unwrap())
        .is_some()
}
