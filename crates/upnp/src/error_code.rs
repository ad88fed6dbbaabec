//! The error codes of an action (UDA 1.1 §3.2.2 and the services' own).

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal $description:literal;)*) => {
        /// A UPnP error code with its description. Services number their own errors from 700 on,
        /// so one number may have two names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorCode {
            /// Every error code.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// Returns the number.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// Returns the name that the standard gives it.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => $description,)*
                }
            }
        }
    };
}

error_codes! {
    /// UDA 1.1 §3.2.2: the service has no such action.
    InvalidAction = 401 "Invalid Action";
    /// UDA 1.1 §3.2.2: an argument is missing, doubled or of the wrong type.
    InvalidArgs = 402 "Invalid Args";
    /// UDA 1.1 §3.2.2: not now, or not built.
    ActionFailed = 501 "Action Failed";
    /// UDA 1.1 §3.2.2: a value outside its allowed range or list.
    ArgumentValueOutOfRange = 601 "Argument Value Out of Range";
    /// UDA 1.1 §3.2.2, U-7.
    ActionNotAuthorized = 606 "Action not authorized";
    /// WANIPv6FirewallControl:1: the host has as many pinholes as it may.
    PinholeSpaceExhausted = 701 "PinholeSpaceExhausted";
    /// U-16: the type cannot change while there is a connection.
    InactiveConnectionStateRequired = 703 "InactiveConnectionStateRequired";
    /// WANIPv6FirewallControl:1: pinholes are not carried.
    InboundPinholeNotAllowed = 703 "InboundPinholeNotAllowed";
    /// U-16: the provider gave nothing.
    ConnectionSetupFailed = 704 "ConnectionSetupFailed";
    /// WANIPv6FirewallControl:1: no pinhole has this id.
    NoSuchEntry = 704 "NoSuchEntry";
    /// WANIPv6FirewallControl:1: neither TCP nor UDP.
    ProtocolNotSupported = 705 "ProtocolNotSupported";
    /// WANIPv6FirewallControl:1: an internal port of zero.
    InternalPortWildcardingNotAllowed = 706 "InternalPortWildcardingNotAllowed";
    /// WANIPv6FirewallControl:1: every protocol.
    ProtocolWildcardingNotAllowed = 707 "ProtocolWildcardingNotAllowed";
    /// WANIPv6FirewallControl:1: no internal client.
    WildCardNotPermittedInPinhole = 708 "WildCardNotPermittedInSrcIP";
    /// WANIPv6FirewallControl:1: nothing came through the pinhole yet.
    NoTrafficReceived = 709 "NoTrafficReceived";
    /// U-16: there is no connection to end.
    ConnectionAlreadyTerminated = 711 "ConnectionAlreadyTerminated";
    /// U-9: the index of `GetGenericPortMappingEntry`.
    SpecifiedArrayIndexInvalid = 713 "SpecifiedArrayIndexInvalid";
    /// U-9: the mapping of `GetSpecificPortMappingEntry` and `DeletePortMapping`.
    NoSuchEntryInArray = 714 "NoSuchEntryInArray";
    /// U-6: no `NewInternalClient`.
    WildCardNotPermittedInSrcIp = 715 "WildCardNotPermittedInSrcIP";
    /// U-6: an external port of zero.
    WildCardNotPermittedInExtPort = 716 "WildCardNotPermittedInExtPort";
    /// U-7: the external port leads elsewhere.
    ConflictInMappingEntry = 718 "ConflictInMappingEntry";
    /// Layer3Forwarding:1: the device is not ours.
    InvalidDeviceUuid = 720 "InvalidDeviceUUID";
    /// Layer3Forwarding:1: the service is not in the device.
    InvalidServiceId = 721 "InvalidServiceID";
    /// Layer3Forwarding:1: the value names no connection service.
    InvalidConnServiceSelection = 723 "InvalidConnServiceSelection";
    /// U-6: a single remote host.
    RemoteHostOnlySupportsWildcard = 726 "RemoteHostOnlySupportsWildcard";
    /// U-7: the client has as many mappings as it may.
    NoPortMapsAvailable = 728 "NoPortMapsAvailable";
    /// U-10: no mapping in the range.
    PortMappingNotFound = 730 "PortMappingNotFound";
    /// U-16: the connection type is what it is.
    ReadOnly = 731 "ReadOnly";
    /// U-6: an internal port of zero.
    WildCardNotPermittedInIntPort = 732 "WildCardNotPermittedInIntPort";
    /// U-10: a range that ends before it starts.
    InconsistentParameters = 733 "InconsistentParameters";
}
