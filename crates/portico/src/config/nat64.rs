//! From the section of the translator to what it means.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use mapping::Site;
use toml::Spanned;
use translator::{InvalidPool, Keep, Lifetimes, Limits, LogLimits, PoolRange, Syslog, TooShort};

use super::file::{self, nat64};
use super::validate::{Checked, Invalid, duration, optional, spanned};

/// Returns what the translator is made with; `lan` is the subnet of the LAN.
pub(super) fn translator(file: &file::Nat64, lan: &Site) -> Checked<translator::Config> {
    let (network, len) = lan.pool();
    let quarter = PoolRange::new(network, len).map_err(|error| Invalid {
        message: error.to_string(),
        span: None,
    })?;
    let default = translator::Config::new(quarter);
    Ok(translator::Config {
        pool: match &file.pool {
            None => default.pool.clone(),
            Some(pool) => match pool.get_ref() {
                nat64::Pool::Auto => default.pool.clone(),
                nat64::Pool::Ranges(ranges) => ranges_of(ranges, pool.span(), lan)?,
            },
        },
        lifetimes: lifetimes(&file.timeouts, default.lifetimes)?,
        limits: limits(&file.limits, default.limits)?,
        closed: match file.closed {
            nat64::Closed::Prohibited => translator::Closed::Prohibited,
            nat64::Closed::Silent => translator::Closed::Silent,
        },
        end_on_close: file.end_on_close.unwrap_or(default.end_on_close),
        reset_unknown: file.reset_unknown.unwrap_or(default.reset_unknown),
        refuse_protocols: file.refuse_protocols.unwrap_or(default.refuse_protocols),
        zero_traffic_class: match file.traffic_class {
            nat64::TrafficClass::Copy => false,
            nat64::TrafficClass::Zero => true,
        },
        tos: match file.tos.as_ref().map(Spanned::get_ref) {
            None | Some(nat64::Tos::Copy) => None,
            Some(nat64::Tos::Always(tos)) => Some(*tos),
        },
        lowest_ipv6_mtu: number(
            file.lowest_ipv6_mtu.as_ref(),
            default.lowest_ipv6_mtu,
            IPV6_MTU_MIN..=u16::MAX,
        )?,
        ..default
    })
}

/// Returns what is kept of sessions in the folder of the store, and who is told.
pub(super) fn keep(file: &nat64::SessionLog, state: PathBuf) -> Checked<Keep> {
    let default = LogLimits::default();
    Ok(Keep {
        state: Some(state),
        log: LogLimits {
            bytes: file
                .size
                .as_ref()
                .map_or(Ok(default.bytes), |text| spanned(text, size))?,
            days: number(file.days.as_ref(), default.days, 0..=DAYS_MAX)?,
        },
        syslog: optional(file.syslog.as_ref(), syslog)?,
    })
}

