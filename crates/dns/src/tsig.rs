//! Signs requests and verifies answers with a shared key (RFC 8945).

use std::fmt;

use data_encoding::BASE64;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::tsig::{TSIG, TsigAlgorithm, TsigError, make_tsig_record};
use hickory_proto::rr::{Name, RData};
use hickory_proto::serialize::binary::BinEncoder;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::wire::{self, Head};

/// A shared key for HMAC-SHA256, the algorithm that every server has (RFC 8945 §6).
#[derive(Clone)]
pub struct Key {
    name: Name,
    secret: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name.to_ascii())
            .finish_non_exhaustive()
    }
}

impl Key {
    /// Makes a key.
    #[must_use]
    pub const fn new(name: Name, secret: Vec<u8>) -> Self {
        Self { name, secret }
    }

    /// Reads a key as `tsig-keygen` writes it:
    /// `key "name" { algorithm hmac-sha256; secret "base64"; };`.
    ///
    /// # Errors
    /// When the text is something else, or the algorithm another one.
    pub fn parse(text: &str) -> Result<Self, ParseKeyError> {
        let tokens = tokens(text);
        let mut tokens = tokens.iter().map(String::as_str);
        let (Some("key"), Some(name), Some("{")) = (tokens.next(), tokens.next(), tokens.next())
        else {
            return Err(ParseKeyError::Shape);
        };
        let mut name = Name::from_ascii(name)
            .map_err(|_| ParseKeyError::Name)?
            .to_lowercase();
        name.set_fqdn(true);
        let (mut algorithm, mut secret) = (None, None);
        loop {
            match (tokens.next(), tokens.next(), tokens.next()) {
                (Some("algorithm"), Some(value), Some(";")) => algorithm = Some(value),
                (Some("secret"), Some(value), Some(";")) => secret = Some(value),
                (Some("}"), Some(";") | None, None) => break,
                _ => return Err(ParseKeyError::Shape),
            }
        }
        let algorithm = algorithm.ok_or(ParseKeyError::Shape)?;
        if !algorithm
            .trim_end_matches('.')
            .eq_ignore_ascii_case(ALGORITHM)
        {
            return Err(ParseKeyError::Algorithm(algorithm.to_owned()));
        }
        let secret = secret.ok_or(ParseKeyError::Shape)?;
        match BASE64.decode(secret.as_bytes()) {
            Ok(secret) if !secret.is_empty() => Ok(Self { name, secret }),
            _ => Err(ParseKeyError::Secret),
        }
    }

    /// Signs a request at `time`, in seconds since 1970; `None` if it cannot be encoded.
    #[must_use]
    pub fn sign(&self, mut message: Message, time: u64) -> Option<Signed> {
        let unsigned = message.to_vec().ok()?;
        let tsig = |mac| {
            let id = message.metadata.id;
            TSIG::new(
                TsigAlgorithm::HmacSha256,
                time,
                FUDGE,
                mac,
                id,
                None,
                Vec::new(),
            )
        };
        let mac = self.mac(&[&unsigned, &variables(&tsig(Vec::new()), &self.name)?])?;
        let mac = mac.finalize().into_bytes().to_vec();
        let record = make_tsig_record(self.name.clone(), tsig(mac.clone()));
        message.signature = Some(Box::new(record));
        Some(Signed {
            bytes: message.to_vec().ok()?,
            mac,
        })
    }

