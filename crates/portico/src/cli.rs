//! The command line: plain verbs for the daemon, noun and verb for what it serves.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub mod session;
pub mod translate;

use session::SessionVerb;
use translate::Translate;

/// Lets people on the IPv6 Internet reach the private IPv4 servers of a home.
#[derive(Debug, Parser)]
#[command(name = "portico", version, max_term_width = 100)]
pub struct Cli {
    /// The API socket of the daemon.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        help = "The API socket of the daemon; $PORTICO_SOCKET, by default /run/portico/api.sock"
    )]
    pub socket: Option<PathBuf>,

    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the daemon in the foreground.
    Run(ConfigFile),
    /// Build a home, a provider and a remote user in network namespaces, and show that it works.
    Lab(LabArgs),
    /// Run the translator alone, without the rest of Portico: a stateful NAT64, or stateless maps.
    Translate(Translate),
    /// Check the configuration; say where it is wrong.
    Check(ConfigFile),
    /// Print the configuration template.
    Config {
        /// The annotated template; its values are the defaults.
        #[arg(long, required = true)]
        template: bool,
    },
    /// Show the state of the daemon, on one screen.
    Status(Reading),
    /// Devices.
    #[command(subcommand)]
    Host(HostVerb),
    /// Open ports.
    #[command(subcommand)]
    Map(MapVerb),
    /// Live NAT64 sessions.
    #[command(subcommand)]
    Session(SessionVerb),
    /// Delegated prefixes.
    #[command(subcommand)]
    Prefix(PrefixVerb),
}

/// Which configuration.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file, by default /etc/portico/portico.toml.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How a reading verb prints.
#[derive(Debug, Clone, Copy, Args)]
pub struct Reading {
    /// Print JSON, as the API gives it.
    #[arg(long)]
    pub json: bool,
}

/// The lab.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// End after the proof, with status 0 or 1.
    #[arg(long)]
    pub once: bool,

    #[command(subcommand)]
    pub verb: Option<LabVerb>,
}

/// What to play with in the newest running lab.
#[derive(Debug, Subcommand)]
pub enum LabVerb {
    /// Let the provider delegate another prefix.
    Renumber,
    /// Fetch a server's page from the remote host, by name.
    Fetch {
        /// The server, such as camera.
        name: String,
    },
    /// Ping a server from the remote host, by name.
    Ping {
        /// The server, such as camera.
        name: String,
    },
    /// Kill the daemon and start it again.
    Restart,
    /// Show the lab's parts and addresses.
    Status,
    /// Take the steps of the proof again.
    Prove,
}

/// Verbs over devices.
#[derive(Debug, Subcommand)]
pub enum HostVerb {
    /// List the devices.
    List(Reading),
    /// Show one device.
    Show {
        /// Its name or MAC.
        host: String,
        #[command(flatten)]
        reading: Reading,
    },
    /// Say what a device may open.
    Policy(HostPolicyArgs),
    /// Give a device another name.
    Name {
        /// Its name or MAC.
        host: String,
        /// Its new name.
        name: String,
    },
}

/// What a device may open.
#[derive(Debug, Args)]
pub struct HostPolicyArgs {
    /// Its name or MAC.
    pub host: String,
    /// allow: the ports of its class. ask: about other ones you are asked. deny: none. default: as
    /// the policy says.
    #[arg(value_parser = ["allow", "ask", "default", "deny"])]
    pub access: String,
    /// The class of ports that it opens by itself, if not the policy's.
    #[arg(long, value_name = "CLASS", value_parser = ["all", "high", "none", "web-and-high"])]
    pub ports: Option<String>,
    /// How many ports it may hold, if not as many as the policy says.
    #[arg(long, value_name = "NUMBER")]
    pub quota: Option<u32>,
    /// Go back to the default after this time, such as 2h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub until: Option<Duration>,
}

/// Verbs over open ports.
#[derive(Debug, Subcommand)]
pub enum MapVerb {
    /// List the open ports, and those that wait for you.
    List(Reading),
    /// Let a port open that waits for you; an open one closes after the time that you give.
    Approve {
        /// Its number, as `portico map list` shows it.
        id: u64,
        /// Close it again after this time, such as 1h; by default never.
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        lasts: Option<Duration>,
    },
    /// Keep a port closed that waits for you, or close an open one for good.
    Deny {
        /// Its number, as `portico map list` shows it.
        id: u64,
    },
    /// List what was approved and denied.
    Decisions(Reading),
    /// Forget what was approved or denied; the policy decides again.
    Forget {
        /// The device's name or MAC.
        host: String,
        /// The protocol and the device's port, such as tcp/22.
        port: ProtocolPort,
    },
    /// Open a port of a device.
    Open {
        /// The device's name or MAC.
        host: String,
        /// The protocol and the port, such as tcp/443.
        port: ProtocolPort,
        /// The port at which remotes reach it, if not the same.
        #[arg(long, value_name = "PORT")]
        external: Option<u16>,
        /// Close it again after this time, such as 1h; by default never.
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        lifetime: Option<Duration>,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Close a port.
    Close {
        /// Its number, as `portico map list` shows it.
        id: u64,
    },
}

/// Verbs over prefixes.
#[derive(Debug, Subcommand)]
pub enum PrefixVerb {
    /// List the prefixes that are accepted.
    List(Reading),
    /// Say which prefix the provider delegated (static mode).
    Set {
        /// The prefix.
        #[arg(help = "The prefix, such as 2001:db8:65::/56")]
        prefix: String,
        /// How long the prefixes before stay valid.
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
        old_valid: Duration,
    },
}

/// A protocol and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolPort {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The port.
    pub port: u16,
}

impl std::str::FromStr for ProtocolPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "expected a protocol and a port, such as tcp/443";
        let (protocol, port) = text.split_once('/').ok_or(WRONG)?;
        if protocol != "tcp" && protocol != "udp" {
            return Err(WRONG);
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(WRONG)?;
        Ok(Self {
            protocol: protocol.to_owned(),
            port,
        })
    }
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ports_are_read() {
        let port = "udp/53".parse::<ProtocolPort>().unwrap();
        assert_eq!((port.protocol.as_str(), port.port), ("udp", 53));
        for text in ["tcp", "tcp/0", "sctp/5", "tcp/70000", "/5"] {
            assert!(text.parse::<ProtocolPort>().is_err(), "{text}");
        }
    }
}
