//! What a DHCPREQUEST is about.

use std::net::Ipv4Addr;

use super::Meta;
use crate::counters::DropReason;
use crate::wire::Received;

/// The state of a client that sends DHCPREQUEST (RFC 2131 §4.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    InitReboot,
    Rebinding,
    Renewing,
    Selecting,
}

/// RFC 2131 §4.3.2, Table 4: what tells the states apart.
pub(super) fn state_of(message: &Received, meta: Meta) -> Result<(State, Ipv4Addr), DropReason> {
    if message.server_id.is_some() {
        let addr = message.requested.ok_or(DropReason::Unaddressed)?;
        return Ok((State::Selecting, addr));
    }
    if !message.ciaddr.is_unspecified() {
        let state = if meta.unicast {
            State::Renewing
        } else {
            State::Rebinding
        };
        return Ok((state, message.ciaddr));
    }
    let addr = message.requested.ok_or(DropReason::Unaddressed)?;
    Ok((State::InitReboot, addr))
}
