//! A home, its provider and somebody on the Internet, cabled up and running.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use crab_nat::PortMapping;
use hickory_proto::rr::RecordType;
use igd_next::aio::Gateway;
use igd_next::aio::tokio::Tokio;
use mapping::Mac;
use net::netlink::{Lifetimes, Route};
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::device::Device;
use crate::dns::{self, Addresses};
use crate::http::{self, Api};
use crate::plan::{self, Delegation, ETH, LAN, WAN};
use crate::provider::tsig::Key;
use crate::provider::{Provider, Role};
use crate::{Node, Switch, cable, dhcp};

/// What a home is to be like.
#[derive(Debug)]
pub struct Plan {
    program: PathBuf,
    residents: Vec<String>,
    config: String,
    lan_mtu: u32,
    wan_mtu: u32,
    gro: bool,
    dashboard: Option<TcpListener>,
    foreign_provider: bool,
}

impl Plan {
    /// A home with the usual servers, whose gateway runs `program run`.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            residents: RESIDENTS.map(str::to_owned).to_vec(),
            config: String::new(),
            lan_mtu: 1500,
            wan_mtu: 1500,
            gro: true,
            dashboard: None,
            foreign_provider: false,
        }
    }

    /// With these servers instead of the usual ones; all names but the usual ones get no
    /// service of ours.
    #[must_use]
    pub fn residents<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.residents = names.into_iter().map(Into::into).collect();
        self
    }

    /// With this TOML laid over the configuration.
    #[must_use]
    pub fn config(mut self, overrides: &str) -> Self {
        overrides.clone_into(&mut self.config);
        self
    }

    /// With these largest packets on the LAN and towards the provider.
    #[must_use]
    pub const fn mtu(mut self, lan: u32, wan: u32) -> Self {
        (self.lan_mtu, self.wan_mtu) = (lan, wan);
        self
    }

    /// With or without generic receive offload at the gateway.
    #[must_use]
    pub const fn gro(mut self, on: bool) -> Self {
        self.gro = on;
        self
    }

    /// With a listener for the dashboard, opened wherever the caller wants to see it.
    #[must_use]
    pub fn dashboard(mut self, listener: TcpListener) -> Self {
        self.dashboard = Some(listener);
        self
    }

    /// With a provider that routes but serves no DNS: the caller brings his own.
    #[must_use]
    pub const fn foreign_provider(mut self) -> Self {
        self.foreign_provider = true;
        self
    }

    /// Builds everything but starts no daemon yet.
    ///
    /// # Errors
    /// Names the part of the home that failed.
    pub async fn build(self) -> anyhow::Result<Home> {
        let folder = tempfile::Builder::new()
            .prefix(FOLDER_PREFIX)
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .context("cannot make a temporary folder")?;
        let net = Net::build(&self).await?;
        let key = Key::random("portico-lab");
        write_secret(&folder.path().join(crate::daemon::KEY), &key.file())?;
        let provider = Provider::new(plan::PARENT_ZONE, plan::PARENT, key)?;
        if !self.foreign_provider {
            let serving = Arc::clone(&provider);
            let serve = async move || {
                serving
                    .serve(Role::Parent, SocketAddr::new(plan::PARENT.into(), 53))
                    .await?;
                serving.serve(Role::Resolver, plan::resolver()).await
            };
            net.provider.run(serve).await?;
        }
        let mut residents = Vec::new();
        for (number, name) in (1..).zip(&self.residents) {
            residents.push(Resident::new(name, number, &net.lan, self.lan_mtu).await?);
        }
        let provider = (!self.foreign_provider).then_some(provider);
        let Self {
            program,
            config,
            dashboard,
            ..
        } = self;
        let daemon = Daemon::new(&net.gateway, program, folder.path(), &config, dashboard)?;
        Ok(Home {
            daemon,
            residents,
            net,
            provider,
            delegation: Delegation(0),
            old: None,
            folder,
        })
    }

    /// Builds everything and starts the daemon.
    ///
    /// # Errors
    /// Names the part of the home that failed.
    pub async fn start(self) -> anyhow::Result<Home> {
        let mut home = self.build().await?;
        home.daemon.start().await?;
        Ok(home)
    }
}

