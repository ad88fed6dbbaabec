//! What a home is to be like, and how it is built.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use super::{FOLDER_PREFIX, Home, Machines, RESIDENTS, Resident};
use crate::addressing::{self, Delegation};
use crate::daemon::{self, Daemon};
use crate::provider::tsig::Key;
use crate::provider::{Provider, Role};

/// What a home is to be like.
#[derive(Debug)]
pub struct Plan {
    program: PathBuf,
    residents: Vec<String>,
    config: String,
    pub(super) lan_mtu: u32,
    pub(super) wan_mtu: u32,
    pub(super) gro: bool,
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
        let net = Machines::build(&self).await?;
        let key = Key::random("portico-lab");
        write_secret(&folder.path().join(daemon::KEY), &key.file())?;
        let provider = Provider::new(addressing::PARENT_ZONE, addressing::PARENT, key)?;
        if !self.foreign_provider {
            let serving = Arc::clone(&provider);
            let serve = async move || {
                serving
                    .serve(Role::Parent, SocketAddr::new(addressing::PARENT.into(), 53))
                    .await?;
                serving.serve(Role::Resolver, addressing::resolver()).await
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
