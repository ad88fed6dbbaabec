//! SSDP messages (UDA 1.1 §1).

use std::net::SocketAddr;

use super::{Field, Malformed};

/// A message on port 1900.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Another device says or answers something.
    Other,
    /// A control point searches.
    Search(Search<'a>),
}

/// M-SEARCH (UDA 1.1 §1.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search<'a> {
    /// What is searched for (ST).
    pub target: &'a str,
    /// For how many seconds the searcher waits (MX).
    pub max_wait: Option<u32>,
}

/// Parses a datagram.
///
/// # Errors
/// When it is no SSDP message.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut lines = bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let start = std::str::from_utf8(lines.next().unwrap_or_default())
        .map_err(|error| Malformed::new(Field::Encoding, error.valid_up_to()))?;
    if start.starts_with("NOTIFY * HTTP/1.") || start.starts_with("HTTP/1.") {
        return Ok(Message::Other);
    }
    if !matches!(start, "M-SEARCH * HTTP/1.1" | "M-SEARCH * HTTP/1.0") {
        return Err(Malformed::new(Field::StartLine, 0));
    }
    let mut discover = false;
    let mut target = None;
    let mut max_wait = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        // some control points name themselves in other encodings, or end with a NUL
        let text = std::str::from_utf8(line).unwrap_or_default();
        let Some((name, value)) = text.split_once(':') else {
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("MAN") {
            // some control points leave the quotation marks out
            discover = value.trim_matches('"') == "ssdp:discover";
        } else if name.eq_ignore_ascii_case("ST") {
            target = Some(value);
        } else if name.eq_ignore_ascii_case("MX") {
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            if !digits {
                return Err(Malformed::new(Field::MaxWait, offset(bytes, line)));
            }
            max_wait = Some(value.parse().unwrap_or(u32::MAX));
        }
    }
    if !discover {
        return Err(Malformed::new(Field::Header, 0));
    }
    let target = target.filter(|target| !target.is_empty());
    let target = target.ok_or(Malformed::new(Field::Target, 0))?;
    Ok(Message::Search(Search { target, max_wait }))
}

/// What is announced and answered: one device or service of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    /// The device or service type, `upnp:rootdevice`, or the device's UUID (NT, ST).
    pub target: String,
    /// The same with the device's UUID (USN).
    pub usn: String,
    /// Where the description is, behind whatever address of ours the reader can reach.
    pub path: String,
}

/// What every message says of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Rises with every start.
    pub boot_id: u32,
    /// Changes with the descriptions.
    pub config_id: u32,
}

/// Emits an announcement to a group (UDA 1.1 §1.2.2); `endpoint` is where descriptions are.
#[must_use]
pub fn alive(advert: &Advert, group: SocketAddr, endpoint: SocketAddr, header: Header) -> Vec<u8> {
    format!(
        "NOTIFY * HTTP/1.1\r\nHOST: {group}\r\nCACHE-CONTROL: max-age={MAX_AGE}\r\n\
         LOCATION: http://{endpoint}{}\r\nNT: {}\r\nNTS: ssdp:alive\r\nSERVER: {SERVER}\r\n\
         USN: {}\r\nBOOTID.UPNP.ORG: {}\r\nCONFIGID.UPNP.ORG: {}\r\n\r\n",
        advert.path, advert.target, advert.usn, header.boot_id, header.config_id,
    )
    .into_bytes()
}

/// Emits a farewell to a group (UDA 1.1 §1.2.3).
#[must_use]
pub fn byebye(
    advert: &Advert,
    group: SocketAddr,
    _endpoint: SocketAddr,
    header: Header,
) -> Vec<u8> {
    format!(
        "NOTIFY * HTTP/1.1\r\nHOST: {group}\r\nNT: {}\r\nNTS: ssdp:byebye\r\n\
         USN: {}\r\nBOOTID.UPNP.ORG: {}\r\nCONFIGID.UPNP.ORG: {}\r\n\r\n",
        advert.target, advert.usn, header.boot_id, header.config_id,
    )
    .into_bytes()
}

/// Emits the answer to a search (UDA 1.1 §1.3.3).
#[must_use]
pub fn response(advert: &Advert, endpoint: SocketAddr, header: Header) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age={MAX_AGE}\r\nEXT:\r\n\
         LOCATION: http://{endpoint}{}\r\nSERVER: {SERVER}\r\nST: {}\r\nUSN: {}\r\n\
         BOOTID.UPNP.ORG: {}\r\nCONFIGID.UPNP.ORG: {}\r\n\r\n",
        advert.path, advert.target, advert.usn, header.boot_id, header.config_id,
    )
    .into_bytes()
}

fn offset(all: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).saturating_sub(all.as_ptr() as usize)
}

/// UDA 1.1 §1.2.2: for how many seconds an announcement holds, at least 1800.
pub const MAX_AGE: u32 = 1800;

