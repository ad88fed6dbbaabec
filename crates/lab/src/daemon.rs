//! The program under test: `portico run` as a process of the gateway.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use crate::http::Api;
use crate::{Node, addressing};

/// How the program is started, again and again.
#[derive(Debug)]
pub struct Daemon {
    node: Node,
    program: PathBuf,
    folder: PathBuf,
    dashboard: Option<TcpListener>,
    child: Option<Child>,
}

impl Daemon {
    /// Writes the configuration into `folder`: the home's own, with the tables of `overrides`
    /// laid over it. Nothing is started yet.
    ///
    /// # Errors
    /// When the overrides are no TOML, or the folder is not ours.
    pub fn new(
        node: &Node,
        program: PathBuf,
        folder: &Path,
        overrides: &str,
        dashboard: Option<TcpListener>,
    ) -> anyhow::Result<Self> {
        let mut config: toml::Table = config(folder).parse().context("the home's own config")?;
        merge(
            &mut config,
            overrides.parse().context("the overrides are no TOML")?,
        );
        let text = toml::to_string_pretty(&config)?;
        let path = folder.join(CONFIG);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let folder = folder.to_owned();
        Ok(Self {
            node: node.clone(),
            program,
            folder,
            dashboard,
            child: None,
        })
    }

    /// Its API over the Unix socket.
    #[must_use]
    pub fn api(&self) -> Api {
        Api::unix(&self.socket())
    }

    /// The Unix socket of the API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("api.sock")
    }

    /// What it logs.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.folder.join("portico.log")
    }

    /// Where the dashboard listens in the namespace of whoever built the home.
    #[must_use]
    pub fn dashboard(&self) -> Option<SocketAddr> {
        self.dashboard
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
    }

    /// The number of its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Starts it and waits until it is ready; returns how long that took.
    ///
    /// # Errors
    /// When it ends before, or is not ready in time; shows the end of its log.
    pub async fn start(&mut self) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = self
            .node
            .command(&self.program)
            .arg("run")
            .arg("-c")
            .arg(self.folder.join(CONFIG))
            .env_remove("PORTICO_STATE")
            .env_remove("PORTICO_SOCKET")
            .stdout(log.try_clone()?)
            .stderr(log);
        if let Some(listener) = &self.dashboard {
            command = command.listeners(vec![OwnedFd::from(listener.try_clone()?)])?;
        }
        self.child = Some(command.spawn().await?);
        // The API comes last: whoever reaches it finds everything else started.
        let status = loop {
            if let Ok(status) = self.api().get::<serde_json::Value>("/api/v1/status").await {
                break status;
            }
            if let Some(status) = self.child.as_mut().context("it was started")?.try_wait()? {
                bail!("portico ended with {status}{}", self.tail());
            }
            if begin.elapsed() > PATIENCE {
                bail!("portico is not ready after {PATIENCE:?}{}", self.tail());
            }
            sleep(GLANCE).await;
        };
        let mut rooms = status["rooms"].as_array().into_iter().flatten();
        match rooms.find(|room| room["state"] == "failed") {
            Some(room) => bail!(
                "portico started without {}: {}",
                room["room"],
                room["error"]
            ),
            None => Ok(begin.elapsed()),
        }
    }

    /// Kills it by SIGKILL, as a power cut does, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("portico does not run")?;
        child.kill().await.context("cannot kill portico")
    }

    /// Asks it to end by SIGTERM, as a service manager does, and waits until it has ended well;
    /// returns how long that took.
    ///
    /// # Errors
    /// When it does not run, or does not end well in time.
    pub async fn stop(&mut self) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        let mut child = self.child.take().context("portico does not run")?;
        net::process::terminate(child.id().context("portico has ended")?)?;
        let status = timeout(PATIENCE, child.wait())
            .await
            .with_context(|| format!("portico does not end{}", self.tail()))??;
        if !status.success() {
            bail!("portico ended with {status}{}", self.tail());
        }
        Ok(begin.elapsed())
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// Says how it ended, with the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self
            .child
            .as_mut()
            .context("portico was not started")?
            .try_wait()?
        {
            None => Ok(()),
            Some(status) => bail!("portico ended with {status}{}", self.tail()),
        }
    }

    /// Whether it logged no error: an error is a promise that it could not keep.
    ///
    /// # Errors
    /// The first one.
    pub fn check_log(&self) -> anyhow::Result<()> {
        let log = std::fs::read_to_string(self.log_path())?;
        match log.lines().find(|line| line.contains(" ERROR ")) {
            Some(line) => bail!("portico logged an error: {line}"),
            None => Ok(()),
        }
    }

    /// The end of its log, as the end of an error.
    #[must_use]
    pub fn tail(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        match tail {
            [] => "; it logged nothing".to_owned(),
            _ => format!("; the end of its log:\n  | {}", tail.join("\n  | ")),
        }
    }
}

fn config(folder: &Path) -> String {
    let folder = folder.display();
    let (lan, wan, subnet) = (addressing::LAN, addressing::WAN, addressing::SUBNET);
    let (zone, parent_zone) = (addressing::ZONE, addressing::PARENT_ZONE);
    let (resolver, parent) = (
        addressing::resolver(),
        SocketAddr::new(addressing::PARENT.into(), 53),
    );
    let prefix = addressing::Delegation(0).prefix();
    format!(
        r#"
        [daemon]
        state = "{folder}/state"
        socket = "{folder}/api.sock"
        [lan]
        interface = "{lan}"
        subnet = "{subnet}"
        [wan]
        interface = "{wan}"
        mode = "static"
        prefix = "{prefix}"
        [dns]
        zone = "{zone}"
        ttl = "1s"
        resolvers = ["{resolver}"]
        [dns.parent]
        server = "{parent}"
        zone = "{parent_zone}"
        tsig_key_file = "{folder}/{KEY}"
        [dashboard]
        listen = []
        "#
    )
}

fn merge(config: &mut toml::Table, overrides: toml::Table) {
    for (key, value) in overrides {
        match (config.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                config.insert(key, value);
            }
        }
    }
}

/// The name of the file with the TSIG key.
pub const KEY: &str = "parent.key";

const CONFIG: &str = "portico.toml";
const TAIL_LINES: usize = 15;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often readiness is asked for.
const GLANCE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_change_single_keys_of_a_table() {
        let mut table: toml::Table = config(Path::new("/folder")).parse().unwrap();

        merge(
            &mut table,
            "[dns]\nttl = \"60s\"\n[protocols]\nupnp = false"
                .parse()
                .unwrap(),
        );

        assert_eq!(table["dns"]["ttl"].as_str(), Some("60s"));
        assert_eq!(table["dns"]["zone"].as_str(), Some("home.example"));
        assert_eq!(table["protocols"]["upnp"].as_bool(), Some(false));
    }
}
