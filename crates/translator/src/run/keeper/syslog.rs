//! The session log for others: RFC 5424 messages to a collector.
//!
//! What RFC 6302 asks for is in each: the source port of the remote, time in UTC, the transport,
//! and where the remote was going.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use gateway::SessionProtocol;
use mapping::{Instant, Wall};

use super::record::Record;

/// Where the messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Syslog {
    /// To a socket of the machine, such as `/dev/log`.
    Local(PathBuf),
    /// To a collector, by UDP (RFC 5426).
    Udp(SocketAddr),
}

/// Sends what it can without waiting, and keeps the rest for a while.
///
/// That nobody listens at a port is told after the fact, with the next message. So the last one is
/// kept until it is known to have arrived, and while the collector is away messages leave one at a
/// time, so rarely that the answer is heard of each.
#[derive(Debug)]
pub(super) struct Sender {
    to: Syslog,
    socket: Option<Socket>,
    host: String,
    waiting: VecDeque<String>,
    /// Sent, perhaps in vain.
    last: Option<String>,
    collector: Collector,
    not_before: Instant,
}

/// What is known of who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Collector {
    /// One message has left, to see whether it arrives.
    Asked,
    Away,
    Listens,
}

#[derive(Debug)]
enum Socket {
    Local(UnixDatagram),
    Udp(UdpSocket),
}

impl Sender {
    pub(super) fn new(to: Syslog) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            to,
            socket: None,
            host: header_field(host.trim()),
            waiting: VecDeque::new(),
            last: None,
            collector: Collector::Listens,
            not_before: Instant::default(),
        }
    }

    /// Adds a message, and returns how many were lost for want of room.
    pub(super) fn add(&mut self, record: &Record) -> u64 {
        if self.waiting.len() >= WAITING {
            return 1;
        }
        self.waiting.push_back(message(&self.host, record));
        0
    }

    /// Tells whether messages wait for a collector that is busy.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() && self.collector == Collector::Listens
    }

    /// Tells whether to call [`Self::flush`]: one that is away is not asked all the time.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.not_before
    }

    /// Sends what the collector takes now.
    ///
    /// # Errors
    /// When nobody is known to listen.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<()> {
        let sent = self.send_waiting();
        if sent.is_err() {
            self.not_before = now + AWAY_PAUSE;
        }
        sent
    }

    fn send_waiting(&mut self) -> io::Result<()> {
        if let Some(error) = self.socket.as_ref().and_then(Socket::refused) {
            return Err(self.lose(error));
        }
        if self.collector == Collector::Asked {
            self.collector = Collector::Listens;
        }
        while let Some(message) = self.waiting.pop_front() {
            match self.send(&message) {
                Ok(()) => self.last = Some(message),
                Err(error) => {
                    self.waiting.push_front(message);
                    return match error.kind() {
                        io::ErrorKind::WouldBlock => Ok(()),
                        _ => Err(self.lose(error)),
                    };
                }
            }
            match (self.collector, &self.to) {
                (Collector::Away, Syslog::Udp(_)) => {
                    self.collector = Collector::Asked;
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                _ => self.collector = Collector::Listens,
            }
        }
        Ok(())
    }

    fn send(&mut self, message: &str) -> io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(Socket::open(&self.to)?),
        };
        socket.send(message.as_bytes())
    }

    /// Notes that nobody listens. Who does may have been started anew: the next attempt opens the
    /// socket again.
    fn lose(&mut self, error: io::Error) -> io::Error {
        self.socket = None;
        self.collector = Collector::Away;
        if error.kind() == io::ErrorKind::ConnectionRefused
            && let Some(last) = self.last.take()
        {
            self.waiting.push_front(last);
        }
        error
    }
}

impl Socket {
    fn open(to: &Syslog) -> io::Result<Self> {
        match to {
            Syslog::Local(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                socket.connect(path)?;
                Ok(Self::Local(socket))
            }
            Syslog::Udp(addr) => {
                let any: SocketAddr = match addr {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.set_nonblocking(true)?;
                socket.connect(addr)?;
                Ok(Self::Udp(socket))
            }
        }
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Local(socket) => socket.send(message),
            Self::Udp(socket) => socket.send(message),
        }
        .map(drop)
    }

