//! The verb that runs the translator alone.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use mapping::{ExternalPort, InternalPort, Protocol};
use translator::{AddressMap, Binding, PoolRange, Pref64};

use super::duration;

/// What to translate, and how.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Translate {
    /// The IPv6 prefix in which IPv4 addresses appear; may be given several times.
    #[arg(
        long = "pref64",
        value_name = "PREFIX",
        required_unless_present = "maps",
        help = "An IPv6 prefix in which IPv4 appears, such as 64:ff9b::/96; repeatable"
    )]
    pub pref64s: Vec<Pref64>,
    /// IPv4 addresses behind which IPv6 hosts appear; repeatable. Without one there are no
    /// sessions, and only mapped addresses are translated.
    #[arg(long = "pool", value_name = "ADDRESS[/LEN]", requires = "pref64s")]
    pub pools: Vec<PoolRange>,
    /// A static binding: IPv4 reaches the IPv6 host by this pool address and port; repeatable.
    #[arg(
        long = "bib",
        value_name = "PROTO,[V6]:PORT,V4:PORT",
        requires = "pools"
    )]
    pub bindings: Vec<Binding>,
    /// An explicit address map (RFC 7757), translated without sessions; repeatable.
    #[arg(long = "map", value_name = "V4[/LEN]=V6[/LEN]")]
    pub maps: Vec<AddressMap>,
    /// Open only this, behind another port if that is given; repeatable. Without it everything
    /// behind the prefixes is open.
    #[arg(long, value_name = "PROTO,V4:PORT[,=PORT]", requires = "pools")]
    pub open: Vec<Open>,
    /// Let IPv6 hosts reach each other by their addresses in IPv4.
    #[arg(long)]
    pub hairpin: bool,
    /// Let everybody in IPv4 send to a pool port that is in use, not only those to whom its host
    /// has sent.
    #[arg(long, requires = "pools")]
    pub endpoint_independent_filtering: bool,
    /// Answer ARP for the pool on this interface, where the pool lies in its subnet.
    #[arg(long, value_name = "NAME", requires = "pools")]
    pub interface: Option<String>,
    /// The name of the TUN device.
    #[arg(long, value_name = "NAME", default_value = "nat64", value_parser = device)]
    pub device: String,
    /// The largest IPv6 packet that the path carries.
    #[arg(long, value_name = "BYTES", default_value = "1500",
        value_parser = clap::value_parser!(u16).range(1280..))]
    pub mtu: u16,
    #[command(flatten)]
    pub headers: Headers,
    /// How many sessions there may be.
    #[arg(long, value_name = "COUNT", default_value = "131072",
        value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub max_sessions: u32,
    #[command(flatten)]
    pub timeouts: Timeouts,
    /// Make no routes: prefixes, pool and maps are led to the device by somebody else.
    #[arg(long, conflicts_with = "interface")]
    pub no_routes: bool,
    /// Switch forwarding on if it is off, for IPv4 and IPv6.
    #[arg(long)]
    pub sysctl: bool,
    /// Print the counters each second as JSON, one object a line.
    #[arg(long)]
    pub json: bool,
    /// Print the counters at the end only.
    #[arg(long, short)]
    pub quiet: bool,
}

/// How packets and answers look.
#[derive(Debug, Args)]
pub struct Headers {
    /// IPv4 packets that may be cut and are larger in IPv6 leave in pieces of at most this size.
    #[arg(long, value_name = "BYTES", default_value = "1280",
        value_parser = clap::value_parser!(u16).range(1280..))]
    pub lowest_ipv6_mtu: u16,
    /// The type of service of all IPv4 packets; by default the traffic class.
    #[arg(long, value_name = "BYTE")]
    pub tos: Option<u8>,
    /// Give all IPv6 packets the traffic class zero, instead of the type of service.
    #[arg(long)]
    pub zero_traffic_class: bool,
    /// Tell IPv6 hosts that a port is not open (communication prohibited), instead of nothing.
    #[arg(long)]
    pub prohibit_closed: bool,
    /// ICMP errors and resets of its own in a second, at most; 0: none.
    #[arg(long, value_name = "COUNT", default_value = "1000")]
    pub answers: u32,
}

/// How long sessions live without a packet.
#[derive(Debug, Args)]
pub struct Timeouts {
    /// How long a UDP session lives without a packet; by default 5m.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub udp_timeout: Option<Duration>,
    /// How long an established TCP session lives without a packet; by default 2h 4m.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub tcp_timeout: Option<Duration>,
    /// How long a TCP session lives that opens or closes; by default 4m.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub tcp_transitory_timeout: Option<Duration>,
    /// How long an ICMP session lives without a packet; by default 1m.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub icmp_timeout: Option<Duration>,
    /// How long a fragment waits for the others; by default 2s.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub fragment_timeout: Option<Duration>,
    /// How long a UDP port or ICMP identifier of the pool is given to no other host after its last
    /// session; by default 2m.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub port_rest: Option<Duration>,
}

/// What is open where not everything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Of the port.
    pub protocol: Protocol,
    /// The IPv4 server.
    pub server: Ipv4Addr,
    /// The port at which IPv6 hosts reach it.
    pub external: ExternalPort,
    /// Where the server listens.
    pub internal: InternalPort,
}

