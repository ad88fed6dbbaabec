//! The configuration: one TOML file, every key with a default; an empty file observes.
//!
//! [`file::V1`] mirrors the text, [`Config`] is what it means. The template that
//! `portico config --template` prints is the defaults, and a test holds them together.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mapping::{Nsp, Policy, Prefix6};

pub mod file;
mod nat64;
mod problem;
mod validate;

pub use problem::Problem;

/// What the daemon does until it is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The folder of the store.
    pub state: PathBuf,
    /// The Unix socket of the API.
    pub socket: PathBuf,
    /// Which interface is which; `None` observes.
    pub roles: Option<Roles>,
    /// The LAN's network address and prefix length.
    pub subnet: (Ipv4Addr, u8),
    /// How long a lease of the DHCPv4 server lasts.
    pub lease: Duration,
    /// The prefix that seeds an empty store.
    pub prefix: Option<Prefix6>,
    /// The NSP, if not the delegation's own.
    pub nsp: Option<Nsp>,
    /// What the translator is made with.
    pub translator: translator::Config,
    /// What is kept of sessions.
    pub keep: translator::Keep,
    /// Names.
    pub dns: Dns,
    /// What devices may open from the next start on.
    pub policy: Policy,
    /// The port control protocols that are served.
    pub protocols: Protocols,
    /// How gateways in front of us are spoken with.
    pub upstream: upstream::Mode,
    /// Where the dashboard listens.
    pub dashboard: Vec<SocketAddr>,
}

/// The interfaces that the owner chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// Where the servers are.
    pub lan: String,
    /// Where the provider is.
    pub wan: String,
}

/// The names that are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The zone, without a trailing dot.
    pub zone: String,
    /// How long others may remember a name.
    pub ttl: Duration,
    /// Where the LAN's questions about other names go.
    pub resolvers: Vec<SocketAddr>,
    /// The zone above, kept up to date by RFC 2136.
    pub parent: Option<Parent>,
}

/// The zone above ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its primary server.
    pub server: SocketAddr,
    /// The zone's name, without a trailing dot.
    pub zone: String,
    /// The name of our name server.
    pub ns_name: String,
    /// The file of the TSIG key, as `tsig-keygen` writes it.
    pub tsig_key_file: PathBuf,
}

/// Which port control protocols are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    /// PCP (RFC 6887).
    pub pcp: bool,
    /// Its opcode MAP.
    pub pcp_map: bool,
    /// Its opcode PEER.
    pub pcp_peer: bool,
    /// Its option `THIRD_PARTY`.
    pub pcp_third_party: bool,
    /// NAT-PMP (RFC 6886).
    pub nat_pmp: bool,
    /// UPnP IGD.
    pub upnp: bool,
}

impl Config {
    /// Reads a file, or the defaults where none is given and none stands at
    /// `/etc/portico/portico.toml`.
    ///
    /// # Errors
    /// When the file cannot be read, or with line and caret where it is wrong.
    pub fn load(path: Option<&Path>) -> Result<Self, Problem> {
        let (path, text) = match path {
            Some(path) => (path, read(path)?),
            None => {
                let path = Path::new(DEFAULT_PATH);
                if !path.exists() {
                    return Self::parse(DEFAULT_PATH, "").map(Self::with_environment);
                }
                (path, read(path)?)
            }
        };
        let name = path.display().to_string();
        let config = Self::parse(&name, &text)?;
        Self::mirror(&name, &text, validate::open_files)?;
        Ok(config.with_environment())
    }

    /// Parses and validates a text; `name` stands in error messages.
    ///
    /// # Errors
    /// With line and caret where the text is wrong.
    pub fn parse(name: &str, text: &str) -> Result<Self, Problem> {
        Self::mirror(name, text, validate::validate)
    }

    fn mirror<T>(
        name: &str,
        text: &str,
        check: impl FnOnce(&file::V1) -> validate::Checked<T>,
    ) -> Result<T, Problem> {
        let file: file::V1 =
            toml::from_str(text).map_err(|error| Problem::syntax(name, text, &error))?;
        check(&file).map_err(|invalid| Problem::new(name, text, invalid.message, invalid.span))
    }

    /// `PORTICO_STATE` and `PORTICO_SOCKET` let several daemons live side by side.
    fn with_environment(mut self) -> Self {
        if let Some(state) = environment("PORTICO_STATE") {
            self.keep.state = Some(state.clone());
            self.state = state;
        }
        if let Some(socket) = environment("PORTICO_SOCKET") {
            self.socket = socket;
        }
        self
    }
}

/// Returns the path in an environment variable; an empty one says nothing.
pub fn environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn read(path: &Path) -> Result<String, Problem> {
    let bytes = std::fs::read(path).map_err(|error| Problem::unreadable(path, &error))?;
    String::from_utf8(bytes).map_err(|error| Problem::encoding(path, &error))
}

/// Where the packages put the file.
pub const DEFAULT_PATH: &str = "/etc/portico/portico.toml";

/// The annotated template; its values are the defaults.
pub const TEMPLATE: &str = include_str!("config/template.toml");

#[cfg(test)]
mod tests;
