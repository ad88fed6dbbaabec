//! New connections, one after another.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use nix::sys::time::TimeVal;
use std::os::fd::AsRawFd as _;

use super::{PORT, connect_to, listener};
use crate::cpu::Busy;
use crate::site::Site;

/// What connections cost.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    pub per_second: f64,
    /// Processor time of each.
    pub micros: f64,
}

/// Opens connections one after another: each is opened, carries a byte both ways and is closed by the server,
/// as HTTP/1.0 does; a few clients at a time.
pub fn connections(site: &Site, time: Duration) -> Result<Connections> {
    let listener = listener(site, PORT)?;
    setsockopt(
        &listener,
        sockopt::ReceiveTimeout,
        &TimeVal::new(0, 200_000),
    )?;
    let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let end = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| serve(&listener, &end));
            scope.spawn(|| {
                // Sockets live where the thread that opens them looks out.
                if net::namespace::enter(&site.client).is_err() {
                    return;
                }
                while !end.load(Ordering::Relaxed) {
                    let count = if visit(site).is_ok() { &done } else { &failed };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(WARM_UP);
        let busy = Busy::start(site.whose)?;
        let (before, begun) = (done.load(Ordering::Relaxed), Instant::now());
        thread::sleep(time);
        let count = (done.load(Ordering::Relaxed) - before) as f64;
        let result = Connections {
            per_second: count / begun.elapsed().as_secs_f64(),
            micros: busy.so_far()?.as_secs_f64() * 1e6 / count.max(1.0),
        };
        end.store(true, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(20));
        shutdown(listener.as_raw_fd(), Shutdown::Both)?;
        anyhow::Ok(result)
    })?;
    let failed = failed.load(Ordering::Relaxed);
    let done = done.load(Ordering::Relaxed);
    ensure!(
        failed * 1000 <= done,
        "{failed} connections failed, {done} did not"
    );
    Ok(result)
}

fn serve(listener: &TcpListener, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            continue;
        };
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_ok() {
            // The client counts what came.
            let _sent = stream.write_all(&byte);
        }
    }
}

fn visit(site: &Site) -> Result<()> {
    let mut stream = connect_to(site.target(PORT))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[1])?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer == [1], "no answer");
    Ok(())
}

/// At once; enough that no processor waits.
const CLIENTS: usize = 4;

const WARM_UP: Duration = Duration::from_millis(100);

const PATIENCE: Duration = Duration::from_secs(2);
