//! The machines that every home has, and what changes between them.

use std::time::Duration;

use net::netlink::{Lifetimes, Route};

use super::Plan;
use crate::addressing::{self, Delegation, ETH, LAN, WAN};
use crate::{Node, Switch, cable};

/// The machines of a home, without its servers.
#[derive(Debug)]
pub struct Machines {
    /// The provider's router.
    pub provider: Node,
    /// Somebody on the Internet.
    pub remote: Node,
    /// Where Portico runs.
    pub gateway: Node,
    /// The home's switch.
    pub lan: Switch,
}

impl Machines {
    pub(super) async fn build(plan: &Plan) -> anyhow::Result<Self> {
        let provider = Node::new("provider")?;
        let remote = Node::new("remote")?;
        let gateway = Node::new("gateway")?;
        let lan = Switch::new("switch").await?;

        provider.forward().await?;
        provider
            .add_address("lo", &format!("{}/128", addressing::PARENT))
            .await?;
        provider
            .add_address("lo", &format!("{}/128", addressing::RESOLVER))
            .await?;
        cable(
            provider.end("net0").mtu(plan.wan_mtu),
            remote.end(ETH).mtu(plan.wan_mtu),
        )
        .await?;
        provider
            .add_address("net0", &format!("{}/64", addressing::REMOTE_ROUTER))
            .await?;
        remote
            .add_address(ETH, &format!("{}/64", addressing::REMOTE))
            .await?;
        remote
            .add_route("::/0", &addressing::REMOTE_ROUTER.to_string(), None)
            .await?;

        gateway.forward().await?;
        let (mut wan, mut lan0) = (
            gateway.end(WAN).mtu(plan.wan_mtu),
            gateway.end(LAN).mtu(plan.lan_mtu),
        );
        if plan.gro {
            (wan, lan0) = (wan.gro(), lan0.gro());
        }
        cable(provider.end(CUSTOMER).mtu(plan.wan_mtu), wan).await?;
        lan.plug(lan0).await?;
        gateway
            .add_address(LAN, &format!("{}/24", addressing::GATEWAY))
            .await?;
        let net = Self {
            provider,
            remote,
            gateway,
            lan,
        };
        net.delegate(Delegation(0)).await?;
        Ok(net)
    }

    /// Gives the customer a link and a prefix, next to those that he may have.
    pub(super) async fn delegate(&self, delegation: Delegation) -> anyhow::Result<()> {
        let (wan, router) = (delegation.wan(), delegation.router());
        self.provider
            .add_address(CUSTOMER, &format!("{router}/64"))
            .await?;
        self.gateway.add_address(WAN, &format!("{wan}/64")).await?;
        self.provider
            .add_route(&delegation.prefix(), &wan.to_string(), None)
            .await?;
        let index = self.gateway.netlink().index(WAN).await?;
        let default = Route::default_via(router.into(), Some(index));
        self.gateway.netlink().add_route(default).await?;
        Ok(())
    }

    /// Tells the gateway not to use an address for anything new.
    pub(super) async fn deprecate(
        &self,
        delegation: Delegation,
        valid: Duration,
    ) -> anyhow::Result<()> {
        let netlink = self.gateway.netlink();
        let index = netlink.index(WAN).await?;
        let lifetimes = Lifetimes {
            preferred: Some(Duration::ZERO),
            valid: Some(valid),
        };
        netlink
            .add_address_for(index, delegation.wan().into(), 64, lifetimes)
            .await?;
        Ok(())
    }

    /// Takes a link and a prefix away.
    pub(super) async fn withdraw(&self, delegation: Delegation) -> anyhow::Result<()> {
        let (wan, router) = (delegation.wan(), delegation.router());
        self.provider
            .remove_route(&delegation.prefix(), &wan.to_string(), None)
            .await?;
        self.provider
            .remove_address(CUSTOMER, &format!("{router}/64"))
            .await?;
        self.gateway.remove_address(WAN, &format!("{wan}/64")).await
    }
}

/// The provider's interface towards the home.
const CUSTOMER: &str = "home0";
