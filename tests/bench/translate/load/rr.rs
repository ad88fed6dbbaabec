//! One byte there and one byte back, over and over.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::{PORT, connect};
use crate::cpu;
use crate::site::Site;

/// Microseconds of a round trip.
#[derive(Debug, Clone, Copy)]
pub struct RoundTrip {
    pub p50: f64,
    pub p99: f64,
}

/// Client and server run on processor 0, the translator on the one that is given.
pub fn round_trips(site: &Site, gateway: usize, time: Duration) -> Result<RoundTrip> {
    if let Some(process) = site.process() {
        cpu::pin_process(process, &[gateway])?;
    }
    let times = measure(site, time);
    if let Some(process) = site.process() {
        let all: Vec<_> = (0..cpu::processors()? as usize).collect();
        cpu::pin_process(process, &all)?;
    }
    let mut times = times?;
    times.sort_unstable();
    let at = |share: usize| {
        let time = times.get(times.len() * share / 100);
        time.copied().unwrap_or_default().as_secs_f64() * 1e6
    };
    ensure!(times.len() > 100, "only {} round trips", times.len());
    Ok(RoundTrip {
        p50: at(50),
        p99: at(99),
    })
}

fn measure(site: &Site, time: Duration) -> Result<Vec<Duration>> {
    let (client, server) = connect(site, PORT)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| answer(&server));
        let times = scope.spawn(|| ask(&client, time));
        let times = times.join().unwrap_or_else(|_| bail!("a thread panicked"));
        client.shutdown(Shutdown::Both)?;
        times
    })
}

fn ask(mut stream: &TcpStream, time: Duration) -> Result<Vec<Duration>> {
    cpu::pin_this_thread(0)?;
    let mut times = Vec::with_capacity(1 << 18);
    let begun = Instant::now();
    while begun.elapsed() < WARM_UP + time {
        let asked = Instant::now();
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        if asked.duration_since(begun) > WARM_UP {
            times.push(asked.elapsed());
        }
    }
    Ok(times)
}

fn answer(mut stream: &TcpStream) -> Result<()> {
    cpu::pin_this_thread(0)?;
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

const WARM_UP: Duration = Duration::from_millis(100);
