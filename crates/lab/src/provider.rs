//! The provider: the parent zone, which takes signed updates, and a recursive resolver.

pub mod resolver;
pub mod tsig;
pub mod zone;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, NS};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

use resolver::Resolver;
use tsig::Key;
use zone::Zone;

/// The provider's servers.
#[derive(Debug)]
pub struct Provider {
    zone: Mutex<Zone>,
    key: Key,
    clock: net::Clock,
    resolver: Resolver,
    serial: watch::Sender<u32>,
}

/// Which of the provider's servers listens at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The primary server of the parent zone.
    Parent,
    /// The recursive resolver.
    Resolver,
}

impl Provider {
    /// The provider of the zone `zone`, whose primary server is at `parent`. Next to its SOA the
    /// zone holds `www` with an A only: nothing may make an AAAA of that.
    ///
    /// # Errors
    /// When the zone has no possible name.
    pub fn new(zone: &str, parent: Ipv6Addr, key: Key) -> anyhow::Result<Arc<Self>> {
        let mut origin = Name::from_ascii(zone).with_context(|| format!("no name: {zone}"))?;
        origin.set_fqdn(true);
        let mut contents = Zone::new(&origin, parent);
        let www = Name::from_ascii("www")?.append_domain(&origin)?;
        contents.add(Record::from_rdata(www, 60, RData::A(A(WWW.into()))));
        Ok(Arc::new(Self {
            zone: Mutex::new(contents),
            key,
            clock: net::Clock::default(),
            resolver: Resolver::new(origin, vec![SocketAddr::new(parent.into(), 53)]),
            serial: watch::channel(1).0,
        }))
    }

    /// Opens a server's sockets and serves until the runtime ends.
    ///
    /// # Errors
    /// When a socket cannot be had.
    pub async fn serve(self: &Arc<Self>, role: Role, addr: SocketAddr) -> anyhow::Result<()> {
        let what = || format!("the provider cannot serve DNS at {addr}");
        let udp = Arc::new(UdpSocket::bind(addr).await.with_context(what)?);
        let tcp = TcpListener::bind(addr).await.with_context(what)?;
        tokio::spawn(Arc::clone(self).serve_udp(role, udp));
        tokio::spawn(Arc::clone(self).serve_tcp(role, tcp));
        Ok(())
    }

    /// Where the parent zone says the servers of `name` are: the glue.
    #[must_use]
    pub fn glue(&self, name: &str) -> Vec<IpAddr> {
        let Ok(mut name) = Name::from_ascii(name) else {
            return Vec::new();
        };
        name.set_fqdn(true);
        let zone = self.zone.lock().expect("nobody panics with the zone");
        let addresses = |server: &Record| match &server.data {
            RData::NS(NS(server)) => zone.rrset(server, RecordType::AAAA).to_vec(),
            _ => Vec::new(),
        };
        let records = zone.rrset(&name, RecordType::NS).iter().flat_map(addresses);
        let address = |record: Record| match record.data {
            RData::AAAA(addr) => Some(IpAddr::V6(addr.0)),
            _ => None,
        };
        records.filter_map(address).collect()
    }

    /// Waits until the glue of `name` is as `wanted` says.
    ///
    /// # Errors
    /// When it is not in time; says what it is.
    pub async fn wait_glue(
        &self,
        name: &str,
        wanted: impl Fn(&[IpAddr]) -> bool,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let mut serial = self.serial.subscribe();
        let arrived = async {
            while !wanted(&self.glue(name)) {
                serial.changed().await.expect("we hold the sender");
            }
        };
        tokio::time::timeout(patience, arrived).await.map_err(|_| {
            anyhow::anyhow!(
                "the parent zone says that {name} is served at {:?}",
                self.glue(name)
            )
        })
    }

    /// Forgets what the resolver remembers.
    pub fn flush_resolver(&self) {
        self.resolver.flush();
    }

    async fn serve_udp(self: Arc<Self>, role: Role, socket: Arc<UdpSocket>) {
        let mut buf = vec![0; 65536];
        loop {
            let Ok((len, from)) = socket.recv_from(&mut buf).await else {
                continue;
            };
            let (provider, socket) = (Arc::clone(&self), Arc::clone(&socket));
            let request = buf[..len].to_vec();
            tokio::spawn(async move {
                if let Some(answer) = provider.handle(role, &request).await {
                    let _sent = socket.send_to(&answer, from).await;
                }
            });
        }
    }

    async fn serve_tcp(self: Arc<Self>, role: Role, listener: TcpListener) {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&self).serve_stream(role, stream));
            }
        }
    }

    async fn serve_stream(self: Arc<Self>, role: Role, mut stream: TcpStream) {
        while let Ok(len) = stream.read_u16().await {
            let mut request = vec![0; len.into()];
            if stream.read_exact(&mut request).await.is_err() {
                return;
            }
            let Some(answer) = self.handle(role, &request).await else {
                return;
            };
            let len = u16::try_from(answer.len())
                .expect("answers are short")
                .to_be_bytes();
            if stream
                .write_all(&[&len, answer.as_slice()].concat())
                .await
                .is_err()
            {
                return;
            }
        }
    }

    async fn handle(&self, role: Role, bytes: &[u8]) -> Option<Vec<u8>> {
        let header = bytes.first_chunk::<12>()?;
        let opcode = header[2] >> 3 & 0xf;
        if role == Role::Parent && opcode == u8::from(OpCode::Update) {
            return self.handle_update(bytes);
        }
        let query = Message::from_vec(bytes).ok()?;
        if query.metadata.message_type != MessageType::Query {
            return None;
        }
        let (id, opcode) = (query.metadata.id, query.metadata.op_code);
        let answer = match (opcode, role) {
            (OpCode::Query, Role::Parent) => self
                .zone
                .lock()
                .expect("nobody panics with the zone")
                .answer(&query),
            (OpCode::Query, Role::Resolver) => self.resolver.answer(&query).await,
            _ => Message::error_msg(id, opcode, ResponseCode::NotImp),
        };
        answer.to_vec().ok()
    }

    fn handle_update(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let now_s = self.clock.now().wall.as_secs();
        let id = u16::from_be_bytes(*bytes.first_chunk()?);
        let refuse = |code| Message::error_msg(id, OpCode::Update, code);
        let verified = match self.key.verify(bytes, now_s) {
            Ok(verified) => verified,
            Err(rejected) => {
                tracing::warn!("the parent zone refuses an update: {rejected}");
                let code = match rejected {
                    tsig::Rejected::Malformed => ResponseCode::Refused,
                    _ => ResponseCode::NotAuth,
                };
                return refuse(code).to_vec().ok();
            }
        };
        let code = match Message::from_vec(&verified.request) {
            Ok(update) => {
                let mut zone = self.zone.lock().expect("nobody panics with the zone");
                let code = zone.update(&update);
                self.serial.send_replace(zone.serial());
                code
            }
            Err(_) => ResponseCode::FormErr,
        };
        let answer = refuse(code).to_vec().ok()?;
        Some(self.key.sign(&verified.mac, &answer, now_s))
    }
}

/// The address of `www` in the parent zone (RFC 5737).
pub const WWW: [u8; 4] = [192, 0, 2, 80];

#[cfg(test)]
mod tests;
