//! What somebody on the Internet does: echo, ping, probe, download.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{device, http};

/// Sends `payload` by UDP until it comes back, and returns how long that took.
///
/// # Errors
/// When it does not come back within `patience`.
pub async fn echo_udp(
    to: SocketAddr,
    payload: &[u8],
    patience: Duration,
) -> anyhow::Result<Duration> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await?;
    socket.connect(to).await?;
    let (start, mut buf) = (Instant::now(), vec![0; 65536]);
    let deadline = start + patience;
    while Instant::now() < deadline {
        socket.send(payload).await?;
        let again = (Instant::now() + RETRANSMIT).min(deadline);
        match timeout_at(again, socket.recv(&mut buf)).await {
            Ok(Ok(len)) => {
                ensure!(buf[..len] == *payload, "UDP {to} sent something else back");
                return Ok(start.elapsed());
            }
            // An ICMP error about the last datagram: the next may fare better.
            Ok(Err(_)) => tokio::time::sleep_until(again).await,
            Err(_) => {}
        }
    }
    bail!("UDP {to} does not answer")
}

/// Sends `payload` by TCP, reads it back, and returns how long that took.
///
/// # Errors
/// When it does not come back within `patience`.
pub async fn echo_tcp(
    to: SocketAddr,
    payload: &[u8],
    patience: Duration,
) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let echo = async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(payload).await?;
        let mut back = vec![0; payload.len()];
        stream.read_exact(&mut back).await?;
        ensure!(back == payload, "TCP {to} sent something else back");
        Ok(start.elapsed())
    };
    timeout(patience, echo)
        .await
        .with_context(|| format!("TCP {to} does not answer"))?
}

/// Pings until an answer comes, and returns how long that took; `None` when nobody answers within
/// `patience`.
///
/// # Errors
/// When this host cannot ping at all.
pub async fn ping(to: Ipv6Addr, patience: Duration) -> anyhow::Result<Option<Duration>> {
    let raw = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    raw.set_nonblocking(true)?;
    raw.connect(&SocketAddr::new(to.into(), 0).into())?;
    let socket = UdpSocket::from_std(raw.into())?;
    let id: [u8; 2] = rand::random();
    let begin = Instant::now();
    let deadline = begin + patience;
    let mut buf = vec![0; 2048];
    for sequence in 1_u16.. {
        let start = Instant::now();
        if start >= deadline {
            break;
        }
        // The kernel fills in the checksum.
        let request = [
            &[128, 0, 0, 0],
            &id[..],
            &sequence.to_be_bytes(),
            b"portico lab",
        ]
        .concat();
        let sent = socket.send(&request).await;
        tracing::trace!(?sent, "echo request to {to}");
        let again = (start + RETRANSMIT).min(deadline);
        while let Ok(received) = timeout_at(again, socket.recv(&mut buf)).await {
            let Ok(len) = received else {
                continue;
            };
            // it may be the answer to an earlier one
            if buf[..len].first() == Some(&129) && buf[4..6] == id && buf[8..len] == request[8..] {
                return Ok(Some(begin.elapsed()));
            }
        }
    }
    Ok(None)
}

/// How a port looks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// It takes connections.
    Open,
    /// Somebody says no.
    Refused,
    /// Nobody says anything.
    Silent,
}

/// Knocks at a TCP port for `patience`.
pub async fn knock(to: SocketAddr, patience: Duration) -> Port {
    match timeout(patience, TcpStream::connect(to)).await {
        Ok(Ok(_)) => Port::Open,
        Ok(Err(_)) => Port::Refused,
        Err(_) => Port::Silent,
    }
}

/// A download under way.
#[derive(Debug)]
pub struct Download {
    from: IpAddr,
    body: Incoming,
    received: Vec<u8>,
}

/// A download that has ended whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// How many bytes.
    pub bytes: usize,
    /// Their SHA-256, the first eight digits.
    pub sha256: String,
}

impl Download {
    /// Starts a download and waits for its first bytes.
    ///
    /// # Errors
    /// When none come within `patience`.
    pub async fn start(
        from: SocketAddr,
        host: &str,
        path: &str,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let begin = async {
            let stream = TcpStream::connect(from).await?;
            let response = http::send(stream, http::get(host, path)?).await?;
            ensure!(
                response.status() == ::http::StatusCode::OK,
                "{}",
                response.status()
            );
            let body = response.into_body();
            let mut download = Self {
                from: from.ip(),
                body,
                received: Vec::new(),
            };
            ensure!(download.next().await?, "the download is empty");
            Ok(download)
        };
        let what = || format!("cannot download http://{host}{path} from {from}");
        timeout(patience, begin)
            .await
            .with_context(what)?
            .with_context(what)
    }

    /// The address that it comes from.
    #[must_use]
    pub const fn from(&self) -> IpAddr {
        self.from
    }

    /// How many bytes have come.
    #[must_use]
    pub fn received(&self) -> usize {
        self.received.len()
    }

    /// Waits for more bytes; false at the end.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn next(&mut self) -> anyhow::Result<bool> {
        let Some(frame) = self.body.frame().await else {
            return Ok(false);
        };
        if let Ok(data) = frame.context("the download broke")?.into_data() {
            self.received.extend(&data);
        }
        Ok(true)
    }

    /// Reads the rest and compares every byte.
    ///
    /// # Errors
    /// When it breaks, or a byte is missing or wrong.
    pub async fn finish(mut self, patience: Duration) -> anyhow::Result<Downloaded> {
        let rest = async {
            while self.next().await? {}
            anyhow::Ok(())
        };
        timeout(patience, rest)
            .await
            .context("the download does not end")??;
        let whole = device::download(0..device::DOWNLOAD_BYTES);
        ensure!(
            self.received == whole,
            "the download is not what was sent: {} of {} bytes",
            self.received.len(),
            whole.len()
        );
        let digest = Sha256::digest(&self.received);
        let sha256 = digest
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Downloaded {
            bytes: self.received.len(),
            sha256,
        })
    }
}

const RETRANSMIT: Duration = Duration::from_millis(300);
