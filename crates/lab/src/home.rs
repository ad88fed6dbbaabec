//! A home, its provider and somebody on the Internet, cabled up and running.

mod machines;
mod plan;
mod resident;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hickory_proto::rr::RecordType;
use tempfile::TempDir;

use crate::addressing::{self, Delegation};
use crate::daemon::Daemon;
use crate::dns::{self, Addresses};
use crate::http::{self, Api};
use crate::provider::Provider;

pub use machines::Machines;
pub use plan::Plan;
pub use resident::{Opening, Resident};

/// A home. Everything vanishes when it is dropped.
#[derive(Debug)]
pub struct Home {
    /// The program under test.
    pub daemon: Daemon,
    /// The servers.
    pub residents: Vec<Resident>,
    /// The machines and their cables.
    pub net: Machines,
    /// The provider's zone and resolver, unless the caller brought his own.
    pub provider: Option<Arc<Provider>>,
    delegation: Delegation,
    old: Option<Delegation>,
    folder: TempDir,
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
        let ask = async move || dns::lookup(addressing::resolver(), &name, kind, PATIENCE).await;
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
            .wait_glue(addressing::ZONE, wanted, PATIENCE)
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
        let deadline = tokio::time::Instant::now() + PATIENCE;
        // "Not now; ask again" is what the API says while a part of the program lags behind.
        while let Err(error) = self.api().post("/api/v1/prefixes", &body).await {
            let not_now = format!("{error:#}").contains("503");
            if !not_now || tokio::time::Instant::now() >= deadline {
                return Err(error);
            }
            tokio::time::sleep(GLANCE).await;
        }
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

/// The name of a server of the home in DNS.
#[must_use]
pub fn fqdn(server: &str) -> String {
    format!("{server}.{}", addressing::ZONE)
}

/// The servers that live in a usual home; the printer opens nothing.
pub const RESIDENTS: [&str; 4] = ["camera", "nas", "heat-pump", "printer"];

/// Where the NAS echoes.
pub const NAS_ECHO: u16 = 7007;

/// Where the NAS serves its own administration, which it opens to nobody.
pub const NAS_ADMIN: u16 = 8080;

/// The first letters of every lab's folder.
pub const FOLDER_PREFIX: &str = "portico-lab-";

/// Anything in a home takes less, however busy the machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

const GLANCE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
