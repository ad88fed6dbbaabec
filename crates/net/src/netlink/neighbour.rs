//! Neighbours: which MAC an address of a link leads to, and whom we answer for (proxy ARP and
//! proxy NDP).

use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use mapping::Mac;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};

use super::{GONE, Netlink, NetlinkError, done, done_or};
use crate::Clock;

impl Netlink {
    /// The MAC to which the kernel sends what is for `addr` on an interface; `None` while it does
    /// not know one.
    ///
    /// # Errors
    ///
    /// Names the address and the interface.
    pub async fn neighbour(&self, ifindex: u32, addr: IpAddr) -> Result<Option<Mac>, NetlinkError> {
        let question = RouteNetlinkMessage::GetNeighbour(entry(ifindex, addr));
        let mut request = NetlinkMessage::from(question);
        request.header.flags = NLM_F_REQUEST;
        let action = format!("look for {addr} on interface {ifindex}");
        let mut answers = done(self.handle.clone().request(request), &action)?;
        let Some(answer) = answers.next().await else {
            return Ok(None);
        };
        match answer.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(found)) => {
                Ok(mac_of(&found))
            }
            NetlinkPayload::Error(error) => {
                let errno = error.to_io().raw_os_error();
                if errno.is_some_and(|errno| GONE.contains(&errno)) {
                    return Ok(None);
                }
                done(Err(rtnetlink::Error::NetlinkError(error)), action)
            }
            _ => Ok(None),
        }
    }

    /// Tells whether the kernel sends what is for `addr` on an interface to `mac`. Where it does
    /// not know the address yet it looks for it, and the answer takes as long as that, at most
    /// a second.
    ///
    /// # Errors
    ///
    /// Names the address and the interface.
    pub async fn leads_to(
        &self,
        ifindex: u32,
        addr: IpAddr,
        mac: Mac,
    ) -> Result<bool, NetlinkError> {
        let mut found = self.neighbour(ifindex, addr).await?;
        if found == Some(mac) {
            return Ok(true);
        }
        // what it knows may be old: then it looks whether that is still there
        self.seek(ifindex, addr).await?;
        let clock = Clock::new();
        let mut pause = FIRST_PAUSE;
        while found.is_none() && pause <= LAST_PAUSE {
            clock.sleep_until(clock.mono() + pause).await;
            found = self.neighbour(ifindex, addr).await?;
            pause = pause.saturating_mul(2);
        }
        Ok(found == Some(mac))
    }

    /// Lets the kernel look for whoever is at `addr`, as if it had something to send there.
    async fn seek(&self, ifindex: u32, addr: IpAddr) -> Result<(), NetlinkError> {
        let mut use_of = entry(ifindex, addr);
        use_of.header.flags = NeighbourFlags::Use;
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(use_of));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        let action = format!("have {addr} looked for on interface {ifindex}");
        let mut answers = done(self.handle.clone().request(request), &action)?;
        match answers.next().await.map(|answer| answer.payload) {
            Some(NetlinkPayload::Error(error)) if error.code.is_some() => {
                done(Err(rtnetlink::Error::NetlinkError(error)), action)
            }
            _ => Ok(()),
        }
    }

    /// Answers ARP or neighbour solicitations for `addr` on an interface, in the name of
    /// whoever has it. For IPv6 the interface's `proxy_ndp` must be on as well.
    ///
    /// # Errors
    ///
    /// Names the address and the interface.
    pub async fn add_proxy(&self, ifindex: u32, addr: IpAddr) -> Result<(), NetlinkError> {
        let request = self
            .handle
            .neighbours()
            .add(ifindex, addr)
            .flags(NeighbourFlags::Proxy)
            .replace();
        let action = format!("answer for {addr} on interface {ifindex}");
        done_or(request.execute().await, &[libc::EEXIST], action)
    }

    /// Ends [`Self::add_proxy`].
    ///
    /// # Errors
    ///
    /// Names the address and the interface.
    pub async fn remove_proxy(&self, ifindex: u32, addr: IpAddr) -> Result<(), NetlinkError> {
        let mut message = entry(ifindex, addr);
        message.header.flags = NeighbourFlags::Proxy;
        let action = format!("stop answering for {addr} on interface {ifindex}");
        done_or(
            self.handle.neighbours().del(message).execute().await,
            GONE,
            action,
        )
    }

    /// The addresses for which an interface answers in the name of others.
    ///
    /// # Errors
    ///
    /// Names the interface.
    pub async fn proxies(&self, ifindex: u32) -> Result<Vec<IpAddr>, NetlinkError> {
        let request = self.handle.neighbours().get().proxies().execute();
        let action = format!("list whom interface {ifindex} answers for");
        let messages: Vec<NeighbourMessage> = done(request.try_collect().await, action)?;
        let ours = messages
            .iter()
            .filter(|message| message.header.ifindex == ifindex);
        Ok(ours
            .flat_map(|message| &message.attributes)
            .filter_map(destination)
            .collect())
    }
}

/// An entry of the neighbour table, to ask for or to change.
fn entry(ifindex: u32, addr: IpAddr) -> NeighbourMessage {
    let (family, addr) = match addr {
        IpAddr::V4(addr) => (AddressFamily::Inet, NeighbourAddress::Inet(addr)),
        IpAddr::V6(addr) => (AddressFamily::Inet6, NeighbourAddress::Inet6(addr)),
    };
    let mut entry = NeighbourMessage::default();
    entry.header.family = family;
    entry.header.ifindex = ifindex;
    entry.attributes.push(NeighbourAttribute::Destination(addr));
    entry
}

/// What the kernel would send to: not what it is still looking for, or found nobody at.
fn mac_of(found: &NeighbourMessage) -> Option<Mac> {
    let useless = [
        NeighbourState::None,
        NeighbourState::Incomplete,
        NeighbourState::Failed,
    ];
    if useless.contains(&found.header.state) {
        return None;
    }
    found
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(addr) => {
                <[u8; 6]>::try_from(addr.as_slice()).ok().map(Mac)
            }
            _ => None,
        })
}

fn destination(attribute: &NeighbourAttribute) -> Option<IpAddr> {
    match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(addr)) => Some((*addr).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(addr)) => Some((*addr).into()),
        _ => None,
    }
}

/// A host of the LAN answers within some milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// RFC 4861 §10: it is asked three times, a second apart; PCP's clients ask again after three.
const LAST_PAUSE: Duration = Duration::from_millis(512);
