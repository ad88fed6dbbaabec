//! Interfaces.

use std::os::fd::{AsFd, AsRawFd};

use futures_util::TryStreamExt;
use mapping::Mac;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
    State,
};
use nix::libc;
use rtnetlink::{LinkBridge, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{GONE, Netlink, NetlinkError, done, done_or, errno};

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index, which stays when it is renamed.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address; a TUN device has none.
    pub mac: Option<Mac>,
    /// It was switched on.
    pub up: bool,
    /// It is on and somebody is at the other end.
    pub running: bool,
    /// The largest packet.
    pub mtu: u32,
    /// The bridge that it belongs to.
    pub controller: Option<u32>,
    /// Packets that the kernel dropped instead of sending: a full TUN queue shows here.
    pub tx_dropped: u64,
    /// What came in.
    pub received: Tally,
    /// What went out.
    pub sent: Tally,
}

/// What an interface counted in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Octets, with their link headers.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

/// An interface to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewLink<'a> {
    name: &'a str,
    mac: Option<Mac>,
    mtu: Option<u32>,
}

impl<'a> NewLink<'a> {
    /// An interface called `name`.
    #[must_use]
    pub const fn new(name: &'a str) -> Self {
        Self {
            name,
            mac: None,
            mtu: None,
        }
    }

    /// What it will be called.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// With this hardware address instead of a random one.
    #[must_use]
    pub const fn mac(mut self, mac: Mac) -> Self {
        self.mac = Some(mac);
        self
    }

    /// With this MTU.
    #[must_use]
    pub const fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    fn attributes(&self) -> Vec<LinkAttribute> {
        let mac = self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec()));
        let mtu = self.mtu.map(LinkAttribute::Mtu);
        mac.into_iter().chain(mtu).collect()
    }

    fn apply<T>(&self, builder: LinkMessageBuilder<T>) -> LinkMessage {
        let mut message = builder.build();
        message.attributes.extend(self.attributes());
        message
    }
}

