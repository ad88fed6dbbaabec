//! What a translator is made with.

use std::time::Duration;

use crate::alone::{Alone, InvalidAlone};
use crate::pool::PoolRange;
use crate::session::Lifetime;
use crate::wire::ipv6;

/// What a translator is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The addresses behind which remotes appear.
    pub pool: Vec<PoolRange>,
    /// How long sessions live.
    pub lifetimes: Lifetimes,
    /// How much there may be of what.
    pub limits: Limits,
    /// What the links on both sides carry.
    pub links: Links,
    /// What the whole path of IPv6 carries: IPv4 packets that may be cut and exceed it leave in
    /// fragments of at most this length (`lowest-ipv6-mtu` of RFC 7915 §4.1), never under 1280.
    pub lowest_ipv6_mtu: u16,
    /// The traffic class in IPv6 is zero, whatever the type of service was (RFC 7915 §4.1).
    pub zero_traffic_class: bool,
    /// The type of service in IPv4, whatever the traffic class was (RFC 7915 §5.1).
    pub tos: Option<u8>,
    /// What a remote hears from a port that is not open.
    pub closed: Closed,
    /// Whether the sessions of a port that closes end; else they go on until they expire, and
    /// only new ones are refused.
    pub end_on_close: bool,
    /// Whether a TCP segment that belongs to no session, of a port that is open or was when its
    /// connection was cut, is answered with a reset, so that both ends notice at once.
    pub reset_unknown: bool,
    /// Present when there is no gateway and the translator stands alone.
    pub alone: Option<Alone>,
    /// Whether packets of transport protocols that are not translated are answered (RFC 6146
    /// §3.4).
    pub refuse_protocols: bool,
}

impl Config {
    /// Returns the defaults for a pool.
    #[must_use]
    pub fn new(pool: PoolRange) -> Self {
        Self {
            pool: vec![pool],
            lifetimes: Lifetimes::default(),
            limits: Limits::default(),
            links: Links::default(),
            lowest_ipv6_mtu: ipv6::MIN_MTU,
            zero_traffic_class: false,
            tos: None,
            closed: Closed::default(),
            end_on_close: true,
            reset_unknown: true,
            alone: None,
            refuse_protocols: false,
        }
    }

    /// Returns the defaults for a translator that stands alone; without a pool it has no sessions.
    ///
    /// # Errors
    /// When `alone` cannot be done with this pool.
    pub fn alone(pool: Vec<PoolRange>, alone: Alone) -> Result<Self, InvalidAlone> {
        alone.check(&pool)?;
        Ok(Self {
            pool,
            lifetimes: Lifetimes::default(),
            limits: Limits::without_shares(SESSIONS_ALONE),
            links: Links::default(),
            lowest_ipv6_mtu: ipv6::MIN_MTU,
            zero_traffic_class: false,
            tos: None,
            closed: Closed::default(),
            end_on_close: true,
            reset_unknown: true,
            refuse_protocols: true,
            alone: Some(alone),
        })
    }
}

/// What the links on both sides carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Links {
    /// The largest IPv6 packet that the WAN carries.
    pub wan_mtu: u16,
    /// The largest IPv4 packet that the LAN carries.
    pub lan_mtu: u16,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            wan_mtu: ETHERNET_MTU,
            lan_mtu: ETHERNET_MTU,
        }
    }
}

impl Links {
    /// Returns the largest TCP segment that fits both.
    pub(crate) fn mss(self) -> u16 {
        self.wan_mtu.min(self.four_as_six()).saturating_sub(40 + 20)
    }

    /// Returns the largest IPv4 packet whose translation the WAN carries.
    pub(crate) const fn six_as_four(self) -> u16 {
        self.wan_mtu.saturating_sub(LONGER)
    }

    /// Returns the largest IPv6 packet whose translation the LAN carries.
    pub(crate) const fn four_as_six(self) -> u16 {
        self.lan_mtu.saturating_add(LONGER)
    }
}

/// What a remote hears from a port that is not open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Closed {
    /// That communication is administratively prohibited (`ICMPv6` 1/1): at once, and after six
    /// seconds to a SYN (RFC 5382 REQ-4, RFC 6092 REC-34).
    Prohibited,
    /// Nothing (RFC 5382 REQ-4 a).
    #[default]
    Silent,
}

