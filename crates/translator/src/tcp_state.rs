//! The state of a TCP session (RFC 6146 §3.5.2.2).

use crate::session::Lifetime;
use crate::wire::tcp::Flags;

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a server to a remote.
    FourToSix,
    /// From a remote to a server.
    SixToFour,
}

/// The state of a TCP session; CLOSED is the absence of one.
///
/// ```text
///            V4 SYN                  V6 SYN
///   CLOSED ─────────► V4INIT ───────────────────────► ESTABLISHED
///            V6 SYN                  V4 SYN
///   CLOSED ─────────► V6INIT ───────────────────────► ESTABLISHED ◄──┐ not RST
///      ▲                               V4 FIN │ V6 FIN │   │ RST     │
///      │                                      ▼        ▼   └──────► TRANS
///      │                                V4FIN_RCV  V6FIN_RCV ─RST─────▲
///      │ 4 min, or V6 SYN                     │ V6 FIN │ V4 FIN
///      └────────────────────── V4FIN_V6FIN_RCV ◄───────┘
/// ```
/// The whole table is in the test `every_transition`.
// DEVIATION RFC 6146 §3.5.2.2: behind a gateway there is no V4INIT because no session starts from
// IPv4: a server that calls out to a remote is not what it is for. See `alone`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpState {
    /// Packets flow both ways.
    Established,
    /// The server has finished.
    V4FinRcv,
    /// Both have finished.
    V4FinV6FinRcv,
    /// The IPv4 side has asked, the IPv6 side has not answered.
    V4Init,
    /// The remote has finished.
    V6FinRcv,
    /// The remote has asked, the server has not answered.
    V6Init,
    /// One side has reset.
    Trans,
}

impl TcpState {
    /// Returns the name used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::Trans => "trans",
            Self::V4FinRcv => "v4-fin-rcv",
            Self::V4FinV6FinRcv => "v4-fin-v6-fin-rcv",
            Self::V4Init => "v4-init",
            Self::V6FinRcv => "v6-fin-rcv",
            Self::V6Init => "v6-init",
        }
    }

    /// Returns the state after a segment, and the lifetime that it starts anew, if any.
    pub(crate) fn next(self, direction: Direction, flags: Flags) -> (Self, Option<Lifetime>) {
        let closing = Some(Lifetime::TcpClosing);
        let opening = Some(Lifetime::TcpOpening);
        let reset = match direction {
            Direction::FourToSix => closing,
            Direction::SixToFour => Some(Lifetime::TcpReset),
        };
        let established = Some(Lifetime::TcpEstablished);
        match (self, direction, Event::of(flags)) {
            (Self::V4Init, Direction::SixToFour, Event::Syn)
            | (Self::V6Init, Direction::FourToSix, Event::Syn) => (Self::Established, established),
            (Self::V4Init, Direction::FourToSix, Event::Syn) => (Self::V4Init, opening),
            (Self::V4Init, _, _) => (Self::V4Init, None),
            (Self::V6Init, Direction::SixToFour, Event::Syn) => (Self::V6Init, opening),
            (Self::V6Init, _, _) => (Self::V6Init, None),

            // DEVIATION RFC 6146 §3.5.2.2: a reset leads to TRANS from the FIN states too, because
            // RFC 7857 §2.2 ends every session four minutes after a reset.
            (Self::Established | Self::V4FinRcv | Self::V6FinRcv, _, Event::Rst) => {
                (Self::Trans, reset)
            }
            (Self::Established, Direction::FourToSix, Event::Fin) => (Self::V4FinRcv, established),
            (Self::Established, Direction::SixToFour, Event::Fin) => (Self::V6FinRcv, established),
            (Self::V4FinRcv, Direction::SixToFour, Event::Fin)
            | (Self::V6FinRcv, Direction::FourToSix, Event::Fin) => (Self::V4FinV6FinRcv, closing),
            (Self::Established | Self::V4FinRcv | Self::V6FinRcv, _, _) => (self, established),

            (Self::V4FinV6FinRcv, _, _) => (Self::V4FinV6FinRcv, None),

            (Self::Trans, Direction::FourToSix, Event::Rst) => (Self::Trans, closing),
            (Self::Trans, Direction::SixToFour, Event::Rst) => (Self::Trans, None),
            (Self::Trans, _, _) => (Self::Established, established),
        }
    }
}

