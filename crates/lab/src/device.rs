//! Residential servers: small, real, and able to say who spoke to them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{interval, timeout};

/// A server in a home.
#[derive(Debug)]
pub struct Device {
    name: String,
    page: String,
    log: Mutex<Vec<Contact>>,
    hold: watch::Sender<bool>,
    contacts: watch::Sender<usize>,
}

/// Somebody spoke to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// How: `tcp`, `udp` or `http`.
    pub protocol: &'static str,
    /// Which of our ports.
    pub port: u16,
    /// Who, as the device sees it.
    pub peer: SocketAddr,
    /// What was asked: the path of the page, or nothing.
    pub what: String,
}

impl Device {
    /// A device whose page is `page`.
    #[must_use]
    pub fn new(name: &str, page: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            page: page.to_owned(),
            log: Mutex::default(),
            hold: watch::channel(true).0,
            contacts: watch::channel(0).0,
        })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it serves at `/`.
    #[must_use]
    pub fn page(&self) -> &str {
        &self.page
    }

    /// Who has spoken to it.
    #[must_use]
    pub fn log(&self) -> Vec<Contact> {
        self.log.lock().expect("nobody panics with the log").clone()
    }

    /// Waits for a contact that `wanted` recognises; looks at the past too.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn wait_contact(
        &self,
        wanted: impl Fn(&Contact) -> bool,
        patience: Duration,
    ) -> anyhow::Result<Contact> {
        let mut contacts = self.contacts.subscribe();
        let found = async {
            loop {
                if let Some(contact) = self.log().into_iter().rfind(&wanted) {
                    return contact;
                }
                contacts.changed().await.expect("we hold the sender");
            }
        };
        timeout(patience, found)
            .await
            .with_context(|| format!("nobody reached {}", self.name))
    }

    /// Lets the downloads that are held go on at full speed.
    pub fn release_downloads(&self) {
        self.hold.send_replace(false);
    }

    /// Holds downloads from now on.
    pub fn hold_downloads(&self) {
        self.hold.send_replace(true);
    }

    /// Serves HTTP: `/`, `/log`, `/download` (held until [`Self::release_downloads`]) and
    /// `/download/now`.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn serve_http(self: &Arc<Self>, port: u16) -> anyhow::Result<()> {
        let device = Arc::clone(self);
        let listener = self.listen(port).await?;
        tokio::spawn(async move {
            loop {
                if let Ok((stream, peer)) = listener.accept().await {
                    tokio::spawn(Arc::clone(&device).answer_http(stream, peer, port));
                }
            }
        });
        Ok(())
    }

    /// Echoes what comes by TCP.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn echo_tcp(self: &Arc<Self>, port: u16) -> anyhow::Result<()> {
        let device = Arc::clone(self);
        let listener = self.listen(port).await?;
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, peer)) = listener.accept().await else {
                    continue;
                };
                device.note("tcp", port, peer, "");
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ended = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        Ok(())
    }

    /// Echoes what comes by UDP.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn echo_udp(self: &Arc<Self>, port: u16) -> anyhow::Result<()> {
        let device = Arc::clone(self);
        let what = || format!("{} cannot open UDP port {port}", self.name);
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))
            .await
            .with_context(what)?;
        tokio::spawn(async move {
            let mut buf = vec![0; 65536];
            loop {
                let Ok((len, peer)) = socket.recv_from(&mut buf).await else {
                    continue;
                };
                device.note("udp", port, peer, "");
                let _sent = socket.send_to(&buf[..len], peer).await;
            }
        });
        Ok(())
    }

    async fn listen(&self, port: u16) -> anyhow::Result<TcpListener> {
        let addr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        TcpListener::bind(addr)
            .await
            .with_context(|| format!("{} cannot open TCP port {port}", self.name))
    }

    fn note(&self, protocol: &'static str, port: u16, peer: SocketAddr, what: &str) {
        let contact = Contact {
            protocol,
            port,
            peer,
            what: what.to_owned(),
        };
        self.log
            .lock()
            .expect("nobody panics with the log")
            .push(contact);
        self.contacts.send_modify(|count| *count += 1);
    }

    async fn answer_http(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, port: u16) {
        let mut stream = BufReader::new(stream);
        let Some(path) = read_request(&mut stream).await else {
            return;
        };
        self.note("http", port, peer, &path);
        let answer = match path.as_str() {
            "/" => respond(&mut stream, "200 OK", &self.page).await,
            "/log" => {
                let line = |contact: &Contact| {
                    format!(
                        "{} {} {} {}\n",
                        contact.protocol, contact.port, contact.peer, contact.what
                    )
                };
                let text: String = self.log().iter().map(line).collect();
                respond(&mut stream, "200 OK", &text).await
            }
            "/download" => self.send_download(stream, true).await,
            "/download/now" => self.send_download(stream, false).await,
            _ => respond(&mut stream, "404 Not Found", "no such page\n").await,
        };
        if let Err(error) = answer {
            tracing::debug!("{} could not answer {peer}: {error}", self.name);
        }
    }

    /// Sends a trickle while held, and the rest as fast as it goes.
    async fn send_download(
        &self,
        mut stream: BufReader<TcpStream>,
        held: bool,
    ) -> std::io::Result<()> {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {DOWNLOAD_BYTES}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut hold = self.hold.subscribe();
        let mut tick = interval(TRICKLE_GAP);
        let mut at = 0;
        while held && *hold.borrow() && at < DOWNLOAD_BYTES {
            let end = (at + TRICKLE_BYTES).min(DOWNLOAD_BYTES);
            stream.write_all(&download(at..end)).await?;
            at = end;
            tokio::select! {
                _ = tick.tick() => {}
                _ = hold.changed() => {}
            }
        }
        while at < DOWNLOAD_BYTES {
            let end = (at + 65536).min(DOWNLOAD_BYTES);
            stream.write_all(&download(at..end)).await?;
            at = end;
        }
        stream.shutdown().await
    }
}

/// The bytes of the download: each tells where it stands, so that none can be lost, doubled or
/// swapped unseen.
#[must_use]
pub fn download(range: std::ops::Range<usize>) -> Vec<u8> {
    let byte = |at: usize| {
        let mixed = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed.to_be_bytes()[usize::from(at % 2 == 1)]
    };
    range.map(byte).collect()
}

/// How long the download is.
pub const DOWNLOAD_BYTES: usize = 4 << 20;

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut path = None;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 || line.len() > 8192 {
            return None;
        }
        if line.trim_end().is_empty() {
            return path;
        }
        path = path.or_else(|| Some(line.split(' ').nth(1)?.to_owned()));
    }
}

async fn respond(
    stream: &mut BufReader<TcpStream>,
    status: &str,
    body: &str,
) -> std::io::Result<()> {
    let len = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {len}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

const TRICKLE_BYTES: usize = 1024;
const TRICKLE_GAP: Duration = Duration::from_millis(50);
