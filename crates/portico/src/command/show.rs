//! Answers as people read them: plain tables, one line an item.

use std::io::Write as _;
use std::time::Duration;

use dashboard::model::{HostView, MappingView, PrefixView, SessionView, Status};

use crate::config::Config;

/// Prints text; a reader that has gone away is no failure of ours.
pub(super) fn text(text: &str) {
    let _gone = std::io::stdout().write_all(text.as_bytes());
}

pub(super) fn error(message: &str) {
    let _gone = writeln!(std::io::stderr(), "portico: {message}");
}

pub(super) fn checked(config: &Config) {
    let roles = config.roles.as_ref().map_or_else(
        || "no interface has a role: Portico would only observe".to_owned(),
        |roles| format!("LAN {}, WAN {}", roles.lan, roles.wan),
    );
    let (network, len) = config.subnet;
    text(&format!(
        "the configuration is valid: {roles}; {network}/{len}; zone {}\n",
        config.dns.zone
    ));
}

pub(super) fn status(status: &Status, hosts: &[HostView]) {
    let wan = status.wan.interface.as_deref().unwrap_or("not chosen");
    let addresses: Vec<_> = status
        .wan
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    text(&format!(
        "Portico {} · up {} · WAN {wan} {} · delegated {}\n",
        status.version,
        time(status.uptime_s),
        if addresses.is_empty() {
            "without an address".to_owned()
        } else {
            addresses.join(" ")
        },
        status.wan.delegated.as_deref().unwrap_or("nothing yet"),
    ));
    text(&format!(
        "NSP {} · zone {} (serial {}, {} names) · LAN {} {} · pool {}\n",
        status.wan.nsp.as_deref().unwrap_or("none yet"),
        status.zone.name,
        status.zone.serial,
        status.hosts,
        status.lan.interface.as_deref().unwrap_or("not chosen"),
        status.lan.subnet,
        status.lan.pool,
    ));
    if status.observing {
        text("observing: choose lan.interface and wan.interface in the configuration\n");
    }
    for room in status.rooms.iter().filter(|room| room.state == "failed") {
        text(&format!(
            "{} failed: {}\n",
            room.room,
            room.error.as_deref().unwrap_or("unknown")
        ));
    }
    hosts_table(hosts);
}

pub(super) fn hosts(hosts: &[HostView]) {
    hosts_table(hosts);
}

pub(super) fn host(host: &HostView) {
    hosts_table(std::slice::from_ref(host));
    text(&format!("name in DNS  {}\n", host.fqdn));
    if let Some(declared) = &host.declared_name {
        text(&format!("calls itself {}\n", declared.escape_debug()));
    }
    if let Some(left) = host.lease_expires_in_s {
        text(&format!("lease        {} left\n", time(left)));
    }
    mappings(&host.mappings);
}

pub(super) fn mappings(mappings: &[MappingView]) {
    let rows = mappings.iter().map(|it| {
        [
            it.id.to_string(),
            it.name.clone(),
            format!("{}/{}", it.protocol, it.external_port),
            format!("{}:{}", it.server, it.internal_port),
            it.requester.clone(),
            it.expires_in_s
                .map_or_else(|| "until closed".to_owned(), time),
            it.description.escape_debug().to_string(),
        ]
    });
    table(
        ["ID", "NAME", "OPEN", "SERVER", "BY", "LEFT", "DESCRIPTION"],
        rows,
    );
}

pub(super) fn sessions(sessions: &[SessionView]) {
    let rows = sessions.iter().map(|it| {
        [
            it.protocol.clone(),
            format!("[{}]:{}", it.remote.address, it.remote.port),
            format!("[{}]:{}", it.external.address, it.external.port),
            format!("{}:{}", it.pool.address, it.pool.port),
            format!("{}:{}", it.server.address, it.server.port),
            it.state.clone(),
            format!("{}/{}", it.packets_in, it.packets_out),
            time(it.expires_in_s),
        ]
    });
    table(
        [
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
    );
}

pub(super) fn prefixes(prefixes: &[PrefixView]) {
    let rows = prefixes.iter().map(|it| {
        [
            it.delegated.clone(),
            it.nsp.clone(),
            if it.preferred { "in DNS" } else { "accepted" }.to_owned(),
            it.valid_for_s.map_or_else(|| "open".to_owned(), time),
        ]
    });
    table(["DELEGATED", "NSP", "STATE", "LEFT"], rows);
}

fn hosts_table(hosts: &[HostView]) {
    let rows = hosts.iter().map(|it| {
        let open: Vec<_> = it
            .mappings
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
        ]
    });
    table(["NAME", "IPV4", "AAAA", "MAC", "STATE", "OPEN"], rows);
}

/// Prints rows under a head, each column as wide as its widest cell.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned))
        .chain(rows)
        .collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text(&format!("{}\n", line.trim_end()));
    }
}

fn time(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