fn size(text: &str) -> Result<u64, String> {
    let wrong = || "not a size such as \"64MiB\", or \"0\" for none".to_owned();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let unit = match unit.trim_start() {
        "" | "B" => 1,
        "kB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(unit).ok_or_else(wrong)?;
    if bytes != 0 && !(LOG_LEAST..=LOG_MOST).contains(&bytes) {
        return Err("the size must be from 64KiB to 1024GiB, or 0 for none".to_owned());
    }
    Ok(bytes)
}

fn syslog(text: &str) -> Result<Syslog, String> {
    if text.starts_with('/') {
        return Ok(Syslog::Local(text.into()));
    }
    let bare = text.parse::<IpAddr>();
    let addr = bare
        .map(|addr| SocketAddr::new(addr, SYSLOG_PORT))
        .or_else(|_| text.parse())
        .map_err(|_| {
            "neither a socket such as /dev/log nor a collector such as 192.0.2.9:514".to_owned()
        })?;
    Ok(Syslog::Udp(addr))
}

fn ranges_of(
    ranges: &[Spanned<String>],
    span: Range<usize>,
    lan: &Site,
) -> Checked<Vec<PoolRange>> {
    if ranges.is_empty() {
        return Err(Invalid {
            message: "the pool needs at least one network, or \"auto\"".to_owned(),
            span: Some(span),
        });
    }
    let mut pool = Vec::new();
    for text in ranges {
        let range = spanned(text, |text| range(text, lan))?;
        if pool.iter().any(|other: &PoolRange| other.overlaps(range)) {
            return Err(Invalid {
                message: "this network overlaps another one of the pool".to_owned(),
                span: Some(text.span()),
            });
        }
        pool.push(range);
    }
    Ok(pool)
}

/// On the LAN only the part that DHCP never leases can be the pool; elsewhere the range is routed.
fn range(text: &str, lan: &Site) -> Result<PoolRange, String> {
    let range: PoolRange = text
        .parse()
        .map_err(|error: InvalidPool| error.to_string())?;
    let whole = |network, len| PoolRange::new(network, len).map_err(|error| error.to_string());
    let subnet = whole(lan.network(), lan.prefix_len())?;
    if range.overlaps(subnet) {
        let (quarter, quarter_len) = lan.pool();
        if whole(quarter, quarter_len)?.contains(range.network())
            && range.prefix_len() >= quarter_len
        {
            return Ok(range);
        }
        return Err(format!(
            "on the LAN the pool must be a part of {quarter}/{quarter_len}, the rest is leased \
             by DHCP; elsewhere it may be any network that is not in use"
        ));
    }
    Ok(range)
}

fn lifetimes(file: &nat64::Timeouts, default: Lifetimes) -> Checked<Lifetimes> {
    let mut lifetimes = default;
    let setters: [(&file::Text, &str, Setter); 6] = [
        (&file.fragment, "2s", Lifetimes::set_fragment),
        (&file.icmp_query, "60s", Lifetimes::set_icmp_query),
        (&file.tcp_closing, "4m", Lifetimes::set_tcp_closing),
        (
            &file.tcp_established,
            "2h4m",
            Lifetimes::set_tcp_established,
        ),
        (&file.tcp_opening, "4m", Lifetimes::set_tcp_opening),
        (&file.udp, "2m", Lifetimes::set_udp),
    ];
    for (value, least, set) in setters {
        let set = |text: &str| {
            let lifetime = duration(text, least, "7d")?;
            set(&mut lifetimes, lifetime).map_err(|error| error.to_string())
        };
        if let Some(value) = value {
            spanned(value, set)?;
        }
    }
    if let Some(value) = &file.port_rest {
        lifetimes.set_port_rest(spanned(value, |text| duration(text, "0s", "7d"))?);
    }
    Ok(lifetimes)
}

type Setter = fn(&mut Lifetimes, Duration) -> Result<(), TooShort>;

fn limits(file: &nat64::Limits, default: Limits) -> Checked<Limits> {
    let limit = |value: &Option<Spanned<u32>>, default: u32, range: RangeInclusive<u32>| {
        number(value.as_ref(), default, range)
    };
    let sessions = limit(&file.sessions, default.sessions, 1..=SESSIONS_MAX)?;
    let of = Limits::of(sessions);
    let part = |value, default| limit(value, default, 1..=SESSIONS_MAX);
    Ok(Limits {
        sessions,
        per_remote_64: part(&file.per_remote_64, of.per_remote_64)?,
        per_server: part(&file.per_server, of.per_server)?,
        half_open_per_64: part(&file.half_open_per_64, of.half_open_per_64)?,
        new_per_remote_64: part(&file.new_per_remote_64, of.new_per_remote_64)?,
        new_per_server: part(&file.new_per_server, of.new_per_server)?,
        resting_ports: limit(&file.resting_ports, default.resting_ports, 0..=1 << 20)?,
        answers: limit(&file.answers, default.answers, 0..=ANSWERS_MAX)?,
        fragment_bytes: limit(
            &file.fragment_bytes,
            default.fragment_bytes,
            DATAGRAM_MAX..=1 << 30,
        )?,
        fragmented_datagrams: limit(
            &file.fragmented_datagrams,
            default.fragmented_datagrams,
            1..=1 << 20,
        )?,
    })
}

fn number<T: Copy + PartialOrd + std::fmt::Display>(
    value: Option<&Spanned<T>>,
    default: T,
    range: RangeInclusive<T>,
) -> Checked<T> {
    match value {
        Some(value) if !range.contains(value.get_ref()) => Err(Invalid {
            message: format!(
                "the number must be from {} to {}",
                range.start(),
                range.end()
            ),
            span: Some(value.span()),
        }),
        Some(value) => Ok(*value.get_ref()),
        None => Ok(default),
    }
}

/// A million as people say it, and some room; about 200 bytes each.
const SESSIONS_MAX: u32 = 1 << 22;

const ANSWERS_MAX: u32 = 1_000_000;

/// RFC 8200 §5.
const IPV6_MTU_MIN: u16 = 1280;

/// With less room than this the longest datagram never becomes whole.
const DATAGRAM_MAX: u32 = 1 << 16;

const LOG_LEAST: u64 = 64 << 10;

const LOG_MOST: u64 = 1 << 40;

/// Ten years.
const DAYS_MAX: u32 = 3650;

/// RFC 5426 §3.3.
const SYSLOG_PORT: u16 = 514;
