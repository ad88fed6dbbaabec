//! HTTP/1.0 and HTTP/1.1 messages, as far as UPnP needs them (RFC 9112).

use std::borrow::Cow;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::{Field, Malformed};

/// The first line and the headers of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What to do.
    pub method: Method,
    /// With what: a path, or a whole URL.
    pub target: String,
    /// The version of the protocol.
    pub version: Version,
    /// The headers; names are in lower case.
    pub headers: Vec<(String, String)>,
}

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// SUBSCRIBE (UDA 1.1 §4.1).
    Subscribe,
    /// UNSUBSCRIBE (UDA 1.1 §4.1).
    Unsubscribe,
    /// Any other.
    Unknown,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// In chunks.
    Chunked,
    /// After so many bytes.
    Length(usize),
}

impl Head {
    /// Parses a head if it is complete; returns it with its length.
    ///
    /// # Errors
    /// When it is no HTTP request, or larger than [`MAX_HEAD`].
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end.filter(|end| *end <= MAX_HEAD) else {
            return match bytes.len() > MAX_HEAD {
                true => Err(Malformed::new(Field::Header, MAX_HEAD)),
                false => Ok(None),
            };
        };
        let head = bytes.get(..end).unwrap_or_default();
        // RFC 9110 §5.5: what is not ASCII in a value is opaque, and nothing that we look at
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default();
        let (method, target, version) =
            parse_start(start).ok_or(Malformed::new(Field::StartLine, 0))?;
        let mut headers = Vec::new();
        let mut offset = start.len().saturating_add(2);
        for line in lines {
            let header = parse_header(line).filter(|_| headers.len() < MAX_HEADERS);
            headers.push(header.ok_or(Malformed::new(Field::Header, offset))?);
            offset = offset.saturating_add(line.len()).saturating_add(2);
        }
        let head = Self {
            method,
            target: target.to_owned(),
            version,
            headers,
        };
        Ok(Some((head, end.saturating_add(4))))
    }

    /// Iterates over the values of a header.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let named = move |(header, _): &&(String, String)| header == name;
        self.headers
            .iter()
            .filter(named)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the value of a header that is there once.
    #[must_use]
    pub fn one(&self, name: &str) -> Option<&str> {
        let mut values = self.all(name);
        let first = values.next();
        first.filter(|_| values.next().is_none())
    }

    /// Tells whether a header is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// Tells how the end of the body is found.
    ///
    /// # Errors
    /// When two answers are possible: that is how requests are smuggled (RFC 9112 §6.3).
    pub fn framing(&self) -> Result<Framing, Malformed> {
        if self.has("transfer-encoding") {
            let chunked = self
                .one("transfer-encoding")
                .is_some_and(|te| te.eq_ignore_ascii_case("chunked"));
            let alone = !self.has("content-length") && self.version == Version::Http11;
            return match chunked && alone {
                true => Ok(Framing::Chunked),
                false => Err(Malformed::new(Field::TransferEncoding, 0)),
            };
        }
        let mut lengths = self.all("content-length");
        let Some(first) = lengths.next() else {
            return Ok(Framing::Length(0));
        };
        let digits = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || lengths.any(|other| other != first) {
            return Err(Malformed::new(Field::ContentLength, 0));
        }
        Ok(Framing::Length(first.parse().unwrap_or(usize::MAX)))
    }

    /// Tells whether the connection stays open afterwards (RFC 9112 §9.3).
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        let says = |token: &str| {
            self.all("connection")
                .flat_map(|value| value.split(','))
                .any(|word| word.trim().eq_ignore_ascii_case(token))
        };
        match self.version {
            Version::Http10 => says("keep-alive") && !says("close"),
            Version::Http11 => !says("close"),
        }
    }
}

/// A body in chunks, decoded as it comes (RFC 9112 §7.1).
#[derive(Debug, Default)]
pub struct Chunks {
    body: Vec<u8>,
    phase: Phase,
    trailers: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Size,
    Data(usize),
    DataEnd,
    Trailer,
}

