//! Whether a remote is where it says: it has answered to what the server sent.

use crate::incoming::Segment;
use crate::tcp_state::Direction;
use crate::wire::tcp::Flags;

/// How far a session has come from a first packet, whose source anybody can forge, to an exchange.
///
/// RFC 5382 §5: a connection is partially open until both endpoints have sent an ACK.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The server has sent nothing.
    #[default]
    Unasked,
    /// The server has sent a SYN with this sequence number, a first datagram or an echo.
    Asked(Sequence),
    /// The remote has answered.
    Given,
}

impl Proof {
    pub(crate) fn next(self, direction: Direction, segment: &Segment) -> Self {
        match (self, direction, segment) {
            (Self::Given, _, _) => Self::Given,
            (_, Direction::FourToSix, Segment::Tcp(tcp)) if tcp.flags.has(Flags::SYN) => {
                Self::Asked(Sequence::new(tcp.sequence))
            }
            (Self::Asked(syn), Direction::SixToFour, Segment::Tcp(tcp))
                if tcp.flags.has(Flags::ACK)
                    && !tcp.flags.has(Flags::RST)
                    && (1..=FIRST_FLIGHT).contains(&tcp.acknowledgment.wrapping_sub(syn.get())) =>
            {
                Self::Given
            }
            (Self::Unasked, Direction::FourToSix, Segment::Udp(_) | Segment::EchoReply { .. }) => {
                Self::Asked(Sequence::new(0))
            }
            (
                Self::Asked(_),
                Direction::SixToFour,
                Segment::Udp(_) | Segment::EchoRequest { .. },
            ) => Self::Given,
            _ => self,
        }
    }
}

/// A sequence number in any place, so that a proof takes five bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence([u8; 4]);

impl Sequence {
    pub(crate) const fn new(number: u32) -> Self {
        Self(number.to_be_bytes())
    }

    pub(crate) const fn get(self) -> u32 {
        u32::from_be_bytes(self.0)
    }
}

/// What a server may have sent before the first ACK comes (RFC 7413); who guesses blindly hits it
/// once in 65536 times.
const FIRST_FLIGHT: u32 = 65_536;

#[cfg(test)]
mod tests {
    use Direction::{FourToSix, SixToFour};

    use super::*;
    use crate::wire::{tcp, udp};

    #[test]
    fn only_an_ack_of_the_servers_syn_is_a_proof() {
        let asked = Proof::Unasked.next(FourToSix, &tcp(Flags::SYN, u32::MAX, 0));
        assert_eq!(asked, Proof::Asked(Sequence::new(u32::MAX)));

        for segment in [
            tcp(Flags::ACK, 0, u32::MAX),
            tcp(Flags::ACK, 0, 65_536),
            tcp(Flags::SYN, 0, 0),
            tcp(Flags(Flags::ACK.0 | Flags::RST.0), 0, 0),
        ] {
            assert_eq!(asked.next(SixToFour, &segment), asked, "{segment:?}");
        }
        for acknowledgment in [0, 1, 65_535] {
            let segment = tcp(Flags::ACK, 0, acknowledgment);
            assert_eq!(asked.next(SixToFour, &segment), Proof::Given);
        }
    }

    #[test]
    fn datagram_proves_only_after_the_server_has_sent_one() {
        let udp = Segment::Udp(udp::Header {
            src_port: 1,
            dst_port: 2,
            len: 8,
            checksum: 3,
        });
        let unasked = Proof::Unasked.next(SixToFour, &udp);
        assert_eq!(unasked, Proof::Unasked);
        let asked = unasked.next(FourToSix, &udp);
        assert_eq!(asked.next(FourToSix, &udp), asked);
        assert_eq!(asked.next(SixToFour, &udp), Proof::Given);
    }

    fn tcp(flags: Flags, sequence: u32, acknowledgment: u32) -> Segment {
        Segment::Tcp(tcp::Header {
            src_port: 1,
            dst_port: 2,
            sequence,
            acknowledgment,
            header_len: tcp::LEN,
            flags,
        })
    }
}
