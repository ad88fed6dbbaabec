//! Options (RFC 6887 §7.3 and §13, RFC 7220, RFC 7225, RFC 7753).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Field, Malformed};

/// An option of a request or a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PcpOption<'a> {
    /// 1: for whom the mapping is (RFC 6887 §13.1).
    ThirdParty(Ipv6Addr),
    /// 2: this external port and address, or none (RFC 6887 §13.2).
    PreferFailure,
    /// 3: who may come in (RFC 6887 §13.3).
    Filter(Filter),
    /// 128: what the mapping is for (RFC 7220 §2).
    Description(&'a str),
    /// 129: how IPv4 addresses are seen in IPv6 (RFC 7225 §4.1).
    Prefix64(Prefix64<'a>),
    /// 130: contiguous ports (RFC 7753 §4).
    PortSet(PortSet),
    /// One of the others above whose contents make no sense.
    Invalid {
        /// Its code.
        code: u8,
        /// Its data.
        data: &'a [u8],
    },
    /// Any other.
    Unknown {
        /// Its code; from 128 on it may be ignored.
        code: u8,
        /// Its data.
        data: &'a [u8],
    },
}

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// How many bits of the address count, up to 128, for an IPv4 address from 96 on; zero takes
    /// away the filters that are there.
    pub prefix_len: u8,
    /// The remote's port; zero for all.
    pub remote_port: u16,
    /// The remote's address.
    pub remote_addr: Ipv6Addr,
}

/// A prefix and a suffix that make an IPv6 address of an IPv4 address (RFC 6052 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix64<'a> {
    /// The length of the prefix in octets: 4, 5, 6, 7, 8 or 12.
    pub prefix_len: u8,
    /// The prefix, and behind it the suffix.
    pub octets: [u8; 12],
    /// For which IPv4 addresses; without a list for all.
    pub ipv4: Option<Ipv4Prefixes<'a>>,
}

/// A list of IPv4 prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Prefixes<'a>(&'a [u8]);

/// Contiguous ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortSet {
    /// The number of ports.
    pub size: u16,
    /// The first internal one.
    pub first_internal_port: u16,
    /// Whether the first external port must be even or odd as the first internal one is (P flag).
    pub parity: bool,
}

impl<'a> PcpOption<'a> {
    /// Returns the code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::ThirdParty(_) => THIRD_PARTY,
            Self::PreferFailure => PREFER_FAILURE,
            Self::Filter(_) => FILTER,
            Self::Description(_) => DESCRIPTION,
            Self::Prefix64(_) => PREFIX64,
            Self::PortSet(_) => PORT_SET,
            Self::Invalid { code, .. } | Self::Unknown { code, .. } => *code,
        }
    }

    /// Tells whether whoever does not understand the option may pass over it (RFC 6887 §7.3).
    #[must_use]
    pub const fn is_optional(&self) -> bool {
        self.code() >= 128
    }

    fn new(code: u8, data: &'a [u8]) -> Self {
        let known = match code {
            THIRD_PARTY => <[u8; 16]>::try_from(data)
                .ok()
                .map(|octets| Self::ThirdParty(octets.into())),
            PREFER_FAILURE => data.is_empty().then_some(Self::PreferFailure),
            FILTER => Filter::new(data).map(Self::Filter),
            DESCRIPTION => std::str::from_utf8(data)
                .ok()
                .filter(|text| text.len() <= DESCRIPTION_MAX)
                .map(Self::Description),
            PREFIX64 => Prefix64::new(data).map(Self::Prefix64),
            PORT_SET => PortSet::new(data).map(Self::PortSet),
            _ => return Self::Unknown { code, data },
        };
        known.unwrap_or(Self::Invalid { code, data })
    }
}

impl Filter {
    /// Reads the data of FILTER; lengths that do not fit the family are invalid
    /// (RFC 6887 §13.3).
    fn new(data: &[u8]) -> Option<Self> {
        let (&[_, prefix_len, p0, p1], addr) = data.split_first_chunk()?;
        let addr = Ipv6Addr::from(<[u8; 16]>::try_from(addr).ok()?);
        let is_ipv4 = addr.to_ipv4_mapped().is_some();
        let fits = match prefix_len {
            0 => true,
            1..=95 => !is_ipv4,
            96..=128 => true,
            _ => false,
        };
        fits.then_some(Self {
            prefix_len,
            remote_port: u16::from_be_bytes([p0, p1]),
            remote_addr: addr,
        })
    }

    fn octets(self) -> [u8; 20] {
        let mut octets = [0; 20];
        let port = self.remote_port.to_be_bytes();
        let all = [0, self.prefix_len]
            .into_iter()
            .chain(port)
            .chain(self.remote_addr.octets());
        for (octet, value) in octets.iter_mut().zip(all) {
            *octet = value;
        }
        octets
    }
}

impl<'a> Prefix64<'a> {
    /// What a client asks with (RFC 7225 §4.3).
    pub const QUESTION: Self = Self {
        prefix_len: 12,
        octets: [0; 12],
        ipv4: None,
    };