/// How much there may be of what; what is beyond is dropped and counted, or takes the place of a
/// session to which the remote has not yet answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions; more than 16,777,215 there never are.
    pub sessions: u32,
    /// Sessions of the remotes of one /64, but for those that both ends have finished or the server
    /// has reset. Those that come back after a restart count, and are not measured by it.
    pub per_remote_64: u32,
    /// As before, of one server.
    pub per_server: u32,
    /// Sessions of one /64 to which the remote has not yet answered.
    pub half_open_per_64: u32,
    /// Sessions that the remotes of one /64 may begin in a second, at once four seconds' worth, up to
    /// 65,535 (RFC 6888 REQ-5 b); more than 65,535 is no limit.
    pub new_per_remote_64: u32,
    /// As before, of one server.
    pub new_per_server: u32,
    /// Ports of the pool that rest, see [`Lifetimes::port_rest`].
    pub resting_ports: u32,
    /// ICMP errors and resets of our own in a second; those about packets that are too big count
    /// for themselves.
    pub answers: u32,
    /// Bytes of memory for datagrams of which parts are missing, in each family.
    pub fragment_bytes: u32,
    /// Datagrams of which parts are missing, in each family.
    pub fragmented_datagrams: u32,
}

impl Limits {
    /// Returns limits for so many sessions, such that no network of remotes and no server takes
    /// all.
    #[must_use]
    pub const fn of(sessions: u32) -> Self {
        let half_open = sessions / 32;
        Self {
            sessions,
            per_remote_64: sessions.div_ceil(4),
            per_server: sessions - sessions / 4,
            half_open_per_64: if half_open < 64 { 64 } else { half_open },
            new_per_remote_64: NEW_PER_REMOTE_64,
            new_per_server: NEW_PER_SERVER,
            resting_ports: RESTING_PORTS,
            answers: ANSWERS,
            fragment_bytes: FRAGMENT_BYTES,
            fragmented_datagrams: FRAGMENTED_DATAGRAMS,
        }
    }

    /// Returns limits for so many sessions of which anybody may have all: hosts in IPv6 are those
    /// of the operator, and may well stand in one /64.
    #[must_use]
    pub const fn without_shares(sessions: u32) -> Self {
        Self {
            per_remote_64: sessions,
            per_server: sessions,
            half_open_per_64: sessions,
            new_per_remote_64: u32::MAX,
            new_per_server: u32::MAX,
            ..Self::of(sessions)
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(SESSIONS)
    }
}

/// How long sessions live without a packet. Each is at least its RFC's floor, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    fragment: Duration,
    icmp_query: Duration,
    port_rest: Duration,
    tcp_closing: Duration,
    tcp_established: Duration,
    tcp_opening: Duration,
    udp: Duration,
}

/// A lifetime is under the floor of its RFC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lifetime {name} must be at least {} s", .floor.as_secs())]
pub struct TooShort {
    /// Which one, as in the configuration.
    pub name: &'static str,
    /// What its RFC allows.
    pub floor: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            fragment: FRAGMENT,
            icmp_query: ICMP_QUERY,
            port_rest: PORT_REST,
            tcp_closing: TCP_TRANSITORY,
            tcp_established: TCP_ESTABLISHED,
            tcp_opening: TCP_TRANSITORY,
            udp: UDP,
        }
    }
}

impl Lifetimes {
    /// Returns how long fragments wait for the rest of their packet.
    #[must_use]
    pub const fn fragment(&self) -> Duration {
        self.fragment
    }

    /// Returns how long an ICMP query session lives.
    #[must_use]
    pub const fn icmp_query(&self) -> Duration {
        self.icmp_query
    }

    /// Returns how long a UDP port or an ICMP identifier of the pool is given to nobody else after
    /// its last session.
    #[must_use]
    pub const fn port_rest(&self) -> Duration {
        self.port_rest
    }

    /// Returns how long a TCP session lives that both sides have finished, or one has reset.
    #[must_use]
    pub const fn tcp_closing(&self) -> Duration {
        self.tcp_closing
    }

    /// Returns how long an established TCP session lives, the wait for the answer to a probe
    /// included.
    #[must_use]
    pub const fn tcp_established(&self) -> Duration {
        self.tcp_established
    }