/// What a segment means to the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Data,
    Fin,
    Rst,
    Syn,
}

impl Event {
    const fn of(flags: Flags) -> Self {
        if flags.has(Flags::RST) {
            Self::Rst
        } else if flags.has(Flags::SYN) {
            Self::Syn
        } else if flags.has(Flags::FIN) {
            Self::Fin
        } else {
            Self::Data
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transition() {
        use Direction::{FourToSix, SixToFour};
        use TcpState::*;
        const EST: Option<Lifetime> = Some(Lifetime::TcpEstablished);
        const CLOSE: Option<Lifetime> = Some(Lifetime::TcpClosing);
        const OPEN: Option<Lifetime> = Some(Lifetime::TcpOpening);
        const RESET: Option<Lifetime> = Some(Lifetime::TcpReset);
        let none = None;

        #[rustfmt::skip]
        let table = [
            // state          direction  SYN                     FIN                     RST             data
            (V4Init,        SixToFour, [(Established, EST),    (V4Init, none),         (V4Init, none), (V4Init, none)]),
            (V4Init,        FourToSix, [(V4Init, OPEN),        (V4Init, none),         (V4Init, none), (V4Init, none)]),
            (V6Init,        SixToFour, [(V6Init, OPEN),        (V6Init, none),         (V6Init, none), (V6Init, none)]),
            (V6Init,        FourToSix, [(Established, EST),    (V6Init, none),         (V6Init, none), (V6Init, none)]),
            (Established,   SixToFour, [(Established, EST),    (V6FinRcv, EST),        (Trans, RESET), (Established, EST)]),
            (Established,   FourToSix, [(Established, EST),    (V4FinRcv, EST),        (Trans, CLOSE), (Established, EST)]),
            (V4FinRcv,      SixToFour, [(V4FinRcv, EST),       (V4FinV6FinRcv, CLOSE), (Trans, RESET), (V4FinRcv, EST)]),
            (V4FinRcv,      FourToSix, [(V4FinRcv, EST),       (V4FinRcv, EST),        (Trans, CLOSE), (V4FinRcv, EST)]),
            (V6FinRcv,      SixToFour, [(V6FinRcv, EST),       (V6FinRcv, EST),        (Trans, RESET), (V6FinRcv, EST)]),
            (V6FinRcv,      FourToSix, [(V6FinRcv, EST),       (V4FinV6FinRcv, CLOSE), (Trans, CLOSE), (V6FinRcv, EST)]),
            (V4FinV6FinRcv, SixToFour, [(V4FinV6FinRcv, none), (V4FinV6FinRcv, none),  (V4FinV6FinRcv, none), (V4FinV6FinRcv, none)]),
            (V4FinV6FinRcv, FourToSix, [(V4FinV6FinRcv, none), (V4FinV6FinRcv, none),  (V4FinV6FinRcv, none), (V4FinV6FinRcv, none)]),
            (Trans,         SixToFour, [(Established, EST),    (Established, EST),     (Trans, none),  (Established, EST)]),
            (Trans,         FourToSix, [(Established, EST),    (Established, EST),     (Trans, CLOSE), (Established, EST)]),
        ];

        for (state, direction, expected) in table {
            let events = [Flags::SYN, Flags::FIN, Flags::RST, Flags(0)];
            for (flags, expected) in events.into_iter().zip(expected) {
                for flags in [flags, Flags(flags.0 | Flags::ACK.0)] {
                    let next = state.next(direction, flags);
                    assert_eq!(next, expected, "{state:?} {direction:?} {flags:?}");
                }
            }
        }
    }

    #[test]
    fn reset_outweighs_syn_and_syn_outweighs_fin() {
        assert_eq!(Event::of(Flags(0xff)), Event::Rst);
        assert_eq!(Event::of(Flags(Flags::SYN.0 | Flags::FIN.0)), Event::Syn);
    }
}
