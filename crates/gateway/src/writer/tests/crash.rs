//! A child process on a real store, under strace: system calls fail or kill it, one after the
//! other. Nothing answered is lost, nothing closed opens again, and every start succeeds.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use mapping::{DecideRequest, Decision};

use super::*;
use crate::{Config, start};
use script::{Deed, SCRIPT, is_open};

mod script;

#[test]
fn killed_at_any_write() {
    every_time(&Fault {
        call: "pwrite64",
        what: "signal=KILL",
        send: "sendto",
    });
}

#[test]
fn killed_at_any_sync() {
    every_time(&Fault {
        call: SYNC,
        what: "signal=KILL",
        send: "sendto",
    });
}

#[test]
fn killed_at_any_truncation() {
    every_time(&Fault {
        call: "ftruncate",
        what: "signal=KILL",
        send: "sendto",
    });
}

#[test]
fn killed_at_any_answer() {
    every_time(&Fault {
        call: "sendto",
        what: "signal=KILL",
        send: "sendto",
    });
}

#[test]
fn killed_at_any_answer_of_a_server() {
    every_time(&Fault {
        call: "sendmsg",
        what: "signal=KILL",
        send: "sendmsg",
    });
}

#[test]
fn any_write_fails() {
    every_time(&Fault {
        call: "pwrite64",
        what: "error=EIO",
        send: "sendto",
    });
}

#[test]
fn any_sync_fails() {
    every_time(&Fault {
        call: SYNC,
        what: "error=EIO",
        send: "sendto",
    });
}

#[test]
fn any_truncation_fails() {
    every_time(&Fault {
        call: "ftruncate",
        what: "error=EIO",
        send: "sendto",
    });
}

#[test]
fn the_disk_is_full_at_any_write() {
    every_time(&Fault {
        call: "pwrite64",
        what: "error=ENOSPC",
        send: "sendto",
    });
}

#[test]
fn the_disk_is_full_at_any_sync() {
    every_time(&Fault {
        call: SYNC,
        what: "error=ENOSPC",
        send: "sendto",
    });
}

#[test]
fn the_disk_is_full_at_any_truncation() {
    every_time(&Fault {
        call: "ftruncate",
        what: "error=ENOSPC",
        send: "sendto",
    });
}

/// From a write on, every later one fails, too: the disk is gone.
#[test]
fn the_disk_goes_away() {
    let mut hits = 0;
    for first in (1..2000).step_by(9) {
        let fault = Fault {
            call: "pwrite64",
            what: "error=EIO",
            send: "sendto",
        };
        let run = Run::of(&fault, &format!("{first}+"));
        run.check();
        if !run.hit {
            break;
        }
        hits += 1;
    }
    assert!(hits > 10, "{hits}");
}

/// Between the last write to a file and the answer the kernel was told to sync.
#[test]
fn every_answer_follows_a_sync() {
    let fault = Fault {
        call: "pwrite64,fdatasync,fsync,sendto",
        what: "",
        send: "sendto",
    };
    let run = Run::of(&fault, "");
    let mut synced = true;
    let mut granted = 0;
    for line in run.trace.lines() {
        if line.contains("pwrite64(") {
            synced = false;
        } else if line.contains("sync(") {
            synced = true;
        } else if line.contains("sendto(") && line.contains("granted") {
            granted += 1;
            assert!(synced, "{line}\n{}", run.trace);
        }
    }
    assert_eq!(granted, SCRIPT.len(), "{}", run.trace);
}

/// The process in which all this happens; it is no test of its own.
#[test]
#[ignore = "the child of the other tests"]
fn child() {
    let variable = |name| std::env::var(name).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let parent = variable("CRASH_PARENT").parse().unwrap();
    let folder = variable("CRASH_FOLDER");
    runtime.block_on(async {
        play(
            Path::new(&folder),
            Teller::new(parent, &variable("CRASH_SEND")),
        )
        .await;
    });
}

/// What goes wrong: which system call, how, and by which call the child answers.
struct Fault {
    call: &'static str,
    what: &'static str,
    send: &'static str,
}

fn every_time(fault: &Fault) {
    let mut hits = 0;
    for n in 1..2000 {
        let run = Run::of(fault, &n.to_string());
        run.check();
        if !run.hit {
            assert_eq!(run.told.len(), 2 * SCRIPT.len() + 1, "{:?}", run.told);
            break;
        }
        hits = n;
    }
    println!("{} {}: {hits} places", fault.call, fault.what);
    assert!(hits > 0, "{} is never called", fault.call);
}

