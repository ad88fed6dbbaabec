//! Routes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use nix::libc;
use rtnetlink::RouteMessageBuilder;

use super::{GONE, Netlink, NetlinkError, done, done_or};

/// A route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where packets are going.
    pub destination: IpAddr,
    /// How many bits of the destination count.
    pub prefix_len: u8,
    /// What happens to them.
    pub target: Target,
    /// Of two routes to one destination the one with the smaller metric counts.
    pub metric: Option<u32>,
    /// The source address that the machine's own packets get.
    pub source: Option<IpAddr>,
}

/// What happens to packets that match a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// They vanish.
    Blackhole,
    /// They leave by an interface; the destination is on its cable.
    Device(u32),
    /// They go to a router; a link-local router needs its interface.
    Gateway {
        /// The router.
        addr: IpAddr,
        /// The index of the interface.
        ifindex: Option<u32>,
    },
    /// They are answered with "unreachable".
    Unreachable,
}

impl Route {
    /// A route to `destination`/`prefix_len`.
    #[must_use]
    pub const fn new(destination: IpAddr, prefix_len: u8, target: Target) -> Self {
        Self {
            destination,
            prefix_len,
            target,
            metric: None,
            source: None,
        }
    }

    /// The default route through `gateway`, in the family of its address.
    #[must_use]
    pub const fn default_via(gateway: IpAddr, ifindex: Option<u32>) -> Self {
        let any = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self::new(
            any,
            0,
            Target::Gateway {
                addr: gateway,
                ifindex,
            },
        )
    }

    /// With this metric.
    #[must_use]
    pub const fn metric(mut self, metric: u32) -> Self {
        self.metric = Some(metric);
        self
    }

    /// With this source address for the machine's own packets.
    #[must_use]
    pub const fn source(mut self, addr: IpAddr) -> Self {
        self.source = Some(addr);
        self
    }

    /// The interface by which packets leave, as far as the route says.
    #[must_use]
    pub const fn ifindex(&self) -> Option<u32> {
        match self.target {
            Target::Device(ifindex) => Some(ifindex),
            Target::Gateway { ifindex, .. } => ifindex,
            Target::Blackhole | Target::Unreachable => None,
        }
    }

    fn message(&self) -> Result<RouteMessage, NetlinkError> {
        let invalid = |error| NetlinkError {
            action: format!("make sense of the route {self}"),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("{error}")),
        };
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(self.destination, self.prefix_len)
            .map_err(invalid)?;
        if let Some(source) = self.source {
            builder = builder.pref_source(source).map_err(invalid)?;
        }
        if let Some(metric) = self.metric {
            builder = builder.priority(metric);
        }
        builder = match self.target {
            Target::Blackhole => builder.kind(RouteType::BlackHole),
            Target::Unreachable => builder.kind(RouteType::Unreachable),
            Target::Device(ifindex) => {
                builder
                    .output_interface(ifindex)
                    .scope(match self.destination {
                        IpAddr::V4(_) => RouteScope::Link,
                        IpAddr::V6(_) => RouteScope::Universe,
                    })
            }
            Target::Gateway { addr, ifindex } => {
                let builder = builder.gateway(addr).map_err(invalid)?;
                match ifindex {
                    Some(ifindex) => builder.output_interface(ifindex),
                    None => builder,
                }
            }
        };
        Ok(builder.build())
    }

    fn from_message(message: &RouteMessage) -> Vec<Self> {
        let any = match message.header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return Vec::new(),
        };
        let (mut destination, mut source, mut metric) = (any, None, None);
        let mut hops = Vec::new();
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(addr) => destination = ip(addr).unwrap_or(any),
                RouteAttribute::PrefSource(addr) => source = ip(addr),
                RouteAttribute::Priority(priority) => metric = Some(*priority),
                RouteAttribute::MultiPath(found) => hops.extend(
                    found
                        .iter()
                        .map(|hop| hop_of(&hop.attributes, Some(hop.interface_index))),
                ),
                _ => {}
            }
        }
        if hops.is_empty() {
            hops.push(hop_of(&message.attributes, None));
        }
        let target = |(gateway, ifindex)| match (message.header.kind, gateway, ifindex) {
            (RouteType::BlackHole, _, _) => Some(Target::Blackhole),
            (RouteType::Unreachable, _, _) => Some(Target::Unreachable),
            (RouteType::Unicast, Some(addr), ifindex) => Some(Target::Gateway { addr, ifindex }),
            (RouteType::Unicast, None, Some(ifindex)) => Some(Target::Device(ifindex)),
            _ => None,
        };
        let prefix_len = message.header.destination_prefix_length;
        let route = |target| Self {
            destination,
            prefix_len,
            target,
            metric,
            source,
        };
        hops.into_iter().filter_map(target).map(route).collect()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            Target::Blackhole => write!(f, "blackhole ")?,
            Target::Unreachable => write!(f, "unreachable ")?,
            Target::Device(_) | Target::Gateway { .. } => {}
        }
        write!(f, "{}/{}", self.destination, self.prefix_len)?;
        match self.target {
            Target::Device(ifindex) => write!(f, " by interface {ifindex}"),
            Target::Gateway { addr, .. } => write!(f, " via {addr}"),
            Target::Blackhole | Target::Unreachable => Ok(()),
        }
    }
}