/// The product; the operating system's version is nobody's business.
pub const SERVER: &str = concat!("Linux/0 UPnP/1.1 Portico/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UPNPC: &str = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\
        ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\n\r\n";

    #[test]
    fn search_is_parsed_whatever_the_case_and_line_ends() {
        let expected = Message::Search(Search {
            target: "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
            max_wait: Some(2),
        });

        assert_eq!(parse(UPNPC.as_bytes()), Ok(expected));
        let odd = UPNPC
            .replace("\r\n", "\n")
            .replace("ST: ", "st:")
            .replace("MX", "Mx");
        assert_eq!(parse(odd.as_bytes()), Ok(expected));
    }

    #[test]
    fn lines_that_mean_nothing_to_us_are_passed_over() {
        let mut odd = UPNPC
            .replace("\r\nMX: 2\r\n\r\n", "\r\nMX : 2\r\n")
            .into_bytes();
        odd.extend(b"USER-AGENT: Caf\xe9/1.0\r\nnonsense\r\n\0");

        let Ok(Message::Search(search)) = parse(&odd) else {
            panic!("no search")
        };
        assert_eq!(search.max_wait, Some(2));
        assert!(search.target.ends_with("InternetGatewayDevice:1"));
    }

    #[test]
    fn search_that_is_none_says_where() {
        let field = |text: &str| parse(text.as_bytes()).unwrap_err().field;

        assert_eq!(field(""), Field::StartLine);
        assert_eq!(field("GET / HTTP/1.1\r\n\r\n"), Field::StartLine);
        assert_eq!(
            field(&UPNPC.replace("MAN: \"ssdp:discover\"\r\n", "")),
            Field::Header
        );
        assert_eq!(field(&UPNPC.replace("MX: 2", "MX: two")), Field::MaxWait);
        assert_eq!(field(&UPNPC.replace("MX: 2", "MX: -2")), Field::MaxWait);
        assert_eq!(field(&UPNPC.replace("ST: urn", "XT: urn")), Field::Target);
        assert_eq!(
            field("M-SEARCH * HTTP/1.1\r\nnonsense\r\n\r\n"),
            Field::Header
        );
        assert_eq!(parse(b"\xff").unwrap_err().field, Field::Encoding);
    }

    #[test]
    fn announcements_of_others_are_told_apart() {
        assert_eq!(parse(b"NOTIFY * HTTP/1.1\r\n\r\n"), Ok(Message::Other));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n"), Ok(Message::Other));
    }

    #[test]
    fn huge_wait_is_no_error() {
        let text = UPNPC.replace("MX: 2", "MX: 99999999999999999999");

        let Ok(Message::Search(search)) = parse(text.as_bytes()) else {
            panic!("no search")
        };
        assert_eq!(search.max_wait, Some(u32::MAX));
    }

    #[test]
    fn messages_are_those_of_the_standard() {
        let advert = Advert {
            target: "upnp:rootdevice".to_owned(),
            usn: "uuid:1::upnp:rootdevice".to_owned(),
            path: "/x/v1/device.xml".to_owned(),
        };
        let endpoint = "192.168.64.1:5000".parse().unwrap();
        let group = "239.255.255.250:1900".parse().unwrap();
        let header = Header {
            boot_id: 3,
            config_id: 77,
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();

        assert_eq!(
            text(response(&advert, endpoint, header)),
            format!(
                "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nEXT:\r\n\
                 LOCATION: http://192.168.64.1:5000/x/v1/device.xml\r\nSERVER: {SERVER}\r\n\
                 ST: upnp:rootdevice\r\nUSN: uuid:1::upnp:rootdevice\r\nBOOTID.UPNP.ORG: 3\r\n\
                 CONFIGID.UPNP.ORG: 77\r\n\r\n"
            )
        );
        let alive = text(alive(&advert, group, endpoint, header));
        assert!(alive.starts_with("NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n"));
        assert!(alive.contains("\r\nNTS: ssdp:alive\r\n") && alive.ends_with("\r\n\r\n"));
        let byebye = text(byebye(&advert, group, endpoint, header));
        assert!(byebye.contains("\r\nNTS: ssdp:byebye\r\n") && !byebye.contains("LOCATION"));
        let (group, endpoint) = ("[ff02::c]:1900", "[fe80::1]:5000");
        let (group, endpoint) = (group.parse().unwrap(), endpoint.parse().unwrap());
        let alive = String::from_utf8(super::alive(&advert, group, endpoint, header)).unwrap();
        assert!(alive.contains("\r\nHOST: [ff02::c]:1900\r\n"), "{alive}");
        let location = "\r\nLOCATION: http://[fe80::1]:5000/x/v1/device.xml\r\n";
        assert!(alive.contains(location), "{alive}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _parsed = parse(&bytes);
        }

        #[test]
        fn arbitrary_header_lines_never_panic(text in "M-SEARCH \\* HTTP/1\\.1\r\n(\\PC{0,20}[:\r\n]{0,3}){0,20}") {
            let _parsed = parse(text.as_bytes());
        }
    }
}