/// A home. Everything vanishes when it is dropped.
#[derive(Debug)]
pub struct Home {
    /// The program under test.
    pub daemon: Daemon,
    /// The servers.
    pub residents: Vec<Resident>,
    /// The machines and their cables.
    pub net: Net,
    /// The provider's zone and resolver, unless the caller brought his own.
    pub provider: Option<Arc<Provider>>,
    delegation: Delegation,
    old: Option<Delegation>,
    folder: TempDir,
}

/// The machines of a home, without its servers.
#[derive(Debug)]
pub struct Net {
    /// The provider's router.
    pub provider: Node,
    /// Somebody on the Internet.
    pub remote: Node,
    /// Where Portico runs.
    pub gateway: Node,
    /// The home's switch.
    pub lan: Switch,
}

impl Net {
    async fn build(plan: &Plan) -> anyhow::Result<Self> {
        let provider = Node::new("provider")?;
        let remote = Node::new("remote")?;
        let gateway = Node::new("gateway")?;
        let lan = Switch::new("switch").await?;

        provider.forward().await?;
        provider
            .add_address("lo", &format!("{}/128", plan::PARENT))
            .await?;
        provider
            .add_address("lo", &format!("{}/128", plan::RESOLVER))
            .await?;
        cable(
            provider.end("net0").mtu(plan.wan_mtu),
            remote.end(ETH).mtu(plan.wan_mtu),
        )
        .await?;
        provider
            .add_address("net0", &format!("{}/64", plan::REMOTE_ROUTER))
            .await?;
        remote
            .add_address(ETH, &format!("{}/64", plan::REMOTE))
            .await?;
        remote
            .add_route("::/0", &plan::REMOTE_ROUTER.to_string(), None)
            .await?;

        gateway.forward().await?;
        let (mut wan, mut lan0) = (
            gateway.end(WAN).mtu(plan.wan_mtu),
            gateway.end(LAN).mtu(plan.lan_mtu),
        );
        if plan.gro {
            (wan, lan0) = (wan.gro(), lan0.gro());
        }
        cable(provider.end(CUSTOMER).mtu(plan.wan_mtu), wan).await?;
        lan.plug(lan0).await?;
        gateway
            .add_address(LAN, &format!("{}/24", plan::GATEWAY))
            .await?;
        let net = Self {
            provider,
            remote,
            gateway,
            lan,
        };
        net.delegate(Delegation(0)).await?;
        Ok(net)
    }

    /// Gives the customer a link and a prefix, next to those that he may have.
    async fn delegate(&self, delegation: Delegation) -> anyhow::Result<()> {
        let (wan, router) = (delegation.wan(), delegation.router());
        self.provider
            .add_address(CUSTOMER, &format!("{router}/64"))
            .await?;
        self.gateway.add_address(WAN, &format!("{wan}/64")).await?;
        self.provider
            .add_route(&delegation.prefix(), &wan.to_string(), None)
            .await?;
        let index = self.gateway.netlink().index(WAN).await?;
        let default = Route::default_via(router.into(), Some(index));
        self.gateway.netlink().add_route(default).await?;
        Ok(())
    }

    /// Tells the gateway not to use an address for anything new.
    async fn deprecate(&self, delegation: Delegation, valid: Duration) -> anyhow::Result<()> {
        let netlink = self.gateway.netlink();
        let index = netlink.index(WAN).await?;
        let lifetimes = Lifetimes {
            preferred: Some(Duration::ZERO),
            valid: Some(valid),
        };
        netlink
            .add_address_for(index, delegation.wan().into(), 64, lifetimes)
            .await?;
        Ok(())
    }

    /// Takes a link and a prefix away.
    async fn withdraw(&self, delegation: Delegation) -> anyhow::Result<()> {
        let (wan, router) = (delegation.wan(), delegation.router());
        self.provider
            .remove_route(&delegation.prefix(), &wan.to_string(), None)
            .await?;
        self.provider
            .remove_address(CUSTOMER, &format!("{router}/64"))
            .await?;
        self.gateway.remove_address(WAN, &format!("{wan}/64")).await
    }
}

