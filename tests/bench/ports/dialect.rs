//! The three protocols: what a client sends, and whether the answer grants it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Dialect {
    /// PCP MAP (RFC 6887)
    Pcp,
    /// NAT-PMP (RFC 6886)
    NatPmp,
    /// UPnP `AddPortMapping`, a connection for each action
    Upnp,
    /// UPnP `AddPortMapping` over one connection
    UpnpKept,
}

impl Dialect {
    pub const ALL: [Self; 4] = [Self::Pcp, Self::NatPmp, Self::Upnp, Self::UpnpKept];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
            Self::UpnpKept => "UPnP kept",
        }
    }

    pub const fn is_datagram(self) -> bool {
        matches!(self, Self::Pcp | Self::NatPmp)
    }
}

/// A port of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub protocol: Protocol,
    pub number: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// What a client wants of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Close,
    /// For so many seconds; a renewal says the same again.
    Open(u32),
}

impl Wish {
    const fn lifetime(self) -> u32 {
        match self {
            Self::Close => 0,
            Self::Open(lifetime) => lifetime,
        }
    }
}

/// The datagram of a PCP or NAT-PMP client at `addr`.
pub fn datagram(dialect: Dialect, addr: Ipv4Addr, port: Port, wish: Wish) -> Vec<u8> {
    let number = port.number.to_be_bytes();
    let lifetime = wish.lifetime().to_be_bytes();
    let mut bytes = Vec::with_capacity(60);
    if dialect == Dialect::NatPmp {
        bytes.extend([0, natpmp_opcode(port.protocol), 0, 0]);
        bytes.extend(number);
        // RFC 6886 §3.4: whoever closes suggests no port
        bytes.extend(if wish == Wish::Close { [0; 2] } else { number });
        bytes.extend(lifetime);
        return bytes;
    }
    bytes.extend([2, 1, 0, 0]);
    bytes.extend(lifetime);
    bytes.extend(addr.to_ipv6_mapped().octets());
    bytes.extend(NONCE);
    bytes.extend([pcp_protocol(port.protocol), 0, 0, 0]);
    bytes.extend(number);
    bytes.extend(number);
    bytes.extend(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
    bytes
}

/// The port that an answer is about.
///
/// # Errors
/// When it is no answer to what [`datagram`] asks, or a refusal.
pub fn granted(dialect: Dialect, bytes: &[u8]) -> Result<Port> {
    let at = |from: usize| {
        let two = bytes.get(from..from + 2)?;
        Some(u16::from_be_bytes([two[0], two[1]]))
    };
    let (code, protocol, number) = match dialect {
        Dialect::NatPmp => {
            let protocol = match bytes.get(1) {
                Some(129) => Protocol::Udp,
                Some(130) => Protocol::Tcp,
                other => bail!("NAT-PMP opcode {other:?}"),
            };
            (at(2), protocol, at(8))
        }
        _ => {
            let protocol = match bytes.get(36) {
                Some(6) => Protocol::Tcp,
                Some(17) => Protocol::Udp,
                other => bail!("PCP protocol {other:?} in {bytes:?}"),
            };
            (bytes.get(3).map(|it| u16::from(*it)), protocol, at(40))
        }
    };
    let code = code.context("the answer is short")?;
    ensure!(code == 0, "{} refuses by code {code}", dialect.name());
    let number = number.context("the answer is short")?;
    Ok(Port { protocol, number })
}

const fn natpmp_opcode(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 2,
        Protocol::Udp => 1,
    }
}

