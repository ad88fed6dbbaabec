//! Which ICMP error becomes which (RFC 7915 §4.2, §5.2).

/// What stands in the second word of a translated error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// The MTU, as it was in the other family.
    Mtu(u32),
    Pointer(u8),
    Unused,
}

/// A translated error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Translated {
    pub(super) kind: u8,
    pub(super) code: u8,
    pub(super) word: Word,
}

/// Returns the `ICMPv6` error for an ICMP error.
pub(super) fn four_to_six(kind: u8, code: u8, word: [u8; 4]) -> Option<Translated> {
    let [w0, _, w2, w3] = word;
    let (kind, code, word) = match (kind, code) {
        (DESTINATION_UNREACHABLE_V4, 0 | 1 | 5..=8 | 11 | 12) => {
            (DESTINATION_UNREACHABLE_V6, 0, Word::Unused)
        }
        (DESTINATION_UNREACHABLE_V4, 2) => (PARAMETER_PROBLEM_V6, 1, Word::Pointer(NEXT_HEADER)),
        (DESTINATION_UNREACHABLE_V4, 3) => (DESTINATION_UNREACHABLE_V6, 4, Word::Unused),
        (DESTINATION_UNREACHABLE_V4, 4) => {
            let mtu = u16::from_be_bytes([w2, w3]);
            (PACKET_TOO_BIG, 0, Word::Mtu(mtu.into()))
        }
        (DESTINATION_UNREACHABLE_V4, 9 | 10 | 13 | 15) => {
            (DESTINATION_UNREACHABLE_V6, 1, Word::Unused)
        }
        (TIME_EXCEEDED_V4, code) => (TIME_EXCEEDED_V6, code, Word::Unused),
        (PARAMETER_PROBLEM_V4, 0 | 2) => {
            let pointer = pointer_four_to_six(w0)?;
            (PARAMETER_PROBLEM_V6, 0, Word::Pointer(pointer))
        }
        _ => return None,
    };
    Some(Translated { kind, code, word })
}

/// Returns the ICMP error for an `ICMPv6` error.
pub(super) fn six_to_four(kind: u8, code: u8, word: [u8; 4]) -> Option<Translated> {
    let value = u32::from_be_bytes(word);
    let (kind, code, word) = match (kind, code) {
        (DESTINATION_UNREACHABLE_V6, 0 | 2 | 3) => (DESTINATION_UNREACHABLE_V4, 1, Word::Unused),
        (DESTINATION_UNREACHABLE_V6, 1) => (DESTINATION_UNREACHABLE_V4, 10, Word::Unused),
        (DESTINATION_UNREACHABLE_V6, 4) => (DESTINATION_UNREACHABLE_V4, 3, Word::Unused),
        (PACKET_TOO_BIG, _) => (DESTINATION_UNREACHABLE_V4, 4, Word::Mtu(value)),
        (TIME_EXCEEDED_V6, code) => (TIME_EXCEEDED_V4, code, Word::Unused),
        (PARAMETER_PROBLEM_V6, 0) => {
            let pointer = pointer_six_to_four(value)?;
            (PARAMETER_PROBLEM_V4, 0, Word::Pointer(pointer))
        }
        (PARAMETER_PROBLEM_V6, 1) => (DESTINATION_UNREACHABLE_V4, 2, Word::Unused),
        _ => return None,
    };
    Some(Translated { kind, code, word })
}

/// Tells whether an ICMP error of this type may say how long the quoted packet is, in words of
/// 32 bits, in its sixth byte (RFC 4884 §4).
pub(super) const fn has_length_v4(kind: u8) -> bool {
    matches!(
        kind,
        DESTINATION_UNREACHABLE_V4 | TIME_EXCEEDED_V4 | PARAMETER_PROBLEM_V4
    )
}

/// As [`has_length_v4`], in words of 64 bits in the fifth byte.
pub(super) const fn has_length_v6(kind: u8) -> bool {
    matches!(kind, DESTINATION_UNREACHABLE_V6 | TIME_EXCEEDED_V6)
}

/// RFC 7915 §4.2, Figure 3.
const fn pointer_four_to_six(pointer: u8) -> Option<u8> {
    match pointer {
        0 => Some(0),
        1 => Some(1),
        2 | 3 => Some(4),
        8 => Some(7),
        9 => Some(NEXT_HEADER),
        12..=15 => Some(8),
        16..=19 => Some(24),
        _ => None,
    }
}

/// RFC 7915 §5.2, Figure 6.
const fn pointer_six_to_four(pointer: u32) -> Option<u8> {
    match pointer {
        0 => Some(0),
        1 => Some(1),
        4 | 5 => Some(2),
        6 => Some(9),
        7 => Some(8),
        8..=23 => Some(12),
        24..=39 => Some(16),
        _ => None,
    }
}

const DESTINATION_UNREACHABLE_V4: u8 = 3;
const TIME_EXCEEDED_V4: u8 = 11;
const PARAMETER_PROBLEM_V4: u8 = 12;

const DESTINATION_UNREACHABLE_V6: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const TIME_EXCEEDED_V6: u8 = 3;
const PARAMETER_PROBLEM_V6: u8 = 4;

/// Where the Next Header field stands in an IPv6 header.
const NEXT_HEADER: u8 = 6;
