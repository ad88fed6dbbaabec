//! The translator alone: no store, no gateway, no other room.

mod machine;
mod reading;

use std::future::Future;
use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::anyhow;
use gateway::Observe as _;
use mapping::Instant;
use net::Clock;
use net::tun::OpenTunError;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use translator::{
    AddressMaps, Alone, AloneSettings, Closed, Config, Filtering, Limits, Observer, Pref64,
    RunError, TooShort, reserved_v4, run_alone,
};

use super::{Failure, print};
use crate::cli::translate::{Open, Translate};
use crate::daemon;
use reading::{Format, Reading};

/// Runs the translator until SIGINT, SIGTERM or SIGHUP.
///
/// # Errors
/// When it cannot be as it is asked for, cannot start, or ends by itself.
pub fn run(args: &Translate) -> Result<(), Failure> {
    crate::log::start();
    let settings = settings(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(translate(args, settings))
}

/// Returns what the translator is started with.
///
/// # Errors
/// When parts of it contradict each other.
pub fn settings(args: &Translate) -> Result<AloneSettings, Failure> {
    for (index, prefix) in args.pref64s.iter().enumerate() {
        let mut before = args.pref64s.iter().take(index);
        if let Some(other) = before.find(|other| other.overlaps(*prefix)) {
            return Err(usage(&format!("the prefix {prefix} overlaps {other}")));
        }
    }
    check_bindings(args).map_err(|error| usage(&error))?;
    check_open(&args.open, &args.pref64s).map_err(|error| usage(&error))?;
    let maps = AddressMaps::new(args.maps.clone()).map_err(|error| usage(&error))?;
    for (one, other) in maps.overlaps() {
        tracing::warn!("the maps {one} and {other} overlap: the longer prefix counts");
    }
    let alone = Alone {
        maps,
        bindings: args.bindings.clone(),
        filtering: if args.endpoint_independent_filtering {
            Filtering::EndpointIndependent
        } else {
            Filtering::AddressDependent
        },
        hairpin: args.hairpin,
        restricted: !args.open.is_empty(),
    };
    let mut config = Config::alone(args.pools.clone(), alone).map_err(|error| usage(&error))?;
    config.links.wan_mtu = args.mtu;
    config.limits = Limits {
        answers: args.headers.answers,
        ..Limits::without_shares(args.max_sessions)
    };
    config.lowest_ipv6_mtu = args.headers.lowest_ipv6_mtu;
    config.tos = args.headers.tos;
    config.zero_traffic_class = args.headers.zero_traffic_class;
    if args.headers.prohibit_closed {
        config.closed = Closed::Prohibited;
    }
    set_timeouts(args, &mut config).map_err(|error| usage(&error))?;
    let open = args.open.iter();
    let open = open.map(|open| (open.server, open.protocol, open.external, open.internal));
    Ok(AloneSettings {
        tun: args.device.clone(),
        interface: args.interface.clone(),
        pref64s: args.pref64s.clone(),
        open: open.collect(),
        routes: !args.no_routes,
        config,
        key: daemon::random()?,
    })
}

/// What a host sends from inside a prefix is dropped (RFC 6146 §3.5).
fn check_bindings(args: &Translate) -> Result<(), String> {
    for binding in &args.bindings {
        let mut around = args.pref64s.iter();
        if let Some(prefix) = around.find(|prefix| prefix.contains(binding.six.0)) {
            return Err(format!(
                "the host of the binding {binding} lies in the prefix {prefix}: nobody there is a \
                 host"
            ));
        }
    }
    Ok(())
}

fn check_open(open: &[Open], prefixes: &[Pref64]) -> Result<(), String> {
    for (index, one) in open.iter().enumerate() {
        let server = one.server;
        if let Some(what) = reserved_v4(server, 32) {
            return Err(format!(
                "nothing is open at {server}: no server has {what} addresses"
            ));
        }
        if !prefixes.iter().any(|prefix| prefix.may_represent(server)) {
            return Err(format!(
                "nothing is open at {server}: the well-known prefix stands for global addresses \
                 only (RFC 6052 §3.1); give another prefix"
            ));
        }
        let mut before = open.iter().take(index);
        let knock = |open: &Open| (open.protocol, open.server, open.external);
        if before.any(|other| knock(other) == knock(one)) {
            return Err(format!(
                "the port {} of {server} is opened twice",
                one.external
            ));
        }
    }
    Ok(())
}

fn set_timeouts(args: &Translate, config: &mut Config) -> Result<(), TooShort> {
    let (timeouts, lifetimes) = (&args.timeouts, &mut config.lifetimes);
    if let Some(time) = timeouts.udp_timeout {
        lifetimes.set_udp(time)?;
    }
    if let Some(time) = timeouts.tcp_timeout {
        lifetimes.set_tcp_established(time)?;
    }
    if let Some(time) = timeouts.tcp_transitory_timeout {
        lifetimes.set_tcp_opening(time)?;
        lifetimes.set_tcp_closing(time)?;
    }
    if let Some(time) = timeouts.icmp_timeout {
        lifetimes.set_icmp_query(time)?;
    }
    if let Some(time) = timeouts.fragment_timeout {
        lifetimes.set_fragment(time)?;
    }
    if let Some(time) = timeouts.port_rest {
        lifetimes.set_port_rest(time);
    }
    Ok(())
}

async fn translate(args: &Translate, settings: AloneSettings) -> Result<(), Failure> {
    machine::look(&settings, args.sysctl).await?;
    let (stop, hangup) = (daemon::stop_signal()?, hangup()?);
    let stop = async {
        tokio::select! {
            () = stop => {}
            () = hangup => {}
        }
    };
    let (observer, inbox) = Observer::new();
    let cancel = CancellationToken::new();
    let start = Clock::new().mono();
    let mut thread = tokio::spawn(run_alone(settings, inbox, cancel.clone()));
    let shown = tokio::select! {
        ended = &mut thread => return Err(ending(ended)),
        shown = show(args, &observer, start, stop) => shown,
    };
    let last = Reading::new(&observer.counters().await, since(start));
    cancel.cancel();
    thread.await.map_err(failed)?.map_err(why)?;
    shown?;
    let format = if args.json {
        Format::Json
    } else {
        Format::Summary
    };
    print::text(&last.text(None, format))
}

/// Waits until the terminal closes, if that is to be the end.
fn hangup() -> Result<impl Future<Output = ()>, Failure> {
    let signal = if net::process::ignores_hangup() {
        None
    } else {
        Some(signal(SignalKind::hangup()).map_err(failed)?)
    };
    Ok(async move {
        match signal {
            Some(mut signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    })
}

/// Shows the counters each second until it is told to stop.
async fn show(
    args: &Translate,
    observer: &Observer,
    start: Instant,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let format = match (args.json, std::io::stdout().is_terminal()) {
        (true, _) => Format::Json,
        (false, true) => Format::Table,
        (false, false) => Format::Line,
    };
    let mut last = Reading::new(&observer.counters().await, since(start));
    if last.is_empty() {
        // the thread has not come far enough to answer: it says why
        std::future::pending::<()>().await;
    }
    if !args.json {
        print::text(&greeting(args))?;
    }
    let mut ticks = tokio::time::interval(SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut stop = std::pin::pin!(stop);
    let mut lines = 0;
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            _ = ticks.tick() => {}
        }
        let reading = Reading::new(&observer.counters().await, since(start));
        if !args.quiet {
            let text = reading.text(Some(&last), format);
            if format == Format::Table {
                print::text(&reading::back(lines))?;
                lines = text.lines().count();
            }
            print::text(&text)?;
        }
        last = reading;
    }
}

fn greeting(args: &Translate) -> String {
    let mut parts = vec![if args.pref64s.is_empty() {
        "no prefix".to_owned()
    } else {
        format!("prefix {}", list(&args.pref64s))
    }];
    if args.pools.is_empty() {
        parts.push("no pool: only mapped and embedded addresses, without sessions".to_owned());
    } else {
        parts.push(format!("pool {}", list(&args.pools)));
    }
    parts.extend(count(args.bindings.len(), "static binding"));
    parts.extend(count(args.maps.len(), "map"));
    if args.open.is_empty() && !args.pools.is_empty() {
        parts.push("everything open".to_owned());
    }
    parts.extend(count(args.open.len(), "open port"));
    format!("translating on {}: {}\n", args.device, parts.join(" · "))
}

fn list(items: &[impl ToString]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(" ")
}

fn count(number: usize, what: &str) -> Option<String> {
    match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{number} {what}s")),
    }
}

fn since(start: Instant) -> Duration {
    Clock::new().mono() - start
}

fn ending(ended: Result<Result<(), RunError>, tokio::task::JoinError>) -> Failure {
    match ended {
        Ok(Ok(())) => failed(anyhow!("the translator ended by itself")),
        Ok(Err(error)) => why(error),
        Err(error) => failed(error),
    }
}

fn why(error: RunError) -> Failure {
    let code = match &error {
        RunError::Tun(OpenTunError::NotPermitted { .. }) => Failure::NOT_PERMITTED,
        _ => Failure::FAILED,
    };
    Failure {
        code,
        message: format!("{:#}", anyhow::Error::from(error)),
    }
}

fn failed(error: impl Into<anyhow::Error>) -> Failure {
    error.into().into()
}

fn usage(error: &dyn std::fmt::Display) -> Failure {
    Failure {
        code: Failure::USAGE,
        message: error.to_string(),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};

    #[test]
    fn rfc_7915_options_reach_the_machine() {
        let words = "portico translate --pref64 64:ff9b::/96 --pool 192.0.2.1 \
            --lowest-ipv6-mtu 1400 --tos 8 --zero-traffic-class --prohibit-closed --answers 0";
        let Verb::Translate(args) = Cli::try_parse_from(words.split_whitespace()).unwrap().verb
        else {
            panic!("another verb");
        };
        let config = settings(&args).unwrap().config;
        assert_eq!((config.lowest_ipv6_mtu, config.tos), (1400, Some(8)));
        assert!(config.zero_traffic_class);
        assert_eq!(
            (config.closed, config.limits.answers),
            (Closed::Prohibited, 0)
        );
    }

    #[test]
    fn what_would_never_pass_is_refused() {
        for (args, why) in [
            (
                "--pool 192.0.2.0/28 --pool 192.0.2.8/29",
                "the pool 192.0.2.8/29 overlaps 192.0.2.0/28",
            ),
            (
                "--pool 192.0.2.1 --pool 192.0.2.1",
                "the pool 192.0.2.1/32 overlaps 192.0.2.1/32",
            ),
            (
                "--pool 192.0.2.0/28 --map 192.0.2.4=2001:db8::4",
                "the map 192.0.2.4=2001:db8::4 covers addresses of the pool",
            ),
            (
                "--pool 192.0.2.1 --bib tcp,[::1]:80,192.0.2.1:80",
                "the binding tcp,[::1]:80,192.0.2.1:80 has no host: none has loopback addresses",
            ),
            (
                "--pool 192.0.2.1 --bib tcp,[64:ff9b:1::1]:80,192.0.2.1:80",
                "the host of the binding tcp,[64:ff9b:1::1]:80,192.0.2.1:80 lies in the prefix \
                 64:ff9b:1::/96: nobody there is a host",
            ),
            (
                "--pool 192.0.2.1 --open tcp,127.0.0.1:80",
                "nothing is open at 127.0.0.1: no server has loopback addresses",
            ),
            (
                "--pool 192.0.2.1 --open tcp,192.0.2.9:80 --open tcp,192.0.2.9:80,=8080",
                "the port 80 of 192.0.2.9 is opened twice",
            ),
            (
                "--pool 192.0.2.0/28 --bib tcp,[2001:db8::1]:80,192.0.2.0:80",
                "the binding tcp,[2001:db8::1]:80,192.0.2.0:80 is at the first or last address of \
                 its pool, which may stand for the network or for all its hosts: give the pool in \
                 smaller parts",
            ),
        ] {
            let words = ["portico", "translate", "--pref64", "64:ff9b:1::/96"];
            let words = words.into_iter().chain(args.split_whitespace());
            let Verb::Translate(args) = Cli::try_parse_from(words).unwrap().verb else {
                panic!("another verb");
            };
            let failure = settings(&args).unwrap_err();
            assert_eq!((failure.code, &*failure.message), (Failure::USAGE, why));
        }
    }

    #[test]
    fn well_known_prefix_opens_no_private_server() {
        for (prefixes, is_open) in [
            (&["64:ff9b::/96"][..], false),
            (&["64:ff9b::/96", "64:ff9b:1::/96"], true),
        ] {
            let prefixes: Vec<_> = prefixes.iter().map(|text| text.parse().unwrap()).collect();
            let open = ["tcp,192.168.1.20:80".parse().unwrap()];
            assert_eq!(check_open(&open, &prefixes).is_ok(), is_open);
        }
    }

    #[test]
    fn greeting_says_what_is_translated() {
        for (args, said) in [
            (
                "--pref64 64:ff9b::/96 --pool 192.0.2.1 --pool 203.0.113.0/28",
                "prefix 64:ff9b::/96 · pool 192.0.2.1/32 203.0.113.0/28 · everything open",
            ),
            (
                "--pref64 64:ff9b::/96 --pool 192.0.2.1 --open tcp,8.8.8.8:53 \
                 --bib tcp,[2001:db8::1]:80,192.0.2.1:80",
                "prefix 64:ff9b::/96 · pool 192.0.2.1/32 · 1 static binding · 1 open port",
            ),
            (
                "--map 192.0.2.1=2001:db8::1 --map 192.0.2.2=2001:db8::2",
                "no prefix · no pool: only mapped and embedded addresses, without sessions · 2 maps",
            ),
        ] {
            let words = ["portico", "translate", "--device", "nat64b"];
            let words = words.into_iter().chain(args.split_whitespace());
            let Verb::Translate(args) = Cli::try_parse_from(words).unwrap().verb else {
                panic!("another verb");
            };
            assert_eq!(greeting(&args), format!("translating on nat64b: {said}\n"));
        }
    }
}
