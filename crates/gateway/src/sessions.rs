//! NAT64 sessions, as people see and choose them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use mapping::Prefix6;

/// A NAT64 session (RFC 6146 §3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What names it while it lives.
    pub id: SessionId,
    /// Whose ports they are.
    pub ends: SessionEnds,
    /// Where it stands.
    pub state: SessionState,
    /// How long it has been alive.
    pub age: Duration,
    /// When it ends if nothing more is heard.
    pub expires_in: Duration,
    /// What passed.
    pub traffic: SessionTraffic,
}

/// Between whom a session is, live or logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEnds {
    /// Its transport.
    pub protocol: SessionProtocol,
    /// The remote's address and port (or identifier).
    pub remote: (Ipv6Addr, u16),
    /// The address and port under which the remote knows the server.
    pub external: (Ipv6Addr, u16),
    /// The address and port under which the server knows the remote, `T:t`.
    pub pool: (Ipv4Addr, u16),
    /// The server's own address and port (or identifier).
    pub server: (Ipv4Addr, u16),
}

/// What passed in a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionTraffic {
    /// Packets from the remote to the server.
    pub packets_in: u64,
    /// Packets from the server to the remote.
    pub packets_out: u64,
    /// IPv6 bytes from the remote to the server.
    pub bytes_in: u64,
    /// IPv6 bytes from the server to the remote.
    pub bytes_out: u64,
}

/// Names a live session: numbers are used again, the tag tells one session from the next that has
/// its number. Written as `number-tag`, the tag in hexadecimal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId {
    /// Its place in the table.
    pub number: u32,
    /// What only this session has.
    pub tag: u32,
}

/// The transport of a session; each has a BIB of its own (RFC 6146 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionProtocol {
    /// ICMP queries; the identifier stands for the port.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The state of a session; TCP's are those of RFC 6146 §3.5.2, others are always established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// Both sides have spoken.
    Established,
    /// The server opened it and the remote has not answered.
    V4Init,
    /// The remote opened it and the server has not answered.
    V6Init,
    /// The server closed its side.
    V4Fin,
    /// The remote closed its side.
    V6Fin,
    /// Both sides closed.
    V4FinV6Fin,
    /// A reset or a long silence; ends soon.
    Trans,
}

/// Which sessions are wanted: those that fit everything that is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Only this one.
    pub id: Option<SessionId>,
    /// Only those of this transport.
    pub protocol: Option<SessionProtocol>,
    /// Only those of remotes in this prefix.
    pub remote: Option<Prefix6>,
    /// Only those to this port of servers, as remotes know it.
    pub external_port: Option<u16>,
    /// Only those behind this pool address.
    pub pool: Option<Ipv4Addr>,
    /// Only those behind this pool port.
    pub pool_port: Option<u16>,
    /// Only those of this server.
    pub server: Option<Ipv4Addr>,
    /// Only those that stand there; the log knows no states.
    pub state: Option<SessionState>,
}

/// Where a page begins: the number after the last session of the page before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionCursor(pub u64);

/// Some sessions, and where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// Where the next page begins, `None` after the last one.
    pub next: Option<SessionCursor>,
}

/// What [`crate::Observe::end_sessions`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// How many sessions were ended.
    pub count: u64,
}

impl SessionFilter {
    /// Tells whether a live session fits.
    #[must_use]
    pub fn fits(&self, session: &Session) -> bool {
        self.id.is_none_or(|id| id == session.id)
            && self.state.is_none_or(|state| state == session.state)
            && self.fits_ends(&session.ends)
    }

    /// Tells whether a session between these ends fits, whichever it is and wherever it stands.
    #[must_use]
    pub fn fits_ends(&self, ends: &SessionEnds) -> bool {
        self.protocol.is_none_or(|it| it == ends.protocol)
            && self.remote.is_none_or(|it| it.contains(ends.remote.0))
            && self.external_port.is_none_or(|it| it == ends.external.1)
            && self.pool.is_none_or(|it| it == ends.pool.0)
            && self.pool_port.is_none_or(|it| it == ends.pool.1)
            && self.server.is_none_or(|it| it == ends.server.0)
    }
}

impl SessionProtocol {
    /// Every transport.
    pub const ALL: [Self; 3] = [Self::Icmp, Self::Tcp, Self::Udp];

