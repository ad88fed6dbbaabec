//! The daemon: starts the rooms, joins them, ends them in order.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use dashboard::{Context, Dashboard, Listeners, RoomState, Rooms};
use gateway::{Handle, Observe};
use mapping::Site;
use net::Clock;
use net::listen::Listener;
use rand::rngs::{StdRng, SysRng};
use rand::{SeedableRng as _, TryRng as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Config, Roles};

mod interfaces;
mod supervisor;

use supervisor::Supervisor;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the daemon cannot start, or a part of it ended by itself.
pub fn run(config: Config) -> anyhow::Result<()> {
    let inherited = net::listen::inherited()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .build()?;
    runtime.block_on(serve(config, inherited))
}

/// Half of the processors, since packets and the store have threads of their own; with one worker
/// a request passes from room to room without waking another thread, which costs more than the
/// second one brings where there are two processors.
fn workers() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    (processors / 2).max(1)
}

async fn serve(config: Config, inherited: Vec<Listener>) -> anyhow::Result<()> {
    let clock = Clock::new();
    let site = match &config.roles {
        Some(roles) => interfaces::settle(&config, roles).await?,
        None => interfaces::first_site(&config)?,
    };
    let (handle, writer) = gateway::start(
        gateway::Config {
            site: site.clone(),
            state: config.state.clone(),
            boot_id: net::boot_id()?,
            policy: config.policy.clone(),
            key: None,
        },
        clock,
    )
    .await?;
    // a daemon that is there already is found out before anything of the network is touched
    let unix = listen(&config.socket)?;
    let mut daemon = Daemon {
        supervisor: Supervisor::default(),
        handle: handle.clone(),
        rooms: Rooms::default(),
        observers: vec![handle.observer()],
        resolvers: watch::channel(config.dns.resolvers.clone()).0,
    };
    let stop = stop_signal()?;
    if let Some(roles) = &config.roles {
        daemon.start_followers(&config, roles, &site)?;
    }
    daemon
        .supervisor
        .writer()
        .spawn("gateway", |token| writer.run(token));
    // what was open passes and resolves again before anybody is answered
    daemon.supervisor.until(handle.settled()).await?;
    match &config.roles {
        Some(roles) => daemon.start_requesters(&config, roles, &site).await?,
        None => observe().await?,
    }
    daemon.start_dashboard(&config, unix, inherited)?;
    tracing::info!("ready");
    daemon.supervisor.run(stop).await
}

/// The parts that are running.
struct Daemon {
    supervisor: Supervisor,
    handle: Handle,
    rooms: Rooms,
    observers: Vec<Arc<dyn Observe>>,
    resolvers: watch::Sender<Vec<SocketAddr>>,
}

impl Daemon {
    fn start_followers(
        &mut self,
        config: &Config,
        roles: &Roles,
        site: &Site,
    ) -> anyhow::Result<()> {
        self.start_translator(config, roles)?;
        self.start_dns(config, roles, site)
    }

    async fn start_requesters(
        &mut self,
        config: &Config,
        roles: &Roles,
        site: &Site,
    ) -> anyhow::Result<()> {
        let ifindex = net::netlink::Netlink::open()?.index(&roles.lan).await?;
        self.start_wan(config, roles)?;
        self.start_upstream(config, roles)?;
        self.start_dhcp(config, roles)?;
        self.start_pcp(config, roles);
        self.start_upnp(config, roles, ifindex, site)
    }

    fn start_translator(&mut self, config: &Config, roles: &Roles) -> anyhow::Result<()> {
        let settings = translator::Settings {
            tun: TUN.to_owned(),
            lan: roles.lan.clone(),
            wan: roles.wan.clone(),
            config: config.translator.clone(),
            key: random()?,
            keep: config.keep.clone(),
        };
        let (observer, inbox) = translator::Observer::new();
        let handle = &self.handle;
        self.supervisor.followers().spawn("translator", |token| {
            translator::run(settings, handle, inbox, token)
        });
        self.serving("translator", Arc::new(observer));
        Ok(())
    }

