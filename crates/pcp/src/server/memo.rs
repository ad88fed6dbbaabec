//! What is kept with a mapping to find its client again (RFC 6887 §14.2): in the store, so that a
//! client whose mapping moves around a restart is told all the same.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use mapping::{Mapping, MappingNonce, Memo, Snapshot, Via};

use super::answer::told;

/// Who asked for a mapping, how, and what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) nonce: MappingNonce,
    /// Where the answer went.
    pub(super) source: SocketAddr,
    /// Our address that it left from.
    pub(super) local: IpAddr,
    /// The external address that the client knows.
    pub(super) told: Ipv6Addr,
    /// Whether it asked for a mapping at the shared IPv4 address.
    pub(super) by_ipv4: bool,
    /// Whether the client asked for another host.
    pub(super) third_party: bool,
    /// Whether FILTER was processed.
    pub(super) filtered: bool,
    /// What the client would rather have an error than another of.
    pub(super) exact: Option<(u16, Ipv6Addr)>,
    /// How many ports were asked for, if more than one, and whether with parity.
    pub(super) port_set: Option<(u16, bool)>,
    /// The remote of PEER.
    pub(super) peer: Option<(u16, Ipv6Addr)>,
}

impl Client {
    /// Writes down what [`Self::of`] reads.
    pub(super) fn memo(&self) -> Memo {
        let flags = [
            (self.by_ipv4, BY_IPV4),
            (self.third_party, THIRD_PARTY),
            (self.filtered, FILTERED),
            (self.exact.is_some(), EXACT),
            (self.port_set.is_some(), PORT_SET),
            (self.port_set.is_some_and(|(_, parity)| parity), PARITY),
            (self.peer.is_some(), PEER),
        ];
        let set = flags.into_iter().filter(|(is_set, _)| *is_set);
        let flags = set.fold(0, |flags, (_, flag)| flags | flag);
        let mut bytes = vec![SHAPE, flags];
        bytes.extend(self.nonce.0);
        bytes.extend(self.source.port().to_be_bytes());
        bytes.extend(self.told.octets());
        if self.third_party {
            for addr in [self.source.ip(), self.local] {
                bytes.extend(super::in_ipv6(addr).octets());
            }
        }
        for (port, addr) in [self.exact, self.peer].into_iter().flatten() {
            bytes.extend(port.to_be_bytes());
            bytes.extend(addr.octets());
        }
        if let Some((size, _)) = self.port_set {
            bytes.extend(size.to_be_bytes());
        }
        bytes.into()
    }

    /// Reads who asked for a mapping; nothing of a mapping that no PCP client asked for.
    pub(super) fn of(mapping: &Mapping, snapshot: &Snapshot) -> Option<Self> {
        let mut bytes = Bytes(mapping.memo.as_deref()?);
        let [shape, flags] = bytes.take()?;
        if shape != SHAPE {
            return None;
        }
        let has = |flag| flags & flag != 0;
        let nonce = MappingNonce(bytes.take()?);
        let port = bytes.number()?;
        let told = bytes.addr()?;
        let (source, local) = match has(THIRD_PARTY) {
            true => (bytes.addr()?.to_canonical(), bytes.addr()?.to_canonical()),
            false => (mapping.server.into(), snapshot.site().gateway().into()),
        };
        let exact = match has(EXACT) {
            true => Some((bytes.number()?, bytes.addr()?)),
            false => None,
        };
        let peer = match has(PEER) {
            true => Some((bytes.number()?, bytes.addr()?)),
            false => None,
        };
        let port_set = match has(PORT_SET) {
            true => Some((bytes.number()?, has(PARITY))),
            false => None,
        };
        Some(Self {
            nonce,
            source: SocketAddr::new(source, port),
            local,
            told,
            by_ipv4: has(BY_IPV4),
            third_party: has(THIRD_PARTY),
            filtered: has(FILTERED),
            exact,
            port_set,
            peer,
        })
    }

