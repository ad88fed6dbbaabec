//! The parts of a message that are looked at before, or without, decoding it.

use hickory_proto::op::ResponseCode;

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The twelve bytes that every message begins with (RFC 1035 §4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Chosen by the client.
    pub id: u16,
    /// QR, opcode, AA, TC, RD, RA, AD, CD and RCODE.
    pub flags: u16,
    /// Questions, answers, authorities, additionals.
    pub counts: [u16; 4],
}

impl Head {
    /// Parses the head of a message.
    ///
    /// # Errors
    /// When there are fewer than twelve bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let words: Option<Vec<u16>> = (0..6).map(|word| u16_at(bytes, word * 2)).collect();
        match words.as_deref() {
            Some(&[id, flags, a, b, c, d]) => Ok(Self {
                id,
                flags,
                counts: [a, b, c, d],
            }),
            _ => Err(Malformed::Head { len: bytes.len() }),
        }
    }

    /// Tells whether the message is an answer.
    #[must_use]
    pub const fn is_response(self) -> bool {
        self.flags & QR != 0
    }

    /// Tells whether the answer was cut.
    #[must_use]
    pub const fn is_truncated(self) -> bool {
        self.flags & TC != 0
    }

    /// Returns the opcode.
    #[must_use]
    pub const fn opcode(self) -> u16 {
        (self.flags & OPCODE) >> 11
    }

    /// Returns the lower four bits of the response code.
    #[must_use]
    pub const fn rcode(self) -> u16 {
        self.flags & RCODE
    }

    /// Returns an answer that is only a head: for what cannot be decoded any further.
    #[must_use]
    pub fn bare_answer(self, code: ResponseCode) -> Vec<u8> {
        let flags = QR | (self.flags & (OPCODE | RD | CD)) | u16::from(code.low());
        let mut bytes = Vec::with_capacity(HEAD);
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&flags.to_be_bytes());
        bytes.resize(HEAD, 0);
        bytes
    }
}

/// Why a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A record cannot be decoded.
    #[error("a record cannot be decoded")]
    Body,
    /// The section counts do not fit the opcode.
    #[error("the section counts do not fit (offset 4)")]
    Counts,
    /// The connection ended within it.
    #[error("the connection ended after {len} bytes of a message")]
    Cut {
        /// How many came, with those of the length.
        len: usize,
    },
    /// Too short for a head.
    #[error("{len} bytes hold no head")]
    Head {
        /// How long it is.
        len: usize,
    },
    /// The question cannot be decoded.
    #[error("the question cannot be decoded (offset {offset})")]
    Question {
        /// The label at fault.
        offset: usize,
    },
}

/// Returns the bytes of the only question: its name, type and class.
///
/// # Errors
/// When the name is compressed (there is nothing before it to point to), too long or cut.
pub fn question(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut offset = HEAD;
    loop {
        let malformed = Malformed::Question { offset };
        let length = *bytes.get(offset).ok_or(malformed)?;
        if length > LONGEST_LABEL {
            return Err(malformed);
        }
        offset = offset.saturating_add(usize::from(length)).saturating_add(1);
        if offset.saturating_sub(HEAD) > LONGEST_NAME {
            return Err(malformed);
        }
        if length == 0 {
            return bytes.get(HEAD..offset.saturating_add(4)).ok_or(malformed);
        }
    }
}

/// Returns the message with another id.
#[must_use]
pub fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for (byte, new) in bytes.iter_mut().zip(id.to_be_bytes()) {
        *byte = new;
    }
    bytes
}

/// Returns the answer if it fits into `limit`, else its head and question with TC set
/// (RFC 2181 §9).
#[must_use]
pub fn fit(answer: Vec<u8>, limit: usize) -> Vec<u8> {
    if answer.len() <= limit {
        return answer;
    }
    let Ok(head) = Head::parse(&answer) else {
        return answer;
    };
    let question = question(&answer).unwrap_or_default();
    let mut cut = Vec::with_capacity(HEAD + question.len());
    cut.extend_from_slice(&head.id.to_be_bytes());
    cut.extend_from_slice(&(head.flags | TC).to_be_bytes());
    cut.extend_from_slice(&u16::from(!question.is_empty()).to_be_bytes());
    cut.resize(HEAD, 0);
    cut.extend_from_slice(question);
    cut
}

