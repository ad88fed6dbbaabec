//! The counters of a moment, as people and programs read them.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway::Count;
use serde::Serialize;

/// The counters of a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reading {
    uptime_s: u64,
    packets: Ways,
    bytes: Ways,
    sessions: Sessions,
    sessions_opened: u64,
    /// What was lost, by reason; reasons without a packet are left out.
    drops: BTreeMap<&'static str, u64>,
    losses: BTreeMap<&'static str, u64>,
    #[serde(skip)]
    counters: usize,
}

/// A number for each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Ways {
    six_to_four: u64,
    four_to_six: u64,
}

/// Live sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Sessions {
    tcp: u64,
    udp: u64,
    icmp: u64,
}

/// How a reading is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An object on a line.
    Json,
    /// A line.
    Line,
    /// What there was in the end.
    Summary,
    /// Some lines that replace those before.
    Table,
}

impl Reading {
    /// Reads the counters.
    pub fn new(counts: &[Count], uptime: Duration) -> Self {
        let mut reading = Self {
            uptime_s: uptime.as_secs(),
            counters: counts.len(),
            ..Self::default()
        };
        for count in counts {
            reading.take(count);
        }
        reading
    }

    /// Tells whether nobody has counted.
    pub const fn is_empty(&self) -> bool {
        self.counters == 0
    }

    /// Returns the text, ended by a newline; `last` is the reading of a second ago.
    pub fn text(&self, last: Option<&Self>, format: Format) -> String {
        match format {
            Format::Json => {
                let json = serde_json::to_string(self).unwrap_or_default();
                format!("{json}\n")
            }
            Format::Line => format!("{}\n", self.line()),
            Format::Summary => self.summary(),
            Format::Table => self.table(last.unwrap_or(self)),
        }
    }

    fn take(&mut self, count: &Count) {
        let value = count.value;
        match (count.name, count.reason) {
            ("packets_total", "six_to_four") => self.packets.six_to_four = value,
            ("packets_total", "four_to_six") => self.packets.four_to_six = value,
            ("bytes_total", "six_to_four") => self.bytes.six_to_four = value,
            ("bytes_total", "four_to_six") => self.bytes.four_to_six = value,
            ("sessions", "tcp") => self.sessions.tcp = value,
            ("sessions", "udp") => self.sessions.udp = value,
            ("sessions", "icmp") => self.sessions.icmp = value,
            ("sessions_opened_total", _) => self.sessions_opened = value,
            ("drops_total", reason) if value > 0 => {
                self.drops.insert(reason, value);
            }
            ("device_losses_total", reason) if value > 0 => {
                self.losses.insert(reason, value);
            }
            _ => {}
        }
    }

    fn line(&self) -> String {
        format!(
            "{}s 6to4 {} packets {} bytes, 4to6 {} packets {} bytes, sessions tcp {} udp {} icmp {}, \
             dropped {}",
            self.uptime_s,
            self.packets.six_to_four,
            self.bytes.six_to_four,
            self.packets.four_to_six,
            self.bytes.four_to_six,
            self.sessions.tcp,
            self.sessions.udp,
            self.sessions.icmp,
            self.dropped(),
        )
    }

    fn summary(&self) -> String {
        let mut text = format!(
            "translated in {}: {} packets ({}) from IPv6 to IPv4, {} packets ({}) from IPv4 to \
             IPv6, in {} sessions\n",
            humantime::format_duration(Duration::from_secs(self.uptime_s)),
            self.packets.six_to_four,
            size(self.bytes.six_to_four),
            self.packets.four_to_six,
            size(self.bytes.four_to_six),
            self.sessions_opened,
        );
        text += &format!("dropped: {}\n", self.reasons());
        text
    }

    fn table(&self, last: &Self) -> String {
        let mut text = format!(
            "up {:<20} {:>14} {:>12} {:>12} {:>12}\n",
            humantime::format_duration(Duration::from_secs(self.uptime_s)).to_string(),
            "packets",
            "bytes",
            "packets/s",
            "per second"
        );
        let seconds = self.uptime_s.saturating_sub(last.uptime_s).max(1);
        let six_to_four = |ways: &Ways| ways.six_to_four;
        let four_to_six = |ways: &Ways| ways.four_to_six;
        text += &self.row(last, "IPv6 to IPv4", seconds, six_to_four);
        text += &self.row(last, "IPv4 to IPv6", seconds, four_to_six);
        text += &format!(
            "sessions                tcp {}  udp {}  icmp {}  (opened {})\n",
            self.sessions.tcp, self.sessions.udp, self.sessions.icmp, self.sessions_opened
        );
        // a line that the terminal breaks would be two to take back
        let reasons = cut(&self.reasons(), WIDTH - 24);
        text += &format!("dropped                 {reasons}\n");
        text
    }

