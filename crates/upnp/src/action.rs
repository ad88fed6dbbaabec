//! The actions that are built, with their arguments: the descriptions of the services and the
//! checks of a call are made of the same table.

use crate::ServiceKind;

macro_rules! argument {
    ($name:literal, $variable:literal) => {
        Argument {
            name: $name,
            variable: $variable,
        }
    };
}

/// An action of one of our services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Opens a port, or another one if it is taken; WANIPConnection:2 §2.5.17.
    AddAnyPortMapping,
    /// Opens a port; WANIPConnection:2 §2.5.16.
    AddPortMapping,
    /// Closes a port; WANIPConnection:2 §2.5.18.
    DeletePortMapping,
    /// Tells what the link is; WANCommonInterfaceConfig:1 §2.4.3.
    GetCommonLinkProperties,
    /// Tells that we route; WANIPConnection:2 §2.5.2.
    GetConnectionTypeInfo,
    /// Tells the external IPv4 address; WANIPConnection:2 §2.5.20.
    GetExternalIpAddress,
    /// Tells a mapping by its index; WANIPConnection:2 §2.5.14.
    GetGenericPortMappingEntry,
    /// Tells that there is a NAT; WANIPConnection:2 §2.5.13.
    GetNatRsipStatus,
    /// Tells a mapping by its external port; WANIPConnection:2 §2.5.15.
    GetSpecificPortMappingEntry,
    /// Tells whether there is a connection; WANIPConnection:2 §2.5.9.
    GetStatusInfo,
}

