//! Clients that others wrote, against the whole room, each node in a namespace of its own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use mapping::{BootId, Host, Site};
use net::netlink::{Netlink, NewLink};
use net::{Clock, namespace};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;

use super::*;
use crate::wire::{Message, MessageType, Op, code};

mod clients;
mod forged;

#[test]
fn a_restarted_server_knows_its_clients() {
    let home = Home::new();
    let camera = home.join(1);
    let before = {
        let _gateway = home.start();
        camera.udhcpc("camera", &[])
    };
    camera.forget();

    let gateway = home.start();

    assert_eq!(gateway.host(camera.mac).addr.to_string(), before.get("ip"));
    assert_eq!(camera.udhcpc("camera", &[]).get("ip"), before.get("ip"));
}

#[test]
fn nothing_is_offered_while_another_server_answers() {
    let home = Home::new();
    let (other, camera) = (home.join(1), home.join(2));
    other.node.run(|| {
        // on the node's own runtime thread, until the namespace goes
        let ns = namespace::current().unwrap();
        let (ready, serving) = mpsc::channel();
        thread::spawn(move || {
            namespace::enter(ns).unwrap();
            block_on(serve_foreign(&ready));
        });
        serving.recv().unwrap();
    });

    let gateway = home.start();

    gateway.wait("the other server to be found", |gateway| {
        gateway.count("foreign_server", "") == 1
    });
    camera.discover();
    gateway.wait("the DISCOVER to be counted", |gateway| {
        gateway.count("drops_total", "foreign-server") > 0
    });
    assert_eq!(gateway.count("answers_total", "offer"), 0);
}

#[test]
fn a_taken_port_names_its_owner() {
    let home = Home::new();
    let _gateway = home.start();

    let error = home.gateway.run(|| {
        block_on(async {
            let options = Options {
                lan: "lan0".to_owned(),
                address: [192, 168, 64, 1].into(),
                config: Config::default(),
            };
            bind(&options, StdRng::seed_from_u64(1))
                .unwrap_err()
                .to_string()
        })
    });

    assert!(
        error.starts_with("cannot bind UDP 192.168.64.1:67 on lan0, which "),
        "{error}"
    );
}

/// A LAN: a bridge in the gateway's namespace.
struct Home {
    gateway: Node,
    state: TempDir,
}

impl Home {
    fn new() -> Self {
        let gateway = Node::new();
        gateway.run(|| {
            block_on(async {
                let net = Netlink::open().unwrap();
                let lan = net.add_bridge(NewLink::new("lan0")).await.unwrap();
                net.set_up(lan).await.unwrap();
                net.add_address(lan, "192.168.64.1".parse().unwrap(), 24)
                    .await
                    .unwrap();
            });
        });
        Self {
            gateway,
            state: tempfile::tempdir().unwrap(),
        }
    }

