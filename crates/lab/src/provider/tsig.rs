//! TSIG with HMAC-SHA256 (RFC 8945), written apart from the one under test.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A key that both ends know.
#[derive(Clone)]
pub struct Key {
    name: String,
    secret: Vec<u8>,
}

impl Key {
    /// A key called `name` with a random secret.
    #[must_use]
    pub fn random(name: &str) -> Self {
        Self {
            name: name.to_ascii_lowercase(),
            secret: rand::random::<[u8; 32]>().to_vec(),
        }
    }

    /// The key file as `tsig-keygen` writes it.
    #[must_use]
    pub fn file(&self) -> String {
        let secret = BASE64.encode(&self.secret);
        format!(
            "key \"{}\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{secret}\";\n}};\n",
            self.name
        )
    }

    /// Checks the signature of a request, and returns the request without it together with
    /// what the answer has to be signed with.
    ///
    /// # Errors
    /// The TSIG error (RFC 8945 §5.2), if the message is not a request of the key's owner.
    pub fn verify(&self, message: &[u8], now_s: u64) -> Result<Verified, Rejected> {
        let (signed, tsig) = split(message).ok_or(Rejected::Malformed)?;
        if tsig.name != wire_name(&self.name) || tsig.algorithm != wire_name(ALGORITHM) {
            return Err(Rejected::BadKey);
        }
        let mut mac = self.mac();
        mac.update(&signed);
        mac.update(&tsig.variables());
        mac.verify_slice(&tsig.mac)
            .map_err(|_| Rejected::BadSignature)?;
        if tsig.time.abs_diff(now_s) > u64::from(tsig.fudge) {
            return Err(Rejected::BadTime);
        }
        Ok(Verified {
            request: signed,
            mac: tsig.mac,
        })
    }

    /// Signs an answer to a verified request.
    #[must_use]
    pub fn sign(&self, request_mac: &[u8], answer: &[u8], now_s: u64) -> Vec<u8> {
        let mut tsig = Tsig {
            name: wire_name(&self.name),
            algorithm: wire_name(ALGORITHM),
            time: now_s,
            fudge: 300,
            mac: Vec::new(),
            original_id: u16::from_be_bytes([answer[0], answer[1]]),
            error: 0,
            other: Vec::new(),
        };
        let mut mac = self.mac();
        mac.update(&len_of(request_mac));
        mac.update(request_mac);
        mac.update(answer);
        mac.update(&tsig.variables());
        tsig.mac = mac.finalize().into_bytes().to_vec();
        append(answer, &tsig)
    }

    fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.secret).expect("HMAC takes keys of every length")
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.name)
    }
}

/// A request whose signature is right.
#[derive(Debug)]
pub struct Verified {
    /// The message without its TSIG record.
    pub request: Vec<u8>,
    /// Its MAC, which the answer's signature covers.
    pub mac: Vec<u8>,
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Another key or algorithm.
    #[error("signed with an unknown key")]
    BadKey,
    /// The MAC is wrong.
    #[error("the signature is wrong")]
    BadSignature,
    /// The clocks disagree.
    #[error("signed at another time")]
    BadTime,
    /// No whole message with a TSIG record at its end.
    #[error("not signed")]
    Malformed,
}

struct Tsig {
    name: Vec<u8>,
    algorithm: Vec<u8>,
    time: u64,
    fudge: u16,
    mac: Vec<u8>,
    original_id: u16,
    error: u16,
    other: Vec<u8>,
}

impl Tsig {
    /// RFC 8945 §4.3.3.
    fn variables(&self) -> Vec<u8> {
        let mut out = self.name.clone();
        out.extend([0, 255, 0, 0, 0, 0]);
        out.extend(&self.algorithm);
        out.extend(&self.time.to_be_bytes()[2..]);
        out.extend(self.fudge.to_be_bytes());
        out.extend(self.error.to_be_bytes());
        out.extend(len_of(&self.other));
        out.extend(&self.other);
        out
    }
}

