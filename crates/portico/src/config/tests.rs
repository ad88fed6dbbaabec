//! What the file says, and how its mistakes are shown.

use mapping::Access;

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
        new_device = "deny"
        auto_allow = "all"
        always_reject = [23, "137-139"]
        min_lease = "5m"
        max_lease = "2h"
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
    assert_eq!(config.policy.new_device, Access::Deny);
    let leases = [config.policy.min_lease, config.policy.max_lease];
    assert_eq!(leases.map(|lease| lease.as_secs()), [300, 7200]);
}

#[test]
fn mistakes_are_shown_with_line_and_caret() {
    for (text, line, message) in [
        ("[policy]\nauto_allow = \"al\"\n", 2, "unknown variant `al`"),
        (
            "[policy]\nnew_device = \"aks\"\n",
            2,
            "expected one of `allow`, `ask`, `deny`",
        ),
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
        ("[upstream]\nmode = \"on\"\n", 2, "unknown variant `on`"),
        ("[daemon]\nstate = \"\"\n", 2, "must not be empty"),
        (
            "[policy]\nalways_reject = [70000]\n",
            2,
            "a port such as 445",
        ),
        ("[policy]\nalways_reject = [21, 0]\n", 2, "from 1 to 65535"),
        ("[policy]\nmin_lease = \"0s\"\n", 2, "from 1s to 365d"),
        (
            "[policy]\nmax_lease = \"1h\"\nmin_lease = \"2h\"\n",
            3,
            "longer than max_lease",
        ),
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
        shows(text, line, message);
    }
}

#[test]
fn mistakes_about_the_translator_are_shown_with_line_and_caret() {
    for (text, line, message) in [
        (
            "[nat64]\npool = [\"192.168.64.224/27\", \"192.168.64.128/26\"]\n",
            2,
            "a part of 192.168.64.192/26, the rest is leased",
        ),
        (
            "[nat64]\npool = [\"10.9.0.0/24\",\n\"10.9.0.64/26\"]\n",
            3,
            "overlaps another",
        ),
        ("[nat64]\npool = [\"192.168.0.0/16\"]\n", 2, "a part of"),
        ("[nat64]\npool = [\"127.0.0.0/24\"]\n", 2, "loopback"),
        ("[nat64]\npool = [\"10.9.0.1/24\"]\n", 2, "bits beyond"),
        ("[nat64]\npool = [\"10.9.0\"]\n", 2, "not an IPv4 network"),
        ("[nat64]\npool = []\n", 2, "at least one"),
        (
            "[nat64]\npool = \"all\"\n",
            2,
            "expected \"auto\" or a list",
        ),
        ("[nat64]\npool = 5\n", 2, "expected \"auto\" or a list"),
        ("[nat64]\ntraffic_class = 0\n", 2, "traffic_class"),
        (
            "[nat64]\ntos = \"low\"\n",
            2,
            "expected \"copy\" or a number",
        ),
        ("[nat64]\ntos = 256\n", 2, "expected \"copy\" or a number"),
        ("[nat64]\nlowest_ipv6_mtu = 1279\n", 2, "from 1280"),
        ("[nat64]\nlowest_ipv6_mtu = 70000\n", 2, "expected u16"),
        ("[nat64.limits]\nfragment_bytes = 9000\n", 2, "from 65536"),
        ("[nat64]\nclosed = \"open\"\n", 2, "unknown variant `open`"),
        ("[nat64]\nend_on_close = 1\n", 2, "expected a boolean"),
        ("[nat64]\nclosd = \"silent\"\n", 2, "unknown field `closd`"),
        ("[nat64.timeouts]\nudp = \"119s\"\n", 2, "from 2m to 7d"),
        (
            "[nat64.timeouts]\ntcp_established = \"2h3m\"\n",
            2,
            "from 2h4m",
        ),
        ("[nat64.timeouts]\ntcp_closing = \"3m\"\n", 2, "from 4m"),
        ("[nat64.timeouts]\ntcp_opening = \"3m\"\n", 2, "from 4m"),
        ("[nat64.timeouts]\nicmp_query = \"59s\"\n", 2, "from 60s"),
        ("[nat64.timeouts]\nfragment = \"1s\"\n", 2, "from 2s"),
        ("[nat64.timeouts]\nfragment = 2\n", 2, "expected a string"),
        ("[nat64.timeouts]\ntcp = \"5m\"\n", 2, "unknown field `tcp`"),
        ("[nat64.limits]\nsessions = 0\n", 2, "from 1 to"),
        (
            "[nat64.session_log]\nsize = \"64 MB of it\"\n",
            2,
            "not a size",
        ),
        ("[nat64.session_log]\nsize = \"1KiB\"\n", 2, "from 64KiB"),
        ("[nat64.session_log]\nsize = 64\n", 2, "expected a string"),
        ("[nat64.session_log]\ndays = 4000\n", 2, "from 0 to 3650"),
        ("[nat64.session_log]\nsyslog = \"local\"\n", 2, "/dev/log"),
        ("[nat64.limits]\nsessions = -1\n", 2, "expected u32"),
    ] {
        shows(text, line, message);
    }
}

