//! Answers as people read them: plain tables, one line an item.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, UNIX_EPOCH};

use dashboard::model::{
    Endpoint, HostView, LoggedView, MappingView, PermissionView, PolicyView, PrefixView,
    SessionView, Status, UpstreamGatewayView, UpstreamView,
};

use crate::config::Config;

pub(super) fn checked(config: &Config) -> String {
    let roles = config.roles.as_ref().map_or_else(
        || "no interface has a role: Portico would only observe".to_owned(),
        |roles| format!("LAN {}, WAN {}", roles.lan, roles.wan),
    );
    let (network, len) = config.subnet;
    format!(
        "the configuration is valid: {roles}; {network}/{len}; zone {}\n",
        config.dns.zone
    )
}

pub(super) fn status(status: &Status, hosts: &[HostView], upstream: &UpstreamView) -> String {
    let wan = status.wan.interface.as_deref().unwrap_or("not chosen");
    let addresses: Vec<_> = status
        .wan
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut shown = format!(
        "Portico {} · up {} · WAN {wan} {} · delegated {}\n",
        status.version,
        time(status.uptime_s),
        if addresses.is_empty() {
            "without an address".to_owned()
        } else {
            addresses.join(" ")
        },
        status.wan.delegated.as_deref().unwrap_or("nothing yet"),
    );
    shown += &format!(
        "NSP {} · zone {} (serial {}, {} names) · LAN {} {} · pool {}\n",
        status.wan.nsp.as_deref().unwrap_or("none yet"),
        status.zone.name,
        status.zone.serial,
        status.hosts,
        status.lan.interface.as_deref().unwrap_or("not chosen"),
        status.lan.subnet,
        status.lan.pool,
    );
    shown += &self::upstream(upstream);
    if status.observing {
        shown += "observing: choose lan.interface and wan.interface in the configuration\n";
    }
    for room in status.rooms.iter().filter(|room| room.state == "failed") {
        shown += &format!(
            "{} failed: {}\n",
            room.room,
            room.error.as_deref().unwrap_or("unknown")
        );
    }
    shown += &self::hosts(hosts);
    let waiting = hosts.iter().flat_map(|host| &host.waiting);
    if let Some(first) = waiting.map(|it| it.id).min() {
        let (number, verb) = match status.waiting {
            1 => ("1 request".to_owned(), "waits"),
            many => (format!("{many} requests"), "wait"),
        };
        shown += &format!("{number} {verb} for you:  portico map approve {first} --for 1h\n");
    }
    shown
}

/// A line for each gateway in front of us that has answered or tells of a carrier's translator.
fn upstream(upstream: &UpstreamView) -> String {
    let told = upstream
        .gateways
        .iter()
        .filter(|it| it.kind.is_some() || it.carrier_nat);
    let line = |it: &UpstreamGatewayView| {
        let kind = it.kind.as_deref().unwrap_or("no port control");
        let mut line = format!("upstream {kind} at {}", it.address);
        if let Some(external) = it.external_address {
            line += &format!(" · outside {external}");
        }
        if it.carrier_nat {
            line += " · behind the provider's own translator (carrier NAT)";
        }
        format!(
            "{line} · {} open, {} refused, {} waiting\n",
            it.open, it.refused, it.waiting
        )
    };
    told.map(line).collect()
}

pub(super) fn host(host: &HostView) -> String {
    let mut shown = hosts(std::slice::from_ref(host));
    shown += &format!("name in DNS  {}\n", host.fqdn);
    if let Some(declared) = &host.declared_name {
        shown += &format!("calls itself {}\n", declared.escape_debug());
    }
    if let Some(left) = host.lease_expires_in_s {
        shown += &format!("lease        {} left\n", time(left));
    }
    shown += &format!("may open     {}\n", policy(&host.policy));
    let ports: Vec<_> = host.mappings.iter().chain(&host.waiting).cloned().collect();
    shown + &mappings(&ports)
}

/// What a device may open, in a line.
pub(super) fn policy(policy: &PolicyView) -> String {
    let ports = match (policy.access.as_str(), policy.ports.as_str()) {
        ("deny", _) => "nothing".to_owned(),
        ("ask", class) => format!("{class} by itself, other ports if you approve"),
        (_, class) => format!("{class}, and nothing else"),
    };
    let whose = match (policy.own, policy.expires_in_s) {
        (false, _) => "by default".to_owned(),
        (true, None) => "its own policy".to_owned(),
        (true, Some(left)) => format!("its own policy for {}", time(left)),
    };
    format!("{ports}; {} ports at most ({whose})", policy.quota)
}

pub(super) fn permissions(permissions: &[PermissionView]) -> String {
    let rows = permissions.iter().map(|it| {
        [
            it.name.clone(),
            format!("{}/{}", it.protocol, it.internal_port),
            if it.allow { "approved" } else { "denied" }.to_owned(),
            date(it.decided_at),
            it.expires_in_s
                .map_or_else(|| "until forgotten".to_owned(), time),
        ]
    });
    table(["NAME", "PORT", "DECISION", "AT", "LEFT"], rows)
}

