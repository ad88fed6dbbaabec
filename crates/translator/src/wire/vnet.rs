//! The header that `IFF_VNET_HDR` puts before each packet: offloads still to be done.

use crate::wire::{Field, Malformed};

/// Length of the header.
pub const LEN: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum field holds the folded pseudo-header sum only.
const NEEDS_CSUM: u8 = 1;

/// `VIRTIO_NET_HDR_F_DATA_VALID`: the checksum was found right.
const DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Set beside a TCP type when the segments carry ECN.
const GSO_ECN: u8 = 0x80;

/// Tells whether the kernel or the card found the checksum of the packet behind this header right.
pub(crate) fn is_checked(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|flags| flags & DATA_VALID != 0)
}

/// The offloads of one packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// Present when the checksum is still to be computed.
    pub partial: Option<Partial>,
    /// Present when the packet is a super-packet.
    pub segmentation: Option<Segmentation>,
    /// A hint: the length of all headers.
    pub hdr_len: u16,
}

/// A checksum that the next device computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// Where the sum starts: the transport header's offset in the packet.
    pub start: u16,
    /// Where the checksum is, counted from `start`.
    pub offset: u16,
}

/// A super-packet that the next device cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    /// Which transport's segmentation it is.
    pub kind: Gso,
    /// Bytes of payload in each segment.
    pub size: u16,
}

/// How a super-packet is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gso {
    /// TCP in IPv4.
    Tcp4 {
        /// The segments carry ECN.
        ecn: bool,
    },
    /// TCP in IPv6.
    Tcp6 {
        /// The segments carry ECN.
        ecn: bool,
    },
    /// UDP datagrams of the same size, in either family.
    UdpL4,
}

impl Header {
    /// Parses the header, which is in the machine's byte order.
    ///
    /// # Errors
    /// When it is cut short or asks for an offload that was not negotiated.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some(&[flags, gso, l0, l1, s0, s1, c0, c1, o0, o1]) = bytes.first_chunk::<LEN>() else {
            return Err(Malformed::new(Field::VnetHdr, bytes.len()));
        };
        let partial = (flags & NEEDS_CSUM != 0).then(|| Partial {
            start: u16::from_ne_bytes([c0, c1]),
            offset: u16::from_ne_bytes([o0, o1]),
        });
        let size = u16::from_ne_bytes([s0, s1]);
        let segmentation = match Gso::parse(gso)? {
            None => None,
            Some(_) if size == 0 || partial.is_none() => {
                return Err(Malformed::new(Field::VnetHdr, 4));
            }
            Some(kind) => Some(Segmentation { kind, size }),
        };
        Ok(Self {
            partial,
            segmentation,
            hdr_len: u16::from_ne_bytes([l0, l1]),
        })
    }

    /// Writes the header.
    pub fn emit(&self, bytes: &mut [u8; LEN]) {
        let (flags, start, offset) = match self.partial {
            Some(partial) => (NEEDS_CSUM, partial.start, partial.offset),
            None => (0, 0, 0),
        };
        let (gso, size) = match self.segmentation {
            Some(segmentation) => (segmentation.kind.number(), segmentation.size),
            None => (GSO_NONE, 0),
        };
        let [l0, l1] = self.hdr_len.to_ne_bytes();
        let [s0, s1] = size.to_ne_bytes();
        let [c0, c1] = start.to_ne_bytes();
        let [o0, o1] = offset.to_ne_bytes();
        *bytes = [flags, gso, l0, l1, s0, s1, c0, c1, o0, o1];
    }

    /// Returns the offloads of the same segment behind an IP header of another length and family.
    #[must_use]
    pub(crate) fn translated(&self, old_l4: usize, new_l4: usize) -> Self {
        let shift = |value: u16| {
            let value = (usize::from(value) + new_l4).saturating_sub(old_l4);
            u16::try_from(value).unwrap_or(u16::MAX)
        };
        Self {
            partial: self.partial.map(|partial| Partial {
                start: shift(partial.start),
                offset: partial.offset,
            }),
            segmentation: self.segmentation.map(|segmentation| Segmentation {
                kind: segmentation.kind.other_family(),
                size: segmentation.size,
            }),
            hdr_len: if self.hdr_len == 0 {
                0
            } else {
                shift(self.hdr_len)
            },
        }
    }
}

impl Gso {
    fn parse(number: u8) -> Result<Option<Self>, Malformed> {
        let ecn = number & GSO_ECN != 0;
        match number & !GSO_ECN {
            GSO_NONE if !ecn => Ok(None),
            GSO_TCPV4 => Ok(Some(Self::Tcp4 { ecn })),
            GSO_TCPV6 => Ok(Some(Self::Tcp6 { ecn })),
            GSO_UDP_L4 if !ecn => Ok(Some(Self::UdpL4)),
            _ => Err(Malformed::new(Field::VnetHdr, 1)),
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Tcp4 { ecn: false } => GSO_TCPV4,
            Self::Tcp4 { ecn: true } => GSO_TCPV4 | GSO_ECN,
            Self::Tcp6 { ecn: false } => GSO_TCPV6,
            Self::Tcp6 { ecn: true } => GSO_TCPV6 | GSO_ECN,
            Self::UdpL4 => GSO_UDP_L4,
        }
    }

    const fn other_family(self) -> Self {
        match self {
            Self::Tcp4 { ecn } => Self::Tcp6 { ecn },
            Self::Tcp6 { ecn } => Self::Tcp4 { ecn },
            Self::UdpL4 => Self::UdpL4,
        }
    }
}
