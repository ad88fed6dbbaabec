//! The peers, each with a gateway and sixteen clients of its own.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lab::http::Api;
use lab::{Node, Switch, cable};
use mapping::{LeaseRequest, Mac, Outcome, Policy, PortClass, Request, Site as Lan};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use crate::dialect::{Control, Dialect, Port, Protocol, Wish};
use crate::disk::Slowed;
use crate::load::{self, Script};
use crate::support::{self, inside};

/// Who answers the clients.
#[derive(Debug, Clone)]
pub enum Peer {
    /// As Debian ships it; what it grants is not durable.
    Miniupnpd(PathBuf),
    /// A build of ours, with its name in the tables.
    Portico(String, PathBuf),
}

impl Peer {
    pub fn name(&self) -> &str {
        match self {
            Self::Miniupnpd(_) => MINIUPNPD,
            Self::Portico(name, _) => name,
        }
    }

    pub const fn is_portico(&self) -> bool {
        matches!(self, Self::Portico(..))
    }
}

/// A peer in its place, with so many mappings. Everything vanishes with the value.
#[derive(Debug)]
pub struct Site {
    pub peer: Peer,
    /// How many mappings stand there while nobody asks.
    pub level: usize,
    pub clients: Vec<Node>,
    /// A neighbour without a lease.
    pub neighbour: Node,
    pub control: Control,
    /// What its process held in memory before there was any mapping, in KiB.
    pub empty_kib: f64,
    gateway: Node,
    _provider: Node,
    program: Program,
    preload: Option<PathBuf>,
    folder: TempDir,
}

#[derive(Debug)]
enum Program {
    Child(Child),
    /// It left us; its number stands in the file.
    Daemon(PathBuf),
}