    /// Returns how long a TCP session lives that is open in part.
    #[must_use]
    pub const fn tcp_opening(&self) -> Duration {
        self.tcp_opening
    }

    /// Returns how long a UDP session lives.
    #[must_use]
    pub const fn udp(&self) -> Duration {
        self.udp
    }

    /// Sets how long fragments wait for the rest of their packet.
    ///
    /// # Errors
    /// Under `FRAGMENT_MIN`, 2 seconds (RFC 6146 §4).
    pub fn set_fragment(&mut self, lifetime: Duration) -> Result<(), TooShort> {
        set(&mut self.fragment, "fragment", FRAGMENT, lifetime)
    }

    /// Sets how long an ICMP query session lives.
    ///
    /// # Errors
    /// Under 60 seconds (RFC 5508 REQ-2).
    pub fn set_icmp_query(&mut self, lifetime: Duration) -> Result<(), TooShort> {
        set(&mut self.icmp_query, "icmp_query", ICMP_QUERY, lifetime)
    }

    /// Sets how long a UDP port or an ICMP identifier of the pool is given to nobody else after
    /// its last session. There is no floor.
    pub const fn set_port_rest(&mut self, time: Duration) {
        self.port_rest = time;
    }

    /// Sets how long a TCP session lives that both sides have finished, or one has reset.
    ///
    /// # Errors
    /// Under 4 minutes (RFC 5382 REQ-5).
    pub fn set_tcp_closing(&mut self, lifetime: Duration) -> Result<(), TooShort> {
        let value = &mut self.tcp_closing;
        set(value, "tcp_closing", TCP_TRANSITORY, lifetime)
    }

    /// Sets how long an established TCP session lives.
    ///
    /// # Errors
    /// Under 2 hours and 4 minutes (RFC 5382 REQ-5).
    pub fn set_tcp_established(&mut self, lifetime: Duration) -> Result<(), TooShort> {
        let value = &mut self.tcp_established;
        set(value, "tcp_established", TCP_ESTABLISHED, lifetime)
    }

    /// Sets how long a TCP session lives that is open in part (RFC 7857 §2.1).
    ///
    /// # Errors
    /// Under 4 minutes (RFC 5382 REQ-5).
    pub fn set_tcp_opening(&mut self, lifetime: Duration) -> Result<(), TooShort> {
        let value = &mut self.tcp_opening;
        set(value, "tcp_opening", TCP_TRANSITORY, lifetime)
    }

    /// Sets how long a UDP session lives.
    ///
    /// # Errors
    /// Under 2 minutes (RFC 4787 REQ-5).
    pub fn set_udp(&mut self, lifetime: Duration) -> Result<(), TooShort> {
        set(&mut self.udp, "udp", UDP_MIN, lifetime)
    }

    /// Returns a lifetime in whole seconds. An established session is probed so early that the
    /// answer may take [`Self::tcp_closing`].
    pub(crate) fn of(&self, lifetime: Lifetime) -> u32 {
        let lifetime = match lifetime {
            Lifetime::IcmpQuery => self.icmp_query,
            Lifetime::TcpEstablished => {
                TCP_EST.max(self.tcp_established.saturating_sub(self.tcp_closing))
            }
            Lifetime::TcpClosing | Lifetime::TcpTransitory => self.tcp_closing,
            Lifetime::TcpOpening => self.tcp_opening,
            Lifetime::TcpReset => TCP_RESET,
            Lifetime::Udp | Lifetime::UdpOpening => self.udp,
        };
        u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
    }
}

fn set(
    value: &mut Duration,
    name: &'static str,
    floor: Duration,
    lifetime: Duration,
) -> Result<(), TooShort> {
    if lifetime < floor {
        return Err(TooShort { name, floor });
    }
    *value = lifetime;
    Ok(())
}

/// As many as Linux gives of ICMP errors in all.
const ANSWERS: u32 = 1000;

/// What a machine of two processors opens and closes with both ends on it: a flood out of one
/// network is to leave time for the others.
const NEW_PER_REMOTE_64: u32 = 20_000;

/// None: whoever forges sources would use it up, and keep everybody else from the server.
const NEW_PER_SERVER: u32 = 65_536;