impl Chunks {
    /// Takes what it can from the front of `buf`; returns the body once it is complete.
    ///
    /// # Errors
    /// When the chunks are malformed. A body that grows beyond `limit` is `None` for ever;
    /// see [`Self::len`].
    pub fn take(&mut self, buf: &mut Vec<u8>, limit: usize) -> Result<Option<Vec<u8>>, Malformed> {
        let at = |body: &Vec<u8>| Malformed::new(Field::Chunk, body.len());
        loop {
            match self.phase {
                Phase::Size => {
                    let Some(line) = take_line(buf).ok_or(at(&self.body))? else {
                        return Ok(None);
                    };
                    let size = parse_size(&line).ok_or(at(&self.body))?;
                    self.phase = if size == 0 {
                        Phase::Trailer
                    } else {
                        Phase::Data(size)
                    };
                }
                Phase::Data(left) => {
                    let count = left.min(buf.len());
                    if count == 0 || self.body.len() > limit {
                        return Ok(None);
                    }
                    self.body.extend(buf.drain(..count));
                    let left = left.saturating_sub(count);
                    self.phase = if left == 0 {
                        Phase::DataEnd
                    } else {
                        Phase::Data(left)
                    };
                }
                Phase::DataEnd => {
                    match take_line(buf).ok_or(at(&self.body))? {
                        None => return Ok(None),
                        Some(line) if line.is_empty() => self.phase = Phase::Size,
                        Some(_) => return Err(at(&self.body)),
                    };
                }
                Phase::Trailer => match take_line(buf).ok_or(at(&self.body))? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => {
                        return Ok(Some(std::mem::take(&mut self.body)));
                    }
                    Some(_) if self.trailers >= MAX_HEADERS => return Err(at(&self.body)),
                    Some(_) => self.trailers = self.trailers.saturating_add(1),
                },
            }
        }
    }

    /// Returns how long the body is so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.body.len()
    }

    /// Tells whether there is nothing yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// What became of the request.
    pub status: Status,
    /// Headers that belong to this answer alone.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The status codes that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 200.
    Ok,
    /// 400.
    BadRequest,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 408.
    RequestTimeout,
    /// 412.
    PreconditionFailed,
    /// 413.
    ContentTooLarge,
    /// 415.
    UnsupportedMediaType,
    /// 500; carries a UPnP error.
    InternalServerError,
    /// 503.
    ServiceUnavailable,
}

impl Status {
    /// Returns the number and the reason.
    #[must_use]
    pub const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::PreconditionFailed => "412 Precondition Failed",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::UnsupportedMediaType => "415 Unsupported Media Type",
            Self::InternalServerError => "500 Internal Server Error",
            Self::ServiceUnavailable => "503 Service Unavailable",
        }
    }

    /// Tells whether the body is XML; else it is a line of text.
    const fn is_xml(self) -> bool {
        matches!(self, Self::Ok | Self::InternalServerError)
    }
}

