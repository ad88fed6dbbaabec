//! From the text of the file to what it means.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use mapping::{Access, Nsp, PortClass, PortRange, Prefix6, Site};
use toml::Spanned;

use super::{Config, Dns, Parent, Protocols, Roles, file, nat64};

/// A value that is well-formed TOML and makes no sense.
#[derive(Debug)]
pub(super) struct Invalid {
    pub(super) message: String,
    pub(super) span: Option<Range<usize>>,
}

pub(super) type Checked<T> = Result<T, Invalid>;

pub(super) fn validate(file: &file::V1) -> Checked<Config> {
    let zone = text(file.dns.zone.as_ref(), "home.example", domain)?;
    let subnet = text(file.lan.subnet.as_ref(), "192.168.64.0/24", subnet)?;
    let delegated = optional(file.wan.prefix.as_ref(), prefix)?;
    let site = site(subnet).map_err(|message| Invalid {
        message,
        span: None,
    })?;
    let state = text(file.daemon.state.as_ref(), "/var/lib/portico", path)?;
    Ok(Config {
        keep: nat64::keep(&file.nat64.session_log, state.clone())?,
        state,
        socket: text(file.daemon.socket.as_ref(), "/run/portico/api.sock", path)?,
        roles: roles(file)?,
        subnet,
        lease: text(file.lan.lease.as_ref(), "24h", |t| {
            duration(t, "2m", "365d")
        })?,
        prefix: delegated,
        nsp: text(file.nat64.prefix.as_ref(), "auto", |t| nsp(t, delegated))?,
        translator: nat64::translator(&file.nat64, &site)?,
        dns: Dns {
            ttl: text(file.dns.ttl.as_ref(), "60s", |t| duration(t, "1s", "1d"))?,
            resolvers: file
                .dns
                .resolvers
                .iter()
                .map(|t| spanned(t, resolver))
                .collect::<Checked<_>>()?,
            parent: file
                .dns
                .parent
                .as_ref()
                .map(|file| parent(file, &zone))
                .transpose()?,
            zone,
        },
        policy: policy(&file.policy)?,
        protocols: Protocols {
            pcp: file.protocols.pcp,
            pcp_map: file.protocols.pcp_map,
            pcp_peer: file.protocols.pcp_peer,
            pcp_third_party: file.protocols.pcp_third_party,
            nat_pmp: file.protocols.nat_pmp,
            upnp: file.protocols.upnp,
        },
        upstream: upstream(file.upstream.mode),
        dashboard: listeners(&file.dashboard)?,
    })
}

const fn upstream(mode: file::UpstreamMode) -> upstream::Mode {
    match mode {
        file::UpstreamMode::Auto => upstream::Mode::Auto,
        file::UpstreamMode::NatPmp => upstream::Mode::NatPmp,
        file::UpstreamMode::Off => upstream::Mode::Off,
        file::UpstreamMode::Pcp => upstream::Mode::Pcp,
        file::UpstreamMode::Upnp => upstream::Mode::Upnp,
    }
}

fn roles(file: &file::V1) -> Checked<Option<Roles>> {
    let lan = optional(file.lan.interface.as_ref(), interface)?;
    let wan = optional(file.wan.interface.as_ref(), interface)?;
    let missing = |other: &file::Text, message: &str| {
        Err(Invalid {
            message: message.to_owned(),
            span: other.as_ref().map(Spanned::span),
        })
    };
    match (lan, wan) {
        (Some(lan), Some(wan)) if lan == wan => missing(
            &file.wan.interface,
            "wan.interface and lan.interface must differ",
        ),
        (Some(lan), Some(wan)) => Ok(Some(Roles { lan, wan })),
        (None, None) => Ok(None),
        (Some(_), None) => missing(&file.lan.interface, "wan.interface must be chosen too"),
        (None, Some(_)) => missing(&file.wan.interface, "lan.interface must be chosen too"),
    }
}

fn parent(file: &file::Parent, zone: &str) -> Checked<Parent> {
    Ok(Parent {
        server: spanned(&file.server, resolver)?,
        zone: spanned(&file.zone, |text| above(zone, text))?,
        ns_name: text(file.ns_name.as_ref(), &format!("ns1.{zone}"), domain)?,
        tsig_key_file: spanned(&file.tsig_key_file, path)?,
    })
}

/// Opens the files that the configuration names, as the daemon will.
pub(super) fn open_files(file: &file::V1) -> Checked<()> {
    let Some(parent) = &file.dns.parent else {
        return Ok(());
    };
    spanned(&parent.tsig_key_file, |path| {
        dns::load_key(path.as_ref())
            .map(drop)
            .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    })
}

fn policy(file: &file::Policy) -> Checked<mapping::Policy> {
    let default = mapping::Policy::default();
    let always_reject = match &file.always_reject {
        None => default.always_reject,
        Some(list) => list.iter().map(ports).collect::<Checked<_>>()?,
    };
    let max_lease = text(file.max_lease.as_ref(), "7d", |t| duration(t, "2m", "365d"))?;
    let min_lease = text(file.min_lease.as_ref(), "2m", |t| {
        let least = duration(t, "1s", "365d")?;
        match least <= max_lease {
            true => Ok(least),
            false => Err("min_lease must not be longer than max_lease".to_owned()),
        }
    })?;
    Ok(mapping::Policy {
        new_device: match file.new_device {
            file::NewDevice::Allow => Access::Allow,
            file::NewDevice::Ask => Access::Ask,
            file::NewDevice::Deny => Access::Deny,
        },
        auto_allow: match file.auto_allow {
            file::AutoAllow::All => PortClass::All,
            file::AutoAllow::High => PortClass::High,
            file::AutoAllow::None => PortClass::None,
            file::AutoAllow::WebAndHigh => PortClass::WebAndHigh,
        },
        always_reject,
        min_lease,
        max_lease,
        max_per_device: file.max_per_device.unwrap_or(default.max_per_device),
    })
}

