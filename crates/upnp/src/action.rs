//! The actions with their arguments: the descriptions of the services and the checks of a call
//! are made of the same table.

use crate::ServiceKind;
use ServiceKind::{Layer3Forwarding, WanCommonInterfaceConfig, WanIpConnection, WanIpv6Firewall};

/// An argument: its name, and the state variable that gives its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// Its state variable.
    pub variable: &'static str,
}

const fn argument(name: &'static str, variable: &'static str) -> Argument {
    Argument { name, variable }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $service:ident $since:literal,
        [$($input:expr),* $(,)?] => [$($output:expr),* $(,)?];)*) => {
        /// An action of one of our services.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Action {
            $($(#[$doc])* $variant,)*
        }

        impl Action {
            /// Every action.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// Returns the service that has it.
            #[must_use]
            pub const fn service(self) -> ServiceKind {
                match self {
                    $(Self::$variant => $service,)*
                }
            }

            /// Returns the first version of the service that has it.
            #[must_use]
            pub const fn since(self) -> u8 {
                match self {
                    $(Self::$variant => $since,)*
                }
            }

            /// Returns its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Returns what it takes, in order.
            #[must_use]
            pub const fn inputs(self) -> &'static [Argument] {
                match self {
                    $(Self::$variant => const { &[$($input),*] },)*
                }
            }

            /// Returns what it gives, in order.
            #[must_use]
            pub const fn outputs(self) -> &'static [Argument] {
                match self {
                    $(Self::$variant => const { &[$($output),*] },)*
                }
            }
        }
    };
}

impl Action {
    /// Iterates over the actions of a version of a service.
    pub fn of(service: ServiceKind, version: u8) -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(move |action| action.service() == service && action.since() <= version)
    }
}

