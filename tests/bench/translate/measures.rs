//! What is measured, and in which columns the values stand.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::cpu;
use crate::load::tcp::{Direction, streams};
use crate::load::udp::{Pace, flood, no_loss_rate};
use crate::load::{conn, rr};
use crate::site::Site;

/// What can be asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// New TCP connections a second
    Conn,
    /// Processor time of a paced TCP stream
    Cpu,
    /// The highest rate of 64-byte UDP without loss
    Ndr,
    /// Round trips of one byte, in two placements
    Rr,
    /// Resident memory of the translator
    Rss,
    /// TCP streams as fast as they go: one and four, each direction
    Tcp,
    /// 64-byte UDP: a flood, and a paced stream
    Udp,
}

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub time: Duration,
}

/// Values of one peer's turn.
pub type Values = Vec<(Column, f64)>;

impl Measure {
    /// In the order of the tables.
    pub const ALL: [Self; 7] = [
        Self::Tcp,
        Self::Cpu,
        Self::Udp,
        Self::Ndr,
        Self::Rr,
        Self::Conn,
        Self::Rss,
    ];

    /// Whether it means something else when the endpoints cut their segments themselves.
    pub const fn wants_offloads_off(self) -> bool {
        matches!(self, Self::Tcp | Self::Cpu)
    }

    pub fn take(self, site: &Site, options: Options) -> Result<Values> {
        let time = options.time;
        match self {
            Self::Conn => {
                let result = conn::connections(site, time)?;
                Ok(vec![
                    (Column::Conn, result.per_second),
                    (Column::ConnCpu, result.micros),
                ])
            }
            Self::Cpu => paced(site, time),
            Self::Ndr => {
                let rate = no_loss_rate(site, time.div_f64(2.0))?;
                Ok(vec![(Column::Ndr, rate * 1e-3)])
            }
            Self::Rr => round_trips(site, time),
            Self::Rss => match site.process() {
                Some(process) => Ok(vec![(Column::Rss, cpu::resident_mib(process)?)]),
                None => Ok(Vec::new()),
            },
            Self::Tcp => unpaced(site, time),
            Self::Udp => datagrams(site, time),
        }
    }
}

fn unpaced(site: &Site, time: Duration) -> Result<Values> {
    let run = |direction, count| streams(site, direction, count, time, None);
    let (up, down) = (run(Direction::Up, 1)?, run(Direction::Down, 1)?);
    Ok(vec![
        (Column::TcpUp, up.gbits()),
        (Column::TcpDown, down.gbits()),
        (Column::TcpUpCpu, up.cpu_per_gb()),
        (Column::TcpDownCpu, down.cpu_per_gb()),
        (Column::Tcp4Up, run(Direction::Up, 4)?.gbits()),
        (Column::Tcp4Down, run(Direction::Down, 4)?.gbits()),
    ])
}

fn paced(site: &Site, time: Duration) -> Result<Values> {
    let cpu = |direction| {
        let result = streams(site, direction, 1, time, Some(PACE))?;
        anyhow::Ok(result.cpu_per_gb())
    };
    Ok(vec![
        (Column::CpuUp, cpu(Direction::Up)?),
        (Column::CpuDown, cpu(Direction::Down)?),
    ])
}

fn datagrams(site: &Site, time: Duration) -> Result<Values> {
    let full = flood(site, Pace::Flood, time)?;
    let paced = flood(site, Pace::Sleeping(UDP_PACE), time)?;
    Ok(vec![
        (Column::UdpOffered, full.offered_per_second() * 1e-3),
        (Column::UdpDelivered, full.delivered_per_second() * 1e-3),
        (Column::UdpCpu, full.micros_per_delivered()),
        (Column::UdpPacedCpu, paced.micros_per_delivered()),
    ])
}

