//! Subscriptions and events (UDA 1.1 §4).

use std::fmt::{self, Write as _};
use std::net::SocketAddr;

use super::http;
use super::xml::Document;
use super::{Field, Malformed};

/// A subscription's name: `uuid:` and a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid(pub u128);

impl Sid {
    /// Parses a SID header.
    ///
    /// # Errors
    /// When it is none of the names that we give.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let malformed = Malformed::new(Field::Sid, 0);
        let uuid = text.strip_prefix("uuid:").ok_or(malformed)?;
        let dashed = uuid.len() == 36
            && uuid.bytes().enumerate().all(|(index, byte)| {
                match matches!(index, 8 | 13 | 18 | 23) {
                    true => byte == b'-',
                    false => byte.is_ascii_hexdigit(),
                }
            });
        if !dashed {
            return Err(malformed);
        }
        let digits: String = uuid.chars().filter(|c| *c != '-').collect();
        u128::from_str_radix(&digits, 16)
            .map(Self)
            .map_err(|_| malformed)
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("uuid:")?;
        for (index, digit) in format!("{:032x}", self.0).chars().enumerate() {
            if matches!(index, 8 | 12 | 16 | 20) {
                f.write_char('-')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// A URL to which events go; its host is an address, so nobody's name decides where that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// Where to connect.
    pub addr: SocketAddr,
    /// What to ask for there.
    pub path: String,
}

impl Callback {
    /// Parses one URL.
    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let printable = rest.bytes().all(|byte| byte.is_ascii_graphic());
        if !scheme.eq_ignore_ascii_case("http") || !printable || url.len() > MAX_URL {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let path = path.split('#').next().unwrap_or_default();
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        let (addr, port) = http::authority(authority)?;
        let port = port.unwrap_or(HTTP_PORT);
        let addr = SocketAddr::new(addr, port);
        (port != 0).then_some(Self { addr, path })
    }
}

/// Parses a CALLBACK header: one or more URLs, each in angle brackets (UDA 1.1 §4.1.2).
///
/// # Errors
/// When a single one of them is no `http` URL with a literal address and a port that is not 0,
/// or there are more than [`MAX_CALLBACKS`].
pub fn callbacks(header: &str) -> Result<Vec<Callback>, Malformed> {
    let mut callbacks = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let malformed = Malformed::new(Field::Callback, header.len().saturating_sub(rest.len()));
        let (url, after) = rest
            .strip_prefix('<')
            .and_then(|rest| rest.split_once('>'))
            .ok_or(malformed)?;
        let callback = Callback::parse(url).filter(|_| callbacks.len() < MAX_CALLBACKS);
        callbacks.push(callback.ok_or(malformed)?);
        rest = after.trim_start();
    }
    match callbacks.is_empty() {
        true => Err(Malformed::new(Field::Callback, 0)),
        false => Ok(callbacks),
    }
}

/// Parses a TIMEOUT header, `Second-n`; `None` for `infinite`, which nobody gets, and for what
/// means nothing.
#[must_use]
pub fn timeout(header: &str) -> Option<u32> {
    let (unit, number) = header.trim().split_at_checked("Second-".len())?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let known = unit.eq_ignore_ascii_case("Second-") && digits;
    known.then(|| number.parse().unwrap_or(u32::MAX))
}

/// Emits an event (UDA 1.1 §4.3.2).
#[must_use]
pub fn notify(callback: &Callback, sid: Sid, seq: u32, variables: &[(&str, String)]) -> Vec<u8> {
    let mut document = Document::new();
    document.start(
        "e:propertyset",
        &[("xmlns:e", "urn:schemas-upnp-org:event-1-0")],
    );
    for (name, value) in variables {
        document.start("e:property", &[]);
        document.leaf(name, value);
        document.end();
    }
    let body = document.finish();
    let Callback { addr, path } = callback;
    format!(
        "NOTIFY {path} HTTP/1.1\r\nHOST: {addr}\r\nCONTENT-TYPE: text/xml; charset=\"utf-8\"\r\n\
         CONTENT-LENGTH: {}\r\nNT: upnp:event\r\nNTS: upnp:propchange\r\nSID: {sid}\r\n\
         SEQ: {seq}\r\nCONNECTION: close\r\n\r\n{body}",
        body.len(),
    )
    .into_bytes()
}

/// Parses the first line of a subscriber's answer if it is complete.
///
/// # Errors
/// When it is no HTTP answer.
pub fn status(bytes: &[u8]) -> Result<Option<u16>, Malformed> {
    let malformed = Malformed::new(Field::StartLine, 0);
    let Some(end) = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return match bytes.len() < MAX_LINE {
            true => Ok(None),
            false => Err(malformed),
        };
    };
    let line = bytes
        .get(..end)
        .and_then(|line| std::str::from_utf8(line).ok());
    let line = line.ok_or(malformed)?;
    let rest = line.strip_prefix("HTTP/1.").ok_or(malformed)?;
    let code = rest.split(' ').nth(1).map(str::trim).ok_or(malformed)?;
    let known = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    let code = code.parse().ok().filter(|_| known);
    code.map(Some).ok_or(malformed)
}