actions! {
    /// Opens a port, or another one if it is taken; WANIPConnection:2 §2.5.17.
    AddAnyPortMapping = "AddAnyPortMapping", WanIpConnection 2,
        [REMOTE_HOST, EXTERNAL_PORT, PROTOCOL, INTERNAL_PORT, INTERNAL_CLIENT, ENABLED, DESCRIPTION, LEASE]
        => [argument("NewReservedPort", "ExternalPort")];
    /// Lets remotes reach a native IPv6 host; WANIPv6FirewallControl:1.
    AddPinhole = "AddPinhole", WanIpv6Firewall 1,
        [PINHOLE_REMOTE, PINHOLE_REMOTE_PORT, PINHOLE_CLIENT, PINHOLE_PORT, PINHOLE_PROTOCOL,
            argument("LeaseTime", "A_ARG_TYPE_LeaseTime")]
        => [UNIQUE_ID];
    /// Opens a port; WANIPConnection:2 §2.5.16.
    AddPortMapping = "AddPortMapping", WanIpConnection 1,
        [REMOTE_HOST, EXTERNAL_PORT, PROTOCOL, INTERNAL_PORT, INTERNAL_CLIENT, ENABLED, DESCRIPTION, LEASE]
        => [];
    /// Tells whether a pinhole passed packets; WANIPv6FirewallControl:1.
    CheckPinholeWorking = "CheckPinholeWorking", WanIpv6Firewall 1,
        [UNIQUE_ID] => [argument("IsWorking", "A_ARG_TYPE_Boolean")];
    /// Closes a pinhole; WANIPv6FirewallControl:1.
    DeletePinhole = "DeletePinhole", WanIpv6Firewall 1, [UNIQUE_ID] => [];
    /// Closes a port; WANIPConnection:2 §2.5.18.
    DeletePortMapping = "DeletePortMapping", WanIpConnection 1,
        [REMOTE_HOST, EXTERNAL_PORT, PROTOCOL] => [];
    /// Closes ports; WANIPConnection:2 §2.5.19.
    DeletePortMappingRange = "DeletePortMappingRange", WanIpConnection 2,
        [START_PORT, END_PORT, PROTOCOL, MANAGE] => [];
    /// Takes the connection down; WANIPConnection:2 §2.5.5.
    ForceTermination = "ForceTermination", WanIpConnection 1, [] => [];
    /// Tells which connection is active; WANCommonInterfaceConfig:1.
    GetActiveConnection = "GetActiveConnection", WanCommonInterfaceConfig 1,
        [argument("NewActiveConnectionIndex", "NumberOfActiveConnections")]
        => [argument("NewActiveConnDeviceContainer", "ActiveConnectionDeviceContainer"),
            argument("NewActiveConnectionServiceID", "ActiveConnectionServiceID")];
    /// Tells when the connection ends by itself; WANIPConnection:2 §2.5.10.
    GetAutoDisconnectTime = "GetAutoDisconnectTime", WanIpConnection 1, [] => [AUTO_DISCONNECT];
    /// Tells what the link is; WANCommonInterfaceConfig:1.
    GetCommonLinkProperties = "GetCommonLinkProperties", WanCommonInterfaceConfig 1, []
        => [argument("NewWANAccessType", "WANAccessType"),
            argument("NewLayer1UpstreamMaxBitRate", "Layer1UpstreamMaxBitRate"),
            argument("NewLayer1DownstreamMaxBitRate", "Layer1DownstreamMaxBitRate"),
            argument("NewPhysicalLinkStatus", "PhysicalLinkStatus")];
    /// Tells that we route; WANIPConnection:2 §2.5.2.
    GetConnectionTypeInfo = "GetConnectionTypeInfo", WanIpConnection 1, []
        => [CONNECTION_TYPE, argument("NewPossibleConnectionTypes", "PossibleConnectionTypes")];
    /// Tells the connection that is used by default; Layer3Forwarding:1.
    GetDefaultConnectionService = "GetDefaultConnectionService", Layer3Forwarding 1, []
        => [DEFAULT_CONNECTION];
    /// Tells that the LAN may use the Internet; WANCommonInterfaceConfig:1.
    GetEnabledForInternet = "GetEnabledForInternet", WanCommonInterfaceConfig 1, []
        => [ENABLED_FOR_INTERNET];
    /// Tells the external IPv4 address; WANIPConnection:2 §2.5.20.
    GetExternalIpAddress = "GetExternalIPAddress", WanIpConnection 1, []
        => [argument("NewExternalIPAddress", "ExternalIPAddress")];
    /// Tells what is carried for native IPv6 hosts; WANIPv6FirewallControl:1.
    GetFirewallStatus = "GetFirewallStatus", WanIpv6Firewall 1, []
        => [argument("FirewallEnabled", "FirewallEnabled"),
            argument("InboundPinholeAllowed", "InboundPinholeAllowed")];
    /// Tells a mapping by its index; WANIPConnection:2 §2.5.14.
    GetGenericPortMappingEntry = "GetGenericPortMappingEntry", WanIpConnection 1,
        [argument("NewPortMappingIndex", "PortMappingNumberOfEntries")]
        => [REMOTE_HOST, EXTERNAL_PORT, PROTOCOL, INTERNAL_PORT, INTERNAL_CLIENT, ENABLED, DESCRIPTION, LEASE];
    /// Tells when an idle connection ends; WANIPConnection:2 §2.5.11.
    GetIdleDisconnectTime = "GetIdleDisconnectTime", WanIpConnection 1, [] => [IDLE_DISCONNECT];
    /// Tells many mappings; WANIPConnection:2 §2.5.21.
    GetListOfPortMappings = "GetListOfPortMappings", WanIpConnection 2,
        [START_PORT, END_PORT, PROTOCOL, MANAGE,
            argument("NewNumberOfPorts", "PortMappingNumberOfEntries")]
        => [argument("NewPortListing", "A_ARG_TYPE_PortListing")];
    /// Tells how many connections there may be; WANCommonInterfaceConfig:1.
    GetMaximumActiveConnections = "GetMaximumActiveConnections", WanCommonInterfaceConfig 1, []
        => [argument("NewMaximumActiveConnections", "MaximumActiveConnections")];
    /// Tells that there is a NAT; WANIPConnection:2 §2.5.13.
    GetNatRsipStatus = "GetNATRSIPStatus", WanIpConnection 1, []
        => [argument("NewRSIPAvailable", "RSIPAvailable"), argument("NewNATEnabled", "NATEnabled")];
    /// Tells for how long answers come in; WANIPv6FirewallControl:1.
    GetOutboundPinholeTimeout = "GetOutboundPinholeTimeout", WanIpv6Firewall 1,
        [PINHOLE_REMOTE, PINHOLE_REMOTE_PORT, PINHOLE_CLIENT, PINHOLE_PORT, PINHOLE_PROTOCOL]
        => [argument("OutboundPinholeTimeout", "A_ARG_TYPE_OutboundPinholeTimeout")];
    /// Tells how many packets a pinhole passed; WANIPv6FirewallControl:1.
    GetPinholePackets = "GetPinholePackets", WanIpv6Firewall 1,
        [UNIQUE_ID] => [argument("PinholePackets", "A_ARG_TYPE_PinholePackets")];
    /// Tells a mapping by its external port; WANIPConnection:2 §2.5.15.
    GetSpecificPortMappingEntry = "GetSpecificPortMappingEntry", WanIpConnection 1,
        [REMOTE_HOST, EXTERNAL_PORT, PROTOCOL]
        => [INTERNAL_PORT, INTERNAL_CLIENT, ENABLED, DESCRIPTION, LEASE];
    /// Tells whether there is a connection; WANIPConnection:2 §2.5.9.
    GetStatusInfo = "GetStatusInfo", WanIpConnection 1, []
        => [argument("NewConnectionStatus", "ConnectionStatus"),
            argument("NewLastConnectionError", "LastConnectionError"),
            argument("NewUptime", "Uptime")];
    /// Counts the WAN interface's octets; WANCommonInterfaceConfig:1.
    GetTotalBytesReceived = "GetTotalBytesReceived", WanCommonInterfaceConfig 1, []
        => [argument("NewTotalBytesReceived", "TotalBytesReceived")];
    /// Counts the WAN interface's octets; WANCommonInterfaceConfig:1.
    GetTotalBytesSent = "GetTotalBytesSent", WanCommonInterfaceConfig 1, []
        => [argument("NewTotalBytesSent", "TotalBytesSent")];
    /// Counts the WAN interface's packets; WANCommonInterfaceConfig:1.
    GetTotalPacketsReceived = "GetTotalPacketsReceived", WanCommonInterfaceConfig 1, []
        => [argument("NewTotalPacketsReceived", "TotalPacketsReceived")];
    /// Counts the WAN interface's packets; WANCommonInterfaceConfig:1.
    GetTotalPacketsSent = "GetTotalPacketsSent", WanCommonInterfaceConfig 1, []
        => [argument("NewTotalPacketsSent", "TotalPacketsSent")];
    /// Tells who the provider is; WANCommonInterfaceConfig:1.
    GetWanAccessProvider = "GetWANAccessProvider", WanCommonInterfaceConfig 1, []
        => [argument("NewWANAccessProvider", "WANAccessProvider")];
    /// Tells how long before its end a connection is warned; WANIPConnection:2 §2.5.12.
    GetWarnDisconnectDelay = "GetWarnDisconnectDelay", WanIpConnection 1, [] => [WARN_DISCONNECT];
    /// Brings the connection up; WANIPConnection:2 §2.5.3.
    RequestConnection = "RequestConnection", WanIpConnection 1, [] => [];
    /// Takes the connection down; WANIPConnection:2 §2.5.4.
    RequestTermination = "RequestTermination", WanIpConnection 1, [] => [];
    /// Chooses when the connection ends by itself; WANIPConnection:2 §2.5.6.
    SetAutoDisconnectTime = "SetAutoDisconnectTime", WanIpConnection 1, [AUTO_DISCONNECT] => [];
    /// Chooses between routing and bridging; WANIPConnection:2 §2.5.1.
    SetConnectionType = "SetConnectionType", WanIpConnection 1, [CONNECTION_TYPE] => [];
    /// Chooses the connection that is used by default; Layer3Forwarding:1.
    SetDefaultConnectionService = "SetDefaultConnectionService", Layer3Forwarding 1,
        [DEFAULT_CONNECTION] => [];
    /// Lets the LAN use the Internet, or not; WANCommonInterfaceConfig:1.
    SetEnabledForInternet = "SetEnabledForInternet", WanCommonInterfaceConfig 1,
        [ENABLED_FOR_INTERNET] => [];
    /// Chooses when an idle connection ends; WANIPConnection:2 §2.5.7.
    SetIdleDisconnectTime = "SetIdleDisconnectTime", WanIpConnection 1, [IDLE_DISCONNECT] => [];
    /// Chooses how long before its end a connection is warned; WANIPConnection:2 §2.5.8.
    SetWarnDisconnectDelay = "SetWarnDisconnectDelay", WanIpConnection 1, [WARN_DISCONNECT] => [];
    /// Gives a pinhole another lifetime; WANIPv6FirewallControl:1.
    UpdatePinhole = "UpdatePinhole", WanIpv6Firewall 1,
        [UNIQUE_ID, argument("NewLeaseTime", "A_ARG_TYPE_LeaseTime")] => [];
}

