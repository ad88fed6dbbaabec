//! A gateway in front of ours: Debian's miniupnpd, behind whose firewall and NAT the home lies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use gateway::{Handle, Observe, UpstreamCursor};
use lab::{Home, Node, addressing, remote};
use mapping::{
    Carriers, Client, External, ExternalPort, FilterChange, InternalPort, LeaseRequest, Mac,
    MapRequest, Outcome, PrefixRequest, Protocol, Request, Requester, Site, Subject, UnmapRequest,
    UnmapTarget, Via,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::process::Child;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use upstream::Mode;

use crate::dhcp::items;
use crate::program::{portico, program, say};
use crate::server::Server;
use crate::stage::{act, home, until};

/// RFC 7648 §3.3: the firewall in front opens the server's own IPv6 address, and closes it again;
/// after a restart that forgot everything it is told anew.
#[tokio::test]
async fn port_opens_in_the_firewall_in_front_closes_and_comes_back_after_its_restart() -> Result<()>
{
    let home = home(["webcam"]).build().await?;
    act(home, async |home| {
        let mut isp = Isp::new(home).await?;
        isp.start().await?;
        let began = Instant::now();
        home.daemon.start().await?;
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(8080, "page").await?;
        let to = SocketAddr::new(webcam.external(home).into(), 8080);
        ensure!(
            knock(home, to, 1200).await? == remote::Port::Silent,
            "the firewall in front is open"
        );

        webcam.open("tcp", 8080).await?;
        until(async || isp.lists(8080, true).await).await?;
        ensure!(
            knock(home, to, 30_000).await? == remote::Port::Open,
            "nobody comes through"
        );
        let shown = until(async || {
            let shown: Value = home.api().get("/api/v1/upstream").await?;
            let gateway = &shown["gateways"][1];
            ensure!(gateway["kind"] == "pcp" && gateway["open"] == 1, "{shown}");
            Ok(shown)
        });
        shown.await?;
        let ports = items(home, "upstream/ports").await?;
        ensure!(ports[0]["address"] == to.ip().to_string(), "{ports:?}");
        ensure!(ports[0]["external_port"] == 8080, "{ports:?}");
        let status = portico(&home.net.gateway, &home.daemon.socket()).arg("status");
        say(status).await?.says("upstream pcp at fe80::")?;

        // RFC 6887 §8.5: an epoch that begins anew shows only once it is seconds behind
        until(async || {
            ensure!(began.elapsed() >= Duration::from_secs(8), "it is too young");
            Ok(())
        })
        .await?;
        // miniupnpd sends its IPv6 announcement to the other side; its next answer tells
        isp.restart().await?;
        ensure!(
            knock(home, to, 3000).await? == remote::Port::Silent,
            "the restart forgot nothing"
        );
        webcam.open("tcp", 9090).await?;
        until(async || isp.lists(8080, true).await)
            .await
            .context("after the restart")?;
        ensure!(
            knock(home, to, 30_000).await? == remote::Port::Open,
            "nobody comes through after the restart"
        );

        webcam.natpmpc("tcp", 8080, 0).await?.ok()?;
        until(async || isp.lists(8080, false).await)
            .await
            .context("after it closed")?;
        ensure!(
            knock(home, to, 1200).await? == remote::Port::Silent,
            "the port is open"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn carrier_nat_is_told_and_the_lan_is_served_although_nobody_answers_in_front() -> Result<()>
{
    let home = home(["webcam"]).build().await?;
    act(home, async |home| {
        let gateway = &home.net.gateway;
        gateway.add_address("wan0", "100.64.0.7/10").await?;
        gateway.add_route("0.0.0.0/0", "100.64.0.1", None).await?;
        home.daemon.start().await?;

        let webcam = Server::join(home, "webcam").await?;
        webcam.open("tcp", 8080).await?;
        until(async || {
            let shown: Value = home.api().get("/api/v1/upstream").await?;
            let gateway = &shown["gateways"][0];
            ensure!(gateway["own_address"] == "100.64.0.7", "{shown}");
            ensure!(gateway["carrier_nat"] == true, "{shown}");
            ensure!(gateway["kind"] == Value::Null, "{shown}");
            Ok(())
        })
        .await?;
        let status = portico(&home.net.gateway, &home.daemon.socket()).arg("status");
        say(status).await?.says("carrier NAT")?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn forward_of_the_shared_ipv4_address_opens_in_front_by_pcp() -> Result<()> {
    opens_in_front(Mode::Pcp, "pcp").await
}

#[tokio::test]
async fn forward_of_the_shared_ipv4_address_opens_in_front_by_nat_pmp() -> Result<()> {
    opens_in_front(Mode::NatPmp, "nat-pmp").await
}

#[tokio::test]
async fn forward_of_the_shared_ipv4_address_opens_in_front_by_upnp() -> Result<()> {
    opens_in_front(Mode::Upnp, "upnp").await
}

/// The shipped program carries no IPv4 forwards yet, so here the room runs behind a writer that
/// says it does.
async fn opens_in_front(mode: Mode, kind: &'static str) -> Result<()> {
    let home = home([]).build().await?;
    act(home, async move |home| {
        let mut isp = Isp::new(home).await?;
        isp.start().await?;
        let state = home.folder().join("state-of-the-room");
        let provider = isp.provider.clone();
        let play = async move || {
            let cancel = CancellationToken::new();
            let _stop = cancel.clone().drop_guard();
            let (handle, observer) = room(mode, state, cancel).await?;
            let rule = "dnat ip to 192.168.0.7:8080";
            let lists = async |wanted: bool| {
                let rules = table_of(&provider).await?;
                ensure!(rules.contains(rule) == wanted, "{rules}");
                Ok(())
            };

            map(&handle).await?;
            until(async || lists(true).await).await?;
            until(async || {
                let page = observer.upstream(UpstreamCursor(0), 10).await?;
                let page = page.context("the room shows nothing")?;
                let gateway = page.gateways.first().context("there is no gateway")?;
                ensure!(gateway.kind == Some(kind), "{gateway:?}");
                ensure!(gateway.open == 1, "{gateway:?}");
                let outside = Some(IpAddr::from([11, 22, 33, 44]));
                ensure!(gateway.external == outside, "{gateway:?}");
                ensure!(!gateway.carrier_nat, "{gateway:?}");
                Ok(())
            })
            .await?;

            unmap(&handle).await?;
            until(async || lists(false).await).await
        };
        home.net.gateway.run(play).await
    })
    .await
}

async fn room(
    mode: Mode,
    state: PathBuf,
    cancel: CancellationToken,
) -> Result<(Handle, Arc<dyn Observe>)> {
    let site = Site::new([192, 168, 64, 1].into(), 24, "home.example".to_owned())?;
    let config = gateway::Config {
        site,
        state,
        boot_id: net::boot_id()?,
        policy: mapping::Policy::default(),
        key: None,
    };
    let (handle, writer) = gateway::start(config, net::Clock::new()).await?;
    tokio::spawn(writer.run(cancel.clone()));
    let options = upstream::Options {
        wan: addressing::WAN.to_owned(),
        mode,
        secret: [3; 16],
    };
    let bound = upstream::bind(options, StdRng::seed_from_u64(1))?;
    let observer = bound.observe();
    tokio::spawn(bound.serve(handle.clone(), cancel));
    Ok((handle, observer))
}

async fn map(handle: &Handle) -> Result<()> {
    let carriers = Carriers {
        ipv4: Some(Ipv4Addr::new(192, 168, 0, 7)),
        pinholes: false,
    };
    let port = |port| ExternalPort::new(port).context("a port");
    let requests = [
        Request::Carriers(carriers),
        Request::Prefix(PrefixRequest {
            delegated: "2001:db8:64::/56".parse()?,
            nsp: None,
            old_valid: Duration::ZERO,
        }),
        Request::Lease(LeaseRequest {
            mac: Mac([2, 0, 0, 0, 0, 20]),
            addr: SERVER,
            lifetime: Duration::from_secs(3600),
            declared_name: None,
        }),
        Request::Map(MapRequest {
            subject: client(),
            requester: Requester::Pcp,
            protocol: Protocol::Tcp,
            internal_port: InternalPort::new(8080).context("a port")?,
            external: External::Suggested(Some(port(8080)?)),
            lifetime: Some(Duration::from_secs(3600)),
            nonce: None,
            via: Via::Both,
            peer: false,
            filters: FilterChange::default(),
            description: None,
            memo: None,
        }),
    ];
    for request in requests {
        ask(handle, request).await?;
    }
    Ok(())
}

async fn unmap(handle: &Handle) -> Result<()> {
    let port = InternalPort::new(8080).context("a port")?;
    let request = UnmapRequest {
        subject: client(),
        requester: Requester::Pcp,
        target: UnmapTarget::Internal(Protocol::Tcp, port, None),
    };
    ask(handle, Request::Unmap(request)).await
}

async fn ask(handle: &Handle, request: Request) -> Result<()> {
    match handle.request(request.clone()).await {
        Outcome::Granted(_) => Ok(()),
        Outcome::Refused(refusal) => bail!("{refusal}: {request:?}"),
    }
}

const fn client() -> Subject {
    Subject::Client(Client {
        addr: IpAddr::V4(SERVER),
        mac: None,
    })
}

async fn knock(home: &Home, to: SocketAddr, patience: u64) -> Result<remote::Port> {
    let patience = Duration::from_millis(patience);
    let knock = async move || Ok(remote::knock(to, patience).await);
    home.net.remote.run(knock).await
}

/// The provider's router as somebody else's gateway: a firewall for IPv6 and a NAT for IPv4, both
/// opened by miniupnpd.
struct Isp {
    provider: Node,
    folder: PathBuf,
    table: PathBuf,
    daemon: Option<Child>,
}

impl Isp {
    async fn new(home: &Home) -> Result<Self> {
        let (provider, gateway) = (&home.net.provider, &home.net.gateway);
        provider.add_address("home0", "192.168.0.1/24").await?;
        gateway.add_address("wan0", "192.168.0.7/24").await?;
        gateway.add_route("0.0.0.0/0", "192.168.0.1", None).await?;
        // as router advertisements have it: the default router is a link-local address
        let router = link_local(provider, "home0").await?;
        let old = home.delegation().router().to_string();
        gateway.remove_route("::/0", &old, Some("wan0")).await?;
        gateway.add_route("::/0", &router, Some("wan0")).await?;
        let folder = home.folder().join("isp");
        std::fs::create_dir_all(&folder)?;
        let table = folder.join("table.nft");
        std::fs::write(&table, TABLE)?;
        let isp = Self {
            provider: provider.clone(),
            folder,
            table,
            daemon: None,
        };
        isp.reset().await?;
        Ok(isp)
    }

    async fn start(&mut self) -> Result<()> {
        let leases = self.folder.join("leases");
        let conf = self.folder.join("miniupnpd.conf");
        std::fs::write(&conf, format!("{CONF}lease_file={}\n", leases.display()))?;
        let log = std::fs::File::create(self.folder.join("miniupnpd.log"))?;
        let daemon = program(&self.provider, "miniupnpd")?
            .arg("-d")
            .arg("-f")
            .arg(&conf)
            .arg("-P")
            .arg(self.folder.join("pid"))
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log));
        self.daemon = Some(daemon.spawn().await?);
        until(async || {
            let log = std::fs::read_to_string(self.folder.join("miniupnpd.log"))?;
            ensure!(log.contains("Listening for NAT-PMP/PCP"), "{log}");
            Ok(())
        })
        .await
    }

    /// A restart that forgets everything.
    async fn restart(&mut self) -> Result<()> {
        self.daemon.take().context("it runs")?.kill().await?;
        self.reset().await?;
        self.lists(8080, false).await?;
        self.start().await
    }

    async fn reset(&self) -> Result<()> {
        let nft = program(&self.provider, "nft")?.arg("-f").arg(&self.table);
        say(nft).await?.ok().map(drop)
    }

    async fn lists(&self, port: u16, wanted: bool) -> Result<()> {
        let rules = table_of(&self.provider).await?;
        let there = rules.contains(&format!("th dport {port}"));
        ensure!(there == wanted, "{rules}");
        Ok(())
    }
}

async fn table_of(provider: &Node) -> Result<String> {
    let nft = program(provider, "nft")?.args(["list", "table", "inet", "filter"]);
    say(nft).await?.ok()
}

async fn link_local(node: &Node, ifname: &str) -> Result<String> {
    let index = node.netlink().index(ifname).await?;
    let addresses = node.netlink().addresses(index).await?;
    let found = addresses.iter().find_map(|it| match it.addr {
        IpAddr::V6(addr) if addr.is_unicast_link_local() => Some(addr.to_string()),
        _ => None,
    });
    found.context("there is no link-local address")
}

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 20);

/// Nothing comes in from the Internet but what miniupnpd lets in.
const TABLE: &str = "table inet filter
delete table inet filter
table inet filter {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname \"home0\" accept
    jump miniupnpd
  }
  chain miniupnpd { }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}
";

/// It refuses to call an address outside that is none of the Internet's.
const CONF: &str = "ext_ifname=net0
ext_ip=11.22.33.44
listening_ip=home0
enable_natpmp=yes
enable_upnp=yes
pcp_allow_thirdparty=yes
min_lifetime=120
max_lifetime=86400
port=5000
system_uptime=no
notify_interval=900
uuid=1f9c8a34-0d3f-4bd5-9a0c-7d3c1f6a2e01
allow 1-65535 0.0.0.0/0 1-65535
";