    fn new(data: &'a [u8]) -> Option<Self> {
        let (&[l0, l1], rest) = data.split_first_chunk()?;
        let (octets, rest) = rest.split_first_chunk()?;
        let prefix_len = u8::try_from(u16::from_be_bytes([l0, l1])).ok()?;
        let ipv4 = match rest.split_first_chunk() {
            Some((&[c0, c1], list)) => {
                let count = usize::from(u16::from_be_bytes([c0, c1]));
                Some(Ipv4Prefixes::new(list, count)?)
            }
            None if rest.is_empty() => None,
            None => return None,
        };
        matches!(prefix_len, 4..=8 | 12).then_some(Self {
            prefix_len,
            octets: *octets,
            ipv4,
        })
    }

    fn emit(&self, bytes: &mut Vec<u8>) {
        bytes.extend(u16::from(self.prefix_len).to_be_bytes());
        bytes.extend(self.octets);
        if let Some(Ipv4Prefixes(list)) = self.ipv4 {
            let count = list.len().checked_div(IPV4_PREFIX).unwrap_or_default();
            bytes.extend(u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend(list);
        }
    }
}

impl<'a> Ipv4Prefixes<'a> {
    fn new(list: &'a [u8], count: usize) -> Option<Self> {
        let (entries, rest) = list.as_chunks::<IPV4_PREFIX>();
        let valid = |&[l0, l1, ..]: &[u8; IPV4_PREFIX]| u16::from_be_bytes([l0, l1]) <= 32;
        let is_whole = rest.is_empty() && entries.len() == count;
        (is_whole && entries.iter().all(valid)).then_some(Self(list))
    }

    /// Makes a list of one prefix, in the bytes that [`Self::bytes`] gives.
    #[must_use]
    pub const fn one(bytes: &'a [u8; IPV4_PREFIX]) -> Self {
        Self(bytes)
    }

    /// Writes one prefix of a list.
    #[must_use]
    pub const fn bytes(addr: Ipv4Addr, len: u8) -> [u8; IPV4_PREFIX] {
        let [a, b, c, d] = addr.octets();
        [0, len, a, b, c, d]
    }

    /// Iterates over the prefixes: address and length.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, u8)> + use<'a> {
        let (entries, _) = self.0.as_chunks::<IPV4_PREFIX>();
        entries
            .iter()
            .map(|&[_, len, a, b, c, d]| (Ipv4Addr::new(a, b, c, d), len))
    }
}

impl PortSet {
    /// Reads the data of `PORT_SET`; a set without a port is invalid (RFC 7753 §4.2).
    fn new(data: &[u8]) -> Option<Self> {
        let &[s0, s1, f0, f1, flags] = <&[u8; 5]>::try_from(data).ok()?;
        let size = u16::from_be_bytes([s0, s1]);
        (size != 0).then_some(Self {
            size,
            first_internal_port: u16::from_be_bytes([f0, f1]),
            parity: flags & 1 != 0,
        })
    }
}

/// Reads options one after the other; ends after the first that does not fit.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Options<'a> {
    pub(super) const fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self {
            rest: bytes,
            offset,
        }
    }

    fn split(&self) -> Option<(PcpOption<'a>, &'a [u8])> {
        let (&[code, _, l0, l1], rest) = self.rest.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let data = rest.get(..len)?;
        let rest = rest.get(len.next_multiple_of(4)..)?;
        Some((PcpOption::new(code, data), rest))
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<PcpOption<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((option, rest)) = self.split() else {
            self.rest = &[];
            return Some(Err(Malformed::new(Field::Options, self.offset)));
        };
        let len = self.rest.len().saturating_sub(rest.len());
        self.offset = self.offset.saturating_add(len);
        self.rest = rest;
        Some(Ok(option))
    }
}

/// Writes an option with its padding; data beyond 65535 octets is cut.
pub fn emit_option(option: PcpOption<'_>, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend([option.code(), 0, 0, 0]);
    let data = bytes.len();
    match option {
        PcpOption::ThirdParty(addr) => bytes.extend(addr.octets()),
        PcpOption::PreferFailure => {}
        PcpOption::Filter(filter) => bytes.extend(filter.octets()),
        PcpOption::Description(text) => bytes.extend(text.as_bytes()),
        PcpOption::Prefix64(prefix) => prefix.emit(bytes),
        PcpOption::PortSet(set) => {
            bytes.extend(set.size.to_be_bytes());
            bytes.extend(set.first_internal_port.to_be_bytes());
            bytes.push(u8::from(set.parity));
        }
        PcpOption::Invalid { data, .. } | PcpOption::Unknown { data, .. } => bytes.extend(data),
    }
    let len = bytes.len().saturating_sub(data);
    let len = u16::try_from(len).unwrap_or(u16::MAX);
    bytes.truncate(data.saturating_add(usize::from(len)));
    if let Some([_, _, l0, l1, ..]) = bytes.get_mut(start..) {
        [*l0, *l1] = len.to_be_bytes();
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// RFC 6887 §19.4, RFC 7220 §5, RFC 7225 §6, RFC 7753 §8.
const THIRD_PARTY: u8 = 1;
const PREFER_FAILURE: u8 = 2;
const FILTER: u8 = 3;
const DESCRIPTION: u8 = 128;
const PREFIX64: u8 = 129;
const PORT_SET: u8 = 130;

/// RFC 7220 §2.
const DESCRIPTION_MAX: usize = 1016;

/// RFC 7225 §4.1: a length of two octets and an address.
const IPV4_PREFIX: usize = 6;
