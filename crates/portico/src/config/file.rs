//! The file as text: serde's mirror, with the place of each value that is checked later.

use serde::Deserialize;
use toml::Spanned;

pub mod nat64;

pub use nat64::Nat64;

/// The first version of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct V1 {
    pub daemon: Daemon,
    pub lan: Lan,
    pub wan: Wan,
    pub nat64: Nat64,
    pub dns: Dns,
    pub policy: Policy,
    pub protocols: Protocols,
    pub upstream: Upstream,
    pub dashboard: Dashboard,
}

/// A text whose place in the file is known; the default has none.
pub type Text = Option<Spanned<String>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Daemon {
    pub state: Text,
    pub socket: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lan {
    pub interface: Text,
    pub subnet: Text,
    pub lease: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wan {
    pub interface: Text,
    pub mode: WanMode,
    pub prefix: Text,
}

/// Where the delegated prefix comes from.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WanMode {
    #[default]
    Static,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    pub zone: Text,
    pub ttl: Text,
    pub resolvers: Vec<Spanned<String>>,
    pub parent: Option<Parent>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    pub server: Spanned<String>,
    pub zone: Spanned<String>,
    pub ns_name: Text,
    pub tsig_key_file: Spanned<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    pub new_device: NewDevice,
    pub auto_allow: AutoAllow,
    pub always_reject: Option<Vec<Spanned<Ports>>>,
    pub min_lease: Text,
    pub max_lease: Text,
    pub max_per_device: Option<u32>,
}

/// The names of `mapping::Access`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NewDevice {
    Allow,
    #[default]
    Ask,
    Deny,
}

/// The names of `mapping::PortClass`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoAllow {
    All,
    High,
    None,
    #[default]
    WebAndHigh,
}

/// A port or a range of ports.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a port such as 445 or a range of ports such as \"137-139\""
)]
pub enum Ports {
    One(u16),
    Range(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Protocols {
    pub pcp: bool,
    pub pcp_map: bool,
    pub pcp_peer: bool,
    pub pcp_third_party: bool,
    pub nat_pmp: bool,
    pub upnp: bool,
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            pcp: true,
            pcp_map: true,
            pcp_peer: true,
            pcp_third_party: false,
            nat_pmp: true,
            upnp: true,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    pub mode: UpstreamMode,
}

/// The names of `upstream::Mode`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamMode {
    #[default]
    Auto,
    NatPmp,
    Off,
    Pcp,
    Upnp,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dashboard {
    pub listen: Option<Vec<Spanned<String>>>,
}
