//! The translator of this build as a program of its own, in its gateway's namespace.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use gateway::{Config, Handle, Seed};
use mapping::{
    Client, External, InternalPort, LeaseRequest, MapRequest, Nsp, Outcome, PrefixRequest,
    Protocol, Request, Requester, Site, Subject,
};
use tokio_util::sync::CancellationToken;
use translator::PoolRange;

use crate::load;
use crate::site::{GATEWAY_LAN4, POOL, POOL_LEN, PREF64, SERVER_MAC, SERVER4};

/// The argument that makes the benchmark this program; its folder of state follows.
pub const NAME: &str = "__translate";

/// Says a line when packets pass; lives until it is killed.
pub fn run() -> Result<()> {
    let folder = std::env::args_os().nth(2).context("no folder")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(translate(folder.into()))
}

async fn translate(folder: PathBuf) -> Result<()> {
    let config = Config {
        site: Site::new(GATEWAY_LAN4, 24, "home.example".to_owned())?,
        state: folder.join("state"),
        boot_id: net::boot_id()?,
        seed: Seed::default(),
    };
    let (handle, writer) = gateway::start(config, net::Clock::new()).await?;
    let settings = translator::Settings {
        tun: "portico".to_owned(),
        lan: "lan".to_owned(),
        wan: "wan".to_owned(),
        config: translator::Config::new(PoolRange::new(POOL, POOL_LEN)?),
        key: rand::random(),
        keep: translator::Keep::default(),
    };
    let cancel = CancellationToken::new();
    let (_observer, inbox) = translator::Observer::new();
    let packets = tokio::spawn(translator::run(settings, &handle, inbox, cancel.clone()));
    let writer = tokio::spawn(writer.run(cancel.clone()));
    open(&handle).await?;
    let mut output = std::io::stdout();
    writeln!(output, "ready")?;
    output.flush()?;
    tokio::select! {
        ended = packets => Ok(ended??),
        ended = writer => Ok(ended??),
    }
}

async fn open(handle: &Handle) -> Result<()> {
    let prefix = PrefixRequest {
        delegated: "2001:db8:6400::/56".parse()?,
        nsp: Some(Nsp::new(PREF64)?),
        old_valid: Duration::from_secs(30),
    };
    granted(handle, Request::Prefix(prefix)).await?;
    let lease = LeaseRequest {
        mac: SERVER_MAC,
        addr: SERVER4,
        lifetime: Duration::from_secs(86_400),
        declared_name: None,
    };
    granted(handle, Request::Lease(lease)).await?;
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let map = MapRequest {
            subject: Subject::Client(Client {
                addr: SERVER4,
                mac: None,
            }),
            requester: Requester::Pcp,
            protocol,
            internal_port: InternalPort::new(load::PORT).context("not zero")?,
            external: External::Suggested(None),
            lifetime: Some(Duration::from_secs(7200)),
            nonce: None,
            description: String::new(),
        };
        granted(handle, Request::Map(map)).await?;
    }
    Ok(())
}

async fn granted(handle: &Handle, request: Request) -> Result<()> {
    match handle.request(request).await {
        Outcome::Granted(_) => Ok(()),
        Outcome::Refused(refusal) => bail!("refused: {refusal:?}"),
    }
}