    /// Returns where the mapping is now, as this client sees it; nothing where that is not known
    /// yet.
    pub(super) fn address(&self, mapping: &Mapping, snapshot: &Snapshot) -> Option<Ipv6Addr> {
        let via = match self.by_ipv4 {
            true => Via::Ipv4,
            false => Via::Ipv6,
        };
        let is_known = !self.by_ipv4 || snapshot.carriers().ipv4.is_some();
        told(mapping, via, snapshot).filter(|_| is_known)
    }
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn addr(&mut self) -> Option<Ipv6Addr> {
        self.take::<16>().map(Ipv6Addr::from)
    }
}

/// What an earlier version wrote is read no more if this changes.
const SHAPE: u8 = 1;

const BY_IPV4: u8 = 1;
const THIRD_PARTY: u8 = 1 << 1;
const FILTERED: u8 = 1 << 2;
const EXACT: u8 = 1 << 3;
const PORT_SET: u8 = 1 << 4;
const PARITY: u8 = 1 << 5;
const PEER: u8 = 1 << 6;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mapping::{
        BootId, Core, ExternalPort, Filters, Instant, InternalPort, Mac, MappingId, Now, Policy,
        Protocol, Requester, Revision, Site, Wall,
    };
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_is_read_again(client in client()) {
            prop_assert_eq!(read(client.memo()), Some(client));
        }

        #[test]
        fn what_cannot_be_read_is_nothing(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            client in client(),
            cut in 0..100_usize,
        ) {
            read(bytes.into());
            let memo = client.memo();
            if cut < memo.len() {
                prop_assert_eq!(read(memo[..cut].into()), None);
            }
        }
    }

    #[test]
    fn what_most_clients_need_is_short() {
        let client = Client {
            nonce: MappingNonce([7; 12]),
            source: ([192, 168, 64, 20], 50_000).into(),
            local: GATEWAY.into(),
            told: Ipv6Addr::LOCALHOST,
            by_ipv4: false,
            third_party: false,
            filtered: false,
            exact: None,
            port_set: None,
            peer: None,
        };

        assert_eq!(client.memo().len(), 32);
    }

    fn read(memo: Memo) -> Option<Client> {
        let now = Now {
            mono: Instant::from_nanos(0),
            wall: Wall::from_secs(1_800_000_000),
        };
        let site = Site::new(GATEWAY.into(), 24, "home.example".to_owned()).unwrap();
        let core = Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), now);
        let mapping = Mapping {
            id: MappingId(1),
            host: Mac([2; 6]),
            server: SERVER.into(),
            protocol: Protocol::Tcp,
            internal_port: InternalPort::new(80).unwrap(),
            external_port: ExternalPort::new(80).unwrap(),
            via: Via::Ipv6,
            peer: false,
            filters: Filters::default(),
            requester: Requester::Pcp,
            nonce: None,
            description: String::new(),
            memo: Some(memo),
            expires: None,
            opened_at: now.wall,
            changed_in: Revision(0),
        };
        Client::of(&Arc::new(mapping), core.snapshot())
    }

    fn client() -> impl Strategy<Value = Client> {
        let pair = || proptest::option::of((any::<u16>(), any::<Ipv6Addr>()));
        let parties = proptest::option::of((any::<[u8; 4]>(), any::<[u8; 4]>()));
        let set = proptest::option::of((any::<u16>(), any::<bool>()));
        let flags = (any::<bool>(), any::<bool>());
        let told = (any::<[u8; 12]>(), any::<u16>(), any::<Ipv6Addr>());
        (told, parties, flags, pair(), set, pair()).prop_map(
            |((nonce, port, told), parties, (by_ipv4, filtered), exact, port_set, peer)| Client {
                nonce: MappingNonce(nonce),
                source: (parties.map_or(SERVER, |(source, _)| source), port).into(),
                local: parties.map_or(GATEWAY, |(_, local)| local).into(),
                told,
                by_ipv4,
                third_party: parties.is_some(),
                filtered,
                exact,
                port_set,
                peer,
            },
        )
    }

    const GATEWAY: [u8; 4] = [192, 168, 64, 1];
    const SERVER: [u8; 4] = [192, 168, 64, 20];
}