impl Response {
    /// An answer with a document or an envelope.
    #[must_use]
    pub const fn xml(status: Status, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
        }
    }

    /// An answer that says everything in its headers.
    #[must_use]
    pub const fn without_body(status: Status, headers: Vec<(&'static str, String)>) -> Self {
        Self {
            status,
            headers,
            body: Vec::new(),
        }
    }

    /// An answer that says in one line what is wrong.
    #[must_use]
    pub fn refusal(status: Status, why: &str) -> Self {
        Self::xml(status, format!("{why}\n").into_bytes())
    }

    /// Emits the answer at a time in seconds since 1970; without its body for HEAD.
    #[must_use]
    pub fn emit(&self, at: u64, keep_alive: bool, without_body: bool) -> Vec<u8> {
        let content_type = match (self.body.is_empty(), self.status.is_xml()) {
            (true, _) => "",
            (false, true) => "Content-Type: text/xml; charset=\"utf-8\"\r\n",
            (false, false) => "Content-Type: text/plain; charset=utf-8\r\n",
        };
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let mut bytes = Vec::with_capacity(self.body.len().saturating_add(HEAD_SIZE));
        // writing to a vector cannot fail
        let _written = write!(
            bytes,
            "HTTP/1.1 {}\r\n{content_type}Content-Length: {}\r\nConnection: {connection}\r\n\
             Date: {}\r\nServer: {}\r\nEXT:\r\nX-Content-Type-Options: nosniff\r\n",
            self.status.line(),
            self.body.len(),
            date(at),
            super::ssdp::SERVER,
        );
        for (name, value) in &self.headers {
            let _written = write!(bytes, "{name}: {value}\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        if !without_body {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// Emits a time in seconds since 1970 (RFC 9110 §5.6.7, §6.6.1).
fn date(at: u64) -> String {
    let at = at.min(LAST_SECOND);
    let (days, second) = (at / 86_400, at % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let weekday = usize::try_from(days % 7).ok();
    let weekday = weekday.and_then(|at| weekdays.get(at)).copied();
    let (mut year, mut day) = (1970, days);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = "Dec";
    for (name, days) in [
        ("Jan", 31),
        ("Feb", february),
        ("Mar", 31),
        ("Apr", 30),
        ("May", 31),
        ("Jun", 30),
        ("Jul", 31),
        ("Aug", 31),
        ("Sep", 30),
        ("Oct", 31),
        ("Nov", 30),
        ("Dec", 31),
    ] {
        if day < days {
            month = name;
            break;
        }
        day -= days;
    }
    let (weekday, day) = (weekday.unwrap_or_default(), day + 1);
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Parses a literal address, alone or with a port, as in a URL or a Host header (RFC 3986
/// §3.2.2). The zone that a host gives a link-local address is that host's own matter.
#[must_use]
pub fn authority(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let without_zone = match text.split_once('%') {
        None => Cow::Borrowed(text),
        Some((addr, rest)) => {
            let (_zone, rest) = rest.split_once(']')?;
            Cow::Owned(format!("{addr}]{rest}"))
        }
    };
    if let Ok(addr) = without_zone.parse::<SocketAddr>() {
        return Some((addr.ip(), Some(addr.port())));
    }
    let addr = match without_zone.strip_prefix('[') {
        Some(bare) => IpAddr::V6(bare.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(without_zone.parse().ok()?),
    };
    Some((addr, None))
}

fn parse_start(line: &str) -> Option<(Method, &str, Version)> {
    let mut parts = line.split(' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || method.is_empty() || target.is_empty() {
        return None;
    }
    if !method.bytes().all(is_token) || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "SUBSCRIBE" => Method::Subscribe,
        "UNSUBSCRIBE" => Method::Unsubscribe,
        _ => Method::Unknown,
    };
    let version = match version {
        "HTTP/1.0" => Version::Http10,
        // RFC 9110 §2.5: a later minor version is read as the latest that is known
        later => match later.strip_prefix("HTTP/1.")?.as_bytes() {
            [b'1'..=b'9'] => Version::Http11,
            _ => return None,
        },
    };
    Some((method, target, version))
}

/// RFC 9112 §5: no space before the colon, no folded lines.
fn parse_header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let value = value.trim_matches([' ', '\t']);
    let clean = value.chars().all(|c| c == '\t' || !c.is_control());
    let valid = !name.is_empty() && name.bytes().all(is_token) && clean;
    valid.then(|| (name.to_ascii_lowercase(), value.to_owned()))
}

/// RFC 9110 §5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Takes a line without its end; `Some(None)` if it is not complete, `None` if it is too long.
#[expect(
    clippy::option_option,
    reason = "too long and not yet complete are different"
)]
fn take_line(buf: &mut Vec<u8>) -> Option<Option<Vec<u8>>> {
    let end = buf
        .windows(2)
        .take(MAX_LINE)
        .position(|window| window == b"\r\n");
    match end {
        None if buf.len() > MAX_LINE => None,
        None => Some(None),
        Some(end) => {
            let mut line: Vec<u8> = buf.drain(..end.saturating_add(2)).collect();
            line.truncate(end);
            Some(Some(line))
        }
    }
}

/// RFC 9112 §7.1: hexadecimal digits, then extensions that nobody needs.
fn parse_size(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    let digits = text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim_end_matches([' ', '\t']);
    let valid =
        (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    valid
        .then(|| usize::from_str_radix(digits, 16).ok())
        .flatten()
}

/// The headers of a control point take some hundred bytes.
pub const MAX_HEAD: usize = 8 * 1024;

const MAX_HEADERS: usize = 64;

const MAX_LINE: usize = 256;

/// What the first line and the headers of an answer take, about.
const HEAD_SIZE: usize = 300;

/// Of the year 9999: years have four digits.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests;
