//! `portico lab`: build a home, prove it, and keep it for as long as somebody wants to play.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::control::{self, Control};
use crate::home::{Home, Plan};
use crate::{addressing, proof};

/// What `portico lab` was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// End after the proof.
    pub once: bool,
}

/// Makes sure that homes can be built. Call it first thing in `main`, before any thread is
/// started: without root it moves the process into a user namespace of its own.
///
/// # Errors
/// Says in one line what is missing.
pub fn prepare() -> anyhow::Result<()> {
    net::namespace::become_root_of_new_user_namespace()?;
    let namespaces = std::thread::spawn(net::namespace::unshare_network).join();
    namespaces.map_err(|_| anyhow::anyhow!("the namespace check panicked"))??;
    File::options().read(true).write(true).open(TUN).with_context(|| {
        format!("cannot open {TUN} (load the module tun, or run as root; in a container add the device)")
    })?;
    Ok(())
}

/// Builds a home and proves it; without `once` it stays until Ctrl-C. Returns whether the proof
/// succeeded.
///
/// # Errors
/// When the home cannot be built.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(live(options))
}

async fn live(options: &Options) -> anyhow::Result<bool> {
    // Whoever presses Ctrl-C while the home is built or proved ends it as well.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        proved = build_and_prove(options) => proved,
        _ = interrupt.recv() => Ok(true),
        _ = terminate.recv() => Ok(true),
    }
}

async fn build_and_prove(options: &Options) -> anyhow::Result<bool> {
    let program = std::env::current_exe().context("cannot find the running program")?;
    // Bound here, before there are namespaces, so that the caller's browser reaches it.
    let dashboard = listen_here()?;
    let plan = Plan::new(program).dashboard(dashboard);
    control::sweep(&std::env::temp_dir());
    let mut home = plan.start().await.context("cannot build the home")?;
    let control = Control::open(home.folder())?;
    greet(&home);
    let proved = match proof::prove(&mut home, |line| println!("{line}")).await {
        Ok(()) => true,
        Err(error) => {
            eprintln!("{error:?}");
            false
        }
    };
    if options.once {
        return Ok(proved);
    }
    println!("{HINT}");
    control.serve(&mut home).await?;
    Ok(proved)
}

fn listen_here() -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, DASHBOARD))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .context("cannot listen on 127.0.0.1")?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn greet(home: &Home) {
    println!("A home with {} servers stands.", home.residents.len());
    println!(
        "  provider   resolver {}, zone {} at {}",
        addressing::RESOLVER,
        addressing::PARENT_ZONE,
        addressing::PARENT
    );
    println!(
        "  gateway    WAN {}, delegated {}, LAN {}; portico runs as process {}",
        home.delegation().wan(),
        home.delegation().prefix(),
        addressing::SUBNET,
        home.daemon.pid().unwrap_or(0)
    );
    println!("  remote     {}, IPv6 only", addressing::REMOTE);
    if let Some(addr) = home.daemon.dashboard() {
        println!("  dashboard  http://{addr}/");
    }
    println!("  log        {}", home.daemon.log_path().display());
    println!("export PORTICO_SOCKET={}\n", home.daemon.socket().display());
}

const HINT: &str = "\
The home stays until Ctrl-C. To play with it, in another terminal:
  portico lab fetch camera    portico lab ping nas    portico lab renumber
  portico lab restart         portico lab status";

const TUN: &str = "/dev/net/tun";
const DASHBOARD: u16 = 8464;
