//! The verbs of a home that stands: `portico lab renumber` and its like.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use hickory_proto::rr::RecordType;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep_until};

use crate::home::{FOLDER_PREFIX, Home, PATIENCE, fqdn};
use crate::proof::{self, milliseconds};
use crate::{addressing, remote};

/// Something to do with a home that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Fetch a server's page from the remote host, by the server's name.
    Fetch(String),
    /// Ping a server from the remote host, by its name.
    Ping(String),
    /// Take the seven steps again.
    Prove,
    /// Change the prefix and the WAN address; the old ones work for thirty seconds more.
    Renumber,
    /// Kill Portico by SIGKILL and start it again.
    Restart,
    /// Tell who is where.
    Status,
}

/// Does something with the newest home that stands, and prints what came of it.
///
/// # Errors
/// When no home stands, or what the home says.
pub fn verb(verb: Verb) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stream = newest(&std::env::temp_dir()).await?;
        converse(stream, &verb, |line| println!("{line}")).await
    })
}

/// Says a verb over an open control socket, and passes on what comes back, line by line.
///
/// # Errors
/// What the home says.
pub async fn converse(
    mut stream: UnixStream,
    verb: &Verb,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<()> {
    let request = format!("{}\n", serde_json::to_string(verb)?);
    stream.write_all(request.as_bytes()).await?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Said::Line(line) => tell(&line),
            Said::Done => return Ok(()),
            Said::Failed(error) => bail!("{error}"),
        }
    }
    bail!("the lab ended meanwhile")
}

/// Connects to the control socket of the newest home below `folder`; dead ones are passed over.
///
/// # Errors
/// When there is none.
pub async fn newest(folder: &Path) -> anyhow::Result<UnixStream> {
    for socket in sockets(folder).iter().rev() {
        if let Ok(stream) = UnixStream::connect(socket).await {
            return Ok(stream);
        }
    }
    bail!("no lab stands (start one with `portico lab` in another terminal)")
}

/// Removes the folders below `folder` that killed labs left behind.
pub fn sweep(folder: &Path) {
    for socket in sockets(folder) {
        let answer = std::os::unix::net::UnixStream::connect(&socket);
        let dead = answer.is_err_and(|it| it.kind() == std::io::ErrorKind::ConnectionRefused);
        if let (true, Some(lab)) = (dead, socket.parent()) {
            // Somebody else may be sweeping too.
            std::fs::remove_dir_all(lab).unwrap_or_default();
        }
    }
}

/// The control sockets below `folder`, the newest last.
fn sockets(folder: &Path) -> Vec<PathBuf> {
    let mut sockets: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let socket = entry.path().join(SOCKET);
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(FOLDER_PREFIX)
            && let Ok(modified) = socket.metadata().and_then(|it| it.modified())
        {
            sockets.push((modified, socket));
        }
    }
    sockets.sort();
    sockets.into_iter().map(|(_, socket)| socket).collect()
}

/// The control socket of a home.
#[derive(Debug)]
pub struct Control(UnixListener);

impl Control {
    /// Opens it in a home's folder.
    ///
    /// # Errors
    /// Names the path.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        // Under its name it answers: who sweeps takes a socket that does not for that of a dead lab.
        let path = folder.join(format!("{SOCKET}.new"));
        let what = || format!("cannot listen at {}", path.display());
        let listener = UnixListener::bind(&path).with_context(what)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&path, folder.join(SOCKET)).with_context(what)?;
        Ok(Self(listener))
    }

    /// Does what is asked, one verb after the other, until the daemon ends by itself.
    ///
    /// # Errors
    /// When the daemon or the home fails.
    pub async fn serve(self, home: &mut Home) -> anyhow::Result<()> {
        let mut overlap_ends = None;
        let mut look = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                accepted = self.0.accept() => {
                    let (stream, _) = accepted?;
                    if let Err(error) = handle(home, stream, &mut overlap_ends).await {
                        eprintln!("a verb was given up: {error:#}");
                    }
                }
                () = until(overlap_ends) => {
                    overlap_ends = None;
                    home.withdraw_old().await?;
                    println!("The provider has removed the old prefix.");
                }
                _ = look.tick() => home.daemon.check()?,
            }
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Line(String),
    Done,
    Failed(String),
}

async fn handle(
    home: &mut Home,
    stream: UnixStream,
    overlap_ends: &mut Option<Instant>,
) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let request = tokio::time::timeout(PATIENCE, lines.next_line()).await??;
    let verb: Verb = serde_json::from_str(&request.context("nothing was asked")?)?;
    let mut said = Vec::new();
    let result = act(home, &verb, overlap_ends, |line| {
        said.push(Said::Line(line))
    })
    .await;
    said.push(match result {
        Ok(()) => Said::Done,
        Err(error) => Said::Failed(format!("{error:#}")),
    });
    for said in said {
        write
            .write_all(format!("{}\n", serde_json::to_string(&said)?).as_bytes())
            .await?;
    }
    Ok(())
}

