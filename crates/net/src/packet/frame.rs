//! A UDP datagram over IPv4 in an Ethernet frame: bytes to values and back.

use std::net::SocketAddrV4;

use mapping::Mac;

use super::ETHERTYPE_IPV4;
use super::checksum::{finish, sum};
use super::ipv4::{Header, UDP};

/// A UDP datagram with all the headers that carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpFrame<'a> {
    /// Who sent the frame.
    pub source_mac: Mac,
    /// Whom the frame is for.
    pub destination_mac: Mac,
    /// The source address and port.
    pub source: SocketAddrV4,
    /// The destination address and port.
    pub destination: SocketAddrV4,
    /// What the datagram carries.
    pub payload: &'a [u8],
}

impl<'a> UdpFrame<'a> {
    /// Reads a frame.
    ///
    /// The UDP checksum is not verified: between two interfaces of one machine the kernel
    /// leaves it unfinished.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when the bytes hold anything else than a whole UDP datagram over IPv4.
    pub fn parse(frame: &'a [u8]) -> Result<Self, Malformed> {
        let (ethernet, ip) = frame.split_first_chunk::<14>().ok_or(Malformed::Ethernet)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, kind @ ..] = *ethernet;
        if u16::from_be_bytes(kind) != ETHERTYPE_IPV4 {
            return Err(Malformed::Ethernet);
        }
        let header = Header::parse(ip).ok_or(Malformed::Ip)?;
        let udp = ip.get(header.udp).ok_or(Malformed::Ip)?;
        let (udp_header, rest) = udp.split_first_chunk::<8>().ok_or(Malformed::Udp)?;
        let [sp0, sp1, dp0, dp1, l0, l1, ..] = *udp_header;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let payload = len
            .checked_sub(8)
            .and_then(|len| rest.get(..len))
            .ok_or(Malformed::Udp)?;
        Ok(Self {
            source_mac: Mac([s0, s1, s2, s3, s4, s5]),
            destination_mac: Mac([d0, d1, d2, d3, d4, d5]),
            source: SocketAddrV4::new(header.source, u16::from_be_bytes([sp0, sp1])),
            destination: SocketAddrV4::new(header.destination, u16::from_be_bytes([dp0, dp1])),
            payload,
        })
    }

    /// Writes the frame, checksums included; `None` when the payload fits no datagram.
    #[must_use]
    pub fn emit(&self) -> Option<Vec<u8>> {
        let udp_len = u16::try_from(self.payload.len().checked_add(8)?).ok()?;
        let ip_len = udp_len.checked_add(20)?;
        let mut frame = Vec::with_capacity(usize::from(ip_len).saturating_add(14));
        frame.extend(self.destination_mac.0);
        frame.extend(self.source_mac.0);
        frame.extend(ETHERTYPE_IPV4.to_be_bytes());
        frame.extend(self.ip_header(ip_len));
        frame.extend(self.udp_header(udp_len));
        frame.extend(self.payload);
        Some(frame)
    }

    fn ip_header(&self, len: u16) -> [u8; 20] {
        let [l0, l1] = len.to_be_bytes();
        let [s0, s1, s2, s3] = self.source.ip().octets();
        let [d0, d1, d2, d3] = self.destination.ip().octets();
        let header = |[c0, c1]: [u8; 2]| {
            let dont_fragment = 0x40;
            [
                0x45,
                0,
                l0,
                l1,
                0,
                0,
                dont_fragment,
                0,
                TTL,
                UDP,
                c0,
                c1,
                s0,
                s1,
                s2,
                s3,
                d0,
                d1,
                d2,
                d3,
            ]
        };
        header(finish(sum(0, &header([0, 0]))).to_be_bytes())
    }

    fn udp_header(&self, len: u16) -> [u8; 8] {
        let [sp0, sp1] = self.source.port().to_be_bytes();
        let [dp0, dp1] = self.destination.port().to_be_bytes();
        let [l0, l1] = len.to_be_bytes();
        let header = |[c0, c1]: [u8; 2]| [sp0, sp1, dp0, dp1, l0, l1, c0, c1];
        let mut total = sum(0, &self.source.ip().octets());
        total = sum(total, &self.destination.ip().octets());
        total = sum(total, &[0, UDP, l0, l1]);
        total = sum(total, &header([0, 0]));
        total = sum(total, self.payload);
        // RFC 768: a checksum that comes out as zero is sent as all ones.
        let csum = match finish(total) {
            0 => u16::MAX,
            csum => csum,
        };
        header(csum.to_be_bytes())
    }
}

/// Why a frame is no UDP datagram over IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Too short, or not IPv4.
    #[error("no Ethernet frame with IPv4")]
    Ethernet,
    /// No IPv4 header, a fragment, or not UDP.
    #[error("no whole IPv4 packet with UDP")]
    Ip,
    /// The UDP header is cut or lies about its length.
    #[error("no whole UDP datagram")]
    Udp,
}

const TTL: u8 = 64;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_a_capture() {
        // Checked with tcpdump -vv: "bad udp cksum" does not appear.
        let frame = discover(b"hi!").emit().unwrap();

        assert_eq!(frame.len(), 14 + 20 + 8 + 3);
        assert_eq!(
            frame[..14],
            [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 0]
        );
        // An IPv4 header and a UDP datagram with its pseudo-header both sum to all ones.
        assert_eq!(finish(sum(0, &frame[14..34])), 0);
        let pseudo = sum(sum(0, &frame[26..34]), &[0, 17, 0, 11]);
        assert_eq!(finish(sum(pseudo, &frame[34..])), 0);
    }

    #[test]
    fn fragments_and_other_protocols_are_refused() {
        let good = discover(b"x").emit().unwrap();
        for (at, byte) in [
            (12, 0x86),
            (20, 0x20),
            (21, 1),
            (23, 6),
            (14, 0x65),
            (14, 0x44),
        ] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(UdpFrame::parse(&bad).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(payload in prop::collection::vec(any::<u8>(), 0..1500)) {
            let udp = discover(&payload);
            let frame = udp.emit().unwrap();
            prop_assert_eq!(UdpFrame::parse(&frame), Ok(udp));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let payload = UdpFrame::parse(&bytes).map_or(0, |udp| udp.payload.len());
            prop_assert!(payload <= bytes.len());
        }

        #[test]
        fn damaged_frames_never_panic(at in 0..50_usize, byte in any::<u8>(), len in 0..60_usize) {
            let mut frame = discover(b"some payload").emit().unwrap();
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
            frame.truncate(len);
            let payload = UdpFrame::parse(&frame).map_or(0, |udp| udp.payload.len());
            prop_assert!(payload <= frame.len());
        }
    }

    fn discover(payload: &[u8]) -> UdpFrame<'_> {
        UdpFrame {
            source_mac: Mac([2, 0, 0, 0, 0, 1]),
            destination_mac: Mac([255; 6]),
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
            payload,
        }
    }
}