impl Netlink {
    /// Adds a route, in place of one with the same destination and metric.
    ///
    /// # Errors
    ///
    /// Names the route.
    pub async fn add_route(&self, route: Route) -> Result<(), NetlinkError> {
        let request = self.handle.route().add(route.message()?).replace();
        done(request.execute().await, format_args!("add route {route}"))
    }

    /// Removes a route.
    ///
    /// # Errors
    ///
    /// Names the route.
    pub async fn remove_route(&self, route: Route) -> Result<(), NetlinkError> {
        let request = self.handle.route().del(route.message()?);
        done_or(
            request.execute().await,
            GONE,
            format_args!("remove route {route}"),
        )
    }

    /// The routes of the main table, both families; one for each next hop.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer.
    pub async fn routes(&self) -> Result<Vec<Route>, NetlinkError> {
        let messages = self.dump_routes().await?;
        let main = messages
            .iter()
            .filter(|message| is_in(message, RouteHeader::RT_TABLE_MAIN));
        Ok(main.flat_map(Route::from_message).collect())
    }

    /// The addresses for which the kernel takes packets as its own.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer.
    pub async fn local_addresses(&self) -> Result<Vec<IpAddr>, NetlinkError> {
        let messages = self.dump_routes().await?;
        let local = messages.iter().filter(|message| {
            message.header.kind == RouteType::Local && is_in(message, libc::RT_TABLE_LOCAL)
        });
        Ok(local
            .flat_map(|message| &message.attributes)
            .filter_map(destination)
            .collect())
    }

    async fn dump_routes(&self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let mut messages = Vec::new();
        for family in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let request = self.handle.route().get(family).execute();
            let found: Vec<RouteMessage> = done(request.try_collect().await, "list routes")?;
            messages.extend(found);
        }
        Ok(messages)
    }

    /// The default routes: an interface that holds one is no LAN.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer.
    pub async fn default_routes(&self) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = self.routes().await?;
        routes.retain(|route| route.prefix_len == 0 && route.ifindex().is_some());
        Ok(routes)
    }
}

/// The gateway and the interface that the attributes of a route or of a hop name.
fn hop_of(attributes: &[RouteAttribute], ifindex: Option<u32>) -> (Option<IpAddr>, Option<u32>) {
    let mut hop = (None, ifindex);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(addr) => hop.0 = ip(addr),
            RouteAttribute::Oif(ifindex) => hop.1 = Some(*ifindex),
            _ => {}
        }
    }
    hop
}

fn is_in(message: &RouteMessage, table: u8) -> bool {
    message.header.table == table
}

fn destination(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Destination(addr) => ip(addr),
        _ => None,
    }
}

fn ip(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(addr) => Some((*addr).into()),
        RouteAddress::Inet6(addr) => Some((*addr).into()),
        _ => None,
    }
}
