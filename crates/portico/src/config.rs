//! The configuration: one TOML file, every key with a default; an empty file observes.
//!
//! [`file::V1`] mirrors the text, [`Config`] is what it means. The template that
//! `portico config --template` prints is the defaults, and a test holds them together.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mapping::{Nsp, Policy, Prefix6};

pub mod file;
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
    /// Names.
    pub dns: Dns,
    /// The policy that seeds an empty store.
    pub policy: Policy,
    /// The port control protocols that are served.
    pub protocols: Protocols,
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
    /// Its name.
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
        Self::parse(&path.display().to_string(), &text).map(Self::with_environment)
    }

    /// Parses and validates a text; `name` stands in error messages.
    ///
    /// # Errors
    /// With line and caret where the text is wrong.
    pub fn parse(name: &str, text: &str) -> Result<Self, Problem> {
        let file: file::V1 =
            toml::from_str(text).map_err(|error| Problem::syntax(name, text, &error))?;
        validate::validate(&file)
            .map_err(|invalid| Problem::new(name, text, invalid.message, invalid.span))
    }

    /// `PORTICO_STATE` and `PORTICO_SOCKET` let several daemons live side by side.
    fn with_environment(mut self) -> Self {
        if let Some(state) = environment("PORTICO_STATE") {
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
mod tests {
    use super::*;

    #[test]
    fn template_is_the_defaults() {
        assert_eq!(Config::parse("template", TEMPLATE).unwrap(), default());
    }

    #[test]
    fn empty_file_observes() {
        assert_eq!(default().roles, None);
        assert_eq!(default().policy, Policy::default());
    }

    #[test]
    fn whole_file_is_understood() {
        let text = r#"
            [lan]
            interface = "lan0"
            subnet = "10.0.0.0/16"
            [wan]
            interface = "wan0"
            prefix = "2001:db8:64::/56"
            [dns]
            zone = "haus.example"
            ttl = "1s"
            resolvers = ["2001:db8::53", "192.0.2.53:5353"]
            [dns.parent]
            server = "[2001:db8::53]:53"
            zone = "example"
            tsig_key_file = "/etc/portico/parent.key"
            [policy]
            auto_allow = "all"
            always_reject = [23, "137-139"]
            max_per_device = 5
        "#;

        let config = Config::parse("test", text).unwrap();

        assert_eq!(
            config.roles,
            Some(Roles {
                lan: "lan0".into(),
                wan: "wan0".into()
            })
        );
        assert_eq!(config.subnet, ([10, 0, 0, 0].into(), 16));
        assert_eq!(
            config.dns.resolvers[0],
            "[2001:db8::53]:53".parse().unwrap()
        );
        assert_eq!(config.dns.parent.unwrap().ns_name, "ns1.haus.example");
        assert_eq!(config.policy.always_reject.len(), 2);
    }

    #[test]
    fn mistakes_are_shown_with_line_and_caret() {
        for (text, line, message) in [
            ("[policy]\nauto_allow = \"al\"\n", 2, "unknown variant `al`"),
            (
                "[lan]\ninterfaces = \"x\"\n",
                2,
                "unknown field `interfaces`",
            ),
            (
                "[lan]\nsubnet = \"192.168.64.0/33\"\n",
                2,
                "not an IPv4 network",
            ),
            ("[lan]\nsubnet = \"8.8.8.0/24\"\n", 2, "private"),
            ("[dashboard]\nlisten = [\"0.0.0.0:8464\"]\n", 2, "loopback"),
            ("[dns]\nttl = \"1 fortnight\"\n", 2, "duration"),
            ("[dns]\nzone = \"-bad-.example\"\n", 2, "domain name"),
            ("[nat64]\nprefix = \"64:ff9b::/96\"\n", 2, "global"),
            ("[wan]\nprefix = \"2001:db8::1/56\"\n", 2, "bits beyond"),
            ("[lan]\ninterface = \"eth1\"\n", 2, "wan.interface"),
            ("[lan\n", 1, "expected"),
            (
                "[lan]\ninterface = \"..\"\n[wan]\ninterface = \"b\"\n",
                2,
                "network interface",
            ),
            ("[daemon]\nstate = \"\"\n", 2, "must not be empty"),
            (
                "[policy]\nalways_reject = [70000]\n",
                2,
                "a port such as 445",
            ),
            ("[policy]\nalways_reject = [21, 0]\n", 2, "from 1 to 65535"),
            (
                "[wan]\nprefix = \"2001:db8:64::/56\"\n[nat64]\nprefix = \"2001:db8:99::/96\"\n",
                4,
                "wan.prefix",
            ),
            (
                "[dns.parent]\nserver = \"::1\"\nzone = \"other.example\"\ntsig_key_file = \"k\"\n",
                3,
                "below",
            ),
        ] {
            let problem = Config::parse("portico.toml", text).unwrap_err();
            let shown = problem.to_string();
            assert!(shown.contains(message), "{text}: {shown}");
            assert!(
                shown.contains(&format!("portico.toml:{line}:")),
                "{text}: {shown}"
            );
        }
    }

    #[test]
    fn file_that_is_no_text_says_in_which_line() {
        let error = String::from_utf8(b"[lan]\ninterface = \"\xff\"\n".to_vec()).unwrap_err();
        let shown = Problem::encoding(Path::new("portico.toml"), &error).to_string();

        assert!(shown.contains("portico.toml:2:14"), "{shown}");
        assert!(shown.contains("UTF-8"), "{shown}");
    }

    fn default() -> Config {
        Config::parse("empty", "").unwrap()
    }
}
