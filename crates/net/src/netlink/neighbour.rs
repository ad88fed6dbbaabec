//! Who is who on a link.

use std::net::IpAddr;

use futures_util::StreamExt as _;
use mapping::Mac;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};

use super::{GONE, Netlink, NetlinkError, done};

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
