//! A DNS client: one question, one answer, UDP first and TCP where it was cut short.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

/// What a name stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The outcome in the protocol's words: `No Error`, `Non-Existent Domain`, ...
    pub code: String,
    /// Addresses of either family.
    pub addrs: Vec<IpAddr>,
    /// The smallest TTL of the records.
    pub ttl_s: u32,
}

/// Asks a recursive resolver for the addresses of a name, trying again for up to `patience`.
///
/// # Errors
/// When nobody answers.
pub async fn lookup(
    resolver: SocketAddr,
    name: &str,
    kind: RecordType,
    patience: Duration,
) -> anyhow::Result<Addresses> {
    let name = Name::from_ascii(name).with_context(|| format!("{name} is no name"))?;
    let deadline = Instant::now() + patience;
    loop {
        match exchange(resolver, &query(&name, kind, true), ONE_TRY).await {
            Ok(answer) => return Ok(addresses(&answer)),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("{resolver} does not say what {name} is")));
            }
            Err(_) => {}
        }
    }
}

/// Makes a query.
#[must_use]
pub fn query(name: &Name, kind: RecordType, recursive: bool) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = recursive;
    let mut name = name.clone();
    name.set_fqdn(true);
    query.queries.push(Query::query(name, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    query.set_edns(edns);
    query
}

/// Sends a message and waits for its answer.
///
/// # Errors
/// When none comes in time.
pub async fn exchange(
    server: SocketAddr,
    query: &Message,
    patience: Duration,
) -> anyhow::Result<Message> {
    let bytes = query.to_vec()?;
    let answer = over_udp(server, query.metadata.id, &bytes, patience).await?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    timeout(patience, over_tcp(server, &bytes)).await?
}

async fn over_udp(
    server: SocketAddr,
    id: u16,
    bytes: &[u8],
    patience: Duration,
) -> anyhow::Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let deadline = Instant::now() + patience;
    let mut buf = [0; 4096];
    loop {
        let received = timeout_at(deadline, socket.recv(&mut buf)).await;
        let len = received.with_context(|| format!("{server} does not answer"))??;
        if let Ok(answer) = Message::from_vec(&buf[..len])
            && answer.metadata.id == id
        {
            return Ok(answer);
        }
    }
}

/// Asks over TCP.
///
/// # Errors
/// When the server does not take or answer it.
pub async fn over_tcp(server: SocketAddr, query: &[u8]) -> anyhow::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(query.len())?;
    stream
        .write_all(&[&len.to_be_bytes(), query].concat())
        .await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    let answer = Message::from_vec(&answer)?;
    ensure!(
        query.starts_with(&answer.metadata.id.to_be_bytes()),
        "somebody else's answer"
    );
    Ok(answer)
}

fn addresses(answer: &Message) -> Addresses {
    let address = |record: &Record| match &record.data {
        RData::A(addr) => Some(IpAddr::V4(addr.0)),
        RData::AAAA(addr) => Some(IpAddr::V6(addr.0)),
        _ => None,
    };
    Addresses {
        code: answer.metadata.response_code.to_string(),
        addrs: answer.answers.iter().filter_map(address).collect(),
        ttl_s: answer
            .answers
            .iter()
            .map(|record| record.ttl)
            .min()
            .unwrap_or(0),
    }
}

impl Addresses {
    /// The only address, if it is an IPv6 one.
    ///
    /// # Errors
    /// When there is another number of them.
    pub fn one_v6(&self) -> anyhow::Result<Ipv6Addr> {
        match self.addrs.as_slice() {
            [IpAddr::V6(addr)] => Ok(*addr),
            _ => bail!("expected one AAAA, got {self}"),
        }
    }
}

impl std::fmt::Display for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.addrs.is_empty() {
            return write!(f, "no records ({})", self.code);
        }
        for (at, addr) in self.addrs.iter().enumerate() {
            let kind = if addr.is_ipv6() { "AAAA" } else { "A" };
            write!(f, "{}{kind} {addr}", if at == 0 { "" } else { ", " })?;
        }
        write!(f, " (TTL {} s)", self.ttl_s)
    }
}

const ONE_TRY: Duration = Duration::from_secs(5);