fn round_trips(site: &Site, time: Duration) -> Result<Values> {
    let same = rr::round_trips(site, 0, time.div_f64(2.0))?;
    let mut values = vec![(Column::RrSameP50, same.p50), (Column::RrSameP99, same.p99)];
    if cpu::processors()? > 1 {
        let other = rr::round_trips(site, 1, time.div_f64(2.0))?;
        values.push((Column::RrOtherP50, other.p50));
        values.push((Column::RrOtherP99, other.p99));
    }
    Ok(values)
}

/// A column of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    TcpUp,
    TcpDown,
    TcpUpCpu,
    TcpDownCpu,
    Tcp4Up,
    Tcp4Down,
    CpuUp,
    CpuDown,
    UdpOffered,
    UdpDelivered,
    UdpCpu,
    UdpPacedCpu,
    Ndr,
    RrSameP50,
    RrSameP99,
    RrOtherP50,
    RrOtherP99,
    Conn,
    ConnCpu,
    Rss,
}

impl Column {
    /// Name for people and unit.
    pub const fn title(self) -> (&'static str, &'static str) {
        match self {
            Self::TcpUp => ("TCP 1 up", "Gbit/s"),
            Self::TcpDown => ("TCP 1 down", "Gbit/s"),
            Self::TcpUpCpu => ("TCP 1 up CPU", "s/GB"),
            Self::TcpDownCpu => ("TCP 1 down CPU", "s/GB"),
            Self::Tcp4Up => ("TCP 4 up", "Gbit/s"),
            Self::Tcp4Down => ("TCP 4 down", "Gbit/s"),
            Self::CpuUp => ("1 Gbit/s up CPU", "s/GB"),
            Self::CpuDown => ("1 Gbit/s down CPU", "s/GB"),
            Self::UdpOffered => ("flood offered", "kpps"),
            Self::UdpDelivered => ("delivered", "kpps"),
            Self::UdpCpu => ("flood CPU", "us/pkt"),
            Self::UdpPacedCpu => ("100k CPU", "us/pkt"),
            Self::Ndr => ("no loss", "kpps"),
            Self::RrSameP50 => ("RR same p50", "us"),
            Self::RrSameP99 => ("RR same p99", "us"),
            Self::RrOtherP50 => ("RR other p50", "us"),
            Self::RrOtherP99 => ("RR other p99", "us"),
            Self::Conn => ("connections", "1/s"),
            Self::ConnCpu => ("connection CPU", "us"),
            Self::Rss => ("RSS", "MiB"),
        }
    }

    /// Its name in JSON.
    pub const fn key(self) -> &'static str {
        match self {
            Self::TcpUp => "tcp_1_up_gbits",
            Self::TcpDown => "tcp_1_down_gbits",
            Self::TcpUpCpu => "tcp_1_up_cpu_s_per_gb",
            Self::TcpDownCpu => "tcp_1_down_cpu_s_per_gb",
            Self::Tcp4Up => "tcp_4_up_gbits",
            Self::Tcp4Down => "tcp_4_down_gbits",
            Self::CpuUp => "cpu_up_s_per_gb",
            Self::CpuDown => "cpu_down_s_per_gb",
            Self::UdpOffered => "udp_flood_offered_kpps",
            Self::UdpDelivered => "udp_flood_delivered_kpps",
            Self::UdpCpu => "udp_flood_cpu_us_per_packet",
            Self::UdpPacedCpu => "udp_100k_cpu_us_per_packet",
            Self::Ndr => "udp_no_loss_kpps",
            Self::RrSameP50 => "rr_same_core_p50_us",
            Self::RrSameP99 => "rr_same_core_p99_us",
            Self::RrOtherP50 => "rr_other_core_p50_us",
            Self::RrOtherP99 => "rr_other_core_p99_us",
            Self::Conn => "connections_per_s",
            Self::ConnCpu => "connection_cpu_us",
            Self::Rss => "rss_mib",
        }
    }
}

/// One Gbit/s.
const PACE: f64 = 125e6;

/// Below what every peer can do.
const UDP_PACE: f64 = 100e3;