/// One life of the child.
struct Run {
    folder: tempfile::TempDir,
    hit: bool,
    told: Vec<String>,
    trace: String,
    status: ExitStatus,
}

impl Run {
    fn of(fault: &Fault, when: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let log = folder.path().join("trace");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-s", "64", "-o"]).arg(&log);
        if !fault.what.starts_with("signal") {
            // only the calls of interest stop; strace injects no signals this way
            strace.arg("--seccomp-bpf");
        }
        strace.arg("-e").arg(format!("trace={}", fault.call));
        if !when.is_empty() {
            let Fault { call, what, .. } = fault;
            strace
                .arg("-e")
                .arg(format!("inject={call}:{what}:when={when}"));
        }
        let path = module_path!().split_once("::").unwrap().1;
        strace
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                &format!("{path}::child"),
                "--ignored",
                "--nocapture",
            ])
            .env("CRASH_FOLDER", folder.path().join("state"))
            .env("CRASH_PARENT", socket.local_addr().unwrap().to_string())
            .env("CRASH_SEND", fault.send);
        let output = match strace.output() {
            Ok(output) => output,
            Err(error) => panic!("this test needs strace (Debian package strace): {error}"),
        };
        let trace = std::fs::read_to_string(&log).unwrap_or_default();
        let hit = trace.contains("(INJECTED)") || trace.contains("killed by SIGKILL");
        let mut told = Vec::new();
        let mut buf = [0; 256];
        while let Ok(len) = socket.recv(&mut buf) {
            told.push(String::from_utf8_lossy(&buf[..len]).into_owned());
        }
        let started = hit
            || told
                .first()
                .is_some_and(|first| first.starts_with("trying"));
        assert!(started, "{}", String::from_utf8_lossy(&output.stderr));
        Self {
            folder,
            hit,
            told,
            trace,
            status: output.status,
        }
    }

    /// Starts again, without faults, and compares with what was told.
    #[track_caller]
    fn check(&self) {
        let bug = self.told.iter().find(|line| line.starts_with("bug"));
        assert_eq!(bug, None, "{:?}\n{}", self.told, self.trace);
        let died = self
            .status
            .signal()
            .or(self.status.code().filter(|code| *code > 128));
        assert!(
            self.status.success() || died.is_some(),
            "{:?}\n{}",
            self.status,
            self.trace
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let state = self.folder.path().join("state");
        runtime.block_on(async {
            let mut store = Store::open(&state).await.unwrap();
            store.check().await.unwrap();
            store.close().await.unwrap();
            let (handle, writer) = start(config(&state), net::Clock::new()).await.unwrap();
            let snapshot = handle.snapshot();
            for (key, open) in self.promised() {
                let (n, port) = key;
                assert_eq!(
                    is_open(&snapshot, n, port),
                    open,
                    "{n}:{port} {:?}\n{}",
                    self.told,
                    self.trace
                );
            }
            self.check_decisions(&snapshot);
            drop(writer);
        });
    }

    /// What was decided, or waits, or lives longer, is there if that was told.
    #[track_caller]
    fn check_decisions(&self, snapshot: &Snapshot) {
        let told = |what: &str, n: usize| self.told.contains(&format!("{what} {n}"));
        let deeds = || SCRIPT.iter().enumerate();
        for (_, deed) in deeds().filter(|(n, _)| told("granted", *n)) {
            let is_there = match *deed {
                Deed::Ask(host, port) => {
                    let asked = |it: &Arc<Waiting>| it.internal_port.get() == port;
                    let answers = |deed: &Deed| matches!(deed, Deed::Decide(n, p, _) if (*n, *p) == (host, port));
                    let mut tried = deeds().filter(|(n, _)| told("trying", *n));
                    tried.any(|(_, deed)| answers(deed))
                        || snapshot.waiting_of(mac(host)).any(asked)
                }
                Deed::Decide(host, port, allow) => {
                    let said = (port, allow);
                    let mut permissions = snapshot.permissions_of(mac(host));
                    permissions.any(|it| (it.internal_port.get(), it.allow) == said)
                }
                Deed::Prolong(host, port) => {
                    let mut mappings = snapshot.mappings_of(addr(host));
                    let mapping = mappings.find(|it| it.internal_port.get() == port);
                    let end = mapping.and_then(|it| it.expires).unwrap();
                    snapshot.remaining(end, net::Clock::new().now()) > OPENED_FOR
                }
                Deed::Lease(_) | Deed::Map(..) | Deed::Release(_) | Deed::Unmap(..) => true,
            };
            assert!(is_there, "{deed:?} {:?}\n{}", self.told, self.trace);
        }
    }

    /// The ports of which the answers say whether they are open.
    fn promised(&self) -> BTreeMap<(u8, u16), bool> {
        let mut promised = BTreeMap::new();
        let told = |what: &str, n: usize| self.told.contains(&format!("{what} {n}"));
        for (n, deed) in SCRIPT
            .iter()
            .enumerate()
            .filter(|(n, _)| told("trying", *n))
        {
            let granted = told("granted", n);
            match deed {
                Deed::Ask(..) | Deed::Lease(_) | Deed::Prolong(..) => {}
                Deed::Decide(host, port, open) if granted => {
                    promised.insert((*host, *port), *open);
                }
                Deed::Decide(host, port, _) => {
                    promised.remove(&(*host, *port));
                }
                Deed::Map(host, port) if granted => {
                    promised.insert((*host, *port), true);
                }
                // a renewal that was not answered leaves the port open
                Deed::Map(host, port) => {
                    if promised.get(&(*host, *port)) != Some(&true) {
                        promised.remove(&(*host, *port));
                    }
                }
                Deed::Release(host) => {
                    promised.retain(|(owner, _), open| owner != host || (granted && !*open));
                    if granted {
                        promised.insert((*host, 9090), false);
                    }
                }
                Deed::Unmap(host, port) if granted => {
                    promised.insert((*host, *port), false);
                }
                Deed::Unmap(host, port) => {
                    promised.remove(&(*host, *port));
                }
            }
        }
        promised
    }
}

