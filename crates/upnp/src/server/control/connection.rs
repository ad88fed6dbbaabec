//! The connection itself (WANIPConnection:2 §2.5.1 to §2.5.13 and §2.5.20, Layer3Forwarding:1).
//!
//! It is always on: no device on the LAN takes it down for the others, now or later, so what
//! would is refused with 606, and only the values that say so can be set.

use mapping::{Now, Snapshot};

use super::{Caller, Fault, invalid, refused};
use crate::server::arguments::Arguments;
use crate::server::state;
use crate::{Action, ErrorCode, ServiceKind};

pub(super) fn answer(
    action: Action,
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
    snapshot: &Snapshot,
    now: Now,
) -> Result<Vec<String>, Fault> {
    let connected = state::is_connected(snapshot);
    let set_never = |name| match arguments.number::<u32>(name)? {
        0 => Ok(Vec::new()),
        _ => Err(refused(ErrorCode::ActionNotAuthorized)),
    };
    match action {
        Action::ForceTermination | Action::RequestTermination => Err(refused(match connected {
            true => ErrorCode::ActionNotAuthorized,
            false => ErrorCode::ConnectionAlreadyTerminated,
        })),
        Action::GetConnectionTypeInfo => Ok(["IP_Routed", "IP_Routed"].map(str::to_owned).to_vec()),
        Action::GetDefaultConnectionService => {
            Ok(vec![caller.identity.default_connection(caller.edition)])
        }
        Action::GetExternalIpAddress => Ok(vec![state::external_ip_address(snapshot).to_string()]),
        Action::GetNatRsipStatus => Ok(["0", "1"].map(str::to_owned).to_vec()),
        Action::GetStatusInfo => {
            let status = state::connection_status(snapshot);
            // the PCP epoch runs for as long as the external addresses have stayed the same
            let uptime = if connected {
                snapshot.pcp_epoch(now)
            } else {
                0
            };
            let status = [status.to_owned(), "ERROR_NONE".to_owned()];
            Ok(status.into_iter().chain([uptime.to_string()]).collect())
        }
        Action::RequestConnection => match connected {
            true => Ok(Vec::new()),
            false => Err(refused(ErrorCode::ConnectionSetupFailed)),
        },
        Action::SetAutoDisconnectTime => set_never("NewAutoDisconnectTime"),
        Action::SetIdleDisconnectTime => set_never("NewIdleDisconnectTime"),
        Action::SetWarnDisconnectDelay => set_never("NewWarnDisconnectDelay"),
        Action::SetConnectionType => set_type(arguments, caller, connected),
        Action::SetDefaultConnectionService => set_default(arguments, caller),
        // GetAutoDisconnectTime, GetIdleDisconnectTime, GetWarnDisconnectDelay: never
        _ => Ok(vec!["0".to_owned()]),
    }
}

/// U-16. Version 1 has no word for a value that cannot be changed.
fn set_type(
    arguments: &Arguments<'_>,
    caller: Caller<'_>,
    connected: bool,
) -> Result<Vec<String>, Fault> {
    let wanted = arguments.text("NewConnectionType")?.trim();
    if !["Unconfigured", "IP_Routed", "IP_Bridged"].contains(&wanted) {
        return Err(invalid(ErrorCode::ArgumentValueOutOfRange));
    }
    Err(refused(match (caller.version, connected) {
        (1, true) => ErrorCode::InactiveConnectionStateRequired,
        (1, false) => ErrorCode::ActionFailed,
        _ => ErrorCode::ReadOnly,
    }))
}

/// Layer3Forwarding:1, `SetDefaultConnectionService`: there is one connection, so the only value is what it is.
fn set_default(arguments: &Arguments<'_>, caller: Caller<'_>) -> Result<Vec<String>, Fault> {
    let wanted = arguments.text("NewDefaultConnectionService")?.trim();
    let selection = refused(ErrorCode::InvalidConnServiceSelection);
    let (device, service) = wanted.split_once(',').ok_or(selection)?;
    if device != caller.identity.connection_device(caller.edition) {
        return Err(refused(ErrorCode::InvalidDeviceUuid));
    }
    if service != ServiceKind::WanIpConnection.id() {
        return Err(refused(ErrorCode::InvalidServiceId));
    }
    Ok(Vec::new())
}