/// Takes the TSIG record off the end, and puts the original id back (RFC 8945 §4.3.2).
fn split(message: &[u8]) -> Option<(Vec<u8>, Tsig)> {
    let count = |at: usize| Some(usize::from(u16_at(message, at)?));
    let additional = count(10)?.checked_sub(1)?;
    let mut at = 12;
    for _ in 0..count(4)? {
        at = skip_name(message, at)? + 4;
    }
    for _ in 0..count(6)? + count(8)? + additional {
        at = skip_name(message, at)? + 10;
        at += usize::from(u16_at(message, at - 2)?);
    }
    let end = at;
    let (name, at) = read_name(message, at)?;
    if u16_at(message, at)? != TSIG {
        return None;
    }
    let (algorithm, at) = read_name(message, at + 10)?;
    let time = message
        .get(at..at + 6)?
        .iter()
        .fold(0, |time, byte| time << 8 | u64::from(*byte));
    let mac_end = at + 10 + usize::from(u16_at(message, at + 8)?);
    let other_len = usize::from(u16_at(message, mac_end + 4)?);
    let tsig = Tsig {
        name,
        algorithm,
        time,
        fudge: u16_at(message, at + 6)?,
        mac: message.get(at + 10..mac_end)?.to_vec(),
        original_id: u16_at(message, mac_end)?,
        error: u16_at(message, mac_end + 2)?,
        other: message.get(mac_end + 6..mac_end + 6 + other_len)?.to_vec(),
    };
    let mut signed = message.get(..end)?.to_vec();
    signed[..2].copy_from_slice(&tsig.original_id.to_be_bytes());
    signed[10..12].copy_from_slice(&u16::try_from(additional).ok()?.to_be_bytes());
    Some((signed, tsig))
}

fn append(message: &[u8], tsig: &Tsig) -> Vec<u8> {
    let mut rdata = tsig.algorithm.clone();
    rdata.extend(&tsig.time.to_be_bytes()[2..]);
    rdata.extend(tsig.fudge.to_be_bytes());
    rdata.extend(len_of(&tsig.mac));
    rdata.extend(&tsig.mac);
    rdata.extend(tsig.original_id.to_be_bytes());
    rdata.extend(tsig.error.to_be_bytes());
    rdata.extend(len_of(&tsig.other));
    rdata.extend(&tsig.other);
    let mut out = message.to_vec();
    let additional = u16_at(&out, 10).unwrap_or(0).saturating_add(1);
    out[10..12].copy_from_slice(&additional.to_be_bytes());
    out.extend(&tsig.name);
    out.extend(TSIG.to_be_bytes());
    out.extend([0, 255, 0, 0, 0, 0]);
    out.extend(len_of(&rdata));
    out.extend(rdata);
    out
}

fn len_of(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).expect("short").to_be_bytes()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Where the name at `at` ends.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            len if len >= 0xc0 => return Some(at + 2),
            len => at += 1 + usize::from(len),
        }
    }
}

/// The name at `at`, uncompressed and in lower case, and where it ends.
fn read_name(message: &[u8], at: usize) -> Option<(Vec<u8>, usize)> {
    let end = skip_name(message, at)?;
    let mut name = Vec::new();
    let mut at = at;
    for _ in 0..128 {
        let len = *message.get(at)?;
        match len {
            0 => {
                name.push(0);
                return Some((name, end));
            }
            0xc0.. => at = usize::from(u16_at(message, at)? & 0x3fff),
            _ => {
                let label = message.get(at..=at + usize::from(len))?;
                name.extend(label.to_ascii_lowercase());
                at += label.len();
            }
        }
    }
    None
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).expect("short label"));
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

const ALGORITHM: &str = "hmac-sha256";
const TSIG: u16 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_verifies_and_what_was_changed_does_not() {
        let key = Key::random("lab-key");
        let message = [0x12, 0x34, 0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        // A request is signed like an answer to a request without a MAC, but for its length.
        let mut tsig = Tsig {
            name: wire_name("lab-key"),
            algorithm: wire_name(ALGORITHM),
            time: 1_800_000_000,
            fudge: 300,
            mac: Vec::new(),
            original_id: 0x1234,
            error: 0,
            other: Vec::new(),
        };
        let mut mac = key.mac();
        mac.update(&message);
        mac.update(&tsig.variables());
        tsig.mac = mac.finalize().into_bytes().to_vec();
        let signed = append(&message, &tsig);

        let verified = key.verify(&signed, 1_800_000_100).unwrap();

        assert_eq!(verified.request, message);
        assert_eq!(
            key.verify(&signed, 1_800_000_301).unwrap_err(),
            Rejected::BadTime
        );
        assert_eq!(
            key.verify(&message, 1_800_000_000).unwrap_err(),
            Rejected::Malformed
        );
        let other = Key::random("lab-key");
        assert_eq!(
            other.verify(&signed, 1_800_000_000).unwrap_err(),
            Rejected::BadSignature
        );
        for at in 2..message.len() {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert!(key.verify(&changed, 1_800_000_000).is_err(), "byte {at}");
        }
    }
}