impl Site {
    pub async fn build(
        peer: &Peer,
        level: usize,
        parent: &Path,
        slowed: Option<&Slowed>,
    ) -> Result<Self> {
        let preload = slowed.map(|slowed| slowed.library.clone());
        let folder = tempfile::tempdir_in(parent)?;
        let gateway = Node::new("gateway")?;
        let provider = Node::new("provider")?;
        cable(gateway.end("wan"), provider.end("eth0")).await?;
        let switch = Switch::inside(&gateway, "lan").await?;
        gateway
            .netlink()
            .set_up(gateway.netlink().index("lan").await?)
            .await?;
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let node = Node::new(&format!("client {number}"))?;
            switch.plug(node.end("eth0").mac(mac(number))).await?;
            clients.push(node);
        }
        let neighbour = Node::new("neighbour")?;
        switch.plug(neighbour.end("eth0")).await?;
        gateway.add_address("lan", &format!("{GATEWAY}/16")).await?;
        gateway.add_address("wan", "2001:db8:0:12::7f/64").await?;
        // an address that miniupnpd takes for a public one
        gateway.add_address("wan", "5.5.5.1/24").await?;
        gateway.forward().await?;
        for (number, node) in clients.iter().enumerate() {
            let address = format!("{}/16", addr(number));
            node.add_address("eth0", &address).await?;
            node.add_route("0.0.0.0/0", &GATEWAY.to_string(), None)
                .await?;
        }
        let program = match peer {
            Peer::Miniupnpd(path) => start_miniupnpd(path, &gateway, folder.path()).await?,
            Peer::Portico(_, path) => {
                grant_leases(folder.path()).await?;
                fs::write(folder.path().join(CONFIG), portico_conf(folder.path()))?;
                start_portico(path, &gateway, folder.path(), preload.as_deref()).await?
            }
        };
        let first = clients.first().context("there are clients")?;
        let control = inside(first, discover)?;
        let mut site = Self {
            peer: peer.clone(),
            level,
            clients,
            neighbour,
            control,
            empty_kib: 0.0,
            gateway,
            _provider: provider,
            program,
            preload,
            folder,
        };
        site.empty_kib = site.resident_kib()?;
        site.fill()?;
        Ok(site)
    }

    /// Its name in the tables.
    pub fn title(&self) -> String {
        format!("{}@{}", self.peer.name(), self.level)
    }

    /// The ports that stand open for a dialect while nobody asks: those that a client renews.
    pub fn held(&self, client: usize, dialect: Dialect) -> Vec<Port> {
        let level = self.level.max(LEAST);
        let own = |kind: usize| {
            let protocol = if kind.is_multiple_of(2) {
                Protocol::Udp
            } else {
                Protocol::Tcp
            };
            let places = (kind..level / CLIENTS).step_by(KINDS);
            places.map(move |place| Port {
                protocol,
                number: filler(client, place),
            })
        };
        match dialect {
            Dialect::Pcp => own(0).chain(own(1)).collect(),
            Dialect::NatPmp => own(2).collect(),
            Dialect::Upnp | Dialect::UpnpKept => own(3).collect(),
        }
    }

    /// Ports that no client uses yet.
    pub fn fresh(client: usize, dialect: Dialect) -> impl Iterator<Item = Port> {
        let protocol = match dialect {
            Dialect::Pcp | Dialect::NatPmp => Protocol::Udp,
            Dialect::Upnp | Dialect::UpnpKept => Protocol::Tcp,
        };
        (0..FRESH).map(move |place| Port {
            protocol,
            number: number(client, place),
        })
    }

    /// Opens what shall stand there, by the protocols themselves.
    fn fill(&self) -> Result<()> {
        for dialect in [Dialect::Pcp, Dialect::NatPmp, Dialect::UpnpKept] {
            let script = |client| Script {
                dialect,
                wish: Wish::Open(LIFETIME),
                ports: self.held(client, dialect),
                window: WINDOW,
                until: None,
            };
            load::together(&self.clients, &self.control, script)
                .with_context(|| format!("{}: cannot fill by {}", self.title(), dialect.name()))?;
        }
        Ok(())
    }

    pub fn pid(&self) -> Result<u32> {
        match &self.program {
            Program::Child(child) => child.id().context("the program has ended"),
            Program::Daemon(file) => Ok(fs::read_to_string(file)?.trim().parse()?),
        }
    }

    /// The memory of its process that is in use, in KiB.
    pub fn resident_kib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context("no VmRSS")?.parse()?)
    }

    /// The processor time that its process has used.
    pub fn processor_time(&self) -> Result<Duration> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.pid()?.cast_signed()))?;
        Ok(clock_gettime(clock)?.into())
    }

    /// Portico's counters of its writer by name.
    pub async fn count(&self, name: &str) -> Result<f64> {
        let page: serde_json::Value = self.api().get("/api/v1/counters").await?;
        let items = page["items"].as_array().into_iter().flatten();
        let mut items = items.filter(|it| it["room"] == "gateway" && it["name"] == name);
        let value = items.next().and_then(|it| it["value"].as_f64());
        value.with_context(|| format!("no counter {name}"))
    }

    /// What lies in the state folder, in MiB.
    pub fn store_mib(&self) -> Result<f64> {
        let mut sum = 0;
        for name in ["portico.db", "portico.db-wal"] {
            sum += match fs::metadata(self.folder.path().join("state").join(name)) {
                Ok(file) => file.len(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error.into()),
            };
        }
        Ok(f64::from(u32::try_from(sum >> 10)?) / 1024.0)
    }

    /// Kills Portico as a power cut does and starts it again; returns when the first request was
    /// granted.
    pub async fn restart(&mut self) -> Result<Duration> {
        let Peer::Portico(_, path) = self.peer.clone() else {
            bail!("only Portico is started again");
        };
        if let Program::Child(child) = &mut self.program {
            child.kill().await?;
        }
        let begun = Instant::now();
        let preload = self.preload.as_deref();
        let child = spawn_portico(&path, &self.gateway, self.folder.path(), preload).await?;
        self.program = Program::Child(child);
        let ports = self.held(0, Dialect::Pcp);
        let port = *ports.first().context("a port to renew")?;
        let node = self.clients.first().context("a client")?;
        inside(node, || first_grant(port, begun))?;
        let took = begun.elapsed();
        wait_ready(&self.api(), &mut self.program).await?;
        Ok(took)
    }

    fn api(&self) -> Api {
        Api::unix(&self.folder.path().join("api.sock"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let (Program::Daemon(_), Ok(pid)) = (&self.program, self.pid()) {
            // it may have ended by itself
            drop(net::process::terminate(pid));
        }
    }
}

/// The address of a client.
pub fn addr(client: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 64, 1, 1 + u8::try_from(client).unwrap_or(u8::MAX))
}