    /// Starts the gateway's writer and the room.
    fn start(&self) -> Running {
        let ns = self.gateway.run(|| namespace::current().unwrap());
        let state = self.state.path().join("state");
        let (ready, started) = mpsc::channel();
        let thread = thread::spawn(move || {
            namespace::enter(ns).unwrap();
            block_on(async move {
                let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned());
                let config = gateway::Config {
                    site: site.unwrap(),
                    state,
                    boot_id: BootId([1; 16]),
                    policy: mapping::Policy::default(),
                    key: None,
                };
                let (handle, writer) = gateway::start(config, Clock::new()).await.unwrap();
                let cancel = CancellationToken::new();
                let options = Options {
                    lan: "lan0".to_owned(),
                    address: [192, 168, 64, 1].into(),
                    config: Config::default(),
                };
                let bound = bind(&options, StdRng::seed_from_u64(1)).unwrap();
                let running = Started {
                    handle: handle.clone(),
                    observe: bound.observe(),
                    cancel: cancel.clone(),
                };
                ready.send(running).unwrap();
                let writing = tokio::spawn(writer.run(cancel.clone()));
                bound.serve(handle, cancel).await.unwrap();
                writing.await.unwrap().unwrap();
            });
        });
        let Started {
            handle,
            observe,
            cancel,
        } = started.recv().expect("the server starts");
        Running {
            handle,
            observe,
            cancel,
            thread: Some(thread),
        }
    }

    /// Makes a client with a cable to the LAN.
    fn join(&self, n: u8) -> Client {
        let node = Node::new();
        let mac = Mac([2, 0, 0, 0, 0, n]);
        let there = node.run(|| namespace::current().unwrap());
        self.gateway.run(move || {
            block_on(async {
                let net = Netlink::open().unwrap();
                let (port, far) = (format!("port{n}"), NewLink::new("eth0").mac(mac));
                net.add_veth(NewLink::new(&port), far, &there)
                    .await
                    .unwrap();
                let port = net.index(&port).await.unwrap();
                net.enslave(port, net.index("lan0").await.unwrap())
                    .await
                    .unwrap();
                net.set_up(port).await.unwrap();
            });
        });
        node.run(|| {
            block_on(async {
                let net = Netlink::open().unwrap();
                for name in ["lo", "eth0"] {
                    net.set_up(net.index(name).await.unwrap()).await.unwrap();
                }
            });
        });
        // until then the bridge drops what comes
        node.run(|| block_on(ready("eth0")));
        self.gateway.run(move || {
            block_on(async {
                ready(&format!("port{n}")).await;
                ready("lan0").await;
            });
        });
        Client {
            node,
            mac,
            folder: tempfile::tempdir().unwrap(),
        }
    }
}

struct Started {
    handle: Handle,
    observe: Arc<dyn Observe>,
    cancel: CancellationToken,
}

struct Running {
    handle: Handle,
    observe: Arc<dyn Observe>,
    cancel: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    #[track_caller]
    fn host(&self, mac: Mac) -> Arc<Host> {
        Arc::clone(self.handle.snapshot().host(mac).expect("the host is known"))
    }

    fn count(&self, name: &str, reason: &str) -> u64 {
        let counts = block_on(self.observe.counters());
        let found = counts
            .iter()
            .find(|count| count.name == name && count.reason == reason);
        found.expect("the counter is there").value
    }

    /// Everything that was counted at all.
    fn counts(&self) -> Vec<Count> {
        let mut counts = block_on(self.observe.counters());
        counts.retain(|count| count.value > 0);
        counts
    }

    #[track_caller]
    fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let clock = Clock::new();
        let deadline = clock.mono() + std::time::Duration::from_secs(60);
        while !done(self) {
            assert!(
                clock.mono() < deadline,
                "waited in vain for {what}: {:?}",
                self.counts()
            );
            block_on(clock.sleep_until(clock.mono() + std::time::Duration::from_millis(10)));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the server panicked");
        }
    }
}

/// A device on the LAN.
struct Client {
    node: Node,
    mac: Mac,
    folder: TempDir,
}

impl Client {
    #[track_caller]
    fn udhcpc(&self, name: &str, more: &[&str]) -> Event {
        let mut args = vec!["-i", "eth0", "-f", "-q", "-n", "-t", "60", "-T", "1", "-s"];
        let (script, name) = (self.script(), format!("hostname:{name}"));
        args.extend([script.to_str().unwrap(), "-x", &name]);
        args.extend(["-O", "router", "-O", "dns", "-O", "broadcast"]);
        args.extend(more);
        self.command("udhcpc", &args);
        self.event("bound")
    }

    #[track_caller]
    fn udhcpc_daemon(&self) -> Event {
        let (script, pid) = (self.script(), self.path("pid"));
        let files = ["-s", script.to_str().unwrap(), "-p", pid.to_str().unwrap()];
        let args = [["-i", "eth0", "-n", "-R"], ["-t", "60", "-T", "1"], files].concat();
        self.command("udhcpc", &args);
        self.event("bound")
    }

