//! The two device trees that we show: a v1 root for control points that search for version 1,
//! and a v2 root for those that search for version 2, since no single description suits every
//! control point.

use std::fmt::Write as _;

use siphasher::sip128::SipHasher24;

/// A root device and everything below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edition {
    /// InternetGatewayDevice:1.
    V1,
    /// InternetGatewayDevice:2.
    V2,
}

impl Edition {
    /// Both, oldest first.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// Returns the version of its devices.
    #[must_use]
    pub const fn version(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// A device of the tree (U-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// The root.
    InternetGateway,
    /// The WAN side.
    Wan,
    /// Its connection.
    WanConnection,
}

impl DeviceKind {
    /// Every device, the root first.
    pub const ALL: [Self; 3] = [Self::InternetGateway, Self::Wan, Self::WanConnection];

    /// Returns its type.
    #[must_use]
    pub fn urn(self, edition: Edition) -> String {
        format!(
            "urn:schemas-upnp-org:device:{}:{}",
            self.name(),
            edition.version()
        )
    }

    /// Returns its services. Only the v2 root has what came with IGD:2.
    #[must_use]
    pub const fn services(self, edition: Edition) -> &'static [ServiceKind] {
        match (self, edition) {
            (Self::InternetGateway, _) => &[ServiceKind::Layer3Forwarding],
            (Self::Wan, _) => &[ServiceKind::WanCommonInterfaceConfig],
            (Self::WanConnection, Edition::V1) => &[ServiceKind::WanIpConnection],
            (Self::WanConnection, Edition::V2) => {
                &[ServiceKind::WanIpConnection, ServiceKind::WanIpv6Firewall]
            }
        }
    }

    /// Returns the device inside it.
    #[must_use]
    pub const fn child(self) -> Option<Self> {
        match self {
            Self::InternetGateway => Some(Self::Wan),
            Self::Wan => Some(Self::WanConnection),
            Self::WanConnection => None,
        }
    }

    /// Returns its name without URN and version.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InternetGateway => "InternetGatewayDevice",
            Self::Wan => "WANDevice",
            Self::WanConnection => "WANConnectionDevice",
        }
    }
}

/// A service of the tree. `DeviceProtection:1` is none of them: what it would add is a second
/// class of control points, and none that is in use pairs with a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceKind {
    /// Which connection is used by default.
    Layer3Forwarding,
    /// What the link is.
    WanCommonInterfaceConfig,
    /// Port mappings.
    WanIpConnection,
    /// Pinholes for native IPv6 hosts.
    WanIpv6Firewall,
}

impl ServiceKind {
    /// Every service.
    pub const ALL: [Self; 4] = [
        Self::Layer3Forwarding,
        Self::WanCommonInterfaceConfig,
        Self::WanIpConnection,
        Self::WanIpv6Firewall,
    ];

    /// Iterates over the services of an edition.
    pub fn of(edition: Edition) -> impl Iterator<Item = Self> {
        DeviceKind::ALL
            .into_iter()
            .flat_map(move |device| device.services(edition).iter().copied())
    }

    /// Returns the variables that a version of the service tells its subscribers (U-12).
    #[must_use]
    pub const fn evented(self, version: u8) -> &'static [&'static str] {
        match (self, version) {
            (Self::Layer3Forwarding, _) => &["DefaultConnectionService"],
            (Self::WanCommonInterfaceConfig, _) => &["PhysicalLinkStatus", "EnabledForInternet"],
            (Self::WanIpConnection, 1) => &[
                "PossibleConnectionTypes",
                "ConnectionStatus",
                "ExternalIPAddress",
                "PortMappingNumberOfEntries",
            ],
            (Self::WanIpConnection, _) => &[
                "PossibleConnectionTypes",
                "ConnectionStatus",
                "ExternalIPAddress",
                "PortMappingNumberOfEntries",
                "SystemUpdateID",
            ],
            (Self::WanIpv6Firewall, _) => &["FirewallEnabled", "InboundPinholeAllowed"],
        }
    }

    /// Returns its type in a version.
    #[must_use]
    pub fn urn(self, version: u8) -> String {
        format!("urn:schemas-upnp-org:service:{}:{version}", self.name())
    }

    /// Returns its newest version in an edition.
    #[must_use]
    pub const fn version(self, edition: Edition) -> u8 {
        match self {
            Self::Layer3Forwarding | Self::WanCommonInterfaceConfig | Self::WanIpv6Firewall => 1,
            Self::WanIpConnection => edition.version(),
        }
    }

    /// Returns the version of a type if it is one that an edition speaks: its own or an older
    /// one (UDA 1.1 §2.3).
    #[must_use]
    pub fn spoken(self, edition: Edition, urn: &str) -> Option<u8> {
        (1..=self.version(edition)).find(|version| self.urn(*version) == urn)
    }

    /// Returns its name without URN and version.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Layer3Forwarding => "Layer3Forwarding",
            Self::WanCommonInterfaceConfig => "WANCommonInterfaceConfig",
            Self::WanIpConnection => "WANIPConnection",
            Self::WanIpv6Firewall => "WANIPv6FirewallControl",
        }
    }

    /// Returns its id, the same in every version.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Layer3Forwarding => "urn:upnp-org:serviceId:L3Forwarding1",
            Self::WanCommonInterfaceConfig => "urn:upnp-org:serviceId:WANCommonIFC1",
            Self::WanIpConnection => "urn:upnp-org:serviceId:WANIPConn1",
            Self::WanIpv6Firewall => "urn:upnp-org:serviceId:WANIPv6Firewall1",
        }
    }
}