impl Home {
    /// The temporary folder of this home.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the provider gives now.
    #[must_use]
    pub const fn delegation(&self) -> Delegation {
        self.delegation
    }

    /// What the provider gave before and has not taken away yet.
    #[must_use]
    pub const fn old_delegation(&self) -> Option<Delegation> {
        self.old
    }

    /// The daemon's API.
    #[must_use]
    pub fn api(&self) -> Api {
        self.daemon.api()
    }

    /// The server called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn resident(&self, name: &str) -> anyhow::Result<&Resident> {
        let mut residents = self.residents.iter();
        residents
            .find(|it| it.name == name)
            .with_context(|| format!("no server {name} lives here"))
    }

    /// The server called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn resident_mut(&mut self, name: &str) -> anyhow::Result<&mut Resident> {
        let mut residents = self.residents.iter_mut();
        residents
            .find(|it| it.name == name)
            .with_context(|| format!("no server {name} lives here"))
    }

    /// Asks the provider's resolver, from the remote host.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn lookup(&self, name: &str, kind: RecordType) -> anyhow::Result<Addresses> {
        let name = name.to_owned();
        let ask = async move || dns::lookup(plan::resolver(), &name, kind, PATIENCE).await;
        self.net.remote.run(ask).await
    }

    /// Asks for the AAAA of a server until it is what the present prefix makes of its address.
    ///
    /// # Errors
    /// When it is not in time; says what it is.
    pub async fn lookup_current(&self, server: &str) -> anyhow::Result<Addresses> {
        let wanted = self.delegation.embed(self.resident(server)?.addr()?);
        let name = fqdn(server);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = self.lookup(&name, RecordType::AAAA).await?;
            if found.addrs == [wanted] {
                return Ok(found);
            }
            if tokio::time::Instant::now() >= deadline {
                anyhow::bail!("{name} is {found}, and not {wanted}");
            }
            // What is remembered may be true for a second more: the zone's TTL.
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Waits until the parent zone's glue leads to the present WAN address, and to the old one
    /// only while that works. A foreign provider's zone is not looked into.
    ///
    /// # Errors
    /// When it does not in time; says where it leads.
    pub async fn wait_glue_current(&self) -> anyhow::Result<()> {
        let Some(provider) = &self.provider else {
            return Ok(());
        };
        let now = IpAddr::V6(self.delegation.wan());
        let old = self.old.map(|old| IpAddr::V6(old.wan()));
        let wanted = |glue: &[IpAddr]| {
            glue.contains(&now) && glue.iter().all(|addr| *addr == now || Some(*addr) == old)
        };
        provider
            .wait_glue(plan::ZONE, wanted, PATIENCE)
            .await
            .with_context(|| format!("the glue does not follow to {now}"))
    }

    /// Makes the provider's resolver forget everything; a foreign one is left alone.
    pub fn forget_names(&self) {
        if let Some(provider) = &self.provider {
            provider.flush_resolver();
        }
    }

    /// Fetches a page from the remote host, at an address that a name stands for.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn fetch(
        &self,
        addr: Ipv6Addr,
        port: u16,
        host: &str,
        path: &str,
    ) -> anyhow::Result<String> {
        let (host, path) = (host.to_owned(), path.to_owned());
        let addr = SocketAddr::new(addr.into(), port);
        let fetch = async move || http::fetch(addr, &host, &path, PATIENCE).await;
        self.net.remote.run(fetch).await
    }

    /// Changes the prefix and the WAN address: the new ones come, the old ones still work, and
    /// Portico is told the prefix with the old one's remaining time.
    ///
    /// # Errors
    /// When the API refuses it.
    pub async fn renumber(&mut self, old_valid: Duration) -> anyhow::Result<()> {
        self.withdraw_old().await?;
        let (old, new) = (self.delegation, self.delegation.next());
        self.net.delegate(new).await?;
        self.net.deprecate(old, old_valid).await?;
        (self.delegation, self.old) = (new, Some(old));
        let body = serde_json::json!({
            "delegated": new.prefix(),
            "old_valid_s": old_valid.as_secs(),
        });
        self.api().post("/api/v1/prefixes", &body).await?;
        Ok(())
    }

    /// Takes the old prefix and WAN address away, if there are any.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub async fn withdraw_old(&mut self) -> anyhow::Result<()> {
        match self.old.take() {
            Some(old) => self.net.withdraw(old).await,
            None => Ok(()),
        }
    }
}

