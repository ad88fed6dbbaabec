//! A neighbour forges requests as fast as it can while one client asks.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use lab::Node;
use mapping::Mac;
use net::packet::{Hears, PacketSocket, UdpFrame};

use crate::dialect::{Dialect, Port, Protocol, Wish, datagram, granted};
use crate::load::PORT;
use crate::measures::{Row, Values, millis};
use crate::site::{GATEWAY, LIFETIME, Site, addr};
use crate::support::inside;

/// What the neighbour forges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forger {
    /// The addresses of hosts.
    Addresses,
    /// Their MACs as well: a new one with every frame.
    Macs,
}

/// Floods for `time`.
pub fn flood(site: &Site, forger: Forger, time: Duration) -> Result<Values> {
    let gateway_mac = gateway_mac(site.clients.first().context("a client")?)?;
    let ports = site.held(0, Dialect::Pcp);
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let (stop, sent) = (&stop, &sent);
    let asked = thread::scope(|scope| {
        let forging =
            scope.spawn(move || inside(&site.neighbour, || forge(forger, gateway_mac, stop, sent)));
        let node = site.clients.first().context("a client")?;
        thread::sleep(WARM_UP);
        let before = sent.load(Ordering::Relaxed);
        let begun = Instant::now();
        let asked = inside(node, || ask(&ports, time));
        let took = begun.elapsed();
        let forged = sent.load(Ordering::Relaxed) - before;
        stop.store(true, Ordering::Relaxed);
        forging
            .join()
            .unwrap_or_else(|_| bail!("the forger panicked"))?;
        anyhow::Ok((asked?, forged, took))
    });
    let ((times, lost), forged, took) = asked?;
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    let all = count(times.len() + lost);
    let forged = f64::from(u32::try_from(forged)?) / took.as_secs_f64();
    // who was not answered waited for ever
    let mut waits = times;
    waits.extend(std::iter::repeat_n(LONGEST, lost));
    let granted = count(waits.iter().filter(|it| **it < LONGEST).count());
    Ok(vec![
        (Row::FloodSuccess(forger), granted * 100.0 / all.max(1.0)),
        (Row::FloodP99(forger), millis(&waits, 99)),
        (Row::FloodSent(forger), forged / 1000.0),
    ])
}

/// Asks once each; says how long each answer took, and how many did not come.
fn ask(ports: &[Port], time: Duration) -> Result<(Vec<Duration>, usize)> {
    let socket = UdpSocket::bind((addr(0), 0))?;
    socket.connect((GATEWAY, PORT))?;
    let begun = Instant::now();
    let (mut times, mut lost) = (Vec::new(), 0);
    for port in ports.iter().cycle() {
        if begun.elapsed() > time {
            break;
        }
        let asked = Instant::now();
        socket.send(&datagram(
            Dialect::Pcp,
            addr(0),
            *port,
            Wish::Open(LIFETIME),
        ))?;
        loop {
            let left = LONGEST.saturating_sub(asked.elapsed());
            let mut buf = [0; 1200];
            socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match socket.recv(&mut buf) {
                Ok(len) => {
                    let answer = buf.get(..len).context("a short buffer")?;
                    if granted(Dialect::Pcp, answer)? == *port {
                        times.push(asked.elapsed());
                        break;
                    }
                }
                Err(_) if asked.elapsed() >= LONGEST => {
                    lost += 1;
                    break;
                }
                Err(_) => {}
            }
        }
        thread::sleep(BETWEEN);
    }
    Ok((times, lost))
}

fn forge(forger: Forger, gateway: Mac, stop: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let socket = PacketSocket::open("eth0", Hears::Nothing)?;
        let frames: Vec<_> = (0..FORGED)
            .filter_map(|number| {
                let [high, low] = number.to_be_bytes();
                let mac = match forger {
                    Forger::Addresses => socket.mac(),
                    Forger::Macs => Mac([2, 0x66, 0, 0, high, low]),
                };
                frame(number, mac, gateway)
            })
            .collect();
        let begun = Instant::now();
        let mut count: u64 = 0;
        for frame in frames.iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            socket.send(frame).await?;
            count += 1;
            sent.store(count, Ordering::Relaxed);
            if count.is_multiple_of(BURST) {
                let due = begun + Duration::from_secs(count) / RATE;
                let wait = due.saturating_duration_since(Instant::now());
                // shorter than what a timer can do is waited for at the next burst
                if wait > Duration::from_millis(1) {
                    thread::sleep(wait);
                }
            }
        }
        Ok(())
    })
}

/// Of a host that has no lease.
fn frame(number: u16, source_mac: Mac, gateway: Mac) -> Option<Vec<u8>> {
    let [high, low] = number.to_be_bytes();
    let addr = Ipv4Addr::new(10, 64, 2 + (high & 0x3f), low);
    let port = Port {
        protocol: Protocol::Udp,
        number: 1024 + number,
    };
    let payload = datagram(Dialect::Pcp, addr, port, Wish::Open(LIFETIME));
    let udp = UdpFrame {
        source_mac,
        destination_mac: gateway,
        source: SocketAddrV4::new(addr, 40_000 + number),
        destination: SocketAddrV4::new(GATEWAY, PORT),
        payload: &payload,
    };
    udp.emit()
}

/// As the client's neighbour table has it.
fn gateway_mac(client: &Node) -> Result<Mac> {
    inside(client, || {
        let table = std::fs::read_to_string("/proc/thread-self/net/arp")?;
        let gateway = GATEWAY.to_string();
        let line = table
            .lines()
            .find(|line| line.split_whitespace().next() == Some(&gateway));
        let mac = line.and_then(|line| line.split_whitespace().nth(3));
        Ok(mac.context("the gateway's MAC is not known")?.parse()?)
    })
}

/// What a good sender of one machine does.
const RATE: u32 = 100_000;

const BURST: u64 = 50;

const FORGED: u16 = 4096;

const WARM_UP: Duration = Duration::from_millis(300);

const BETWEEN: Duration = Duration::from_millis(2);

/// Who has waited so long is counted as lost.
const LONGEST: Duration = Duration::from_secs(1);