    /// Verifies the answer to a request that was signed with `request_mac`; `time` is now.
    ///
    /// # Errors
    /// When the answer is not proven to come from who has the key (RFC 8945 §5.3).
    pub fn verify(&self, answer: &[u8], request_mac: &[u8], time: u64) -> Result<(), Unverified> {
        let message = Message::from_vec(answer).map_err(|_| Unverified::Malformed)?;
        let last = message.additionals.last().ok_or(Unverified::Unsigned)?;
        let RData::TSIG(tsig) = &last.data else {
            return Err(Unverified::Unsigned);
        };
        if last.name.to_lowercase() != self.name || tsig.algorithm != TsigAlgorithm::HmacSha256 {
            return Err(Unverified::BadKey);
        }
        let signed = without_tsig(answer, tsig.oid).ok_or(Unverified::Malformed)?;
        let length = u16::try_from(request_mac.len()).map_err(|_| Unverified::Malformed)?;
        let variables = variables(tsig, &self.name).ok_or(Unverified::Malformed)?;
        let mac = self
            .mac(&[&length.to_be_bytes(), request_mac, &signed, &variables])
            .ok_or(Unverified::Malformed)?;
        match tsig.error {
            // RFC 8945 §5.2.1, §5.2.2: such answers carry no MAC
            Some(TsigError::BadKey) => return Err(Unverified::BadKey),
            Some(TsigError::BadSig) => return Err(Unverified::BadSignature),
            _ => {}
        }
        // D-T2: in constant time; a truncated MAC is never ours
        mac.verify_slice(&tsig.mac)
            .map_err(|_| Unverified::BadSignature)?;
        if tsig.error.is_some() || tsig.time.abs_diff(time) > u64::from(tsig.fudge) {
            return Err(Unverified::BadTime);
        }
        Ok(())
    }

    fn mac(&self, parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).ok()?;
        parts.iter().for_each(|part| mac.update(part));
        Some(mac)
    }
}

/// A signed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The message.
    pub bytes: Vec<u8>,
    /// Its MAC, which the answer's covers.
    pub mac: Vec<u8>,
}

/// Why an answer is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// The server does not know the key.
    #[error("the server does not know the key")]
    BadKey,
    /// One of the two has another secret.
    #[error("the signature is wrong")]
    BadSignature,
    /// The clocks differ.
    #[error("the clocks differ by more than the signature allows")]
    BadTime,
    /// It cannot be read.
    #[error("the answer cannot be decoded")]
    Malformed,
    /// There is no signature.
    #[error("the answer is not signed")]
    Unsigned,
}

/// Why a key cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// Another algorithm.
    #[error("the algorithm is {0}, only {ALGORITHM} is supported")]
    Algorithm(String),
    /// The key's name is no name.
    #[error("the key's name is no domain name")]
    Name,
    /// The secret is no base64.
    #[error("the secret is not base64")]
    Secret,
    /// Something else.
    #[error("not of the form: key \"name\" {{ algorithm {ALGORITHM}; secret \"..\"; }};")]
    Shape,
}

/// RFC 8945 §4.3.3.
fn variables(tsig: &TSIG, name: &Name) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    tsig.emit_tsig_for_mac(&mut BinEncoder::new(&mut bytes), name)
        .ok()?;
    Some(bytes)
}

/// Returns the message as it was before it was signed (RFC 8945 §4.3.2).
fn without_tsig(message: &[u8], id: u16) -> Option<Vec<u8>> {
    let [.., additionals] = Head::parse(message).ok()?.counts;
    let end = wire::last_record(message).ok()?;
    let mut bytes = wire::with_id(message.get(..end)?, id);
    let count = additionals.checked_sub(1)?.to_be_bytes();
    bytes.get_mut(10..wire::HEAD)?.copy_from_slice(&count);
    Some(bytes)
}

/// Splits into words, quoted words and punctuation, without comments.
/// Words, braces and semicolons; what stands in quotes is one word, and comments are none.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    for line in text.lines() {
        let mut rest = line.trim_start();
        // half of all secrets hold a slash, and some hold two in a row
        while !rest.is_empty() && !rest.starts_with('#') && !rest.starts_with("//") {
            let (token, behind) = first_token(rest);
            tokens.push(token.to_owned());
            rest = behind.trim_start();
        }
    }
    tokens
}

/// Splits the first token off a line that is not empty.
fn first_token(line: &str) -> (&str, &str) {
    if let Some(quoted) = line.strip_prefix('"') {
        return quoted.split_once('"').unwrap_or((quoted, ""));
    }
    let is_mark = |c: char| matches!(c, '{' | '}' | ';');
    let end = match line.find(|c: char| is_mark(c) || c.is_whitespace()) {
        Some(0) => line.chars().next().map_or(0, char::len_utf8),
        Some(end) => end,
        None => line.len(),
    };
    line.split_at(end)
}

const ALGORITHM: &str = "hmac-sha256";

/// RFC 8945 §10: the recommended tolerance, in seconds.
const FUDGE: u16 = 300;

#[cfg(test)]
pub(crate) mod tests;
