//! Cables and switches between simulated machines.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use mapping::Mac;
use net::netlink::NewLink;

use crate::Node;

/// One end of a cable: an interface to be made in a node.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    node: &'a Node,
    link: NewLink<'a>,
    mtu: Option<u32>,
    gro: bool,
}

impl<'a> End<'a> {
    /// With this hardware address instead of a random one.
    #[must_use]
    pub const fn mac(mut self, mac: Mac) -> Self {
        self.link = self.link.mac(mac);
        self
    }

    /// With this MTU; a port of a switch that it is plugged into gets the same.
    #[must_use]
    pub const fn mtu(mut self, mtu: u32) -> Self {
        self.link = self.link.mtu(mtu);
        self.mtu = Some(mtu);
        self
    }

    /// With generic receive offload, which most real cards have and a veth has not.
    #[must_use]
    pub const fn gro(mut self) -> Self {
        self.gro = true;
        self
    }

    async fn switch_on(&self) -> Result<()> {
        let name = self.link.name();
        let switch_on = async {
            let netlink = self.node.netlink();
            netlink.set_up(netlink.index(name).await?).await?;
            if self.gro {
                let name = name.to_owned();
                self.node
                    .run(async move || Ok(net::ethtool::set_gro(&name, true)?))
                    .await?;
            }
            anyhow::Ok(())
        };
        switch_on
            .await
            .with_context(|| format!("node {}: interface {name}", self.node.name()))
    }
}

impl Node {
    /// The interface `name`, to be made by [`cable`] or [`Switch::plug`].
    #[must_use]
    pub const fn end<'a>(&'a self, name: &'a str) -> End<'a> {
        End {
            node: self,
            link: NewLink::new(name),
            mtu: None,
            gro: false,
        }
    }
}

/// Connects two nodes by a cable, and waits until it carries packets both ways.
///
/// # Errors
///
/// Names both ends.
pub async fn cable(near: End<'_>, far: End<'_>) -> Result<()> {
    let connect = async {
        near.node
            .netlink()
            .add_veth(near.link, far.link, far.node.as_fd())
            .await?;
        near.switch_on().await?;
        far.switch_on().await?;
        near.node.wait_ready(near.link.name()).await?;
        far.node.wait_ready(far.link.name()).await
    };
    connect.await.with_context(|| {
        format!(
            "cable from {} {} to {} {}",
            near.node.name(),
            near.link.name(),
            far.node.name(),
            far.link.name()
        )
    })
}

/// An Ethernet switch: a bridge in a node.
///
/// Cheap to clone; its cables vanish with its node.
#[derive(Debug, Clone)]
pub struct Switch {
    node: Node,
    name: Arc<str>,
    bridge: u32,
    ports: Arc<AtomicU32>,
}

impl Switch {
    /// A switch that is a machine of its own.
    ///
    /// # Errors
    ///
    /// Names the switch.
    pub async fn new(name: &str) -> Result<Self> {
        Self::inside(&Node::new(name)?, "bridge").await
    }

    /// The switch that is built into a router: its side of it is the interface `ifname`.
    ///
    /// # Errors
    ///
    /// Names the node and the interface.
    pub async fn inside(node: &Node, ifname: &str) -> Result<Self> {
        let bridge = node
            .netlink()
            .add_bridge(NewLink::new(ifname))
            .await
            .with_context(|| format!("node {}", node.name()))?;
        let ports = Arc::new(AtomicU32::new(0));
        Ok(Self {
            node: node.clone(),
            name: ifname.into(),
            bridge,
            ports,
        })
    }

    /// The node that holds the bridge.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Plugs an interface in, and waits until it carries packets.
    ///
    /// # Errors
    ///
    /// Names both ends.
    pub async fn plug(&self, end: End<'_>) -> Result<()> {
        let port = format!("port{}", self.ports.fetch_add(1, Ordering::Relaxed));
        let port_link = NewLink::new(&port);
        let port_link = end.mtu.map_or(port_link, |mtu| port_link.mtu(mtu));
        let plug = async {
            let netlink = self.node.netlink();
            netlink
                .add_veth(port_link, end.link, end.node.as_fd())
                .await?;
            netlink
                .enslave(netlink.index(&port).await?, self.bridge)
                .await?;
            self.node.end(&port).switch_on().await?;
            end.switch_on().await?;
            self.node.wait_ready(&port).await?;
            self.node.wait_ready(&self.name).await?;
            end.node.wait_ready(end.link.name()).await
        };
        plug.await.with_context(|| {
            format!(
                "cable from {} to {} {}",
                self.node.name(),
                end.node.name(),
                end.link.name()
            )
        })
    }

    /// Unplugs an interface: its cable vanishes, both ends.
    ///
    /// # Errors
    ///
    /// Names the interface.
    pub async fn unplug(&self, node: &Node, ifname: &str) -> Result<()> {
        let unplug = async {
            let index = node.netlink().index(ifname).await?;
            anyhow::Ok(node.netlink().remove_link(index).await?)
        };
        unplug
            .await
            .with_context(|| format!("node {}: unplug {ifname}", node.name()))
    }
}
