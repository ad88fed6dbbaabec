//! The link to the provider (WANCommonInterfaceConfig:1).

use mapping::Snapshot;

use super::{Caller, Fault, refused};
use crate::server::arguments::Arguments;
use crate::server::state;
use crate::{Action, ErrorCode, ServiceKind};

/// What the WAN interface counted, and whether somebody is at its other end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Somebody is at the other end.
    pub up: bool,
    /// Octets that came in.
    pub bytes_received: u64,
    /// Octets that went out.
    pub bytes_sent: u64,
    /// Packets that came in.
    pub packets_received: u64,
    /// Packets that went out.
    pub packets_sent: u64,
}

pub(super) fn answer(
    action: Action,
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
    snapshot: &Snapshot,
) -> Result<Vec<String>, Fault> {
    match action {
        Action::GetActiveConnection => {
            let index = arguments.number::<u16>("NewActiveConnectionIndex")?;
            if index != 0 || !state::is_connected(snapshot) {
                return Err(refused(ErrorCode::SpecifiedArrayIndexInvalid));
            }
            Ok(vec![
                caller.identity.connection_device(caller.edition),
                ServiceKind::WanIpConnection.id().to_owned(),
            ])
        }
        Action::GetMaximumActiveConnections => Ok(vec!["1".to_owned()]),
        // nobody tells us who that is
        Action::GetWanAccessProvider => Ok(vec![String::new()]),
        Action::SetEnabledForInternet => match arguments.boolean("NewEnabledForInternet")? {
            true => Ok(Vec::new()),
            // one device does not take the Internet from all the others
            false => Err(refused(ErrorCode::ActionNotAuthorized)),
        },
        _ => Ok(vec![state::flag(true).to_owned()]),
    }
}

/// A `ui4` runs over after 4 GiB, which is what control points expect of it.
pub(super) fn outputs(action: Action, traffic: Traffic) -> Vec<String> {
    let wrapped = |count: u64| vec![(count & u64::from(u32::MAX)).to_string()];
    match action {
        Action::GetTotalBytesReceived => wrapped(traffic.bytes_received),
        Action::GetTotalBytesSent => wrapped(traffic.bytes_sent),
        Action::GetTotalPacketsReceived => wrapped(traffic.packets_received),
        Action::GetTotalPacketsSent => wrapped(traffic.packets_sent),
        _ => {
            let status = state::link_status(traffic.up);
            // zero: the link's speed says nothing of the provider's, which nobody tells us
            ["Ethernet", "0", "0", status].map(str::to_owned).to_vec()
        }
    }
}