fn mac(client: usize) -> Mac {
    Mac([2, 0, 0, 0, 1, u8::try_from(client).unwrap_or(u8::MAX)])
}

/// No two clients share a port: miniupnpd has one name space of them.
fn number(client: usize, place: usize) -> u16 {
    u16::try_from(LOWEST + (client * SPREAD + place) % (CLIENTS * SPREAD)).unwrap_or(u16::MAX)
}

/// A place of a port that stands open, above the fresh ones.
fn filler(client: usize, place: usize) -> u16 {
    number(client, FRESH + place / 2)
}

/// Asks until Portico grants a renewal.
fn first_grant(port: Port, begun: Instant) -> Result<()> {
    let socket = UdpSocket::bind((addr(0), 0))?;
    socket.connect((GATEWAY, load::PORT))?;
    socket.set_read_timeout(Some(Duration::from_millis(2)))?;
    let wish = Wish::Open(LIFETIME);
    let request = crate::dialect::datagram(Dialect::Pcp, addr(0), port, wish);
    let mut buf = [0; 1200];
    while begun.elapsed() < PATIENCE {
        // nobody listens yet: that is an error of the next call, and no reason to end
        let asked = socket.send(&request).and_then(|_| socket.recv(&mut buf));
        match asked {
            Ok(len) => {
                let answer = buf.get(..len).context("a short buffer")?;
                crate::dialect::granted(Dialect::Pcp, answer)?;
                return Ok(());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    bail!("nothing is granted after {PATIENCE:?}")
}

/// Finds the control URL as a control point does.
fn discover() -> Result<Control> {
    let socket = UdpSocket::bind((addr(0), 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let begun = Instant::now();
    let mut buf = [0; 2048];
    while begun.elapsed() < PATIENCE {
        socket.send_to(SEARCH.as_bytes(), ("239.255.255.250", 1900))?;
        let Ok(len) = socket.recv(&mut buf) else {
            continue;
        };
        let text = String::from_utf8_lossy(buf.get(..len).unwrap_or_default());
        let location = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location").then(|| value.trim())
        });
        return Control::read(location.context("no LOCATION")?);
    }
    bail!("no gateway answers a search")
}

/// Finds Debian's miniupnpd, or installs it.
pub fn miniupnpd_of_debian() -> Result<PathBuf> {
    let packages = ["miniupnpd-nftables", "nftables"];
    support::of_debian("/usr/sbin/miniupnpd", &packages)
}

async fn start_miniupnpd(path: &Path, gateway: &Node, folder: &Path) -> Result<Program> {
    gateway.command("nft").arg(NFT).text().await?;
    let config = folder.join("miniupnpd.conf");
    let leases = folder.join("leases");
    fs::write(
        &config,
        format!("{MINIUPNPD_CONF}lease_file={}\n", leases.display()),
    )?;
    let file = folder.join("miniupnpd.pid");
    let output = gateway
        .command(path)
        .arg("-f")
        .arg(&config)
        .arg("-P")
        .arg(&file)
        .output()
        .await?;
    ensure!(output.status.success(), "miniupnpd: {}", output.status);
    let begun = Instant::now();
    while !file.exists() {
        ensure!(begun.elapsed() < PATIENCE, "miniupnpd does not start");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(Program::Daemon(file))
}

/// Gives the clients their leases, as DHCP would, before the program starts.
async fn grant_leases(folder: &Path) -> Result<()> {
    let config = gateway::Config {
        site: Lan::new(GATEWAY, 16, ZONE.to_owned())?,
        state: folder.join("state"),
        boot_id: net::boot_id()?,
        policy: Policy {
            auto_allow: PortClass::All,
            max_per_device: u32::MAX,
            ..Policy::default()
        },
        key: None,
    };
    let (handle, writer) = gateway::start(config, net::Clock::new()).await?;
    let cancel = CancellationToken::new();
    let running = tokio::spawn(writer.run(cancel.clone()));
    for client in 0..CLIENTS {
        let lease = LeaseRequest {
            mac: mac(client),
            addr: addr(client),
            lifetime: Duration::from_secs(86_400),
            declared_name: None,
        };
        let outcome = handle.request(Request::Lease(lease)).await;
        ensure!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
    }
    cancel.cancel();
    Ok(running.await??)
}

async fn start_portico(
    path: &Path,
    gateway: &Node,
    folder: &Path,
    preload: Option<&Path>,
) -> Result<Program> {
    let mut program = Program::Child(spawn_portico(path, gateway, folder, preload).await?);
    wait_ready(&Api::unix(&folder.join("api.sock")), &mut program)
        .await
        .with_context(|| fs::read_to_string(folder.join("log")).unwrap_or_default())?;
    Ok(program)
}

async fn spawn_portico(
    path: &Path,
    gateway: &Node,
    folder: &Path,
    preload: Option<&Path>,
) -> Result<Child> {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    let mut command = gateway
        .command(path)
        .arg("run")
        .arg("-c")
        .arg(folder.join(CONFIG))
        .env_remove("PORTICO_STATE")
        .env_remove("PORTICO_SOCKET")
        .stdout(log.try_clone()?)
        .stderr(log);
    if let Some(library) = preload {
        command = command.env("LD_PRELOAD", library);
    }
    command.spawn().await
}

/// The API comes last: whoever reaches it finds everything else started.
async fn wait_ready(api: &Api, program: &mut Program) -> Result<()> {
    let begun = Instant::now();
    while api
        .get::<serde_json::Value>("/api/v1/status")
        .await
        .is_err()
    {
        if let Program::Child(child) = program
            && let Some(status) = child.try_wait()?
        {
            bail!("portico ended with {status}");
        }
        ensure!(begun.elapsed() < PATIENCE, "portico is not ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn portico_conf(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[daemon]\nstate = \"{folder}/state\"\nsocket = \"{folder}/api.sock\"\n\
         [lan]\ninterface = \"lan\"\nsubnet = \"10.64.0.0/16\"\n\
         [wan]\ninterface = \"wan\"\nmode = \"static\"\nprefix = \"2001:db8:64::/56\"\n\
         [dns]\nzone = \"{ZONE}\"\n\
         [policy]\nauto_allow = \"all\"\nmax_per_device = {}\n\
         [dashboard]\nlisten = []\n",
        u32::MAX
    )
}

pub const MINIUPNPD: &str = "miniupnpd";

/// As many as the goals speak of.
pub const CLIENTS: usize = 16;

pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);

/// Longer than a run, shorter than every limit.
pub const LIFETIME: u32 = 7200;

/// For filling: no request waits for the answer to the one before.
const WINDOW: usize = 32;

/// What there is to renew where nothing else stands.
const LEAST: usize = 16 * CLIENTS;

/// PCP has two of four places, NAT-PMP and UPnP one each.
const KINDS: usize = 4;

/// Places of a client's own ports for new mappings.
pub const FRESH: usize = 3000;

const SPREAD: usize = 3400;

/// Above the ports that the policy rejects.
const LOWEST: usize = 10_000;

const ZONE: &str = "home.example";

const CONFIG: &str = "portico.toml";

const SEARCH: &str = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\
    MAN: \"ssdp:discover\"\r\nMX: 1\r\nST: urn:schemas-upnp-org:service:WANIPConnection:1\r\n\r\n";

const NFT: &str = "table inet filter {
    chain miniupnpd { }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
    chain forward { type filter hook forward priority 0; policy accept; jump miniupnpd; }
    chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
    chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; }
}";

const MINIUPNPD_CONF: &str = "ext_ifname=wan
listening_ip=lan
http_port=5000
enable_natpmp=yes
enable_upnp=yes
min_lifetime=120
max_lifetime=86400
secure_mode=yes
uuid=c7e53685-8a80-4296-aee5-47d94f2bf86a
allow 1024-65535 10.64.0.0/16 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
";

const PATIENCE: Duration = Duration::from_secs(20);