    /// Returns what became of a message before, if it is known that nobody took it.
    fn refused(&self) -> Option<io::Error> {
        match self {
            Self::Local(_) => None,
            Self::Udp(socket) => socket.take_error().ok().flatten(),
        }
    }
}

/// Returns a message (RFC 5424 §6). Portico has no number for structured data of its own, so that
/// the message says everything, in the order in which a packet from the remote meets it.
fn message(host: &str, record: &Record) -> String {
    let ends = &record.ends;
    let (msg_id, traffic) = match record.ended {
        None => ("SADD", None),
        Some(why) => ("SDEL", Some((why, &record.traffic))),
    };
    let protocol = match ends.protocol {
        SessionProtocol::Icmp => "ICMP",
        SessionProtocol::Tcp => "TCP",
        SessionProtocol::Udp => "UDP",
    };
    let mut text = format!(
        "<{PRIORITY}>1 {} {host} portico {} {msg_id} - proto={protocol} \
         remote=[{}]:{} external=[{}]:{} pool={}:{} server={}:{}",
        timestamp(record.at),
        std::process::id(),
        ends.remote.0,
        ends.remote.1,
        ends.external.0,
        ends.external.1,
        ends.pool.0,
        ends.pool.1,
        ends.server.0,
        ends.server.1,
    );
    if let Some((why, traffic)) = traffic {
        // a String takes everything
        let _infallible = write!(
            text,
            " began={} why={} packets_in={} packets_out={} bytes_in={} bytes_out={}",
            timestamp(record.began),
            why.as_str(),
            traffic.packets_in,
            traffic.packets_out,
            traffic.bytes_in,
            traffic.bytes_out,
        );
    }
    text
}

