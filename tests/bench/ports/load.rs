//! Clients in their namespaces: each asks, waits for the answer and asks again.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lab::Node;

use crate::dialect::{self, Control, Dialect, Port, SoapClient, Wish};
use crate::disk::Probe;
use crate::site::{CLIENTS, GATEWAY, addr};
use crate::support::inside;

/// What one client is to ask for.
#[derive(Debug, Clone)]
pub struct Script {
    pub dialect: Dialect,
    pub wish: Wish,
    /// One after the other.
    pub ports: Vec<Port>,
    /// So many at once; UPnP always one.
    pub window: usize,
    /// No request is begun later.
    pub until: Option<Instant>,
}

/// How it went.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// Of each request that was granted, in their order: how long it took.
    pub times: Vec<Duration>,
    /// Datagrams that had to be sent again.
    pub repeats: u64,
}

/// One client alone, in turns with the disk itself.
pub fn alone(
    node: &Node,
    control: &Control,
    script: &Script,
    probe: &mut Probe,
) -> Result<(Log, Vec<Duration>)> {
    inside(node, || {
        let mut client = Client::new(0, script, control)?;
        let mut log = Log::default();
        let mut syncs = Vec::new();
        for port in &script.ports {
            if script.is_over() {
                break;
            }
            client.ask(&[*port], &mut log)?;
            syncs.push(probe.sync()?);
        }
        Ok((log, syncs))
    })
}

/// Many clients at once, each with a thread; `script` is told the number of each.
pub fn together(
    nodes: &[Node],
    control: &Control,
    script: impl Fn(usize) -> Script + Sync,
) -> Result<(Vec<Log>, Duration)> {
    let ready = std::sync::Barrier::new(nodes.len() + 1);
    let (ready, script) = (&ready, &script);
    thread::scope(|scope| {
        let threads: Vec<_> = nodes
            .iter()
            .enumerate()
            .map(|(number, node)| {
                scope.spawn(move || {
                    let script = script(number);
                    let entered = net::namespace::enter(node);
                    let client = Client::new(number, &script, control);
                    ready.wait();
                    entered?;
                    let mut log = Log::default();
                    client?.ask(&script.ports, &mut log)?;
                    anyhow::Ok(log)
                })
            })
            .collect();
        ready.wait();
        let begun = Instant::now();
        let mut logs = Vec::new();
        for thread in threads {
            let log = thread.join().unwrap_or_else(|_| bail!("a client panicked"));
            logs.push(log?);
        }
        Ok((logs, begun.elapsed()))
    })
}

impl Script {
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

enum Client<'a> {
    Datagrams {
        number: usize,
        script: &'a Script,
        socket: UdpSocket,
    },
    Soap {
        script: &'a Script,
        client: SoapClient<'a>,
    },
}

impl<'a> Client<'a> {
    fn new(number: usize, script: &'a Script, control: &'a Control) -> Result<Self> {
        ensure!(number < CLIENTS, "there is no client {number}");
        if !script.dialect.is_datagram() {
            let keeps = script.dialect == Dialect::UpnpKept;
            let client = SoapClient::new(control, addr(number), keeps);
            return Ok(Self::Soap { script, client });
        }
        let socket = UdpSocket::bind(SocketAddrV4::new(addr(number), 0))?;
        socket.connect(SocketAddrV4::new(GATEWAY, PORT))?;
        socket.set_read_timeout(Some(REPEAT_AFTER))?;
        Ok(Self::Datagrams {
            number,
            script,
            socket,
        })
    }

    fn ask(&mut self, ports: &[Port], log: &mut Log) -> Result<()> {
        match self {
            Self::Datagrams {
                number,
                script,
                socket,
            } => converse(*number, script, ports, socket, log),
            Self::Soap { script, client } => {
                for port in ports {
                    if script.is_over() {
                        break;
                    }
                    let begun = Instant::now();
                    client.ask(*port, script.wish)?;
                    log.times.push(begun.elapsed());
                }
                Ok(())
            }
        }
    }
}

fn converse(
    number: usize,
    script: &Script,
    ports: &[Port],
    socket: &UdpSocket,
    log: &mut Log,
) -> Result<()> {
    let bytes = |port| dialect::datagram(script.dialect, addr(number), port, script.wish);
    let mut left = ports.iter().copied();
    let mut waiting: BTreeMap<Port, Instant> = BTreeMap::new();
    let mut buf = [0; 1200];
    let mut heard = Instant::now();
    loop {
        while waiting.len() < script.window && !script.is_over() {
            let Some(port) = left.next() else {
                break;
            };
            waiting.insert(port, Instant::now());
            socket.send(&bytes(port))?;
        }
        if waiting.is_empty() {
            return Ok(());
        }
        match socket.recv(&mut buf) {
            Ok(len) => {
                let answer = buf.get(..len).context("a short buffer")?;
                let port = dialect::granted(script.dialect, answer)?;
                // a second answer to what was sent twice is none of ours
                if let Some(begun) = waiting.remove(&port) {
                    log.times.push(begun.elapsed());
                    heard = Instant::now();
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                ensure!(heard.elapsed() < PATIENCE, "no answer to {waiting:?}");
                for port in waiting.keys() {
                    log.repeats += 1;
                    socket.send(&bytes(*port))?;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot receive"),
        }
    }
}

/// RFC 6887 §19.1, RFC 6886 §3.
pub const PORT: u16 = 5351;

/// As NAT-PMP's clients do (RFC 6886 §3.1).
const REPEAT_AFTER: Duration = Duration::from_millis(250);

const PATIENCE: Duration = Duration::from_secs(20);