/// An argument: its name, and the state variable that gives its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// Its state variable.
    pub variable: &'static str,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 10] = [
        Self::AddAnyPortMapping,
        Self::AddPortMapping,
        Self::DeletePortMapping,
        Self::GetCommonLinkProperties,
        Self::GetConnectionTypeInfo,
        Self::GetExternalIpAddress,
        Self::GetGenericPortMappingEntry,
        Self::GetNatRsipStatus,
        Self::GetSpecificPortMappingEntry,
        Self::GetStatusInfo,
    ];

    /// Iterates over the actions of a version of a service.
    pub fn of(service: ServiceKind, version: u8) -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(move |action| action.service() == service && action.since() <= version)
    }

    /// Returns the service that has it.
    #[must_use]
    pub const fn service(self) -> ServiceKind {
        match self {
            Self::GetCommonLinkProperties => ServiceKind::WanCommonInterfaceConfig,
            Self::AddAnyPortMapping
            | Self::AddPortMapping
            | Self::DeletePortMapping
            | Self::GetConnectionTypeInfo
            | Self::GetExternalIpAddress
            | Self::GetGenericPortMappingEntry
            | Self::GetNatRsipStatus
            | Self::GetSpecificPortMappingEntry
            | Self::GetStatusInfo => ServiceKind::WanIpConnection,
        }
    }

    /// Returns the first version of the service that has it.
    const fn since(self) -> u8 {
        match self {
            Self::AddAnyPortMapping => 2,
            Self::AddPortMapping
            | Self::DeletePortMapping
            | Self::GetCommonLinkProperties
            | Self::GetConnectionTypeInfo
            | Self::GetExternalIpAddress
            | Self::GetGenericPortMappingEntry
            | Self::GetNatRsipStatus
            | Self::GetSpecificPortMappingEntry
            | Self::GetStatusInfo => 1,
        }
    }

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddAnyPortMapping => "AddAnyPortMapping",
            Self::AddPortMapping => "AddPortMapping",
            Self::DeletePortMapping => "DeletePortMapping",
            Self::GetCommonLinkProperties => "GetCommonLinkProperties",
            Self::GetConnectionTypeInfo => "GetConnectionTypeInfo",
            Self::GetExternalIpAddress => "GetExternalIPAddress",
            Self::GetGenericPortMappingEntry => "GetGenericPortMappingEntry",
            Self::GetNatRsipStatus => "GetNATRSIPStatus",
            Self::GetSpecificPortMappingEntry => "GetSpecificPortMappingEntry",
            Self::GetStatusInfo => "GetStatusInfo",
        }
    }

    /// Returns what it takes, in order.
    #[must_use]
    pub const fn inputs(self) -> &'static [Argument] {
        match self {
            Self::AddAnyPortMapping | Self::AddPortMapping => &[
                REMOTE_HOST,
                EXTERNAL_PORT,
                PROTOCOL,
                INTERNAL_PORT,
                INTERNAL_CLIENT,
                ENABLED,
                DESCRIPTION,
                LEASE,
            ],
            Self::DeletePortMapping | Self::GetSpecificPortMappingEntry => {
                &[REMOTE_HOST, EXTERNAL_PORT, PROTOCOL]
            }
            Self::GetGenericPortMappingEntry => &[argument!(
                "NewPortMappingIndex",
                "PortMappingNumberOfEntries"
            )],
            Self::GetCommonLinkProperties
            | Self::GetConnectionTypeInfo
            | Self::GetExternalIpAddress
            | Self::GetNatRsipStatus
            | Self::GetStatusInfo => &[],
        }
    }

    /// Returns what it gives, in order.
    #[must_use]
    pub const fn outputs(self) -> &'static [Argument] {
        match self {
            Self::AddPortMapping | Self::DeletePortMapping => &[],
            Self::AddAnyPortMapping => &[argument!("NewReservedPort", "ExternalPort")],
            Self::GetCommonLinkProperties => &[
                argument!("NewWANAccessType", "WANAccessType"),
                argument!("NewLayer1UpstreamMaxBitRate", "Layer1UpstreamMaxBitRate"),
                argument!(
                    "NewLayer1DownstreamMaxBitRate",
                    "Layer1DownstreamMaxBitRate"
                ),
                argument!("NewPhysicalLinkStatus", "PhysicalLinkStatus"),
            ],
            Self::GetConnectionTypeInfo => &[
                argument!("NewConnectionType", "ConnectionType"),
                argument!("NewPossibleConnectionTypes", "PossibleConnectionTypes"),
            ],
            Self::GetExternalIpAddress => &[argument!("NewExternalIPAddress", "ExternalIPAddress")],
            Self::GetGenericPortMappingEntry => &[
                REMOTE_HOST,
                EXTERNAL_PORT,
                PROTOCOL,
                INTERNAL_PORT,
                INTERNAL_CLIENT,
                ENABLED,
                DESCRIPTION,
                LEASE,
            ],
            Self::GetNatRsipStatus => &[
                argument!("NewRSIPAvailable", "RSIPAvailable"),
                argument!("NewNATEnabled", "NATEnabled"),
            ],
            Self::GetSpecificPortMappingEntry => {
                &[INTERNAL_PORT, INTERNAL_CLIENT, ENABLED, DESCRIPTION, LEASE]
            }
            Self::GetStatusInfo => &[
                argument!("NewConnectionStatus", "ConnectionStatus"),
                argument!("NewLastConnectionError", "LastConnectionError"),
                argument!("NewUptime", "Uptime"),
            ],
        }
    }
}

/// Tells whether the standard gives the service an action that is not built.
pub(crate) fn is_standard(service: ServiceKind, version: u8, name: &str) -> bool {
    let names: &[&str] = match service {
        ServiceKind::WanCommonInterfaceConfig => &[
            "GetActiveConnection",
            "GetEnabledForInternet",
            "GetMaximumActiveConnections",
            "GetTotalBytesReceived",
            "GetTotalBytesSent",
            "GetTotalPacketsReceived",
            "GetTotalPacketsSent",
            "GetWANAccessProvider",
            "SetEnabledForInternet",
        ],
        ServiceKind::WanIpConnection => &[
            "ForceTermination",
            "GetAutoDisconnectTime",
            "GetIdleDisconnectTime",
            "GetWarnDisconnectDelay",
            "RequestConnection",
            "RequestTermination",
            "SetAutoDisconnectTime",
            "SetConnectionType",
            "SetIdleDisconnectTime",
            "SetWarnDisconnectDelay",
        ],
    };
    let second = service == ServiceKind::WanIpConnection
        && version >= 2
        && ["DeletePortMappingRange", "GetListOfPortMappings"].contains(&name);
    names.contains(&name) || second
}