    fn start_dns(&mut self, config: &Config, roles: &Roles, site: &Site) -> anyhow::Result<()> {
        let parent = config.dns.parent.as_ref().map(parent).transpose()?;
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, DNS_PORT));
        let lan = SocketAddr::new(IpAddr::V4(site.gateway()), DNS_PORT);
        let dns = dns::bind(dns::Config {
            lan: vec![dns::Endpoint {
                addr: lan,
                device: Some(roles.lan.clone()),
            }],
            wan: vec![dns::Endpoint {
                addr: any,
                device: Some(roles.wan.clone()),
            }],
            ttl: config.dns.ttl,
            resolvers: self.resolvers.subscribe(),
            parent,
            seed: random()?,
        });
        let Some(dns) = self.started("dns", dns) else {
            return Ok(());
        };
        self.serving("dns", dns.observe());
        let handle = &self.handle;
        self.supervisor
            .followers()
            .spawn("dns", |token| dns.serve(handle, token));
        Ok(())
    }

    fn start_wan(&mut self, config: &Config, roles: &Roles) -> anyhow::Result<()> {
        let wan = wan::bind(&wan::Options {
            wan: roles.wan.clone(),
            prefix: config.prefix.map(|prefix| (prefix, config.nsp)),
        })?;
        self.serving("wan", wan.observe());
        let handle = self.handle.clone();
        self.supervisor
            .requesters()
            .spawn("wan", |token| wan.serve(handle, token));
        Ok(())
    }

    /// It follows and never gates, so it may come after the others.
    fn start_upstream(&mut self, config: &Config, roles: &Roles) -> anyhow::Result<()> {
        if config.upstream == upstream::Mode::Off {
            self.rooms.set("upstream", RoomState::Off);
            return Ok(());
        }
        let options = upstream::Options {
            wan: roles.wan.clone(),
            mode: config.upstream,
            secret: self.handle.snapshot().secret("upstream"),
        };
        let upstream = upstream::bind(options, StdRng::from_seed(random()?));
        let Some(upstream) = self.started("upstream", upstream) else {
            return Ok(());
        };
        self.serving("upstream", upstream.observe());
        // it follows snapshots but gates nothing, so it ends before the writer does
        let handle = self.handle.clone();
        self.supervisor
            .requesters()
            .spawn("upstream", |token| upstream.serve(handle, token));
        Ok(())
    }

    fn start_dhcp(&mut self, config: &Config, roles: &Roles) -> anyhow::Result<()> {
        let options = dhcp::Options {
            lan: roles.lan.clone(),
            address: self.handle.snapshot().site().gateway(),
            config: dhcp::Config {
                lease_lifetime: config.lease,
            },
        };
        let dhcp = dhcp::bind(&options, StdRng::from_seed(random()?));
        let Some(dhcp) = self.started("dhcp", dhcp) else {
            return Ok(());
        };
        self.serving("dhcp", dhcp.observe());
        let handle = self.handle.clone();
        self.supervisor
            .requesters()
            .spawn("dhcp", |token| dhcp.serve(handle, token));
        Ok(())
    }

    /// One port serves both protocols.
    fn start_pcp(&mut self, config: &Config, roles: &Roles) {
        let dialects = match (config.protocols.pcp, config.protocols.nat_pmp) {
            (true, true) => pcp::Dialects::Both,
            (true, false) => pcp::Dialects::Pcp,
            (false, true) => pcp::Dialects::NatPmp,
            (false, false) => {
                self.rooms.set("pcp", RoomState::Off);
                return;
            }
        };
        let config = pcp::Config {
            interface: roles.lan.clone(),
            settings: pcp::Settings {
                dialects,
                limits: natpmp::Limits::default(),
                map: config.protocols.pcp_map,
                peer: config.protocols.pcp_peer,
                third_party: config.protocols.pcp_third_party,
                ..pcp::Settings::default()
            },
        };
        let listener = pcp::Listener::bind(&config, self.handle.clone());
        let Some(listener) = self.started("pcp", listener) else {
            return;
        };
        for observer in listener.observers() {
            self.observers.push(Arc::new(observer));
        }
        self.rooms.set("pcp", RoomState::Serving);
        self.supervisor
            .requesters()
            .spawn("pcp", |token| listener.serve(token));
    }

    fn start_upnp(
        &mut self,
        config: &Config,
        roles: &Roles,
        ifindex: u32,
        site: &Site,
    ) -> anyhow::Result<()> {
        if !config.protocols.upnp {
            self.rooms.set("upnp", RoomState::Off);
            return Ok(());
        }
        let secret = self.handle.snapshot().secret("upnp");
        let mut options = upnp::Options {
            lan: roles.lan.clone(),
            ifindex,
            wan: roles.wan.clone(),
            // nothing carries any
            pinholes: None,
            address: site.gateway(),
            http_port: dynamic_port(secret),
            identity: upnp::Identity::new(secret),
        };
        let mut upnp = upnp::bind(&options, StdRng::from_seed(random()?));
        if matches!(upnp, Err(upnp::StartError::Tcp(_))) {
            options.http_port = 0;
            upnp = upnp::bind(&options, StdRng::from_seed(random()?));
        }
        let Some(upnp) = self.started("upnp", upnp) else {
            return Ok(());
        };
        self.serving("upnp", upnp.observe());
        let handle = self.handle.clone();
        self.supervisor
            .requesters()
            .spawn("upnp", |token| upnp.serve(handle, token));
        Ok(())
    }

    /// The API comes last: who is answered finds everything else started.
    fn start_dashboard(
        &mut self,
        config: &Config,
        unix: UnixListener,
        inherited: Vec<Listener>,
    ) -> anyhow::Result<()> {
        let mut tcp = Vec::new();
        for listener in inherited {
            match listener {
                Listener::Tcp(listener) => tcp.push(listener),
                Listener::Unix(_) => {
                    anyhow::bail!("a Unix listener was handed over; only TCP ones are taken")
                }
            }
        }
        for addr in &config.dashboard {
            if let Some(listener) = self.started("dashboard", net::tcp::listen_std(*addr, None)) {
                tcp.push(listener);
            }
        }
        let roles = config.roles.as_ref();
        let pool = config.translator.pool.iter();
        let pool = pool.map(|range| format!("{}/{}", range.network(), range.prefix_len()));
        let context = Context {
            handle: self.handle.clone(),
            observers: self.observers.clone(),
            rooms: self.rooms.clone(),
            version: env!("CARGO_PKG_VERSION"),
            started: self.handle.now().mono,
            lan_interface: roles.map(|roles| roles.lan.clone()),
            wan_interface: roles.map(|roles| roles.wan.clone()),
            pool: pool.collect(),
        };
        let serve = async move |token| {
            Dashboard::new(context, Listeners { unix, tcp }, token)?
                .serve()
                .await;
            anyhow::Ok(())
        };
        self.supervisor.requesters().spawn("dashboard", serve);
        Ok(())
    }

    /// A part whose port is taken says so, and the rest starts.
    fn started<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        room: &'static str,
        started: Result<T, E>,
    ) -> Option<T> {
        match started {
            Ok(started) => Some(started),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(room, "cannot start {room}: {error}");
                self.rooms.set(room, RoomState::Failed(error));
                None
            }
        }
    }

    fn serving(&mut self, room: &'static str, observer: Arc<dyn Observe>) {
        self.rooms.set(room, RoomState::Serving);
        self.observers.push(observer);
    }
}