/// Returns a time as RFC 3339 has it, in UTC, with milliseconds.
fn timestamp(at: Wall) -> String {
    let seconds = at.as_secs();
    let millis = at.as_nanos() / 1_000_000 % 1000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Returns year, month and day of a day since 1970. Years begin in March here, so that the day
/// that comes and goes is their last.
const fn civil(days: u64) -> (u64, u64, u64) {
    let since = days + DAYS_TO_1970;
    let era = since / DAYS_OF_ERA;
    let of_era = since % DAYS_OF_ERA;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year + era * 400 + (month <= 2) as u64;
    (year, month, day)
}

/// RFC 5424 §6: printable, no blank, and `-` for nothing.
fn header_field(text: &str) -> String {
    let field: String = text
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    if field.is_empty() {
        "-".to_owned()
    } else {
        field
    }
}

/// RFC 5424 §6.2.1: facility "system daemons", severity "informational".
const PRIORITY: u8 = 3 * 8 + 6;

/// Messages that wait for a collector that is busy or away.
const WAITING: usize = 4096;

/// Until a collector that is away is asked again: as often as a host of Linux says that a port is
/// closed.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

/// From the first of March of the year 0.
const DAYS_TO_1970: u64 = 719_468;

/// Of 400 years.
const DAYS_OF_ERA: u64 = 146_097;

#[cfg(test)]
mod tests {
    use gateway::{EndReason, SessionEnds, SessionTraffic};

    use super::*;

    #[test]
    fn message_says_who_was_where_and_when() {
        let mut record = record();

        let pid = std::process::id();
        assert_eq!(
            message("gw", &record),
            format!(
                "<30>1 2026-11-23T22:36:23.042Z gw portico {pid} SADD - proto=TCP \
                 remote=[2001:db8:f::9]:4000 external=[2001:db8:64:1::c0a8:400a]:443 \
                 pool=192.168.64.193:4000 server=192.168.64.10:8443"
            )
        );
        record.ended = Some(EndReason::Closed);
        record.began = Wall::from_secs(951_782_400);
        record.traffic.bytes_out = 12;
        assert!(message("gw", &record).ends_with(
            " SDEL - proto=TCP remote=[2001:db8:f::9]:4000 \
             external=[2001:db8:64:1::c0a8:400a]:443 pool=192.168.64.193:4000 \
             server=192.168.64.10:8443 began=2000-02-29T00:00:00.000Z why=closed \
             packets_in=0 packets_out=0 bytes_in=0 bytes_out=12"
        ));
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (day, date) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (10_957, (2000, 1, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(day), date);
        }
    }

    #[test]
    fn names_of_hosts_are_made_fit() {
        assert_eq!(header_field("gate way\n\u{e9}"), "gateway");
        assert_eq!(header_field(""), "-");
    }

    #[test]
    fn collector_that_is_away_is_waited_for_and_what_does_not_fit_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut sender = Sender::new(Syslog::Local(path.clone()));
        assert_eq!((0..WAITING).map(|_| sender.add(&record())).sum::<u64>(), 0);
        assert_eq!(sender.add(&record()), 1);
        assert!(sender.flush(at(1)).is_err());
        assert!(!sender.is_due(at(1)) && sender.is_due(at(2)));
        let collector = UnixDatagram::bind(&path).unwrap();

        let mut buf = [0; 2048];
        let mut received = 0;
        while received < WAITING {
            sender.flush(at(2)).unwrap();
            let len = collector.recv(&mut buf).unwrap();
            assert!(buf[..len].starts_with(b"<30>1 "));
            received += 1;
        }
        assert!(!sender.is_waiting());
    }

    #[test]
    fn no_message_is_lost_to_a_udp_collector_that_is_away_for_a_while() {
        // nobody else has this address, and no port that is chosen by the kernel is so low
        let addr: SocketAddr = "127.77.3.1:5514".parse().unwrap();
        let mut sender = Sender::new(Syslog::Udp(addr));
        let mut record = record();
        for port in 1..=3 {
            record.ends.remote.1 = port;
            sender.add(&record);
        }
        for second in 1..=5 {
            assert!(sender.flush(at(second)).is_err());
            assert!(!sender.is_due(at(second)) && sender.is_due(at(second + 1)));
        }

        let collector = UdpSocket::bind(addr).unwrap();
        let mut second = 6;
        while sender.flush(at(second)).is_err() {
            second += 1;
            assert!(second < 10);
        }

        let mut buf = [0; 2048];
        for port in 1..=3 {
            let len = collector.recv(&mut buf).unwrap();
            let text = std::str::from_utf8(&buf[..len]).unwrap();
            assert!(text.contains(&format!("]:{port} external")), "{text}");
        }
        collector.set_nonblocking(true).unwrap();
        assert!(collector.recv(&mut buf).is_err());
    }

    #[test]
    fn udp_collector_hears() {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sender = Sender::new(Syslog::Udp(collector.local_addr().unwrap()));
        sender.add(&record());

        sender.flush(at(1)).unwrap();

        let mut buf = [0; 2048];
        let len = collector.recv(&mut buf).unwrap();
        assert!(
            std::str::from_utf8(&buf[..len])
                .unwrap()
                .contains(" SADD - ")
        );
        assert!(!sender.is_waiting());
    }

    fn at(second: u64) -> Instant {
        Instant::from_nanos(second * 1_000_000_000)
    }

    fn record() -> Record {
        Record {
            at: Wall::from_nanos(1_795_473_383_042_000_000),
            began: Wall::from_secs(9),
            ends: SessionEnds {
                protocol: SessionProtocol::Tcp,
                remote: ("2001:db8:f::9".parse().unwrap(), 4000),
                external: ("2001:db8:64:1::c0a8:400a".parse().unwrap(), 443),
                pool: ([192, 168, 64, 193].into(), 4000),
                server: ([192, 168, 64, 10].into(), 8443),
            },
            ended: None,
            traffic: SessionTraffic::default(),
        }
    }
}