#[test]
fn translator_is_made_as_the_file_says() {
    let text = r#"
        [lan]
        subnet = "10.0.0.0/16"
        [nat64]
        pool = ["10.0.200.0/24", "100.64.0.0/29", "10.9.0.1"]
        traffic_class = "zero"
        tos = 8
        lowest_ipv6_mtu = 1400
        closed = "prohibited"
        end_on_close = false
        reset_unknown = false
        refuse_protocols = true
        [nat64.timeouts]
        udp = "2m"
        tcp_established = "1d"
        tcp_closing = "5m"
        tcp_opening = "6m"
        icmp_query = "90s"
        fragment = "3s"
        [nat64.limits]
        sessions = 1_000_000
        per_server = 7
        answers = 0
        fragment_bytes = 65536
        fragmented_datagrams = 9
    "#;

    let config = Config::parse("test", text).unwrap().translator;

    let pool = config.pool.iter();
    let pool: Vec<_> = pool
        .map(|it| (it.network().octets(), it.prefix_len()))
        .collect();
    assert_eq!(
        pool,
        [
            ([10, 0, 200, 0], 24),
            ([100, 64, 0, 0], 29),
            ([10, 9, 0, 1], 32)
        ]
    );
    assert_eq!(config.closed, translator::Closed::Prohibited);
    assert!(!config.end_on_close && !config.reset_unknown);
    let lifetimes = config.lifetimes;
    let secs = [
        lifetimes.udp(),
        lifetimes.tcp_established(),
        lifetimes.tcp_closing(),
        lifetimes.tcp_opening(),
        lifetimes.icmp_query(),
        lifetimes.fragment(),
    ];
    assert_eq!(secs.map(|it| it.as_secs()), [120, 86_400, 300, 360, 90, 3]);
    assert_eq!(config.limits.sessions, 1_000_000);
    assert_eq!(
        (
            config.limits.fragment_bytes,
            config.limits.fragmented_datagrams
        ),
        (65_536, 9)
    );
    let limits = config.limits;
    assert_eq!(limits.per_remote_64, 250_000, "it grows with all");
    assert_eq!((limits.per_server, limits.answers), (7, 0));
    assert!(config.refuse_protocols);
    assert!(config.zero_traffic_class);
    assert_eq!((config.tos, config.lowest_ipv6_mtu), (Some(8), 1400));
}

#[test]
fn rates_and_rests_are_as_the_file_says() {
    let text = "[nat64.timeouts]\nport_rest = \"0s\"\n[nat64.limits]\n\
                new_per_remote_64 = 70000\nnew_per_server = 20\nresting_ports = 0\n";

    let config = Config::parse("test", text).unwrap().translator;

    let limits = config.limits;
    let begun = (limits.new_per_remote_64, limits.new_per_server);
    assert_eq!((begun, limits.resting_ports), ((70_000, 20), 0));
    assert!(config.lifetimes.port_rest().is_zero());
}

#[test]
fn pool_is_the_top_quarter_of_the_lan_unless_it_is_said() {
    let config = Config::parse("test", "[lan]\nsubnet = \"10.0.0.0/16\"\n").unwrap();
    let quarter = translator::PoolRange::new([10, 0, 192, 0].into(), 18).unwrap();

    assert_eq!(config.translator, translator::Config::new(quarter));
}

#[test]
fn session_log_is_as_large_as_the_file_says() {
    let keep = |text: &str| {
        let text = format!("[daemon]\nstate = \"/s\"\n[nat64.session_log]\n{text}");
        Config::parse("test", &text).unwrap().keep
    };
    let default = translator::LogLimits::default();
    let size = |text: &str| keep(&format!("size = \"{text}\"")).log.bytes;

    assert_eq!(keep("").log, default);
    assert_eq!(keep("").state, Some("/s".into()));
    assert_eq!(keep("days = 3").log.days, 3);
    for (text, bytes) in [
        ("0", 0),
        ("70000", 70_000),
        ("100kB", 100_000),
        ("5 MB", 5_000_000),
        ("128KiB", 131_072),
        ("2GiB", 2_147_483_648),
    ] {
        assert_eq!(size(text), bytes, "{text}");
    }
    let udp = |addr: &str| Some(translator::Syslog::Udp(addr.parse().unwrap()));
    for (text, syslog) in [
        ("", None),
        (
            "/dev/log",
            Some(translator::Syslog::Local("/dev/log".into())),
        ),
        ("192.0.2.9", udp("192.0.2.9:514")),
        ("[2001:db8::9]:5514", udp("[2001:db8::9]:5514")),
    ] {
        assert_eq!(
            keep(&format!("syslog = \"{text}\"")).syslog,
            syslog,
            "{text}"
        );
    }
}

#[test]
fn upstream_gateways_are_spoken_with_as_the_file_says() {
    use upstream::Mode;
    for mode in [Mode::Auto, Mode::NatPmp, Mode::Off, Mode::Pcp, Mode::Upnp] {
        let text = format!("[upstream]\nmode = \"{}\"\n", mode.as_str());

        assert_eq!(Config::parse("test", &text).unwrap().upstream, mode);
    }
}

#[test]
fn key_file_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        path
    };
    let load = |key: &Path| {
        let text = format!(
            "[dns.parent]\nserver = \"::1\"\nzone = \"example\"\ntsig_key_file = \"{}\"\n",
            key.display()
        );
        Config::load(Some(&file("portico.toml", &text)))
    };

    let good = "key \"k\" { algorithm hmac-sha256; secret \"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\"; };";
    assert!(load(&file("good.key", good)).is_ok());
    for (key, words) in [
        (file("bad.key", "nonsense"), "cannot use the key"),
        (folder.path().join("absent.key"), "cannot read the key"),
    ] {
        let shown = load(&key).unwrap_err().to_string();
        assert!(shown.contains(words), "{shown}");
        assert!(shown.contains("portico.toml:4:"), "{shown}");
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

#[track_caller]
fn shows(text: &str, line: u32, message: &str) {
    let shown = Config::parse("portico.toml", text).unwrap_err().to_string();
    assert!(shown.contains(message), "{text}: {shown}");
    let place = format!("portico.toml:{line}:");
    assert!(shown.contains(&place), "{text}: {shown}");
}