/// A hundred bytes each when all are in use.
const RESTING_PORTS: u32 = 4096;

/// An IPv6 header is that much longer than an IPv4 header.
const LONGER: u16 = 20;

/// Seven of the longest datagrams of each source; taken only as they come.
const FRAGMENT_BYTES: u32 = 4 * 1024 * 1024;

/// More than fit with their parts; bounds what is left of those that were refused.
const FRAGMENTED_DATAGRAMS: u32 = 4096;

/// A home's worth; about 6 MB when all are in use.
const SESSIONS: u32 = 32_768;

/// A network's worth, twice the ports of an address; room is made when it is needed.
const SESSIONS_ALONE: u32 = 131_072;

/// RFC 894.
const ETHERNET_MTU: u16 = 1500;

/// RFC 6146 §4: `FRAGMENT_MIN`.
const FRAGMENT: Duration = Duration::from_secs(2);

/// RFC 6146 §4: `ICMP_DEFAULT`; RFC 5508 REQ-2 allows no less.
const ICMP_QUERY: Duration = Duration::from_secs(60);

/// RFC 6146 §4: `TCP_EST`.
const TCP_EST: Duration = Duration::from_secs(2 * 60 * 60);

/// RFC 5382 REQ-5 allows no less; RFC 6146 §4 makes it of `TCP_EST` and `TCP_TRANS`.
const TCP_ESTABLISHED: Duration = Duration::from_secs(2 * 60 * 60 + 4 * 60);

/// RFC 6888 REQ-8.
const PORT_REST: Duration = Duration::from_secs(120);

/// After a reset and before the server is asked whether it was real: a retransmission or the
/// challenge of RFC 5961 §3 may make the question needless.
const TCP_RESET: Duration = Duration::from_secs(10);

/// RFC 6146 §4: `TCP_TRANS`; RFC 5382 REQ-5 allows no less.
const TCP_TRANSITORY: Duration = Duration::from_secs(4 * 60);

/// RFC 6146 §4: `UDP_DEFAULT`.
const UDP: Duration = Duration::from_secs(5 * 60);

/// RFC 6146 §4: `UDP_MIN`.
const UDP_MIN: Duration = Duration::from_secs(2 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    type Setter = fn(&mut Lifetimes, Duration) -> Result<(), TooShort>;
    type Getter = fn(&Lifetimes) -> Duration;

    #[test]
    fn each_lifetime_takes_its_floor_and_nothing_less() {
        let table: [(Setter, Getter, u64); 6] = [
            (Lifetimes::set_fragment, Lifetimes::fragment, 2),
            (Lifetimes::set_icmp_query, Lifetimes::icmp_query, 60),
            (Lifetimes::set_tcp_closing, Lifetimes::tcp_closing, 240),
            (
                Lifetimes::set_tcp_established,
                Lifetimes::tcp_established,
                7440,
            ),
            (Lifetimes::set_tcp_opening, Lifetimes::tcp_opening, 240),
            (Lifetimes::set_udp, Lifetimes::udp, 120),
        ];
        for (setter, getter, floor) in table {
            let floor = Duration::from_secs(floor);
            let mut lifetimes = Lifetimes::default();
            let before = getter(&lifetimes);

            let refused = setter(&mut lifetimes, floor - Duration::from_nanos(1));
            assert_eq!(refused.map_err(|error| error.floor), Err(floor));
            assert_eq!(getter(&lifetimes), before);

            for lifetime in [floor, floor * 3] {
                assert_eq!(setter(&mut lifetimes, lifetime), Ok(()));
                assert_eq!(getter(&lifetimes), lifetime);
            }
        }
    }

    #[test]
    fn probe_leaves_time_for_its_answer_and_never_comes_before_two_hours() {
        let mut lifetimes = Lifetimes::default();
        assert_eq!(lifetimes.of(Lifetime::TcpEstablished), 7200);
        lifetimes
            .set_tcp_closing(Duration::from_secs(3600))
            .unwrap();
        assert_eq!(lifetimes.of(Lifetime::TcpEstablished), 7200);
        lifetimes
            .set_tcp_established(Duration::from_secs(20_000))
            .unwrap();
        assert_eq!(lifetimes.of(Lifetime::TcpEstablished), 16_400);
    }
}
