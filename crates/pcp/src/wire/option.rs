//! Options (RFC 6887 §7.3).

use std::net::Ipv6Addr;

use super::{Field, Malformed};

/// An option of a request or a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PcpOption<'a> {
    /// 1: for whom the mapping is (RFC 6887 §13.1); `None` where the length is not 16.
    ThirdParty(Option<Ipv6Addr>),
    /// 2: this external port and address, or none (RFC 6887 §13.2).
    PreferFailure {
        /// How long its data is; anything but zero is malformed.
        len: usize,
    },
    /// 3: who may come in (RFC 6887 §13.3).
    Filter(&'a [u8]),
    /// Any other.
    Unknown {
        /// Its code; from 128 on it may be ignored.
        code: u8,
        /// Its data.
        data: &'a [u8],
    },
}

impl<'a> PcpOption<'a> {
    fn new(code: u8, data: &'a [u8]) -> Self {
        match code {
            THIRD_PARTY => {
                let octets: Result<[u8; 16], _> = data.try_into();
                Self::ThirdParty(octets.ok().map(Ipv6Addr::from))
            }
            PREFER_FAILURE => Self::PreferFailure { len: data.len() },
            FILTER => Self::Filter(data),
            _ => Self::Unknown { code, data },
        }
    }
}

/// Reads options one after the other; ends after the first that cannot be read.
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
    let third_party;
    let (code, data) = match option {
        PcpOption::ThirdParty(addr) => {
            third_party = addr.map(|addr| addr.octets());
            let data = third_party.as_ref().map_or(&[][..], |octets| octets);
            (THIRD_PARTY, data)
        }
        PcpOption::PreferFailure { .. } => (PREFER_FAILURE, &[][..]),
        PcpOption::Filter(data) => (FILTER, data),
        PcpOption::Unknown { code, data } => (code, data),
    };
    let len = u16::try_from(data.len()).unwrap_or(u16::MAX);
    bytes.extend([code, 0]);
    bytes.extend(len.to_be_bytes());
    bytes.extend(data.iter().take(usize::from(len)));
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// RFC 6887 §19.4.
const THIRD_PARTY: u8 = 1;
const PREFER_FAILURE: u8 = 2;
const FILTER: u8 = 3;