    #[track_caller]
    fn dhclient(&self, more: &[&str], event: &str) -> Event {
        let config = self.path("dhclient.conf");
        fs::write(&config, "send host-name \"nas\";\ninitial-interval 1;\n").unwrap();
        let (leases, pid, script) = (self.path("leases"), self.path("pid"), self.script());
        let mut args = vec!["-4", "-v", "-cf", config.to_str().unwrap()];
        args.extend([
            "-lf",
            leases.to_str().unwrap(),
            "-pf",
            pid.to_str().unwrap(),
        ]);
        args.extend(["-sf", script.to_str().unwrap()]);
        args.extend(more);
        args.push("eth0");
        self.command("dhclient", &args);
        self.event(event)
    }

    /// Ends the client that went into the background, and waits until it has ended.
    fn stop(&self) {
        // udhcpc writes its parent's at first; the daemon's comes after the parent has ended
        let pid = self.wait("a pid file", || self.daemon());
        fs::remove_file(self.path("pid")).unwrap();
        self.command("kill", &[&pid]);
        self.wait("its end", || (!self.runs(&pid)).then_some(()));
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let clock = Clock::new();
        let deadline = clock.mono() + std::time::Duration::from_secs(60);
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(clock.mono() < deadline, "waited in vain for {what}");
            block_on(clock.sleep_until(clock.mono() + std::time::Duration::from_millis(10)));
        }
    }

    /// The process that the pid file names, if it runs.
    fn daemon(&self) -> Option<String> {
        let pid = fs::read_to_string(self.path("pid")).ok()?;
        let pid = pid.strip_suffix('\n')?.to_owned();
        self.runs(&pid).then_some(pid)
    }

    /// Whether a process is a client of ours and no other that got its number since.
    fn runs(&self, pid: &str) -> bool {
        let own = self.path("pid");
        // of a process that nobody waited for it is empty
        fs::read(Path::new("/proc").join(pid).join("cmdline")).is_ok_and(|line| {
            line.split(|byte| *byte == 0)
                .any(|arg| Path::new(OsStr::from_bytes(arg)) == own)
        })
    }

    /// Its state lies in fixed folders, so it gets others of its own.
    #[track_caller]
    fn dhcpcd(&self) -> Event {
        let line = format!(
            "mount -t tmpfs none /var/lib/dhcpcd && mount -t tmpfs none /run && mkdir -p \
             /run/dhcpcd && exec dhcpcd -4 -1 -B -t 90 -h pump -f /dev/null --nolink \
             -o domain_name -c {} eth0",
            self.script().display()
        );
        self.command("unshare", &["-m", "sh", "-c", &line]);
        self.event("BOUND")
    }

    /// Broadcasts one DISCOVER.
    fn discover(&self) {
        let mac = self.mac;
        self.node.run(move || {
            block_on(async {
                let mut options = crate::wire::Options::default();
                options.set(code::MESSAGE_TYPE, [MessageType::Discover.into()]);
                let bytes = message(Op::BootRequest, mac, options).emit(&[], 548);
                let socket = PacketSocket::open("eth0", Hears::Nothing).unwrap();
                let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT);
                let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
                socket.send_udp(EVERYBODY, from, to, &bytes).await.unwrap();
            });
        });
    }

    /// Loses its address and what its scripts wrote.
    fn forget(&self) {
        self.command("ip", &["-4", "addr", "flush", "dev", "eth0"]);
        for file in fs::read_dir(self.folder.path()).unwrap().flatten() {
            if file
                .path()
                .extension()
                .is_some_and(|extension| extension == "event")
            {
                fs::remove_file(file.path()).unwrap();
            }
        }
    }

    #[track_caller]
    fn command(&self, program: &str, args: &[&str]) {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let shown = format!("{program} {}", args.join(" "));
        let mut command = Command::new("timeout");
        command.arg("100").arg(program).args(args);
        let output = self.node.run(move || command.output().unwrap());
        assert!(output.status.success(), "{shown}: {output:?}");
    }

    /// Writes down every event with its variables and sets the address; serves all clients.
    fn script(&self) -> PathBuf {
        let path = self.path("script");
        let text = format!(
            "#!/bin/sh\n\
             PATH=$PATH:/usr/sbin:/sbin\n\
             addr=\"${{ip:-$new_ip_address}}\"\n\
             [ -n \"$addr\" ] && ip addr replace \"$addr/24\" dev \"$interface\"\n\
             env > \"{}/${{1:-$reason}}.event\"\n\
             exit 0\n",
            self.folder.path().display()
        );
        fs::write(&path, text).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, executable).unwrap();
        path
    }

    #[track_caller]
    fn event(&self, name: &str) -> Event {
        let path = self.path(&format!("{name}.event"));
        let there: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .flatten()
            .collect();
        Event(fs::read_to_string(path).unwrap_or_else(|_| panic!("no {name} in {there:?}")))
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(pid) = self.daemon() {
            let killed = Command::new("kill").arg(pid).status();
            assert!(killed.is_ok() || thread::panicking(), "{killed:?}");
        }
    }
}

