//! ICMP and `ICMPv6` echo (RFC 792, RFC 4443), and which messages are errors.

use crate::wire::{Field, Malformed};

/// IANA protocol number of ICMP.
pub const PROTOCOL_V4: u8 = 1;

/// IANA protocol number of `ICMPv6`.
pub const PROTOCOL_V6: u8 = 58;

/// Where the checksum stands in the header.
pub const CHECKSUM_OFFSET: usize = 2;

/// Length of the header of an echo.
pub const LEN: usize = 8;

/// ICMP type of an echo reply.
pub const ECHO_REPLY_V4: u8 = 0;
/// ICMP type of an echo request.
pub const ECHO_REQUEST_V4: u8 = 8;
/// `ICMPv6` type of an echo request.
pub const ECHO_REQUEST_V6: u8 = 128;
/// `ICMPv6` type of an echo reply.
pub const ECHO_REPLY_V6: u8 = 129;

/// What a translator distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// An answer to an echo request.
    EchoReply {
        /// Identifier.
        id: u16,
    },
    /// An echo request.
    EchoRequest {
        /// Identifier.
        id: u16,
    },
    /// An error, which holds a packet.
    Error,
    /// Any other query, or a type that nobody knows.
    Other,
}

impl Message {
    /// Parses an ICMP message.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn parse_v4(message: &[u8]) -> Result<Self, Malformed> {
        let (kind, id) = header(message)?;
        Ok(match kind {
            ECHO_REPLY_V4 => Self::EchoReply { id },
            ECHO_REQUEST_V4 => Self::EchoRequest { id },
            // destination unreachable, source quench, redirect, time exceeded, parameter problem
            3 | 4 | 5 | 11 | 12 => Self::Error,
            _ => Self::Other,
        })
    }

    /// Parses an `ICMPv6` message.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn parse_v6(message: &[u8]) -> Result<Self, Malformed> {
        let (kind, id) = header(message)?;
        Ok(match kind {
            ECHO_REPLY_V6 => Self::EchoReply { id },
            ECHO_REQUEST_V6 => Self::EchoRequest { id },
            // RFC 4443 §2.1: errors have the types below 128.
            0..=127 => Self::Error,
            _ => Self::Other,
        })
    }
}

/// Returns type and identifier; the code of an echo means nothing (RFC 792, RFC 4443 §4.1).
fn header(message: &[u8]) -> Result<(u8, u16), Malformed> {
    let Some(&[kind, _, _, _, i0, i1, ..]) = message.first_chunk::<LEN>() else {
        return Err(Malformed::new(Field::IcmpHeader, message.len()));
    };
    Ok((kind, u16::from_be_bytes([i0, i1])))
}
