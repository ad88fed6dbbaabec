//! The section of the translator.

use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, de};
use toml::Spanned;

use super::Text;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nat64 {
    pub prefix: Text,
    pub pool: Option<Spanned<Pool>>,
    pub closed: Closed,
    pub end_on_close: Option<bool>,
    pub reset_unknown: Option<bool>,
    pub refuse_protocols: Option<bool>,
    pub traffic_class: TrafficClass,
    pub tos: Option<Spanned<Tos>>,
    pub lowest_ipv6_mtu: Option<Spanned<u16>>,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub session_log: SessionLog,
}

/// Where the addresses come from that the servers see.
#[derive(Debug)]
pub enum Pool {
    /// A part of the LAN.
    Auto,
    /// These.
    Ranges(Vec<Spanned<String>>),
}

/// What a remote hears from a port that is not open.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Closed {
    Prohibited,
    #[default]
    Silent,
}

/// What the IPv6 side sees of an IPv4 packet's type of service.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrafficClass {
    #[default]
    Copy,
    Zero,
}

/// What the IPv4 side sees of an IPv6 packet's traffic class.
#[derive(Debug, Clone, Copy)]
pub enum Tos {
    Copy,
    Always(u8),
}

/// How long sessions live.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    pub fragment: Text,
    pub icmp_query: Text,
    pub port_rest: Text,
    pub tcp_closing: Text,
    pub tcp_established: Text,
    pub tcp_opening: Text,
    pub udp: Text,
}

/// How much there may be of what.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub sessions: Option<Spanned<u32>>,
    pub per_remote_64: Option<Spanned<u32>>,
    pub per_server: Option<Spanned<u32>>,
    pub half_open_per_64: Option<Spanned<u32>>,
    pub new_per_remote_64: Option<Spanned<u32>>,
    pub new_per_server: Option<Spanned<u32>>,
    pub resting_ports: Option<Spanned<u32>>,
    pub answers: Option<Spanned<u32>>,
    pub fragment_bytes: Option<Spanned<u32>>,
    pub fragmented_datagrams: Option<Spanned<u32>>,
}

/// What is written down of sessions.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionLog {
    pub size: Text,
    pub days: Option<Spanned<u32>>,
    pub syslog: Text,
}

// by hand, because an untagged enum forgets where in the file each range stands
impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PoolVisitor)
    }
}

struct PoolVisitor;

impl<'de> Visitor<'de> for PoolVisitor {
    type Value = Pool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"auto\" or a list of networks such as [\"192.168.64.192/26\"]")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Pool, E> {
        match text {
            "auto" => Ok(Pool::Auto),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Pool, A::Error> {
        let mut ranges = Vec::new();
        while let Some(range) = list.next_element()? {
            ranges.push(range);
        }
        Ok(Pool::Ranges(ranges))
    }
}

impl<'de> Deserialize<'de> for Tos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TosVisitor)
    }
}

struct TosVisitor;

impl Visitor<'_> for TosVisitor {
    type Value = Tos;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"copy\" or a number from 0 to 255")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Tos, E> {
        match text {
            "copy" => Ok(Tos::Copy),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Tos, E> {
        u8::try_from(number)
            .map(Tos::Always)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
    }
}