impl FromStr for Open {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "expected such as tcp,192.168.1.20:80, or tcp,192.168.1.20:80,=8080 for another port";
        let (protocol, rest) = text.split_once(',').ok_or(WRONG)?;
        let protocol = Protocol::from_name(protocol).ok_or(WRONG)?;
        let (server, internal) = match rest.split_once(",=") {
            Some((server, internal)) => (server, Some(internal)),
            None => (rest, None),
        };
        let server: SocketAddrV4 = server.parse().map_err(|_| WRONG)?;
        let internal = match internal {
            Some(port) => port.parse().map_err(|_| WRONG)?,
            None => server.port(),
        };
        Ok(Self {
            protocol,
            server: *server.ip(),
            external: ExternalPort::new(server.port()).ok_or(WRONG)?,
            internal: InternalPort::new(internal).ok_or(WRONG)?,
        })
    }
}

fn device(text: &str) -> Result<String, &'static str> {
    // the kernel would put a number in the place of a percent sign
    let fits = net::ifname::is_valid(text)
        && !NO_NAMES.contains(&text)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'%');
    fits.then(|| text.to_owned())
        .ok_or("expected a name of at most 15 letters and digits, which the kernel has no use for")
}

/// Folders beside those of the interfaces below `/proc/sys/net`.
const NO_NAMES: [&str; 2] = ["all", "default"];

const EXAMPLES: &str = "\
Examples:
  An IPv6-only network reaches the IPv4 Internet (with DNS64 in front):
    portico translate --sysctl --pref64 64:ff9b::/96 --pool 203.0.113.5

  The same from inside a LAN whose router knows nothing of it (ARP is answered on eth0):
    portico translate --pref64 64:ff9b:1::/96 --pool 192.168.1.200 --interface eth0

  IPv6 reaches one web server that has IPv4 only, and nothing else:
    portico translate --pref64 2001:db8:64::/96 --pool 192.168.1.200 --interface eth0 \\
      --open tcp,192.168.1.20:80,=8080

  The IPv4 Internet reaches a web server that has IPv6 only:
    portico translate --pref64 64:ff9b::/96 --pool 203.0.113.5 \\
      --bib tcp,[2001:db8::80]:443,203.0.113.5:443

  IPv4 addresses in front of an IPv6-only data centre, one for one and without state (SIIT-DC):
    portico translate --pref64 2001:db8:46::/96 --map 203.0.113.16/28=2001:db8:1::/124

  An IPv4 address for a machine that has IPv6 only (464XLAT, customer side):
    portico translate --pref64 64:ff9b::/96 --map 192.0.0.1=2001:db8:c::1 --no-routes

Prefixes, pool and the vacant side of each map are led to the device; behind them stand blackhole
routes, so that nothing leaks when the program is killed. They go when it ends by itself.

Exit status: 0 after SIGINT, SIGTERM or SIGHUP, 1 failed, 2 usage, 4 not permitted.";

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};

    #[test]
    fn open_ports_are_read() {
        let open: Open = "tcp,192.168.1.20:80,=8080".parse().unwrap();
        assert_eq!((open.external.get(), open.internal.get()), (80, 8080));
        let open: Open = "udp,192.168.1.20:53".parse().unwrap();
        assert_eq!((open.external.get(), open.internal.get()), (53, 53));
        for text in [
            "tcp",
            "tcp,192.168.1.20",
            "tcp,192.168.1.20:0",
            "tcp,192.168.1.20:80,8080",
            "tcp,192.168.1.20:80,=0",
            "icmp,192.168.1.20:80",
            "tcp,[2001:db8::1]:80",
        ] {
            assert!(text.parse::<Open>().is_err(), "{text}");
        }
    }

    #[test]
    fn device_has_a_name_that_the_kernel_takes() {
        for text in ["nat64", "nat64.1", "default0"] {
            assert_eq!(device(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            ".",
            "..",
            "all",
            "default",
            "a/b",
            "a:b",
            "a b",
            "nat%d",
            "nat64-of-my-home",
        ] {
            assert!(device(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_example_can_be_typed() {
        let text = EXAMPLES.replace("\\\n", " ");
        let examples: Vec<_> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("portico translate "))
            .collect();
        assert_eq!(examples.len(), 6);
        for example in examples {
            let words = ["portico", "translate"];
            let words = words.into_iter().chain(example.split_whitespace());
            let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
            let Verb::Translate(args) = cli.verb else {
                panic!("another verb");
            };
            assert!(
                crate::command::translate::settings(&args).is_ok(),
                "{example}"
            );
        }
    }

    #[test]
    fn what_needs_a_pool_or_a_prefix_says_so() {
        for args in [
            &["--pool", "192.0.2.1"][..],
            &[],
            &[
                "--pref64",
                "64:ff9b::/96",
                "--bib",
                "tcp,[2001:db8::1]:80,192.0.2.1:80",
            ],
            &["--pref64", "64:ff9b::/96", "--open", "tcp,192.0.2.1:80"],
            &["--pref64", "64:ff9b::/95"],
            &["--pref64", "64:ff9b::/96", "--mtu", "1279"],
            &[
                "--pref64",
                "64:ff9b::/96",
                "--pool",
                "192.0.2.1",
                "--interface",
                "eth0",
                "--no-routes",
            ],
        ] {
            let words = ["portico", "translate"].iter().chain(args);
            assert!(Cli::try_parse_from(words).is_err(), "{args:?}");
        }
    }
}
