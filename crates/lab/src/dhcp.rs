//! A DHCPv4 client without memory: what it was given lives in the value that it returns.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, bail};
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use mapping::Mac;
use net::netlink::{Netlink, Route};
use net::packet::{Hears, PacketSocket, UdpFrame};
use tokio::time::{Instant, timeout_at};

/// What a server gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Our address.
    pub addr: Ipv4Addr,
    /// The length of the network's prefix.
    pub prefix_len: u8,
    /// The default router.
    pub router: Option<Ipv4Addr>,
    /// The resolvers.
    pub dns: Vec<Ipv4Addr>,
    /// The domain of the network.
    pub domain: Option<String>,
    /// How long it lasts.
    pub lease_s: u32,
    /// The server's identifier.
    pub server: Ipv4Addr,
    server_mac: Mac,
}

/// A client on one interface of the calling thread's namespace.
#[derive(Debug, Clone)]
pub struct Client {
    ifname: String,
    hostname: String,
}

impl Client {
    /// A client on `ifname` that calls itself `hostname`.
    #[must_use]
    pub fn new(ifname: &str, hostname: &str) -> Self {
        Self {
            ifname: ifname.to_owned(),
            hostname: hostname.to_owned(),
        }
    }

    /// Discovers, requests, and sets up the address and the default route.
    ///
    /// # Errors
    /// When no server gives an address within `patience`.
    pub async fn join(&self, patience: Duration) -> anyhow::Result<Lease> {
        let lease = self.acquire(patience).await?;
        let netlink = Netlink::open()?;
        let ifindex = netlink.index(&self.ifname).await?;
        netlink
            .add_address(ifindex, lease.addr.into(), lease.prefix_len)
            .await?;
        if let Some(router) = lease.router {
            netlink
                .add_route(Route::default_via(router.into(), Some(ifindex)))
                .await?;
        }
        Ok(lease)
    }

    /// Gets an address without using it.
    ///
    /// # Errors
    /// When no server gives one within `patience`.
    pub async fn acquire(&self, patience: Duration) -> anyhow::Result<Lease> {
        let socket = PacketSocket::open(&self.ifname, Hears::Ipv4)?;
        let deadline = Instant::now() + patience;
        let xid = rand::random();
        let discover = self.message(xid, socket.mac(), MessageType::Discover);
        let (offer, _) = self
            .ask(&socket, &discover, deadline)
            .await
            .with_context(|| format!("no DHCP offer for {}", self.hostname))?;
        let server = server_of(&offer).context("the offer names no server")?;
        let mut request = self.message(xid, socket.mac(), MessageType::Request);
        request
            .opts_mut()
            .insert(DhcpOption::RequestedIpAddress(offer.yiaddr()));
        request
            .opts_mut()
            .insert(DhcpOption::ServerIdentifier(server));
        let (ack, server_mac) = self
            .ask(&socket, &request, deadline)
            .await
            .with_context(|| format!("no DHCP ACK for {}", offer.yiaddr()))?;
        if ack.opts().msg_type() != Some(MessageType::Ack) {
            bail!(
                "the DHCP server refuses {} after it offered it",
                offer.yiaddr()
            );
        }
        lease(&ack, server, server_mac)
    }

    /// Gives an address back and forgets it.
    ///
    /// # Errors
    /// When the interface is gone.
    pub async fn release(&self, lease: &Lease) -> anyhow::Result<()> {
        let socket = PacketSocket::open(&self.ifname, Hears::Nothing)?;
        let mut release = self.message(rand::random(), socket.mac(), MessageType::Release);
        release.set_ciaddr(lease.addr);
        release.opts_mut().remove(OptionCode::ParameterRequestList);
        release.opts_mut().remove(OptionCode::Hostname);
        release
            .opts_mut()
            .insert(DhcpOption::ServerIdentifier(lease.server));
        let (from, to) = (
            SocketAddrV4::new(lease.addr, 68),
            SocketAddrV4::new(lease.server, 67),
        );
        socket
            .send_udp(lease.server_mac, from, to, &release.to_vec()?)
            .await?;
        let netlink = Netlink::open()?;
        let ifindex = netlink.index(&self.ifname).await?;
        netlink
            .remove_address(ifindex, lease.addr.into(), lease.prefix_len)
            .await?;
        Ok(())
    }