/// What stays the same over restarts: the UUIDs, and the part of our paths that nobody guesses.
#[derive(Clone)]
pub struct Identity {
    secret: [u8; 16],
    token: String,
}

impl Identity {
    /// Makes an identity from a secret that is kept over restarts.
    #[must_use]
    pub fn new(secret: [u8; 16]) -> Self {
        let token = format!("{:032x}", keyed(&secret, "path"));
        Self { secret, token }
    }

    /// Returns a device's UUID (RFC 9562 §5.8: version 8, made by a keyed hash).
    #[must_use]
    pub fn uuid(&self, edition: Edition, device: DeviceKind) -> String {
        let bits = keyed(
            &self.secret,
            &format!("{} {}", edition.name(), device.name()),
        );
        let bits = bits & !(0xf << 76) | (0x8 << 76);
        let bits = bits & !(0x3 << 62) | (0x2 << 62);
        let digits = format!("{bits:032x}");
        let mut uuid = String::with_capacity(41);
        uuid.push_str("uuid:");
        for (index, digit) in digits.chars().enumerate() {
            if matches!(index, 8 | 12 | 16 | 20) {
                uuid.push('-');
            }
            uuid.push(digit);
        }
        uuid
    }

    /// Returns the device that holds the connection service, as services name it: its UUID, its
    /// type's name and its version.
    #[must_use]
    pub fn connection_device(&self, edition: Edition) -> String {
        let device = DeviceKind::WanConnection;
        let (uuid, version) = (self.uuid(edition, device), edition.version());
        format!("{uuid}:{}:{version}", device.name())
    }

    /// Returns the value of `DefaultConnectionService` (Layer3Forwarding:1).
    #[must_use]
    pub fn default_connection(&self, edition: Edition) -> String {
        let device = self.connection_device(edition);
        format!("{device},{}", ServiceKind::WanIpConnection.id())
    }

    /// Returns the first component of every path. A web page that cannot read our answers
    /// cannot guess it either; a control point that kept a URL over our restart still can use
    /// it.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Where a service takes actions.
    Control(Edition, ServiceKind),
    /// The description of a root device.
    Description(Edition),
    /// Where a service takes subscribers.
    Events(Edition, ServiceKind),
    /// The description of a service.
    Scpd(Edition, ServiceKind),
}

impl Resource {
    /// Returns the path.
    #[must_use]
    pub fn path(self, identity: &Identity) -> String {
        let mut path = format!("/{}/", identity.token());
        // writing to a string cannot fail
        let _written = match self {
            Self::Control(edition, service) => {
                write!(path, "{}/{}/control", edition.name(), service.name())
            }
            Self::Description(edition) => write!(path, "{}/device.xml", edition.name()),
            Self::Events(edition, service) => {
                write!(path, "{}/{}/events", edition.name(), service.name())
            }
            Self::Scpd(edition, service) => {
                write!(path, "{}/{}.xml", edition.name(), service.name())
            }
        };
        path
    }

    /// Returns every resource.
    pub fn all() -> impl Iterator<Item = Self> {
        Edition::ALL.into_iter().flat_map(|edition| {
            ServiceKind::of(edition)
                .flat_map(move |service| {
                    [
                        Self::Control(edition, service),
                        Self::Events(edition, service),
                        Self::Scpd(edition, service),
                    ]
                })
                .chain([Self::Description(edition)])
        })
    }
}

/// Hashes a label with a key; what the hash shows does not tell the key.
pub(crate) fn keyed(key: &[u8; 16], label: &str) -> u128 {
    SipHasher24::new_with_key(key)
        .hash(label.as_bytes())
        .as_u128()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn uuids_are_stable_and_differ() {
        let identity = Identity::new([7; 16]);
        let all = |identity: &Identity| -> BTreeSet<String> {
            Edition::ALL
                .into_iter()
                .flat_map(|edition| DeviceKind::ALL.map(|device| identity.uuid(edition, device)))
                .collect()
        };

        assert_eq!(all(&identity).len(), 6);
        assert_eq!(all(&identity), all(&Identity::new([7; 16])));
        assert!(all(&identity).is_disjoint(&all(&Identity::new([8; 16]))));
        for uuid in all(&identity) {
            assert_eq!(uuid.len(), 41);
            assert_eq!(uuid.as_bytes()[19], b'8', "{uuid}");
            assert!(b"89ab".contains(&uuid.as_bytes()[24]), "{uuid}");
        }
    }

    #[test]
    fn an_edition_speaks_its_own_and_older_versions() {
        let spoken = |edition, urn: &str| ServiceKind::WanIpConnection.spoken(edition, urn);
        let urn = |version| ServiceKind::WanIpConnection.urn(version);

        assert_eq!(spoken(Edition::V2, &urn(1)), Some(1));
        assert_eq!(spoken(Edition::V2, &urn(2)), Some(2));
        assert_eq!(spoken(Edition::V1, &urn(2)), None);
        assert_eq!(
            spoken(
                Edition::V2,
                "urn:schemas-upnp-org:service:WANPPPConnection:1"
            ),
            None
        );
    }
}