/// Tells the parent what was answered.
enum Teller {
    SendMsg(net::udp::Socket, SocketAddr),
    SendTo(UdpSocket, SocketAddr),
}

impl Teller {
    fn new(parent: SocketAddr, call: &str) -> Self {
        let local = "127.0.0.1:0".parse().unwrap();
        match call {
            "sendmsg" => {
                let options = net::udp::Options::new();
                Self::SendMsg(net::udp::Socket::bind(local, &options).unwrap(), parent)
            }
            _ => Self::SendTo(UdpSocket::bind(local).unwrap(), parent),
        }
    }

    async fn tell(&self, text: &str) {
        match self {
            Self::SendMsg(socket, parent) => {
                socket
                    .send_to(text.as_bytes(), *parent, None)
                    .await
                    .unwrap();
            }
            Self::SendTo(socket, parent) => {
                socket.send_to(text.as_bytes(), parent).unwrap();
            }
        }
    }
}

async fn play(folder: &Path, teller: Teller) {
    let Ok((handle, writer)) = start(config(folder), net::Clock::new()).await else {
        return; // nothing was answered
    };
    let cancel = CancellationToken::new();
    let running = tokio::spawn(writer.run(cancel.clone()));
    // while the disk fails it waits for a retry
    drop(tokio::time::timeout(Duration::from_millis(50), delegate(&handle)).await);
    for (n, deed) in SCRIPT.into_iter().enumerate() {
        teller.tell(&format!("trying {n}")).await;
        for _ in 0..TRIES {
            let outcome = match deed.request(&handle.snapshot()) {
                Some(request) => handle.request(request).await,
                None => break, // nothing to decide about
            };
            if let Some(bug) = deed.bug(&handle.snapshot(), &outcome) {
                teller.tell(&format!("bug {n}: {bug} {outcome:?}")).await;
            }
            if deed.is_done(&outcome) {
                teller.tell(&format!("granted {n}")).await;
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    cancel.cancel();
    let end = running.await.unwrap().is_ok();
    teller.tell(&format!("end {end}")).await;
}

pub(super) fn config(state: &Path) -> Config {
    Config {
        site: site(),
        state: state.to_owned(),
        boot_id: BootId([1; 16]),
        policy: Policy::default(),
        key: Some([7; 16]),
    }
}

/// Without a prefix no port opens.
pub(super) async fn delegate(handle: &Handle) {
    let prefix = PrefixRequest {
        delegated: "2001:db8:64::/56".parse().unwrap(),
        nsp: None,
        old_valid: DAY,
    };
    while !matches!(
        handle.request(Request::Prefix(prefix)).await,
        Outcome::Granted(_)
    ) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// How SQLite syncs depends on how it was built.
const SYNC: &str = "fdatasync,fsync";

/// What [`map_request`] asks for.
const OPENED_FOR: Duration = Duration::from_secs(3600);

/// A disk that fails once is read again within these.
const TRIES: u32 = 6;
