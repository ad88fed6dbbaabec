//! Who is who on a link.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use mapping::Mac;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};

use super::{GONE, Netlink, NetlinkError, done};
use crate::Clock;

impl Netlink {
    /// The MAC to which the kernel sends what is for `addr` on an interface; `None` while it does
    /// not know one.
    ///
    /// # Errors
    ///
    /// Names the address and the interface.
    pub async fn neighbour(&self, ifindex: u32, addr: IpAddr) -> Result<Option<Mac>, NetlinkError> {
        let question = RouteNetlinkMessage::GetNeighbour(question(ifindex, addr));
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
        let mut use_of = question(ifindex, addr);
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
}

fn question(ifindex: u32, addr: IpAddr) -> NeighbourMessage {
    let (family, addr) = match addr {
        IpAddr::V4(addr) => (AddressFamily::Inet, NeighbourAddress::Inet(addr)),
        IpAddr::V6(addr) => (AddressFamily::Inet6, NeighbourAddress::Inet6(addr)),
    };
    let mut question = NeighbourMessage::default();
    question.header.family = family;
    question.header.ifindex = ifindex;
    question
        .attributes
        .push(NeighbourAttribute::Destination(addr));
    question
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

/// A host of the LAN answers within some milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// RFC 4861 §10: it is asked three times, a second apart; PCP's clients ask again after three.
const LAST_PAUSE: Duration = Duration::from_millis(512);