/// A UPnP error code with its description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// UDA 1.1 §3.2.2: the service has no such action.
    InvalidAction,
    /// UDA 1.1 §3.2.2: an argument is missing, doubled or of the wrong type.
    InvalidArgs,
    /// UDA 1.1 §3.2.2: not now, or not built.
    ActionFailed,
    /// UDA 1.1 §3.2.2: a value outside its allowed range or list.
    ArgumentValueOutOfRange,
    /// UDA 1.1 §3.2.2, U-7.
    ActionNotAuthorized,
    /// U-9: the index of `GetGenericPortMappingEntry`.
    SpecifiedArrayIndexInvalid,
    /// U-9: the mapping of `GetSpecificPortMappingEntry` and `DeletePortMapping`.
    NoSuchEntryInArray,
    /// U-6: no `NewInternalClient`.
    WildCardNotPermittedInSrcIp,
    /// U-6: an external port of zero.
    WildCardNotPermittedInExtPort,
    /// U-7: the external port leads elsewhere.
    ConflictInMappingEntry,
    /// U-6: a single remote host.
    RemoteHostOnlySupportsWildcard,
    /// U-7: the client has as many mappings as it may.
    NoPortMapsAvailable,
    /// U-6: an internal port of zero.
    WildCardNotPermittedInIntPort,
}

impl ErrorCode {
    /// Returns the number.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::InvalidAction => 401,
            Self::InvalidArgs => 402,
            Self::ActionFailed => 501,
            Self::ArgumentValueOutOfRange => 601,
            Self::ActionNotAuthorized => 606,
            Self::SpecifiedArrayIndexInvalid => 713,
            Self::NoSuchEntryInArray => 714,
            Self::WildCardNotPermittedInSrcIp => 715,
            Self::WildCardNotPermittedInExtPort => 716,
            Self::ConflictInMappingEntry => 718,
            Self::RemoteHostOnlySupportsWildcard => 726,
            Self::NoPortMapsAvailable => 728,
            Self::WildCardNotPermittedInIntPort => 732,
        }
    }

    /// Returns the name that the standard gives it.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::InvalidAction => "Invalid Action",
            Self::InvalidArgs => "Invalid Args",
            Self::ActionFailed => "Action Failed",
            Self::ArgumentValueOutOfRange => "Argument Value Out of Range",
            Self::ActionNotAuthorized => "Action not authorized",
            Self::SpecifiedArrayIndexInvalid => "SpecifiedArrayIndexInvalid",
            Self::NoSuchEntryInArray => "NoSuchEntryInArray",
            Self::WildCardNotPermittedInSrcIp => "WildCardNotPermittedInSrcIP",
            Self::WildCardNotPermittedInExtPort => "WildCardNotPermittedInExtPort",
            Self::ConflictInMappingEntry => "ConflictInMappingEntry",
            Self::RemoteHostOnlySupportsWildcard => "RemoteHostOnlySupportsWildcard",
            Self::NoPortMapsAvailable => "NoPortMapsAvailable",
            Self::WildCardNotPermittedInIntPort => "WildCardNotPermittedInIntPort",
        }
    }
}

const REMOTE_HOST: Argument = argument!("NewRemoteHost", "RemoteHost");
const EXTERNAL_PORT: Argument = argument!("NewExternalPort", "ExternalPort");
const PROTOCOL: Argument = argument!("NewProtocol", "PortMappingProtocol");
const INTERNAL_PORT: Argument = argument!("NewInternalPort", "InternalPort");
const INTERNAL_CLIENT: Argument = argument!("NewInternalClient", "InternalClient");
const ENABLED: Argument = argument!("NewEnabled", "PortMappingEnabled");
const DESCRIPTION: Argument = argument!("NewPortMappingDescription", "PortMappingDescription");
const LEASE: Argument = argument!("NewLeaseDuration", "PortMappingLeaseDuration");