    /// Broadcasts until an answer to this very message comes.
    async fn ask(
        &self,
        socket: &PacketSocket,
        message: &Message,
        deadline: Instant,
    ) -> anyhow::Result<(Message, Mac)> {
        let bytes = message.to_vec()?;
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
        let mut buf = vec![0; 2048];
        let mut gap = FIRST_GAP;
        loop {
            socket.send_udp(Mac([0xff; 6]), from, to, &bytes).await?;
            let again = (Instant::now() + gap).min(deadline);
            gap *= 2;
            while let Ok(received) = timeout_at(again, socket.recv(&mut buf)).await {
                let received = received?;
                if let Some(answer) = answer_in(&buf[..received.len], message) {
                    return Ok(answer);
                }
            }
            if Instant::now() >= deadline {
                bail!("no DHCP server answers on {}", self.ifname);
            }
        }
    }

    fn message(&self, xid: u32, mac: Mac, kind: MessageType) -> Message {
        let mut message = Message::default();
        message
            .set_opcode(Opcode::BootRequest)
            .set_xid(xid)
            .set_chaddr(&mac.0);
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::Hostname(self.hostname.clone()));
        options.insert(DhcpOption::ParameterRequestList(vec![
            OptionCode::SubnetMask,
            OptionCode::Router,
            OptionCode::DomainNameServer,
            OptionCode::DomainName,
            OptionCode::AddressLeaseTime,
        ]));
        message
    }
}

fn answer_in(frame: &[u8], question: &Message) -> Option<(Message, Mac)> {
    let udp = UdpFrame::parse(frame).ok()?;
    if (udp.source.port(), udp.destination.port()) != (67, 68) {
        return None;
    }
    let answer = Message::decode(&mut Decoder::new(udp.payload)).ok()?;
    let wanted: &[MessageType] = match question.opts().msg_type()? {
        MessageType::Discover => &[MessageType::Offer],
        _ => &[MessageType::Ack, MessageType::Nak],
    };
    let ours = answer.opcode() == Opcode::BootReply
        && answer.xid() == question.xid()
        && answer.chaddr() == question.chaddr()
        && wanted.contains(&answer.opts().msg_type()?);
    ours.then_some((answer, udp.source_mac))
}

fn server_of(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::ServerIdentifier)? {
        DhcpOption::ServerIdentifier(server) => Some(*server),
        _ => None,
    }
}

fn lease(ack: &Message, server: Ipv4Addr, server_mac: Mac) -> anyhow::Result<Lease> {
    let options = ack.opts();
    let Some(DhcpOption::SubnetMask(mask)) = options.get(OptionCode::SubnetMask) else {
        bail!("the lease has no subnet mask");
    };
    let Some(DhcpOption::AddressLeaseTime(lease_s)) = options.get(OptionCode::AddressLeaseTime)
    else {
        bail!("the lease has no length");
    };
    let router = match options.get(OptionCode::Router) {
        Some(DhcpOption::Router(routers)) => routers.first().copied(),
        _ => None,
    };
    let dns = match options.get(OptionCode::DomainNameServer) {
        Some(DhcpOption::DomainNameServer(servers)) => servers.clone(),
        _ => Vec::new(),
    };
    let domain = match options.get(OptionCode::DomainName) {
        Some(DhcpOption::DomainName(domain)) => Some(domain.clone()),
        _ => None,
    };
    Ok(Lease {
        addr: ack.yiaddr(),
        prefix_len: u8::try_from(mask.to_bits().leading_ones())?,
        router,
        dns,
        domain,
        lease_s: *lease_s,
        server,
        server_mac,
    })
}

impl Lease {
    /// The resolver that the server named.
    ///
    /// # Errors
    /// When it named none.
    pub fn resolver(&self) -> anyhow::Result<IpAddr> {
        self.dns
            .first()
            .map(|dns| IpAddr::V4(*dns))
            .context("the lease names no resolver")
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{} for {} s",
            self.addr, self.prefix_len, self.lease_s
        )?;
        if let Some(router) = self.router {
            write!(f, ", router {router}")?;
        }
        if let Some(dns) = self.dns.first() {
            write!(f, ", DNS {dns}")?;
        }
        Ok(())
    }
}

/// RFC 2131 §4.1 starts with four seconds; nothing is lost on our cable.
const FIRST_GAP: Duration = Duration::from_millis(500);