/// Waits until an interface of the namespace carries packets.
async fn ready(name: &str) {
    let net = Netlink::open().unwrap();
    let index = net.index(name).await.unwrap();
    let patience = std::time::Duration::from_secs(60);
    net.wait_ready(index, patience).await.unwrap();
}

/// The variables that a client gave to its script.
struct Event(String);

impl Event {
    #[track_caller]
    fn get(&self, key: &str) -> &str {
        let value = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {key} in {}", self.0))
    }
}

/// A thread with a network namespace of its own.
struct Node(mpsc::Sender<Box<dyn FnOnce() + Send>>);

impl Node {
    fn new() -> Self {
        let (jobs, todo) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (ready, made) = mpsc::channel();
        thread::spawn(move || {
            let made = namespace::unshare_network();
            if made.is_ok() {
                // nobody else is there whose address could be a duplicate
                net::sysctl::write("ipv6/conf/default/accept_dad", "0").unwrap();
            }
            ready.send(made).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        if let Err(error) = made.recv().unwrap() {
            panic!("{error}");
        }
        Self(jobs)
    }

    #[track_caller]
    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = move || drop(done.send(job()));
        self.0.send(Box::new(job)).expect("the node lives");
        result.recv().expect("the job ends")
    }
}

/// Answers every DISCOVER, as a router would that somebody plugged in.
async fn serve_foreign(ready: &mpsc::Sender<()>) {
    let options = net::udp::Options::new().device("eth0").broadcast();
    let socket = net::udp::Socket::bind("0.0.0.0:67".parse().unwrap(), &options).unwrap();
    ready.send(()).unwrap();
    let mut buf = [0; 1500];
    loop {
        let datagram = socket.recv(&mut buf).await.unwrap();
        let mut reply = Message::parse(&buf[..datagram.len]).unwrap();
        reply.op = Op::BootReply;
        reply
            .options
            .set(code::MESSAGE_TYPE, [MessageType::Offer.into()]);
        reply.options.set(code::SERVER_ID, [192, 168, 64, 254]);
        let to = SocketAddr::from((Ipv4Addr::BROADCAST, CLIENT_PORT));
        socket
            .send_to(&reply.emit(&[], 548), to, None)
            .await
            .unwrap();
    }
}

fn message(op: Op, mac: Mac, options: crate::wire::Options) -> Message {
    let mut chaddr = [0; 16];
    chaddr[..6].copy_from_slice(&mac.0);
    let zero = Ipv4Addr::UNSPECIFIED;
    let (htype, hlen, xid, flags) = (1, 6, 1, 0);
    let (ciaddr, yiaddr, giaddr) = (zero, zero, zero);
    Message {
        op,
        htype,
        hlen,
        xid,
        flags,
        ciaddr,
        yiaddr,
        giaddr,
        chaddr,
        options,
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}
