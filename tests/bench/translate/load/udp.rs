//! Small datagrams, from the client to the server.

use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::prctl;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::PORT;
use crate::cpu::{Busy, Whose};
use crate::site::Site;
use crate::support::inside;

/// How fast the sender goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As it can.
    Flood,
    /// So many a second, from a sender that never sleeps: evenly.
    Spinning(f64),
    /// So many a second, from a sender that sleeps: in small bursts, and the processor time is
    /// that of the packets.
    Sleeping(f64),
}

/// What came of a flood.
#[derive(Debug, Clone, Copy)]
pub struct Flood {
    pub offered: f64,
    pub delivered: f64,
    pub elapsed: Duration,
    pub busy: Duration,
}

impl Flood {
    pub fn offered_per_second(&self) -> f64 {
        self.offered / self.elapsed.as_secs_f64()
    }

    pub fn delivered_per_second(&self) -> f64 {
        self.delivered / self.elapsed.as_secs_f64()
    }

    pub fn micros_per_delivered(&self) -> f64 {
        self.busy.as_secs_f64() * 1e6 / self.delivered.max(1.0)
    }

    fn is_lossless(&self) -> bool {
        self.delivered >= self.offered * 0.999
    }
}

/// The highest rate of a grid at which at most one packet of a thousand is lost, by bisection; a
/// rate that fails is tried once more.
pub fn no_loss_rate(site: &Site, time: Duration) -> Result<f64> {
    let rate = |step: i32| LOWEST_RATE * RATE_STEP.powi(step);
    let (mut good, mut bad) = (0, RATE_STEPS);
    let mut best = 0.0_f64;
    while bad - good > 1 {
        let step = i32::midpoint(good, bad);
        let mut trial = flood(site, Pace::Spinning(rate(step)), time)?;
        if !trial.is_lossless() {
            trial = flood(site, Pace::Spinning(rate(step)), time)?;
        }
        if !trial.is_lossless() {
            bad = step;
            continue;
        }
        good = step;
        best = best.max(trial.offered_per_second());
        if trial.offered_per_second() < rate(step) / RATE_STEP {
            // The sender can no more.
            break;
        }
    }
    Ok(best)
}

/// Sends for `time` and waits until nothing more arrives.
pub fn flood(site: &Site, pace: Pace, time: Duration) -> Result<Flood> {
    let server = inside(&site.server, || {
        let socket = UdpSocket::bind(site.listen(PORT))?;
        // Losses are to be the gateway's.
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 50_000))?;
        Ok(socket)
    })?;
    let clients = inside(&site.client, || clients(site))?;
    let received = AtomicU64::new(0);
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| receive(&server, &received, &end));
        let result = run(site.whose, &clients, pace, time, &received);
        end.store(true, Ordering::Relaxed);
        result
    })
}

fn run(
    whose: Whose,
    clients: &[UdpSocket],
    pace: Pace,
    time: Duration,
    received: &AtomicU64,
) -> Result<Flood> {
    // Sessions, routes and neighbours first.
    for client in clients {
        client.send(&PAYLOAD)?;
    }
    let mut waited = 0;
    while received.load(Ordering::Relaxed) < clients.len() as u64 {
        ensure!(waited < 1000, "the first packets do not arrive");
        waited += 1;
        thread::sleep(Duration::from_millis(1));
    }
    let before = received.load(Ordering::Relaxed);
    let busy = Busy::start(whose)?;
    let begun = Instant::now();
    let offered = send(clients, pace, time);
    let elapsed = begun.elapsed();
    let spent = busy.so_far()?;
    let mut delivered = received.load(Ordering::Relaxed) - before;
    loop {
        thread::sleep(Duration::from_millis(20));
        let now = received.load(Ordering::Relaxed) - before;
        if now == delivered {
            break;
        }
        delivered = now;
    }
    Ok(Flood {
        offered: offered as f64,
        delivered: delivered as f64,
        elapsed,
        busy: spent,
    })
}

fn clients(site: &Site) -> Result<Vec<UdpSocket>> {
    let target = site.target(PORT);
    let any = if target.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    (0..FLOWS)
        .map(|_| {
            let socket = UdpSocket::bind(any)?;
            socket.connect(target)?;
            Ok(socket)
        })
        .collect()
}

/// Returns how many packets were sent.
fn send(clients: &[UdpSocket], pace: Pace, time: Duration) -> u64 {
    let iov = [IoSlice::new(&PAYLOAD)];
    let packets = [&iov; BATCH];
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    if matches!(pace, Pace::Sleeping(_)) {
        // Without it each sleep lasts 50 us longer; with it the rate is still right.
        let _exact = prctl::set_timerslack(1);
    }
    let begun = Instant::now();
    // What should have been sent, which is less than time would have it after a pause: a sender
    // that was kept from running does not make up for it in one burst.
    let (mut sent, mut skipped) = (0_u64, 0.0);
    for client in clients.iter().cycle() {
        let elapsed = begun.elapsed();
        if elapsed >= time {
            break;
        }
        let count = match pace {
            Pace::Flood => BATCH,
            Pace::Spinning(rate) | Pace::Sleeping(rate) => {
                let due = elapsed.as_secs_f64() * rate - skipped - sent as f64;
                if due > MOST_BEHIND {
                    skipped += due - MOST_BEHIND;
                }
                due.clamp(0.0, BATCH as f64) as usize
            }
        };
        if count == 0 || (matches!(pace, Pace::Sleeping(_)) && count < BURST) {
            match pace {
                Pace::Sleeping(rate) => {
                    let missing = (BURST - count) as f64;
                    thread::sleep(Duration::from_secs_f64(missing / rate));
                }
                _ => std::hint::spin_loop(),
            }
            continue;
        }
        let batch = packets.iter().take(count).copied();
        let result = sendmmsg(
            client.as_raw_fd(),
            &mut headers,
            batch,
            [None; BATCH],
            [],
            MsgFlags::empty(),
        );
        // A packet that the socket refuses was not offered to the gateway.
        sent += result.map_or(0, Iterator::count) as u64;
    }
    sent
}

fn receive(server: &UdpSocket, received: &AtomicU64, end: &AtomicBool) {
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    let mut bytes = [[0; 128]; BATCH];
    while !end.load(Ordering::Relaxed) {
        let mut slices = bytes.each_mut().map(|it| [IoSliceMut::new(it)]);
        let result = recvmmsg(
            server.as_raw_fd(),
            &mut headers,
            slices.iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        );
        if let Ok(messages) = result {
            let right = messages.filter(|it| it.bytes == PAYLOAD.len()).count();
            received.fetch_add(right as u64, Ordering::Relaxed);
        }
    }
}

const PAYLOAD: [u8; 64] = [0x5a; 64];

const FLOWS: usize = 8;

/// Packets that one system call sends or takes at most.
const BATCH: usize = 32;

/// Packets that are due before a sender that sleeps sends them.
const BURST: usize = 16;

/// Packets that a sender makes up for at most.
const MOST_BEHIND: f64 = 64.0;

const RECEIVE_BUFFER: usize = 64 << 20;

const LOWEST_RATE: f64 = 30_000.0;
const RATE_STEP: f64 = 1.04;
/// Up to 900,000 a second.
const RATE_STEPS: i32 = 87;