/// A control point gives one URL, some give one for each of their addresses.
pub const MAX_CALLBACKS: usize = 4;

const MAX_URL: usize = 512;

/// RFC 9110 §4.2.1.
const HTTP_PORT: u16 = 80;

const MAX_LINE: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn callbacks_of_real_control_points_are_parsed() {
        let parsed = |header: &str| {
            let callbacks = callbacks(header).unwrap().into_iter();
            let shown = callbacks.map(|callback| format!("{} {}", callback.addr, callback.path));
            shown.collect::<Vec<_>>()
        };

        assert_eq!(
            parsed("<http://192.168.64.20:49152/notify>"),
            ["192.168.64.20:49152 /notify"]
        );
        assert_eq!(
            parsed("<http://192.168.64.20/a> <HTTP://[fd00::1]:99?b#c>"),
            ["192.168.64.20:80 /a", "[fd00::1]:99 /?b"]
        );
        assert_eq!(
            parsed("<http://[fe80::1%25eth0]:99/><http://[fe80::1%3]>"),
            ["[fe80::1]:99 /", "[fe80::1]:80 /"]
        );
    }

    #[test]
    fn t_3_callbacks_that_are_not_plain_urls_with_an_address_are_refused() {
        for header in [
            "",
            "<>",
            "http://192.168.64.20/",
            "<http://192.168.64.20/",
            "<https://192.168.64.20/>",
            "<http://host.example/>",
            "<http://192.168.64.20:0/>",
            "<http://192.168.64.20:65536/>",
            "<http://192.168.64.20@203.0.113.9/>",
            "<http://3232252948/>",
            "<http://0300.0250.0100.024/>",
            "<http://192.168.64.20/a b>",
            "<http://fd00::1/>",
            "<http://[fd00::1/>",
            "<http://192.168.64.20/>,<http://192.168.64.20/>",
            "<http://192.168.64.20/> <http://host.example/>",
            "<http://1.1.1.1/><http://1.1.1.1/><http://1.1.1.1/><http://1.1.1.1/><http://1.1.1.1/>",
        ] {
            assert!(callbacks(header).is_err(), "{header}");
        }
        let long = format!("<http://192.168.64.20/{}>", "a".repeat(600));
        assert!(callbacks(&long).is_err());
    }

    #[test]
    fn timeouts_are_seconds() {
        assert_eq!(timeout("Second-1800"), Some(1800));
        assert_eq!(timeout("second-99999999999"), Some(u32::MAX));
        for other in [
            "Second-infinite",
            "infinite",
            "1800",
            "Second-",
            "Second--1",
        ] {
            assert_eq!(timeout(other), None, "{other}");
        }
    }

    #[test]
    fn s4_3_2_event_is_the_one_of_the_standard() {
        let callback = &callbacks("<http://192.168.64.20:5/n>").unwrap()[0];
        let text = notify(
            callback,
            Sid(7),
            3,
            &[("ConnectionStatus", "a&b".to_owned())],
        );

        let (head, body) = std::str::from_utf8(&text)
            .unwrap()
            .split_once("\r\n\r\n")
            .unwrap();
        assert_eq!(
            head,
            format!(
                "NOTIFY /n HTTP/1.1\r\nHOST: 192.168.64.20:5\r\n\
                 CONTENT-TYPE: text/xml; charset=\"utf-8\"\r\nCONTENT-LENGTH: {}\r\n\
                 NT: upnp:event\r\nNTS: upnp:propchange\r\n\
                 SID: uuid:00000000-0000-0000-0000-000000000007\r\nSEQ: 3\r\nCONNECTION: close",
                body.len()
            )
        );
        assert_eq!(
            body,
            "<?xml version=\"1.0\"?>\n<e:propertyset xmlns:e=\"urn:schemas-upnp-org:event-1-0\">\
             <e:property><ConnectionStatus>a&amp;b</ConnectionStatus></e:property></e:propertyset>"
        );
    }

    #[test]
    fn answers_of_subscribers_are_understood() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n"), Ok(Some(200)));
        assert_eq!(status(b"HTTP/1.0 412\n"), Ok(Some(412)));
        assert_eq!(status(b"HTTP/1.1 20"), Ok(None));
        assert!(status(b"nonsense\n").is_err());
        assert!(status(b"HTTP/1.1 20x\n").is_err());
        assert!(status(&[b'x'; 300]).is_err());
    }

    proptest! {
        #[test]
        fn names_of_subscriptions_survive(id in any::<u128>()) {
            prop_assert_eq!(Sid::parse(&Sid(id).to_string()), Ok(Sid(id)));
        }

        #[test]
        fn arbitrary_headers_never_panic(text in "\\PC{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _parsed = (Sid::parse(&text), timeout(&text), callbacks(&text), status(&bytes));
        }

        #[test]
        fn whatever_is_called_back_has_an_address_and_a_port(url in "<http://[0-9a-f.:\\[\\]%@/]{0,30}>") {
            for callback in callbacks(&url).unwrap_or_default() {
                prop_assert!(callback.addr.port() != 0 && callback.path.starts_with('/'));
            }
        }
    }
}