/// Opens the socket of the API.
fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    match net::listen::unix(socket, SOCKET_MODE) {
        Err(error) if error.source.kind() == std::io::ErrorKind::AddrInUse => {
            let socket = socket.display();
            anyhow::bail!(
                "another daemon answers at {socket}, or something is there that is no socket"
            )
        }
        opened => Ok(opened?),
    }
}

async fn observe() -> anyhow::Result<()> {
    tracing::warn!("observing: choose lan.interface and wan.interface in the configuration");
    for interface in interfaces::found().await? {
        tracing::info!("found {interface}");
    }
    Ok(())
}

fn parent(parent: &crate::config::Parent) -> anyhow::Result<dns::ParentConfig> {
    let name = |text: &str| {
        text.parse()
            .with_context(|| format!("cannot use the name {text} of dns.parent"))
    };
    Ok(dns::ParentConfig {
        server: parent.server,
        zone: name(&parent.zone)?,
        name_server: Some(name(&parent.ns_name)?),
        key: dns::load_key(&parent.tsig_key_file)?,
    })
}

pub(crate) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    })
}

/// A port of the dynamic range (RFC 6335 §6) that stays the same over restarts, so that a control
/// point may keep a URL.
fn dynamic_port(secret: [u8; 16]) -> u16 {
    let [.., high, low] = secret;
    DYNAMIC_PORTS | (u16::from_be_bytes([high, low]) >> 2)
}

/// The machines' seeds; they own what they make of them.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng
        .try_fill_bytes(&mut bytes)
        .context("the operating system gives no randomness")?;
    Ok(bytes)
}

/// The name of the translator's device.
const TUN: &str = "portico%d";

const DNS_PORT: u16 = 53;

/// 49152 to 65535.
const DYNAMIC_PORTS: u16 = 0xc000;

/// Root and the daemon's group.
const SOCKET_MODE: u32 = 0o660;