    fn row(&self, last: &Self, name: &str, seconds: u64, way: impl Fn(&Ways) -> u64) -> String {
        let (packets, bytes) = (way(&self.packets), way(&self.bytes));
        format!(
            "{name:<23} {packets:>14} {:>12} {:>12} {:>12}\n",
            size(bytes),
            packets.saturating_sub(way(&last.packets)) / seconds,
            size(bytes.saturating_sub(way(&last.bytes)) / seconds),
        )
    }

    fn dropped(&self) -> u64 {
        self.drops.values().chain(self.losses.values()).sum()
    }

    fn reasons(&self) -> String {
        let reasons: Vec<_> = self
            .drops
            .iter()
            .chain(&self.losses)
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        if reasons.is_empty() {
            "nothing".to_owned()
        } else {
            reasons.join(", ")
        }
    }
}

/// Cuts a list behind its last item that fits.
fn cut(list: &str, width: usize) -> String {
    if list.len() <= width {
        return list.to_owned();
    }
    let room = width.saturating_sub(", and others".len());
    let fits = list.get(..=room).and_then(|list| list.rsplit_once(", "));
    let (fits, _) = fits.unwrap_or_default();
    format!("{fits}, and others")
}

/// Columns that every terminal has.
const WIDTH: usize = 80;

/// Returns what takes a terminal back over so many lines and clears them.
pub fn back(lines: usize) -> String {
    if lines == 0 {
        String::new()
    } else {
        format!("\x1b[{lines}A\x1b[J")
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut scaled = bytes.saturating_mul(10);
    let mut unit = 0;
    while scaled >= 10_000 && unit + 1 < UNITS.len() {
        scaled /= 1000;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        format!("{bytes} {name}")
    } else {
        format!("{}.{} {name}", scaled / 10, scaled % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_reasons_without_a_packet_left_out() {
        let reading = Reading::new(&counts(), Duration::from_millis(12_900));

        assert_eq!(
            reading.text(None, Format::Json),
            concat!(
                r#"{"uptime_s":12,"packets":{"six_to_four":1234,"four_to_six":0},"#,
                r#""bytes":{"six_to_four":1500000,"four_to_six":0},"#,
                r#""sessions":{"tcp":3,"udp":0,"icmp":0},"sessions_opened":5,"#,
                r#""drops":{"closed":7},"losses":{"write_refused":1}}"#,
                "\n"
            )
        );
        assert_eq!(
            reading.text(None, Format::Line),
            "12s 6to4 1234 packets 1500000 bytes, 4to6 0 packets 0 bytes, \
             sessions tcp 3 udp 0 icmp 0, dropped 8\n"
        );
        assert_eq!(
            reading.text(None, Format::Summary),
            "translated in 12s: 1234 packets (1.5 MB) from IPv6 to IPv4, 0 packets (0 B) from \
             IPv4 to IPv6, in 5 sessions\ndropped: closed 7, write_refused 1\n"
        );
    }

    #[test]
    fn table_shows_what_came_in_the_last_second() {
        let last = Reading::new(&[], Duration::from_secs(10));
        let reading = Reading::new(&counts(), Duration::from_secs(12));
        let table = reading.text(Some(&last), Format::Table);

        assert_eq!(table.lines().count(), 5);
        assert!(
            table.contains("617"),
            "1234 packets in two seconds: {table}"
        );
        assert!(table.contains("750.0 kB"), "{table}");
        assert!(last.is_empty() && !reading.is_empty());
    }

    #[test]
    fn no_line_of_the_table_is_wider_than_a_terminal() {
        let mut reading = Reading::new(&counts(), Duration::from_secs(12));
        for reason in [
            "address",
            "another_reason",
            "filtered",
            "long_reason_why",
            "zzz",
        ] {
            reading.drops.insert(reason, u64::MAX);
        }
        let table = reading.text(None, Format::Table);

        assert!(table.lines().all(|line| line.len() <= 80), "{table}");
        assert!(table.contains("address 18446744073709551615, and others\n"));
        assert!(reading.text(None, Format::Summary).contains("zzz"));
    }

    #[test]
    fn sizes_have_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_234_567, "1.2 MB"),
            (u64::MAX / 10, "1844674.4 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    fn counts() -> Vec<Count> {
        [
            ("packets_total", "six_to_four", 1234),
            ("bytes_total", "six_to_four", 1_500_000),
            ("sessions", "tcp", 3),
            ("sessions_opened_total", "", 5),
            ("drops_total", "closed", 7),
            ("drops_total", "hairpin", 0),
            ("device_losses_total", "write_refused", 1),
            ("another", "", 9),
        ]
        .map(|(name, reason, value)| Count::new(name, reason, value))
        .to_vec()
    }
}
