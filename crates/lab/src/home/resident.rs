//! A server on the LAN, and the ports that it opened.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use anyhow::Context;
use crab_nat::PortMapping;
use igd_next::PortMappingProtocol;
use igd_next::aio::Gateway;
use igd_next::aio::tokio::Tokio;
use mapping::Mac;
use tokio::time::Instant;

use super::{NAS_ADMIN, NAS_ECHO, PATIENCE};
use crate::addressing::ETH;
use crate::device::Device;
use crate::{Node, Switch, dhcp, ports};

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
    /// By PCP or NAT-PMP, and when it was asked for and granted.
    CrabNat(PortMapping, RangeInclusive<Instant>),
    /// By UPnP, at a gateway.
    Igd(Gateway<Tokio>, u16),
}

impl Resident {
    pub(super) async fn new(
        name: &str,
        number: u8,
        lan: &Switch,
        mtu: u32,
    ) -> anyhow::Result<Self> {
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

impl Opening {
    /// Renews it as its client does, or looks it up in the gateway's table; returns how far the
    /// gateway's epoch jumped, where the protocol has one.
    ///
    /// # Errors
    /// When the gateway has forgotten it.
    pub async fn renew(&mut self, node: &Node) -> anyhow::Result<Option<i64>> {
        match self {
            Self::CrabNat(mapping, at) => {
                let (old, asked) = (mapping.clone(), Instant::now());
                let new = node.run(async move || ports::renew(old).await).await?;
                let granted = Instant::now();
                let passed = asked - *at.end()..=granted - *at.start();
                let jump = ports::epoch_jump(mapping.gateway_epoch(), new.gateway_epoch(), passed);
                (*mapping, *at) = (new, asked..=granted);
                Ok(Some(jump))
            }
            Self::Igd(igd, port) => {
                // A gateway that restarts may move: clients look for it again.
                let port = *port;
                let find = async move || {
                    let igd = ports::find_igd(PATIENCE).await?;
                    ports::find_entry(&igd, port).await?;
                    Ok(igd)
                };
                *igd = node.run(find).await.context("UPnP")?;
                Ok(None)
            }
        }
    }

    /// Closes it as its client does.
    ///
    /// # Errors
    /// What the gateway says.
    pub async fn close(self, node: &Node) -> anyhow::Result<()> {
        let close = async move || match self {
            Self::CrabNat(mapping, _) => {
                let closed = mapping.try_drop().await;
                closed
                    .map_err(|(error, _)| error)
                    .context("PCP or NAT-PMP with lifetime 0")
            }
            Self::Igd(igd, port) => igd
                .remove_port(PortMappingProtocol::TCP, port)
                .await
                .with_context(|| format!("DeletePortMapping TCP {port}")),
        };
        node.run(close).await
    }
}