async fn act(
    home: &mut Home,
    verb: &Verb,
    overlap_ends: &mut Option<Instant>,
    mut tell: impl FnMut(String),
) -> anyhow::Result<()> {
    match verb {
        Verb::Fetch(server) => fetch(home, server, tell).await?,
        Verb::Restart => {
            home.daemon.kill().await?;
            let ready = home.daemon.start().await?;
            let pid = home.daemon.pid().unwrap_or(0);
            tell(format!(
                "killed; started again as process {pid}, ready after {}",
                milliseconds(ready)
            ));
        }
        Verb::Ping(server) => tell(ping(home, server).await?),
        Verb::Prove => {
            for resident in &mut home.residents {
                for opening in std::mem::take(&mut resident.openings) {
                    opening.close(&resident.node).await?;
                }
            }
            proof::prove(home, |line| tell(line.to_owned())).await?;
            *overlap_ends = None;
        }
        Verb::Renumber => {
            let start = Instant::now();
            home.renumber(OVERLAP).await?;
            *overlap_ends = Some(start + OVERLAP);
            let new = home.delegation();
            tell(format!(
                "delegated {}, WAN {}, the old ones for {OVERLAP:?} more",
                new.prefix(),
                new.wan()
            ));
            home.wait_glue_current().await?;
            let found = home.lookup_current("camera").await?;
            let took = milliseconds(start.elapsed());
            tell(format!("{} -> {found}, after {took}", fqdn("camera")));
        }
        Verb::Status => status(home, tell),
    }
    Ok(())
}

async fn fetch(home: &Home, server: &str, mut tell: impl FnMut(String)) -> anyhow::Result<()> {
    let start = Instant::now();
    let name = fqdn(server);
    let found = home.lookup(&name, RecordType::AAAA).await?;
    tell(format!("{name} -> {found}"));
    let page = home.fetch(found.one_v6()?, 80, &name, "/").await?;
    let took = milliseconds(start.elapsed());
    tell(format!("{}\n(in {took})", page.trim_end()));
    Ok(())
}

async fn ping(home: &Home, server: &str) -> anyhow::Result<String> {
    let found = home.lookup(&fqdn(server), RecordType::AAAA).await?;
    let addr = found.one_v6()?;
    let ping = async move || remote::ping(addr, Duration::from_secs(3)).await;
    match home.net.remote.run(ping).await? {
        Some(rtt) => Ok(format!(
            "{server} at {addr} answers after {}",
            milliseconds(rtt)
        )),
        None => bail!("{server} at {addr} does not answer (has it an open port?)"),
    }
}

fn status(home: &Home, mut tell: impl FnMut(String)) {
    let now = home.delegation();
    tell(format!(
        "gateway    WAN {}, delegated {}",
        now.wan(),
        now.prefix()
    ));
    if let Some(old) = home.old_delegation() {
        tell(format!(
            "  and still WAN {}, delegated {}",
            old.wan(),
            old.prefix()
        ));
    }
    for resident in &home.residents {
        let addr = resident.addr().map_or_else(
            |_| "no address yet".to_owned(),
            |addr| format!("{addr}, {}", now.embed(addr)),
        );
        tell(format!("{:10} {} {addr}", resident.name, resident.mac()));
    }
    tell(format!("remote     {}", addressing::REMOTE));
    if let Some(addr) = home.daemon.dashboard() {
        tell(format!("dashboard  http://{addr}/"));
    }
    tell(format!(
        "export PORTICO_SOCKET={}",
        home.daemon.socket().display()
    ));
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// How long the old prefix works.
const OVERLAP: Duration = Duration::from_secs(30);

/// The name of the control socket in a home's folder.
const SOCKET: &str = "control.sock";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_lab_that_lives_is_found_and_dead_ones_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        assert!(newest(root.path()).await.is_err());
        let lab = |name: &str| {
            let folder = root.path().join(format!("{FOLDER_PREFIX}{name}"));
            std::fs::create_dir(&folder).unwrap();
            Control::open(&folder).unwrap()
        };
        let alive = lab("b");
        drop(lab("a"));

        let (found, accepted) = tokio::join!(newest(root.path()), alive.0.accept());

        assert!(found.is_ok() && accepted.is_ok());
        sweep(root.path());
        let left = std::fs::read_dir(root.path()).unwrap().count();
        assert_eq!(
            left, 1,
            "the dead lab's folder is gone, that of the living one is not"
        );
    }
}
