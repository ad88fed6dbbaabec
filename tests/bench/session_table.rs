//! What a session costs at every size of the table: `cargo bench -p translator`.
//!
//! Everything goes through the machine as packets do, so that each figure holds the session, its
//! binding, both indexes, the limits and the port sets, and the translation of one small packet.
//! `alone` are sessions each from a /64 of its own, the worst case; `shared` are ten of each remote,
//! and sixteen remotes in each /64.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark stops at the first error and prints"
)]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

use mapping::{Admission, ExternalPort, Instant, InternalPort, Nsp, Protocol};
use net::Clock;
use translator::{Config, Frame, Limits, PoolRange, Translator, Verdict};

fn main() {
    let only: Vec<String> = std::env::args().skip_while(|arg| arg != ONLY).collect();
    if let [_, name, sessions] = only.as_slice() {
        let spread = SPREADS.iter().find(|(known, _)| known == name);
        let (_, spread) = spread.expect("one of ours");
        return measure(sessions.parse().expect("a number"), *spread);
    }
    println!("processor time of this thread; a reading of the clock itself costs:");
    let clock = Clock::new();
    let readings = (0..100_000).map(|_| since(clock, clock.thread_cpu()));
    report("clock", &mut readings.collect::<Vec<_>>());
    for (name, _) in SPREADS {
        for sessions in [1_000, 10_000, 100_000, 1_000_000] {
            println!("{name}: {sessions} sessions");
            // each in a process of its own, so that none finds memory that another one has left
            let program = std::env::current_exe().expect("the program has a path");
            let status = Command::new(program)
                .args([ONLY, name, &sessions.to_string()])
                .status();
            assert!(status.expect("it starts").success());
        }
    }
}

fn measure(sessions: u32, spread: Spread) {
    let clock = Clock::new();
    // what measures is there, and touched, before anything is measured
    let mut times = vec![Duration::MAX; usize::try_from(sessions).expect("fits")];
    times.fill(Duration::ZERO);
    let mut frame = Frame::new();
    let mut bench = Bench::new(sessions, spread);
    let before = resident();
    for (number, time) in (0..sessions).zip(&mut times) {
        *time = bench.send(clock, &mut frame, number);
    }
    let bytes = resident().saturating_sub(before);
    assert_eq!(bench.translator.counters().sessions.tcp, sessions);
    println!("  resident: {} bytes each", bytes / u64::from(sessions));
    report("insert", &mut times);

    let rounds = 200_000;
    let random = (0..rounds).map(|round| bench.send(clock, &mut frame, scatter(round) % sessions));
    report("find, at random", &mut random.collect::<Vec<_>>());
    let hot = (0..rounds).map(|round| bench.send(clock, &mut frame, round % 16));
    report("find, hot", &mut hot.collect::<Vec<_>>());
    let touch = (0..rounds).map(|round| {
        if round % 1000 == 0 {
            bench.now += Duration::from_secs(1);
        }
        bench.send(clock, &mut frame, scatter(round) % sessions)
    });
    report("find and touch, at random", &mut touch.collect::<Vec<_>>());
    bench.expire(clock, sessions);
    let left = resident().saturating_sub(before);
    println!(
        "  resident after all have gone: {} KiB of {} KiB",
        left / 1024,
        bytes / 1024
    );
}

/// A home with one open port.
struct Bench {
    translator: Translator,
    now: Instant,
    spread: Spread,
}

impl Bench {
    fn new(sessions: u32, spread: Spread) -> Self {
        let pool = PoolRange::new(Ipv4Addr::new(192, 168, 64, 192), 26).expect("valid");
        let mut config = Config::new(pool);
        config.limits = Limits {
            sessions,
            per_remote_64: u32::MAX,
            per_server: u32::MAX,
            half_open_per_64: u32::MAX,
            new_per_remote_64: u32::MAX,
            new_per_server: u32::MAX,
            ..Limits::default()
        };
        let now = Instant::from_nanos(1_000_000_000);
        let mut translator = Translator::new(config, [7; 16], now);
        translator.handle_nsps(&[nsp()], now);
        let open = Admission::Open(
            SERVER,
            Protocol::Tcp,
            ExternalPort::new(80).expect("not zero"),
            mapping::AdmissionRule::to(InternalPort::new(8080).expect("not zero")),
        );
        translator.handle_admissions(&[open], now);
        Self {
            translator,
            now,
            spread,
        }
    }