    /// Returns the name used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl SessionState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Established,
        Self::V4Init,
        Self::V6Init,
        Self::V4Fin,
        Self::V6Fin,
        Self::V4FinV6Fin,
        Self::Trans,
    ];

    /// Returns the name used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::V4Init => "v4-init",
            Self::V6Init => "v6-init",
            Self::V4Fin => "v4-fin",
            Self::V6Fin => "v6-fin",
            Self::V4FinV6Fin => "v4-fin-v6-fin",
            Self::Trans => "trans",
        }
    }
}

/// A text that names no such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct NoSuch(&'static str);

impl FromStr for SessionProtocol {
    type Err = NoSuch;

    fn from_str(text: &str) -> Result<Self, NoSuch> {
        let mut all = Self::ALL.into_iter();
        all.find(|it| it.as_str() == text)
            .ok_or(NoSuch("tcp, udp or icmp"))
    }
}

impl FromStr for SessionState {
    type Err = NoSuch;

    fn from_str(text: &str) -> Result<Self, NoSuch> {
        let mut all = Self::ALL.into_iter();
        all.find(|it| it.as_str() == text).ok_or(NoSuch(
            "established, v4-init, v6-init, v4-fin, v6-fin, v4-fin-v6-fin or trans",
        ))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.number, self.tag)
    }
}

impl FromStr for SessionId {
    type Err = NoSuch;

    fn from_str(text: &str) -> Result<Self, NoSuch> {
        let id = text.split_once('-').and_then(|(number, tag)| {
            Some(Self {
                number: number.parse().ok()?,
                tag: u32::from_str_radix(tag, 16).ok()?,
            })
        });
        id.ok_or(NoSuch("an id as the list of sessions shows it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_read_as_it_is_written() {
        let id = SessionId {
            number: 17,
            tag: 0xa0b,
        };

        assert_eq!(id.to_string(), "17-00000a0b");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "17", "-1", "x-1", "1-", "1-g", "4294967296-0"] {
            assert!(text.parse::<SessionId>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for protocol in SessionProtocol::ALL {
            assert_eq!(protocol.as_str().parse(), Ok(protocol));
        }
        for state in SessionState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("sctp".parse::<SessionProtocol>().is_err());
        assert!("open".parse::<SessionState>().is_err());
    }

    #[test]
    fn filter_asks_for_everything_that_it_says() {
        let session = session();
        let all = SessionFilter::default();
        let fits = [
            all,
            SessionFilter {
                id: Some(session.id),
                ..all
            },
            SessionFilter {
                protocol: Some(SessionProtocol::Tcp),
                remote: Some("2001:db8:f::/48".parse().unwrap()),
                external_port: Some(443),
                pool: Some([192, 168, 64, 193].into()),
                pool_port: Some(4000),
                server: Some([192, 168, 64, 10].into()),
                state: Some(SessionState::Established),
                ..all
            },
        ];
        for filter in fits {
            assert!(filter.fits(&session), "{filter:?}");
        }
        let other = SessionId {
            tag: 8,
            ..session.id
        };
        let differs = [
            SessionFilter {
                id: Some(other),
                ..all
            },
            SessionFilter {
                protocol: Some(SessionProtocol::Udp),
                ..all
            },
            SessionFilter {
                remote: Some("2001:db8:e::/48".parse().unwrap()),
                ..all
            },
            SessionFilter {
                external_port: Some(8443),
                ..all
            },
            SessionFilter {
                pool: Some([192, 168, 64, 194].into()),
                ..all
            },
            SessionFilter {
                pool_port: Some(4001),
                ..all
            },
            SessionFilter {
                server: Some([192, 168, 64, 11].into()),
                ..all
            },
            SessionFilter {
                state: Some(SessionState::Trans),
                ..all
            },
        ];
        for filter in differs {
            assert!(!filter.fits(&session), "{filter:?}");
        }
    }

    fn session() -> Session {
        Session {
            id: SessionId { number: 3, tag: 7 },
            ends: SessionEnds {
                protocol: SessionProtocol::Tcp,
                remote: ("2001:db8:f::9".parse().unwrap(), 4000),
                external: ("2001:db8:64:1::c0a8:400a".parse().unwrap(), 443),
                pool: ([192, 168, 64, 193].into(), 4000),
                server: ([192, 168, 64, 10].into(), 8443),
            },
            state: SessionState::Established,
            age: Duration::from_secs(5),
            expires_in: Duration::from_secs(60),
            traffic: SessionTraffic::default(),
        }
    }
}