/// Returns the offset of the last record of a message.
///
/// # Errors
/// When a record is cut or there is none.
pub fn last_record(bytes: &[u8]) -> Result<usize, Malformed> {
    let [questions, rest @ ..] = Head::parse(bytes)?.counts;
    let mut offset = HEAD;
    for _ in 0..questions {
        offset = skip_name(bytes, offset)?.saturating_add(4);
    }
    let mut last = None;
    let records: u32 = rest.iter().map(|count| u32::from(*count)).sum();
    for _ in 0..records {
        last = Some(offset);
        let fixed = skip_name(bytes, offset)?;
        let length = u16_at(bytes, fixed.saturating_add(8)).ok_or(Malformed::Body)?;
        offset = fixed.saturating_add(10).saturating_add(usize::from(length));
        if offset > bytes.len() {
            return Err(Malformed::Body);
        }
    }
    last.ok_or(Malformed::Counts)
}

fn skip_name(bytes: &[u8], mut offset: usize) -> Result<usize, Malformed> {
    loop {
        let length = *bytes.get(offset).ok_or(Malformed::Body)?;
        offset = offset.saturating_add(1);
        match length {
            0 => return Ok(offset),
            1..=LONGEST_LABEL => offset = offset.saturating_add(usize::from(length)),
            // RFC 1035 §4.1.4: a pointer ends the name
            0xc0.. => return Ok(offset.saturating_add(1)),
            _ => return Err(Malformed::Body),
        }
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    match bytes.get(offset..)? {
        [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// The length of the head.
pub const HEAD: usize = 12;

const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
const CD: u16 = 0x0010;
const RCODE: u16 = 0x000f;

/// RFC 1035 §2.3.4.
const LONGEST_LABEL: u8 = 63;

/// RFC 1035 §2.3.4.
const LONGEST_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn head_and_question_of_a_query_are_found() {
        let query = b"\x12\x34\x01\x10\0\x01\0\0\0\0\0\0\x02ab\x01C\0\0\x1c\0\x01rest";
        let head = Head::parse(query).unwrap();

        assert_eq!(
            (head.id, head.opcode(), head.counts),
            (0x1234, 0, [1, 0, 0, 0])
        );
        assert!(!head.is_response());
        assert_eq!(question(query).unwrap(), b"\x02ab\x01C\0\0\x1c\0\x01");
        assert_eq!(
            head.bare_answer(ResponseCode::FormErr),
            b"\x12\x34\x81\x11\0\0\0\0\0\0\0\0"
        );
    }

    #[test]
    fn a_compressed_or_endless_question_is_malformed() {
        let mut endless = vec![0; HEAD];
        endless.extend([1, b'x'].repeat(200));

        assert_eq!(question(&endless), Err(Malformed::Question { offset: 266 }));
        assert_eq!(
            question(b"\0\0\0\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01"),
            Err(Malformed::Question { offset: 12 })
        );
        assert_eq!(Head::parse(&[0; 11]), Err(Malformed::Head { len: 11 }));
    }

    #[test]
    fn what_does_not_fit_is_cut_to_its_question() {
        let answer = b"\0\x01\x81\x80\0\x01\0\x09\0\0\0\0\x01x\0\0\x01\0\x01................";

        assert_eq!(fit(answer.to_vec(), 512), answer);
        assert_eq!(
            fit(answer.to_vec(), 20),
            b"\0\x01\x83\x80\0\x01\0\0\0\0\0\0\x01x\0\0\x01\0\x01"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            drop(Head::parse(&bytes).map(|head| head.bare_answer(ResponseCode::NotImp)));
            if let Ok(question) = question(&bytes) {
                prop_assert!(HEAD + question.len() <= bytes.len());
            }
            if let Ok(last) = last_record(&bytes) {
                prop_assert!((HEAD..bytes.len()).contains(&last));
            }
            prop_assert!(fit(bytes.clone(), 300).len() <= bytes.len());
            prop_assert_eq!(with_id(&bytes, 7).len(), bytes.len());
        }
    }
}