const fn pcp_protocol(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

/// Where the actions of a gateway go.
#[derive(Debug, Clone)]
pub struct Control {
    pub endpoint: SocketAddrV4,
    pub path: String,
    pub service: String,
}

impl Control {
    /// Reads the description at `location` as a client in this thread's namespace.
    pub fn read(location: &str) -> Result<Self> {
        let rest = location.strip_prefix("http://").context("no http URL")?;
        let (authority, path) = rest.split_once('/').context("no path")?;
        let endpoint: SocketAddrV4 = authority.parse()?;
        let mut stream = TcpStream::connect(endpoint)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request =
            format!("GET /{path} HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let service = SERVICES.into_iter().find(|it| text.contains(it));
        let service = service.context("the description has no WANIPConnection")?;
        let (_, after) = text.split_once(service).unwrap_or_default();
        let (_, after) = after.split_once("<controlURL>").context("no controlURL")?;
        let (path, _) = after.split_once('<').context("no end of controlURL")?;
        Ok(Self {
            endpoint,
            path: path.to_owned(),
            service: service.to_owned(),
        })
    }

    fn request(&self, addr: Ipv4Addr, port: Port, wish: Wish, kept: bool) -> String {
        let Self {
            endpoint,
            path,
            service,
        } = self;
        let protocol = match port.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        let number = port.number;
        let (action, rest) = match wish {
            Wish::Close => ("DeletePortMapping", String::new()),
            Wish::Open(lifetime) => (
                "AddPortMapping",
                format!(
                    "<NewInternalPort>{number}</NewInternalPort>\
                     <NewInternalClient>{addr}</NewInternalClient>\
                     <NewEnabled>1</NewEnabled>\
                     <NewPortMappingDescription>bench</NewPortMappingDescription>\
                     <NewLeaseDuration>{lifetime}</NewLeaseDuration>"
                ),
            ),
        };
        let body = format!(
            "<?xml version=\"1.0\"?>\r\n\
             <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action} xmlns:u=\"{service}\"><NewRemoteHost></NewRemoteHost>\
             <NewExternalPort>{number}</NewExternalPort><NewProtocol>{protocol}</NewProtocol>\
             {rest}</u:{action}></s:Body></s:Envelope>\r\n"
        );
        let connection = if kept { "keep-alive" } else { "close" };
        format!(
            "POST {path} HTTP/1.1\r\nHost: {endpoint}\r\nConnection: {connection}\r\n\
             Content-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: \"{service}#{action}\"\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// A client of UPnP, and the connection that it keeps.
#[derive(Debug)]
pub struct SoapClient<'a> {
    control: &'a Control,
    addr: Ipv4Addr,
    keeps: bool,
    stream: Option<TcpStream>,
}

impl<'a> SoapClient<'a> {
    pub const fn new(control: &'a Control, addr: Ipv4Addr, keeps: bool) -> Self {
        Self {
            control,
            addr,
            keeps,
            stream: None,
        }
    }

    /// Asks, and waits until it is granted.
    pub fn ask(&mut self, port: Port, wish: Wish) -> Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let request = self.control.request(self.addr, port, wish, self.keeps);
        stream.write_all(request.as_bytes())?;
        let (answer, closed) = read_answer(&mut stream)?;
        let line = answer.lines().next().unwrap_or_default();
        ensure!(
            line.starts_with("HTTP/1.") && line.contains(" 200 "),
            "UPnP refuses {port:?}: {answer}"
        );
        if self.keeps && !closed {
            self.stream = Some(stream);
        }
        Ok(())
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.control.endpoint)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

/// The answer, and whether the connection has ended with it.
fn read_answer(stream: &mut TcpStream) -> Result<(String, bool)> {
    let mut bytes = Vec::with_capacity(1024);
    let mut buf = [0; 4096];
    loop {
        if let Some((len, close)) = whole_len(&bytes)
            && bytes.len() >= len
        {
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), close));
        }
        match stream.read(&mut buf) {
            Ok(0) if whole_len(&bytes).is_some() => {
                return Ok((String::from_utf8_lossy(&bytes).into_owned(), true));
            }
            Ok(0) => bail!("the gateway closed the connection"),
            Ok(len) => bytes.extend(buf.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("no answer"),
        }
    }
}

/// How long the answer is whose head `bytes` begins with, and whether it is the last one.
fn whole_len(bytes: &[u8]) -> Option<(usize, bool)> {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(bytes.get(..end)?).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|value| value.trim().parse::<usize>().ok());
    let close = head.lines().any(|line| {
        line.strip_prefix("connection:")
            .is_some_and(|value| value.trim() == "close")
    });
    Some((end + length.unwrap_or(usize::MAX / 2), close))
}

const NONCE: [u8; 12] = *b"bench-nonce!";

const SERVICES: [&str; 2] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
];

const PATIENCE: Duration = Duration::from_secs(10);
