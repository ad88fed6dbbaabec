//! The verbs over sessions.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};
use dashboard::model::SessionChoice;
use gateway::{SessionId, SessionProtocol, SessionState};
use mapping::Wall;

use super::Reading;

/// Verbs over sessions.
#[derive(Debug, Subcommand)]
pub enum SessionVerb {
    /// List the live sessions: who is behind which pool address.
    List {
        #[command(flatten)]
        choice: Choice,
        #[command(flatten)]
        reading: Reading,
    },
    /// Show sessions as they begin and end, until interrupted.
    Watch {
        #[command(flatten)]
        choice: Choice,
        /// Print a JSON object for each, one a line.
        #[arg(long)]
        json: bool,
    },
    /// End live sessions, by their ids or by what they have in common.
    End(End),
    /// Say who is, or was, behind a pool address as a server's log shows it.
    Who {
        /// The pool address, such as 192.168.64.193:4000, or without a port.
        #[arg(value_name = "T:t", value_parser = pool)]
        pool: String,
        /// When: such as 2026-11-23T03:12:00Z or with an offset such as +01:00, or a time ago such as
        /// 10m; by default now.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        at: Option<Moment>,
        /// Only sessions of this protocol.
        #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
        protocol: Option<String>,
        #[command(flatten)]
        reading: Reading,
    },
}

/// Which sessions to end.
#[derive(Debug, Args)]
pub struct End {
    /// Their ids, as `portico session list` shows them.
    #[arg(value_name = "ID", value_parser = id)]
    pub ids: Vec<String>,
    #[command(flatten)]
    pub choice: Choice,
    /// Every one.
    #[arg(long)]
    pub all: bool,
}

/// Which sessions: those that fit everything that is said.
#[derive(Debug, Args)]
pub struct Choice {
    /// Only those of this device (name, MAC or address).
    #[arg(long, value_name = "DEVICE")]
    server: Option<String>,
    /// Only those of this remote address, or of remotes in this prefix.
    #[arg(long, value_name = "ADDRESS")]
    remote: Option<String>,
    /// Only those of this protocol: tcp, udp or icmp.
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    protocol: Option<String>,
    /// Only those in this state, such as established.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<String>,
    /// Only those to this port, as remotes know it.
    #[arg(long, value_name = "PORT")]
    external: Option<u16>,
    /// Only those behind this pool address, with or without a port.
    #[arg(long, value_name = "T:t", value_parser = pool)]
    pool: Option<String>,
}

/// A moment of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(Wall),
}

impl Moment {
    /// Returns the moment on the wall clock.
    pub fn before(self, now: Wall) -> Wall {
        match self {
            Self::Ago(ago) => Wall::from_secs(now.as_secs().saturating_sub(ago.as_secs())),
            Self::At(at) => at,
        }
    }
}

impl Choice {
    /// Returns the choice as the API takes it.
    pub fn into_model(self) -> SessionChoice {
        SessionChoice {
            external_port: self.external,
            pool: self.pool,
            protocol: self.protocol,
            remote: self.remote,
            server: self.server,
            state: self.state,
        }
    }
}

fn moment(text: &str) -> Result<Moment, &'static str> {
    let ago = humantime::parse_duration(text).map(Moment::Ago);
    let seconds = text.strip_prefix('@').and_then(|secs| secs.parse().ok());
    let at = || {
        let (time, ahead) = zone(text).unwrap_or((text, 0));
        let time = humantime::parse_rfc3339_weak(time).ok()?;
        let since = time.duration_since(UNIX_EPOCH).ok()?;
        let secs = since.as_secs().checked_add_signed(-ahead)?;
        Some(Moment::At(Wall::from_secs(secs)))
    };
    ago.ok()
        .or_else(|| seconds.map(|secs| Moment::At(Wall::from_secs(secs))))
        .or_else(at)
        .ok_or("expected a time such as 2026-11-23T03:12:00Z, or a time ago such as 10m")
}

/// Parts a time as logs show it, such as 2026-11-23T04:12:00+01:00, from the seconds by which its
/// zone is ahead.
fn zone(text: &str) -> Option<(&str, i64)> {
    let (time, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let ahead = (hours * 60 + minutes) * 60;
    match zone.get(..1)? {
        // RFC 3339 §5.6
        _ if hours > 23 || minutes > 59 => None,
        "+" => Some((time, ahead)),
        "-" => Some((time, -ahead)),
        _ => None,
    }
}

fn pool(text: &str) -> Result<String, &'static str> {
    let addr = text.parse::<Ipv4Addr>().is_ok() || text.parse::<SocketAddrV4>().is_ok();
    addr.then(|| text.to_owned())
        .ok_or("expected an IPv4 address such as 192.168.64.193:4000, or without a port")
}

fn id(text: &str) -> Result<String, gateway::NoSuch> {
    text.parse::<SessionId>().map(|id| id.to_string())
}

fn protocol(text: &str) -> Result<String, gateway::NoSuch> {
    let protocol = text.parse::<SessionProtocol>();
    protocol.map(|protocol| protocol.as_str().to_owned())
}

fn state(text: &str) -> Result<String, gateway::NoSuch> {
    let state = text.parse::<SessionState>();
    state.map(|state| state.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_times_ago() {
        let now = Wall::from_secs(1_795_478_400);
        for (text, secs) in [
            ("2026-11-23T03:12:00Z", 1_795_403_520),
            ("2026-11-23 03:12:00", 1_795_403_520),
            ("2026-11-23T04:12:00+01:00", 1_795_403_520),
            ("2026-11-22 23:42:00-03:30", 1_795_403_520),
            ("@1795403520", 1_795_403_520),
            ("10m", 1_795_477_800),
            ("0s", 1_795_478_400),
        ] {
            let moment = moment(text).unwrap();
            assert_eq!(moment.before(now), Wall::from_secs(secs), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "03:12",
            "@",
            "@x",
            "1969-12-31T23:59:59Z",
            "2026-11-23T04:12:00+01:60",
            "2026-11-23T04:12:00+24:00",
            "1970-01-01T00:00:00+01:00",
        ] {
            assert!(moment(text).is_err(), "{text}");
        }
        assert_eq!(Moment::Ago(Duration::MAX).before(now), Wall::from_secs(0));
    }

    #[test]
    fn pool_is_an_address_with_or_without_a_port() {
        assert!(pool("192.168.64.193").is_ok() && pool("192.168.64.193:0").is_ok());
        for text in ["", "192.168.64.193:", "192.168.64.193:65536", "::1"] {
            assert!(pool(text).is_err(), "{text}");
        }
    }
}