const REMOTE_HOST: Argument = argument("NewRemoteHost", "RemoteHost");
const EXTERNAL_PORT: Argument = argument("NewExternalPort", "ExternalPort");
const PROTOCOL: Argument = argument("NewProtocol", "PortMappingProtocol");
const INTERNAL_PORT: Argument = argument("NewInternalPort", "InternalPort");
const INTERNAL_CLIENT: Argument = argument("NewInternalClient", "InternalClient");
const ENABLED: Argument = argument("NewEnabled", "PortMappingEnabled");
const DESCRIPTION: Argument = argument("NewPortMappingDescription", "PortMappingDescription");
const LEASE: Argument = argument("NewLeaseDuration", "PortMappingLeaseDuration");
const START_PORT: Argument = argument("NewStartPort", "ExternalPort");
const END_PORT: Argument = argument("NewEndPort", "ExternalPort");
const MANAGE: Argument = argument("NewManage", "A_ARG_TYPE_Manage");
const CONNECTION_TYPE: Argument = argument("NewConnectionType", "ConnectionType");
const AUTO_DISCONNECT: Argument = argument("NewAutoDisconnectTime", "AutoDisconnectTime");
const IDLE_DISCONNECT: Argument = argument("NewIdleDisconnectTime", "IdleDisconnectTime");
const WARN_DISCONNECT: Argument = argument("NewWarnDisconnectDelay", "WarnDisconnectDelay");
const ENABLED_FOR_INTERNET: Argument = argument("NewEnabledForInternet", "EnabledForInternet");
const DEFAULT_CONNECTION: Argument =
    argument("NewDefaultConnectionService", "DefaultConnectionService");
const PINHOLE_REMOTE: Argument = argument("RemoteHost", "A_ARG_TYPE_IPv6Address");
const PINHOLE_REMOTE_PORT: Argument = argument("RemotePort", "A_ARG_TYPE_Port");
const PINHOLE_CLIENT: Argument = argument("InternalClient", "A_ARG_TYPE_IPv6Address");
const PINHOLE_PORT: Argument = argument("InternalPort", "A_ARG_TYPE_Port");
const PINHOLE_PROTOCOL: Argument = argument("Protocol", "A_ARG_TYPE_Protocol");
const UNIQUE_ID: Argument = argument("UniqueID", "A_ARG_TYPE_UniqueID");
