//! What the machine wants of UPnP, done by igd-next.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{
    AddAnyPortError, AddPortError, GetExternalIpError, PortMappingProtocol, RemovePortError,
    RequestError, SearchOptions,
};
use mapping::Protocol;

use crate::upnp::{Action, Answer, Failure};

/// The gateway that was found last.
#[derive(Debug, Clone, Default)]
pub(super) struct Igd(Option<Arc<Gateway<Tokio>>>);

/// What became of an action, and who is the gateway from now on if that changed.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) answer: Answer,
    pub(super) igd: Option<Igd>,
}

impl Igd {
    pub(super) async fn act(self, action: Action) -> Done {
        let done = async {
            if let Action::Search {
                router,
                local,
                multicast,
            } = action
            {
                return search(router, local, multicast).await;
            }
            let answer = match &self.0 {
                Some(gateway) => control(gateway, action).await,
                None => Err(Failure::Unreachable),
            };
            Done {
                answer: answer.unwrap_or_else(Answer::Failed),
                igd: None,
            }
        };
        let late = Done {
            answer: Answer::Failed(Failure::Unreachable),
            igd: None,
        };
        tokio::time::timeout(PATIENCE, done).await.unwrap_or(late)
    }
}

/// The router is asked by itself, so that no neighbour on the WAN poses as it.
async fn search(router: Ipv4Addr, local: Ipv4Addr, multicast: bool) -> Done {
    let mut options = SearchOptions::default();
    options.bind_addr = SocketAddrV4::new(local, 0).into();
    if !multicast {
        options.broadcast_address = SocketAddrV4::new(router, SSDP).into();
    }
    options.timeout = Some(SEARCH);
    options.single_search_timeout = Some(SEARCH);
    match search_gateway(options).await {
        Ok(gateway) if gateway.addr.ip() == IpAddr::V4(router) => Done {
            answer: Answer::Found,
            igd: Some(Igd(Some(Arc::new(gateway)))),
        },
        Ok(_) => Done {
            answer: Answer::Failed(Failure::Refused("not_our_router")),
            igd: None,
        },
        Err(error) => {
            tracing::debug!(%error, "no upstream gateway answers by UPnP");
            Done {
                answer: Answer::Failed(Failure::Unreachable),
                igd: None,
            }
        }
    }
}

async fn control(gateway: &Gateway<Tokio>, action: Action) -> Result<Answer, Failure> {
    match action {
        Action::Search { .. } => Err(Failure::Unreachable),
        Action::ExternalAddress => match gateway.get_external_ip().await {
            Ok(addr) => Ok(Answer::ExternalAddress(
                Some(addr).filter(|addr| !addr.is_unspecified()),
            )),
            // many say nothing while their own WAN has no address
            Err(GetExternalIpError::RequestError(error)) => match request(&error) {
                Failure::Unreachable => Err(Failure::Unreachable),
                _ => Ok(Answer::ExternalAddress(None)),
            },
            Err(GetExternalIpError::ActionNotAuthorized) => Err(NOT_AUTHORIZED),
        },
        Action::Remove { external, protocol } => {
            match gateway.remove_port(of(protocol), external).await {
                Ok(()) | Err(RemovePortError::NoSuchPortMapping) => Ok(Answer::Removed),
                Err(RemovePortError::ActionNotAuthorized) => Err(NOT_AUTHORIZED),
                Err(RemovePortError::RequestError(error)) => Err(request(&error)),
            }
        }
        Action::Add {
            external,
            internal,
            protocol,
            lease,
            any,
        } => {
            let (protocol, to) = (of(protocol), SocketAddr::V4(internal));
            if any {
                let added = gateway.add_any_port(protocol, to, lease, DESCRIPTION).await;
                let external = added.map_err(|error| any_failure(&error))?;
                return Ok(Answer::Added { external });
            }
            let added = gateway.add_port(protocol, external, to, lease, DESCRIPTION);
            added.await.map_err(|error| failure(&error))?;
            Ok(Answer::Added { external })
        }
    }
}

const fn failure(error: &AddPortError) -> Failure {
    match error {
        AddPortError::ActionNotAuthorized => NOT_AUTHORIZED,
        AddPortError::PortInUse => Failure::Conflict,
        AddPortError::OnlyPermanentLeasesSupported => Failure::OnlyPermanent,
        AddPortError::RequestError(error) => request(error),
        AddPortError::DescriptionTooLong
        | AddPortError::ExternalPortZeroInvalid
        | AddPortError::InternalPortZeroInvalid
        | AddPortError::SamePortValuesRequired => Failure::Refused("invalid_args"),
    }
}

const fn any_failure(error: &AddAnyPortError) -> Failure {
    match error {
        AddAnyPortError::ActionNotAuthorized => NOT_AUTHORIZED,
        AddAnyPortError::ExternalPortInUse | AddAnyPortError::NoPortsAvailable => Failure::Conflict,
        AddAnyPortError::OnlyPermanentLeasesSupported => Failure::OnlyPermanent,
        AddAnyPortError::RequestError(error) => request(error),
        AddAnyPortError::DescriptionTooLong | AddAnyPortError::InternalPortZeroInvalid => {
            Failure::Refused("invalid_args")
        }
    }
}

/// Whether the gateway said no, or nothing that can be understood.
const fn request(error: &RequestError) -> Failure {
    match error {
        RequestError::ErrorCode(501, _) => Failure::Refused("action_failed"),
        RequestError::ErrorCode(606, _) => NOT_AUTHORIZED,
        RequestError::ErrorCode(718, _) => Failure::Conflict,
        RequestError::ErrorCode(725, _) => Failure::OnlyPermanent,
        RequestError::ErrorCode(728, _) => Failure::Refused("no_port_maps_available"),
        RequestError::ErrorCode(..) => Failure::Refused("error"),
        RequestError::UnsupportedAction(_) => Failure::Refused("unsupported_action"),
        _ => Failure::Unreachable,
    }
}

const fn of(protocol: Protocol) -> PortMappingProtocol {
    match protocol {
        Protocol::Tcp => PortMappingProtocol::TCP,
        Protocol::Udp => PortMappingProtocol::UDP,
    }
}

const NOT_AUTHORIZED: Failure = Failure::Refused("not_authorized");

/// What the gateway's own page shows.
const DESCRIPTION: &str = "Portico";

/// UPnP Device Architecture 1.1 §1.
const SSDP: u16 = 1900;

/// A router answers its own neighbour sooner.
const SEARCH: Duration = Duration::from_secs(4);

/// Longer than the library waits, and no action holds up the others for ever.
const PATIENCE: Duration = Duration::from_secs(25);