impl Netlink {
    /// Finds an interface by its name.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer; an absent interface is `None`.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let request = self.handle.link().get().match_name(name).execute();
        one(
            request.try_collect().await,
            format_args!("look up interface {name}"),
        )
    }

    /// Finds an interface by its index.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer; an absent interface is `None`.
    pub async fn link_at(&self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let request = self.handle.link().get().match_index(index).execute();
        one(
            request.try_collect().await,
            format_args!("look up interface {index}"),
        )
    }

    /// The index of the interface called `name`.
    ///
    /// # Errors
    ///
    /// Names the interface when there is none.
    pub async fn index(&self, name: &str) -> Result<u32, NetlinkError> {
        self.link(name)
            .await?
            .map(|link| link.index)
            .ok_or_else(|| NetlinkError {
                action: format!("find interface {name}"),
                source: std::io::Error::from_raw_os_error(libc::ENODEV),
            })
    }

    /// All interfaces.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let messages: Vec<LinkMessage> = done(
            self.handle.link().get().execute().try_collect().await,
            "list interfaces",
        )?;
        Ok(messages.iter().map(Link::from_message).collect())
    }

    /// Switches an interface on.
    ///
    /// # Errors
    ///
    /// Names the interface.
    pub async fn set_up(&self, index: u32) -> Result<(), NetlinkError> {
        let change = LinkUnspec::new_with_index(index).up().build();
        self.change(change, format!("switch interface {index} on"))
            .await
    }

    /// Switches an interface off.
    ///
    /// # Errors
    ///
    /// Names the interface.
    pub async fn set_down(&self, index: u32) -> Result<(), NetlinkError> {
        let change = LinkUnspec::new_with_index(index).down().build();
        self.change(change, format!("switch interface {index} off"))
            .await
    }

    /// Sets the hardware address.
    ///
    /// # Errors
    ///
    /// Names the interface.
    pub async fn set_mac(&self, index: u32, mac: Mac) -> Result<(), NetlinkError> {
        let builder = LinkUnspec::new_with_index(index);
        let change = builder.address(mac.0.to_vec()).build();
        self.change(change, format!("give interface {index} the address {mac}"))
            .await
    }

    /// Sets the largest packet.
    ///
    /// # Errors
    ///
    /// Names the interface.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        let change = LinkUnspec::new_with_index(index).mtu(mtu).build();
        self.change(change, format!("set the MTU of interface {index} to {mtu}"))
            .await
    }

    /// Sets how many packets wait before an interface drops.
    ///
    /// # Errors
    ///
    /// Names the interface.
    pub async fn set_tx_queue_len(&self, index: u32, len: u32) -> Result<(), NetlinkError> {
        let change = LinkUnspec::new_with_index(index).txqueuelen(len).build();
        self.change(
            change,
            format!("set the queue of interface {index} to {len}"),
        )
        .await
    }

    /// Makes an interface a port of the bridge `bridge`.
    ///
    /// # Errors
    ///
    /// Names both.
    pub async fn enslave(&self, index: u32, bridge: u32) -> Result<(), NetlinkError> {
        let change = LinkUnspec::new_with_index(index).controller(bridge).build();
        self.change(
            change,
            format!("make interface {index} a port of bridge {bridge}"),
        )
        .await
    }

    /// Moves an interface into another network namespace.
    ///
    /// # Errors
    ///
    /// Names the interface.
    pub async fn move_to(&self, index: u32, namespace: impl AsFd) -> Result<(), NetlinkError> {
        let fd = namespace.as_fd().as_raw_fd();
        let change = LinkUnspec::new_with_index(index).setns_by_fd(fd).build();
        self.change(
            change,
            format!("move interface {index} to another namespace"),
        )
        .await
    }

    /// Makes two interfaces that are the ends of one cable; `peer` appears in the namespace
    /// `there` straight away, so its name need not be free here.
    ///
    /// # Errors
    ///
    /// Names both ends. Existing ends are an error: they may lead elsewhere.
    pub async fn add_veth(
        &self,
        link: NewLink<'_>,
        peer: NewLink<'_>,
        there: impl AsFd,
    ) -> Result<(), NetlinkError> {
        let fd = there.as_fd().as_raw_fd();
        let far = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer.name)
            .setns_by_fd(fd);
        let data = InfoData::Veth(InfoVeth::Peer(peer.apply(far)));
        let near = LinkVeth::new(link.name, peer.name).set_info_data(data);
        let action = format!("make the veth pair {} - {}", link.name, peer.name);
        done(
            self.handle.link().add(link.apply(near)).execute().await,
            action,
        )
    }

    /// Makes a bridge, switched on, that floods multicast.
    ///
    /// # Errors
    ///
    /// Names the bridge.
    pub async fn add_bridge(&self, link: NewLink<'_>) -> Result<u32, NetlinkError> {
        let bridge = LinkBridge::new(link.name).mcast_snooping(false);
        self.add(link, link.apply(bridge), "bridge").await
    }

    /// Makes a second interface with its own hardware address on the cable of `parent`.
    ///
    /// # Errors
    ///
    /// Names the interface.
    pub async fn add_macvlan(&self, link: NewLink<'_>, parent: u32) -> Result<u32, NetlinkError> {
        let macvlan = LinkMacVlan::new(link.name, parent, MacVlanMode::Bridge);
        self.add(link, link.apply(macvlan), "macvlan").await
    }

    /// Removes an interface.
    ///
    /// # Errors
    ///
    /// Names the interface.
    pub async fn remove_link(&self, index: u32) -> Result<(), NetlinkError> {
        let result = self.handle.link().del(index).execute().await;
        done_or(result, GONE, format_args!("remove interface {index}"))
    }

    async fn add(
        &self,
        link: NewLink<'_>,
        message: LinkMessage,
        kind: &str,
    ) -> Result<u32, NetlinkError> {
        let result = self.handle.link().add(message).execute().await;
        done_or(
            result,
            &[libc::EEXIST],
            format_args!("make the {kind} {}", link.name),
        )?;
        self.index(link.name).await
    }

    async fn change(&self, message: LinkMessage, action: String) -> Result<(), NetlinkError> {
        done(self.handle.link().change(message).execute().await, action)
    }
}

impl Link {
    pub(super) fn from_message(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Up | LinkFlags::Running) && is_settled(message),
            mtu: 0,
            controller: None,
            tx_dropped: 0,
            received: Tally::default(),
            sent: Tally::default(),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Address(bytes) => {
                    link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
                }
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.controller = Some(*index),
                LinkAttribute::Stats64(stats) => {
                    link.tx_dropped = stats.tx_dropped;
                    link.received = Tally {
                        bytes: stats.rx_bytes,
                        packets: stats.rx_packets,
                    };
                    link.sent = Tally {
                        bytes: stats.tx_bytes,
                        packets: stats.tx_packets,
                    };
                }
                _ => {}
            }
        }
        link
    }
}

/// Whether the kernel has looked at the carrier of a veth since it was switched on: until then
/// it calls the interface running and drops what is sent.
fn is_settled(message: &LinkMessage) -> bool {
    let is_veth = message.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::LinkInfo(infos)
            if infos.contains(&LinkInfo::Kind(InfoKind::Veth)))
    });
    !is_veth
        || message
            .attributes
            .contains(&LinkAttribute::OperState(State::Up))
}

fn one(
    result: Result<Vec<LinkMessage>, rtnetlink::Error>,
    action: impl std::fmt::Display,
) -> Result<Option<Link>, NetlinkError> {
    match result {
        Err(error) if errno(&error).is_some_and(|errno| GONE.contains(&errno)) => Ok(None),
        other => Ok(done(other, action)?.first().map(Link::from_message)),
    }
}
