//! Opcodes and result codes (RFC 6887 §7.4 and §19).

/// Opcodes (RFC 6887 §19.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// 0.
    Announce,
    /// 1.
    Map,
    /// 2.
    Peer,
    /// 3 (RFC 7652).
    Authentication,
    /// Any other.
    Unknown(u8),
}

impl Opcode {
    /// Returns the opcode of seven bits.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Announce,
            1 => Self::Map,
            2 => Self::Peer,
            3 => Self::Authentication,
            other => Self::Unknown(other),
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Announce => 0,
            Self::Map => 1,
            Self::Peer => 2,
            Self::Authentication => 3,
            Self::Unknown(other) => other,
        }
    }
}

/// Result codes (RFC 6887 §7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultCode {
    /// 0.
    Success,
    /// 1.
    UnsuppVersion,
    /// 2.
    NotAuthorized,
    /// 3.
    MalformedRequest,
    /// 4.
    UnsuppOpcode,
    /// 5.
    UnsuppOption,
    /// 6.
    MalformedOption,
    /// 7.
    NetworkFailure,
    /// 8.
    NoResources,
    /// 9.
    UnsuppProtocol,
    /// 10.
    UserExQuota,
    /// 11.
    CannotProvideExternal,
    /// 12.
    AddressMismatch,
    /// 13.
    ExcessiveRemotePeers,
    /// Any other.
    Unknown(u8),
}

impl ResultCode {
    /// Every code of RFC 6887; each stands at its number.
    pub const ALL: [Self; 14] = [
        Self::Success,
        Self::UnsuppVersion,
        Self::NotAuthorized,
        Self::MalformedRequest,
        Self::UnsuppOpcode,
        Self::UnsuppOption,
        Self::MalformedOption,
        Self::NetworkFailure,
        Self::NoResources,
        Self::UnsuppProtocol,
        Self::UserExQuota,
        Self::CannotProvideExternal,
        Self::AddressMismatch,
        Self::ExcessiveRemotePeers,
    ];

    /// Returns the code of a number.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        let known = Self::ALL.get(usize::from(number)).copied();
        known.unwrap_or(Self::Unknown(number))
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::UnsuppVersion => 1,
            Self::NotAuthorized => 2,
            Self::MalformedRequest => 3,
            Self::UnsuppOpcode => 4,
            Self::UnsuppOption => 5,
            Self::MalformedOption => 6,
            Self::NetworkFailure => 7,
            Self::NoResources => 8,
            Self::UnsuppProtocol => 9,
            Self::UserExQuota => 10,
            Self::CannotProvideExternal => 11,
            Self::AddressMismatch => 12,
            Self::ExcessiveRemotePeers => 13,
            Self::Unknown(other) => other,
        }
    }

    /// Returns the name used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::UnsuppVersion => "unsupp_version",
            Self::NotAuthorized => "not_authorized",
            Self::MalformedRequest => "malformed_request",
            Self::UnsuppOpcode => "unsupp_opcode",
            Self::UnsuppOption => "unsupp_option",
            Self::MalformedOption => "malformed_option",
            Self::NetworkFailure => "network_failure",
            Self::NoResources => "no_resources",
            Self::UnsuppProtocol => "unsupp_protocol",
            Self::UserExQuota => "user_ex_quota",
            Self::CannotProvideExternal => "cannot_provide_external",
            Self::AddressMismatch => "address_mismatch",
            Self::ExcessiveRemotePeers => "excessive_remote_peers",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Tells whether the code says that the request could not be parsed.
    pub(super) const fn means_unread(self) -> bool {
        matches!(
            self,
            Self::UnsuppVersion
                | Self::MalformedRequest
                | Self::UnsuppOpcode
                | Self::MalformedOption
        )
    }
}

impl natpmp::Code for ResultCode {
    const ALL: &'static [Self] = &Self::ALL;

    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
}