/// A server on the LAN.
#[derive(Debug)]
pub struct Resident {
    /// What it calls itself.
    pub name: String,
    /// Its machine.
    pub node: Node,
    /// What it serves.
    pub device: Arc<Device>,
    /// How it gets its address.
    pub dhcp: dhcp::Client,
    /// What it was given.
    pub lease: Option<dhcp::Lease>,
    /// The ports that it opened.
    pub openings: Vec<Opening>,
    mac: Mac,
}

/// A port that a server opened.
#[derive(Debug)]
pub enum Opening {
    /// By PCP or NAT-PMP, and when it was granted.
    CrabNat(PortMapping, tokio::time::Instant),
    /// By UPnP, at a gateway.
    Igd(Gateway<Tokio>, u16),
}

impl Resident {
    async fn new(name: &str, number: u8, lan: &Switch, mtu: u32) -> anyhow::Result<Self> {
        let node = Node::new(name)?;
        let mac = Mac([0x02, 0, 0, 0, 0x64, number]);
        lan.plug(node.end(ETH).mac(mac).mtu(mtu)).await?;
        let page = format!("<!doctype html><title>{name}</title><h1>This is {name}.</h1>\n");
        let device = Device::new(name, &page);
        let serving = Arc::clone(&device);
        let serve = async move || match serving.name() {
            "camera" | "heat-pump" | "printer" => serving.serve_http(80).await,
            "nas" => {
                serving.serve_http(80).await?;
                serving.serve_http(NAS_ADMIN).await?;
                serving.echo_tcp(NAS_ECHO).await?;
                serving.echo_udp(NAS_ECHO).await
            }
            _ => Ok(()),
        };
        node.run(serve).await?;
        let dhcp = dhcp::Client::new(ETH, name);
        let name = name.to_owned();
        Ok(Self {
            name,
            node,
            device,
            dhcp,
            lease: None,
            openings: Vec::new(),
            mac,
        })
    }

    /// Its hardware address.
    #[must_use]
    pub const fn mac(&self) -> Mac {
        self.mac
    }

    /// Its address.
    ///
    /// # Errors
    /// When it has none yet.
    pub fn addr(&self) -> anyhow::Result<Ipv4Addr> {
        let lease = self.lease.as_ref();
        lease
            .map(|lease| lease.addr)
            .with_context(|| format!("{} has no address yet", self.name))
    }

    /// Gets an address.
    ///
    /// # Errors
    /// When no server gives one.
    pub async fn join(&mut self) -> anyhow::Result<dhcp::Lease> {
        let client = self.dhcp.clone();
        let lease = self
            .node
            .run(async move || client.join(PATIENCE).await)
            .await?;
        self.lease = Some(lease.clone());
        Ok(lease)
    }

    /// Gives the address back and forgets it.
    ///
    /// # Errors
    /// When it has none.
    pub async fn leave(&mut self) -> anyhow::Result<()> {
        let lease = self.lease.take().context("it has no lease")?;
        let client = self.dhcp.clone();
        self.node
            .run(async move || client.release(&lease).await)
            .await
    }
}

/// The name of a server of the home in DNS.
#[must_use]
pub fn fqdn(server: &str) -> String {
    format!("{server}.{}", plan::ZONE)
}

fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

/// The servers that live in a usual home; the printer opens nothing.
pub const RESIDENTS: [&str; 4] = ["camera", "nas", "heat-pump", "printer"];

/// Where the NAS echoes.
pub const NAS_ECHO: u16 = 7007;

/// Where the NAS serves its own administration, which it opens to nobody.
pub const NAS_ADMIN: u16 = 8080;

/// The first letters of every lab's folder.
pub const FOLDER_PREFIX: &str = "portico-lab-";

/// Anything in a home takes less.
pub const PATIENCE: Duration = Duration::from_secs(10);

const CUSTOMER: &str = "home0";
const GLANCE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