    /// Sends the SYN of a session, and returns what the machine needed for it.
    fn send(&mut self, clock: Clock, frame: &mut Frame, number: u32) -> Duration {
        let packet = syn(number, self.spread);
        let space = frame.space();
        space.get_mut(..10).expect("room").fill(0);
        space
            .get_mut(10..10 + packet.len())
            .expect("room")
            .copy_from_slice(&packet);
        frame.filled(10 + packet.len());
        let begun = clock.thread_cpu();
        let verdict = self.translator.handle_packet(frame, self.now);
        let took = since(clock, begun);
        assert_eq!(verdict, Verdict::Forward);
        while self.translator.poll_event().is_some() {}
        took
    }

    /// Ends all sessions by time.
    fn expire(&mut self, clock: Clock, sessions: u32) {
        self.now += Duration::from_secs(3600);
        let mut times = Vec::new();
        loop {
            let begun = clock.thread_cpu();
            self.translator.handle_timeout(self.now);
            times.push(since(clock, begun));
            while self.translator.poll_event().is_some() {}
            if self.translator.counters().sessions.tcp == 0 {
                break;
            }
        }
        let all: Duration = times.iter().sum();
        println!("  expire and remove: {:?} each", all / sessions);
        report("a burst of expiries", &mut times);
    }
}

/// How many sessions a remote has, and how many remotes a /64.
type Spread = (u32, u32);

fn syn(number: u32, (sessions, remotes): Spread) -> [u8; 60] {
    let remote = number / sessions;
    let net = u128::from(remote / remotes) << 64;
    let src = (0x2001_0db8_u128 << 96 | 0xaaaa_u128 << 80) ^ net | u128::from(remote % remotes + 1);
    let port = u16::try_from(1024 + number % sessions).expect("few sessions");
    let mut packet = [0; 60];
    let mut put = |at: usize, bytes: &[u8]| {
        let room = packet.get_mut(at..at + bytes.len()).expect("inside");
        room.copy_from_slice(bytes);
    };
    put(0, &[0x60, 0, 0, 0, 0, 20, 6, 64]);
    put(8, &Ipv6Addr::from(src).octets());
    put(24, &nsp().embed(SERVER).octets());
    put(40, &port.to_be_bytes());
    put(42, &80_u16.to_be_bytes());
    // header length, SYN, window, and a checksum that stays as wrong as it is
    put(52, &[0x50, 2, 0xff, 0xff, 0x12, 0x34]);
    packet
}

fn nsp() -> Nsp {
    Nsp::new("2001:db8:64:1::".parse().expect("valid")).expect("valid")
}

/// Returns numbers that no cache foresees.
const fn scatter(round: u32) -> u32 {
    let mixed = (round ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b1);
    (mixed ^ (mixed >> 15)).wrapping_mul(0x85eb_ca77) >> 1
}

fn since(clock: Clock, begun: Duration) -> Duration {
    clock.thread_cpu().saturating_sub(begun)
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.map(|kib: u64| kib * 1024).expect("the kernel counts")
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: usize| {
        let index = (times.len() * part / 100_000).min(times.len() - 1);
        times.get(index).copied().unwrap_or_default()
    };
    println!(
        "  {what}: p50 {:?} p99 {:?} p99.9 {:?} p99.99 {:?} p99.999 {:?} max {:?}",
        at(50_000),
        at(99_000),
        at(99_900),
        at(99_990),
        at(99_999),
        at(100_000),
    );
}

const SPREADS: [(&str, Spread); 2] = [("alone", (1, 1)), ("shared", (10, 16))];

const ONLY: &str = "--only";

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 7);
