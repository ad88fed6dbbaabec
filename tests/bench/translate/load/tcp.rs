//! Streams of TCP.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{PORT, connect};
use crate::cpu::Busy;
use crate::site::Site;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client: six to four.
    Up,
    /// The server: four to six.
    Down,
}

/// What came out of some streams.
#[derive(Debug, Clone, Copy)]
pub struct Streams {
    pub bytes: f64,
    pub elapsed: Duration,
    pub busy: Duration,
}

impl Streams {
    pub fn gbits(&self) -> f64 {
        self.bytes * 8e-9 / self.elapsed.as_secs_f64()
    }

    pub fn cpu_per_gb(&self) -> f64 {
        self.busy.as_secs_f64() / (self.bytes * 1e-9)
    }
}

/// Lets `count` streams run for `time`, as fast as they can or paced to so many bytes a second
/// each.
pub fn streams(
    site: &Site,
    direction: Direction,
    count: usize,
    time: Duration,
    pace: Option<f64>,
) -> Result<Streams> {
    let mut pairs = Vec::new();
    for _ in 0..count {
        let (client, server) = connect(site, PORT)?;
        pairs.push(match direction {
            Direction::Up => (client, server),
            Direction::Down => (server, client),
        });
    }
    let received = AtomicU64::new(0);
    thread::scope(|scope| {
        for (sender, receiver) in &pairs {
            scope.spawn(|| send(sender, pace));
            scope.spawn(|| receive(receiver, &received));
        }
        thread::sleep(WARM_UP);
        let (busy, begun) = (Busy::start(site.whose), Instant::now());
        let before = received.load(Ordering::Relaxed);
        thread::sleep(time);
        let bytes = received.load(Ordering::Relaxed) - before;
        let elapsed = begun.elapsed();
        let busy = busy.and_then(|busy| busy.so_far());
        for (sender, receiver) in &pairs {
            for end in [sender, receiver] {
                // Both threads see the end by an error; they may have seen one before.
                let _ended = end.shutdown(Shutdown::Both);
            }
        }
        Ok(Streams {
            bytes: bytes as f64,
            elapsed,
            busy: busy?,
        })
    })
}

fn send(mut stream: &TcpStream, pace: Option<f64>) {
    let chunk = vec![0x5a; if pace.is_some() { PACED_CHUNK } else { CHUNK }];
    let begun = Instant::now();
    let mut sent = 0_u64;
    while let Ok(len) = stream.write(&chunk) {
        sent += len as u64;
        if let Some(pace) = pace {
            let due = Duration::from_secs_f64(sent as f64 / pace);
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
}

fn receive(mut stream: &TcpStream, received: &AtomicU64) {
    let mut buf = vec![0; CHUNK];
    while let Ok(len @ 1..) = stream.read(&mut buf) {
        received.fetch_add(len as u64, Ordering::Relaxed);
    }
}

/// TCP has left slow start then.
const WARM_UP: Duration = Duration::from_millis(300);

/// What iperf3 writes at once.
const CHUNK: usize = 128 * 1024;

const PACED_CHUNK: usize = 64 * 1024;
