//! UPnP IGD against upnpc.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{addressing, remote};

use crate::dhcp::items;
use crate::forged::Control;
use crate::program::{Said, program, say};
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn upnpc_opens_lists_and_deletes_a_port() -> Result<()> {
    play(home(["boiler"]), async |home| {
        let boiler = Server::join(home, "boiler").await?;
        let _web = boiler.python(8080, "This is the boiler.").await?;
        let addr = boiler.addr.to_string();

        let upnpc = Upnpc::search(&boiler).await?;
        let words = "warm water";
        let said = upnpc
            .say(&["-e", words, "-a", &addr, "8080", "8080", "TCP", "3600"])
            .await?;
        said.says(&format!("TCP is redirected to internal {addr}:8080"))?;

        let to = SocketAddr::new(boiler.external(home).into(), 8080);
        let page = home
            .fetch(boiler.external(home), 8080, &boiler.fqdn(), "/")
            .await?;
        ensure!(page == "This is the boiler.", "{page}");
        let list = upnpc.say(&["-l"]).await?.ok()?;
        let entry = format!("TCP  8080->{addr}:8080  '{words}' ''");
        ensure!(list.contains(&entry), "no {entry:?}: {list}");
        let open = items(home, "mappings").await?;
        ensure!(
            open.len() == 1 && open.iter().all(|it| it["requester"] == "upnp"),
            "{open:?}"
        );

        upnpc
            .say(&["-d", "8080", "TCP"])
            .await?
            .says("returned : 0")?;
        let list = upnpc.say(&["-l"]).await?.ok()?;
        ensure!(!list.contains("8080->"), "still there: {list}");
        let knock = async move || Ok(remote::knock(to, Duration::from_millis(1200)).await);
        let after = home.net.remote.run(knock).await?;
        ensure!(after == remote::Port::Silent, "the port is {after:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn upnpc_may_not_open_a_port_of_another_host() -> Result<()> {
    play(home(["webcam", "disk"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let disk = Server::join(home, "disk").await?;
        let upnpc = Upnpc::search(&webcam).await?;
        for victim in [
            disk.addr.to_string(),
            "192.168.64.1".to_owned(),
            "8.8.8.8".to_owned(),
        ] {
            let said = upnpc
                .say(&["-a", &victim, "8080", "8080", "TCP", "3600"])
                .await?;
            said.says("failed with code 606")?;
        }
        let open = items(home, "mappings").await?;
        ensure!(open.is_empty(), "{open:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn upnpc_gets_any_port_and_learns_what_is_missing() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let addr = webcam.addr.to_string();

        let upnpc = Upnpc::search(&webcam).await?.v2();
        upnpc
            .say(&["-n", &addr, "9000", "9000", "UDP", "600"])
            .await?
            .says(&format!("UDP is redirected to internal {addr}:9000"))?;
        let open = items(home, "mappings").await?;
        ensure!(
            open.iter()
                .any(|it| it["protocol"] == "udp" && it["external_port"] == 9000),
            "{open:?}"
        );
        upnpc
            .say(&["-a", &addr, "9001", "9001", "TCP", "600"])
            .await?
            .says("is redirected to internal")?;
        let list = upnpc.say(&["-L"]).await?.ok()?;
        for entry in ["TCP  9001", "UDP  9000"] {
            ensure!(list.contains(&format!("{entry}->{addr}:")), "{list}");
        }
        upnpc
            .say(&["-N", "9000", "9100", "UDP", "1"])
            .await?
            .says("UPNP_DeletePortMappingRange() returned : 0")?;
        upnpc.say(&["-d", "9001", "UDP"]).await?.says("714")?;
        upnpc
            .say(&["-a", &addr, "23", "23", "TCP", "600"])
            .await?
            .says("failed with code")?;
        Ok(())
    })
    .await
}

/// upnpc with `-i`: an IGD without a public IPv4 address is "not connected" to it, and no address
/// that would content it is Portico's to tell.
pub struct Upnpc<'a> {
    server: &'a Server,
    /// The description of the gateway.
    url: String,
}

impl<'a> Upnpc<'a> {
    /// Looks for the gateway by SSDP.
    ///
    /// # Errors
    /// Shows what upnpc says.
    pub async fn search(server: &'a Server) -> Result<Self> {
        let upnpc = program(&server.node, "upnpc")?.args(["-i", "-m", "eth0", "-s"]);
        let said = say(upnpc).await?.ok()?;
        for words in ["Status : Connected", "ExternalIPAddress = 0.0.0.0"] {
            ensure!(said.contains(words), "no {words:?}: {said}");
        }
        let url = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("desc: "));
        let url = url
            .with_context(|| format!("upnpc finds no gateway: {said}"))?
            .to_owned();
        Ok(Self { server, url })
    }

    /// Opens a port of the server.
    ///
    /// # Errors
    /// Shows what upnpc says.
    pub async fn open(&self, port: u16) -> Result<()> {
        let (addr, port) = (self.server.addr.to_string(), port.to_string());
        let said = self
            .say(&["-a", &addr, &port, &port, "TCP", "3600"])
            .await?;
        said.says("is redirected to internal").map(drop)
    }

    /// Where upnpc sends actions.
    ///
    /// # Errors
    /// When it tells nothing.
    pub async fn control(&self) -> Result<Control> {
        let said = self.say(&["-s"]).await?.ok()?;
        let ours = format!("{}:", addressing::GATEWAY);
        let found = said
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("http://"))
            .find(|url| url.starts_with(&ours) && !self.url.ends_with(url));
        let (addr, path) = found
            .and_then(|url| url.split_once('/'))
            .with_context(|| format!("upnpc tells no URL: {said}"))?;
        Ok(Control {
            addr: addr.parse()?,
            path: format!("/{path}"),
        })
    }

    /// The port of the descriptions.
    ///
    /// # Errors
    /// When the URL has none.
    pub fn port(&self) -> Result<u16> {
        let rest = self
            .url
            .strip_prefix("http://192.168.64.1:")
            .context("another host")?;
        Ok(rest.split('/').next().unwrap_or_default().parse()?)
    }

    /// The same gateway as IGD:2, for which upnpc does not search by itself.
    fn v2(mut self) -> Self {
        self.url = self.url.replace("/v1/", "/v2/");
        self
    }

    async fn say(&self, args: &[&str]) -> Result<Said> {
        let upnpc = program(&self.server.node, "upnpc")?.args(["-i", "-u", &self.url]);
        say(upnpc.args(args)).await
    }
}