fn ports(ports: &Spanned<file::Ports>) -> Checked<PortRange> {
    match ports.get_ref() {
        file::Ports::One(0) => Err(Invalid {
            message: "a port is a number from 1 to 65535".to_owned(),
            span: Some(ports.span()),
        }),
        file::Ports::One(port) => Ok(PortRange {
            first: *port,
            last: *port,
        }),
        file::Ports::Range(range) => range.parse::<PortRange>().map_err(|error| Invalid {
            message: error.to_string(),
            span: Some(ports.span()),
        }),
    }
}

fn listeners(file: &file::Dashboard) -> Checked<Vec<SocketAddr>> {
    match &file.listen {
        None => Ok(vec![SocketAddr::from(([127, 0, 0, 1], 8464))]),
        Some(list) => list.iter().map(|text| spanned(text, loopback)).collect(),
    }
}

fn interface(text: &str) -> Result<String, String> {
    match net::ifname::is_valid(text) {
        true => Ok(text.to_owned()),
        false => Err("not the name of a network interface".to_owned()),
    }
}

fn subnet(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let wrong = || "not an IPv4 network such as 192.168.64.0/24".to_owned();
    let (addr, len) = text.split_once('/').ok_or_else(wrong)?;
    let addr: Ipv4Addr = addr.parse().map_err(|_| wrong())?;
    let len = len
        .parse()
        .ok()
        .filter(|len| *len <= 32)
        .ok_or_else(wrong)?;
    let site = site((addr, len))?;
    if site.network() != addr {
        return Err(format!(
            "bits beyond the prefix length are set; meant is {}/{len}",
            site.network()
        ));
    }
    Ok((addr, len))
}

/// The LAN, with its first address as ours: it is divided alike whichever address is.
fn site((network, len): (Ipv4Addr, u8)) -> Result<Site, String> {
    let first = Ipv4Addr::from(u32::from(network).wrapping_add(1));
    Site::new(first, len, String::new()).map_err(|error| error.to_string())
}

pub(super) fn duration(text: &str, least: &str, most: &str) -> Result<Duration, String> {
    let parse = |text: &str| humantime::parse_duration(text);
    let value = parse(text).map_err(|error| format!("not a duration such as \"2h\": {error}"))?;
    let within = |bound: &str, ok: fn(&Duration, &Duration) -> bool| {
        parse(bound).is_ok_and(|bound| ok(&value, &bound))
    };
    if within(least, Duration::ge) && within(most, Duration::le) {
        return Ok(value);
    }
    Err(format!("the duration must be from {least} to {most}"))
}

fn prefix(text: &str) -> Result<Prefix6, String> {
    let prefix = text.parse::<Prefix6>().map_err(|error| error.to_string())?;
    prefix.nsp().map_err(|error| error.to_string())?;
    Ok(prefix)
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("a path must not be empty".to_owned());
    }
    Ok(text.into())
}

/// A name server that is asked to change its zone must have ours in it.
fn above(zone: &str, text: &str) -> Result<String, String> {
    let parent = domain(text)?;
    let below = zone.strip_suffix(&parent);
    if below.is_some_and(|below| below.ends_with('.')) {
        return Ok(parent);
    }
    Err(format!("the zone {zone} is not below this one"))
}

fn nsp(text: &str, delegated: Option<Prefix6>) -> Result<Option<Nsp>, String> {
    if text == "auto" {
        return Ok(None);
    }
    let prefix = text.parse::<Prefix6>().map_err(|error| error.to_string())?;
    if prefix.len() != 96 {
        return Err("the translation prefix must be a /96 or \"auto\"".to_owned());
    }
    if delegated.is_some_and(|delegated| !delegated.contains(prefix.addr())) {
        return Err("the translation prefix must be a part of wan.prefix".to_owned());
    }
    Nsp::new(prefix.addr())
        .map(Some)
        .map_err(|error| error.to_string())
}

fn domain(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| label.parse::<mapping::ServerName>().is_ok();
    if name.len() > 200 || !name.split('.').all(label) {
        return Err("not a domain name such as home.example".to_owned());
    }
    Ok(name)
}

fn resolver(text: &str) -> Result<SocketAddr, String> {
    let bare = text.parse::<IpAddr>().map(|addr| SocketAddr::new(addr, 53));
    bare.or_else(|_| text.parse::<SocketAddr>())
        .map_err(|_| "not an address such as 192.0.2.53 or [2001:db8::53]:53".to_owned())
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let addr = text
        .parse::<SocketAddr>()
        .map_err(|_| "not an address and a port such as 127.0.0.1:8464".to_owned())?;
    if !addr.ip().is_loopback() {
        return Err("only loopback addresses, until there is a sign-in".to_owned());
    }
    Ok(addr)
}

pub(super) fn text<T>(
    value: Option<&Spanned<String>>,
    default: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Checked<T> {
    let span = value.map(Spanned::span);
    let value = value.map_or(default, |value| value.get_ref());
    parse(value).map_err(|message| Invalid { message, span })
}

pub(super) fn spanned<T>(
    value: &Spanned<String>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Checked<T> {
    text(Some(value), "", parse)
}

pub(super) fn optional<T>(
    value: Option<&Spanned<String>>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Checked<Option<T>> {
    value
        .filter(|value| !value.get_ref().is_empty())
        .map(|value| spanned(value, parse))
        .transpose()
}