pub(super) fn mappings(mappings: &[MappingView]) -> String {
    let rows = mappings.iter().map(|it| {
        [
            it.id.to_string(),
            it.name.clone(),
            it.state.clone(),
            format!("{}/{}", it.protocol, it.external_port),
            it.pinhole.map_or_else(
                || format!("{}:{}", it.server, it.internal_port),
                |addr| format!("[{addr}]:{}", it.internal_port),
            ),
            if it.filters.is_empty() {
                "everybody".to_owned()
            } else {
                it.filters.join(" ")
            },
            it.requester.clone(),
            it.expires_in_s
                .map_or_else(|| "until closed".to_owned(), time),
            it.description.escape_debug().to_string(),
        ]
    });
    table(
        [
            "ID",
            "NAME",
            "STATE",
            "PORT",
            "SERVER",
            "FOR",
            "BY",
            "LEFT",
            "DESCRIPTION",
        ],
        rows,
    )
}

pub(super) fn sessions(sessions: &[SessionView]) -> String {
    let rows = sessions.iter().map(|it| {
        [
            it.id.clone(),
            it.protocol.clone(),
            six(&it.remote),
            six(&it.external),
            four(&it.pool),
            four(&it.server),
            it.state.clone(),
            format!("{}/{}", it.packets_in, it.packets_out),
            time(it.expires_in_s),
        ]
    });
    table(
        [
            "ID",
            "PROTO",
            "REMOTE",
            "EXTERNAL",
            "POOL",
            "SERVER",
            "STATE",
            "PKT IN/OUT",
            "LEFT",
        ],
        rows,
    )
}

pub(super) fn logged(sessions: &[LoggedView]) -> String {
    let rows = sessions.iter().map(|it| {
        let ended = match (it.ended, &it.why) {
            (Some(at), Some(why)) => format!("{} ({why})", date(at)),
            (Some(at), None) => date(at),
            (None, _) => "-".to_owned(),
        };
        [
            it.protocol.clone(),
            six(&it.remote),
            six(&it.external),
            four(&it.pool),
            four(&it.server),
            date(it.began),
            ended,
        ]
    });
    let head = [
        "PROTO", "REMOTE", "EXTERNAL", "POOL", "SERVER", "BEGAN", "ENDED",
    ];
    table(head, rows)
}

/// Who it was and when.
pub(super) fn whose(session: &LoggedView) -> String {
    let ended = session.ended.map_or_else(|| "now".to_owned(), date);
    format!(
        "{} {} from {} to {ended}",
        session.protocol,
        six(&session.remote),
        date(session.began)
    )
}

/// One line about a session that is watched.
pub(super) fn watched(now: u64, what: &str, session: &SessionView) -> String {
    format!(
        "{}  {what}  {}  {}  behind {}  to {}  {}  {}/{} packets\n",
        date(now),
        session.protocol,
        six(&session.remote),
        four(&session.pool),
        four(&session.server),
        session.state,
        session.packets_in,
        session.packets_out,
    )
}

fn six(end: &Endpoint<Ipv6Addr>) -> String {
    format!("[{}]:{}", end.address, end.port)
}

fn four(end: &Endpoint<Ipv4Addr>) -> String {
    format!("{}:{}", end.address, end.port)
}

pub(super) fn prefixes(prefixes: &[PrefixView]) -> String {
    let rows = prefixes.iter().map(|it| {
        [
            it.delegated.clone(),
            it.nsp.clone(),
            if it.preferred { "in DNS" } else { "accepted" }.to_owned(),
            it.valid_for_s.map_or_else(|| "open".to_owned(), time),
        ]
    });
    table(["DELEGATED", "NSP", "STATE", "LEFT"], rows)
}

pub(super) fn hosts(hosts: &[HostView]) -> String {
    let rows = hosts.iter().map(|it| {
        let open: Vec<_> = it
            .mappings
            .iter()
            .map(|m| format!("{}/{}", m.protocol, m.external_port))
            .collect();
        let waiting: Vec<_> = it
            .waiting
            .iter()
            .map(|m| format!("{}/{}", m.protocol, m.external_port))
            .collect();
        [
            it.name.clone(),
            it.ipv4.to_string(),
            it.ipv6
                .map_or_else(|| "-".to_owned(), |addr| addr.to_string()),
            it.mac.clone(),
            if it.here { "here" } else { "away" }.to_owned(),
            if open.is_empty() {
                "-".to_owned()
            } else {
                open.join(" ")
            },
            if waiting.is_empty() {
                "-".to_owned()
            } else {
                waiting.join(" ")
            },
        ]
    });
    table(
        ["NAME", "IPV4", "AAAA", "MAC", "STATE", "OPEN", "WAITING"],
        rows,
    )
}

/// Sets rows under a head, each column as wide as its widest cell.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned))
        .chain(rows)
        .collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut shown = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        shown += line.trim_end();
        shown.push('\n');
    }
    shown
}

/// A time of the wall clock, in seconds since 1970.
pub(super) fn date(seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let time = time.filter(|_| seconds < YEAR_10_000);
    time.map_or_else(
        || "never".to_owned(),
        |time| humantime::format_rfc3339_seconds(time).to_string(),
    )
}

fn time(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// What RFC 3339 can write ends here.
const YEAR_10_000: u64 = 253_402_300_800;
