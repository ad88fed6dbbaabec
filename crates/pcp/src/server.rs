//! The machine of UDP 5351: PCP itself, and NAT-PMP's machine beside it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use mapping::{GenerationId, Instant, Now, Outcome, Snapshot};
use natpmp::{
    Announcer, CLIENTS, Caller, Claim, Counters, DropReason, Exchange, Limits, Timer, Transmit,
};

use crate::server::answer::{Answer, announcement, answer};
use crate::server::ask::{Asked, Judged, judge};
use crate::server::refuse::error_lifetime;
use crate::server::update::Updates;
use crate::wire::{Field, Malformed, Opcode, Request, ResultCode, emit_error};

mod answer;
mod ask;
mod memo;
mod options;
mod refuse;
mod update;

/// Answers what comes to UDP 5351 of the LAN (RFC 6887 §8.2 and appendix A).
///
/// ```text
///   handle_datagram ──► poll_request ──► (the writer) ──► handle_outcome ──► poll_transmit
///          └───────────────── answered at once or counted ──────────────────────┘
/// ```
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    natpmp: natpmp::Server,
    exchange: Exchange<ResultCode, Asked>,
    updates: Updates,
    prefix: Prefix,
}

/// What is served, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Which protocols.
    pub dialects: Dialects,
    /// How much is done for clients, by each protocol.
    pub limits: Limits,
    /// Whether PCP opens ports (RFC 6887 §11).
    pub map: bool,
    /// Whether PCP keeps outbound mappings, where anything carries them (RFC 6887 §12).
    pub peer: bool,
    /// Whether one host may open ports of another (RFC 6887 §13.1).
    pub third_party: bool,
    /// Whether clients with IPv6 addresses are served, and told of a restart.
    pub ipv6: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dialects: Dialects::Both,
            limits: Limits::default(),
            map: true,
            peer: true,
            third_party: false,
            ipv6: true,
        }
    }
}

/// Which of the two protocols of the port are served (RFC 6887 appendix A).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialects {
    /// Both.
    Both,
    /// NAT-PMP alone: a PCP client is told to speak version 0.
    NatPmp,
    /// PCP alone: a NAT-PMP client is told to speak version 2.
    Pcp,
}

impl Dialects {
    /// Tells whether PCP is served.
    #[must_use]
    pub const fn pcp(self) -> bool {
        matches!(self, Self::Both | Self::Pcp)
    }

    const fn natpmp(self) -> bool {
        matches!(self, Self::Both | Self::NatPmp)
    }
}

/// Names a request to the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestToken(Owner);

/// Names a claim that is looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimToken(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    NatPmp(natpmp::RequestToken),
    Pcp(u64),
}

/// What clients know of the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    /// No snapshot was seen yet.
    Unseen,
    /// That of the start.
    First(Option<GenerationId>),
    /// It changed; announcements say so (RFC 7225 §4.2).
    Changed(Option<GenerationId>),
}

impl Server {
    /// Makes a server.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            natpmp: natpmp::Server::new(settings.limits),
            exchange: Exchange::new(settings.limits),
            updates: Updates::new(),
            prefix: Prefix::Unseen,
        }
    }

    /// Takes a datagram of a client.
    pub fn handle_datagram(&mut self, bytes: &[u8], caller: Caller, snapshot: &Snapshot, now: Now) {
        self.exchange.see(now);
        let dialects = self.settings.dialects;
        // NAT-PMP is a protocol of IPv4 (RFC 6886 §3)
        let speaks_natpmp = caller.source.is_ipv4()
            && (bytes.first() == Some(&0) || !dialects.pcp())
            && dialects.natpmp();
        if speaks_natpmp {
            return self.natpmp.handle_datagram(bytes, caller, snapshot, now);
        }
        let is_served = dialects.pcp() && (caller.source.is_ipv4() || self.settings.ipv6);
        if !is_served {
            self.exchange.drop(DropReason::Source);
        } else if self.exchange.hears(&caller, snapshot, now) {
            match caller.claim(snapshot) {
                Some(claim) => self.exchange.doubt(caller, claim, bytes),
                None => self.handle_pcp(bytes, caller, snapshot, now),
            }
        }
    }

    /// Takes whether what [`Self::poll_claim`] gave is true.
    pub fn handle_claim(
        &mut self,
        token: ClaimToken,
        is_true: bool,
        snapshot: &Snapshot,
        now: Now,
    ) {
        self.exchange.see(now);
        if let Some(waited) = self.exchange.settle(token.0, is_true) {
            self.handle_pcp(&waited.datagram, waited.caller, snapshot, now);
        }
    }

    /// Takes the writer's answer to a request.
    pub fn handle_outcome(
        &mut self,
        token: RequestToken,
        outcome: &Outcome,
        snapshot: &Snapshot,
        now: Now,
    ) {
        self.exchange.see(now);
        let token = match token.0 {
            Owner::NatPmp(token) => {
                return self.natpmp.handle_outcome(token, outcome, snapshot, now);
            }
            Owner::Pcp(token) => token,
        };
        let Some(waiting) = self.exchange.take(token) else {
            return;
        };
        let Ok(request) = Request::parse(&waiting.datagram) else {
            return; // nothing waits that cannot be read
        };
        let epoch = snapshot.pcp_epoch(now);
        match answer(&request, &waiting.asked, outcome, snapshot) {
            Ok(answer) => {
                if let Some(mapping) = answer.mapping {
                    self.updates.handle_asked(mapping);
                }
                self.succeed(waiting.caller, &request, &answer, snapshot, epoch);
            }
            Err((code, lifetime)) => {
                let bytes = emit_error(&waiting.datagram, code, lifetime, epoch);
                self.exchange.answer(waiting.caller, code, bytes);
            }
        }
    }

    /// Looks at a newer snapshot: a new epoch is announced (RFC 6887 §14.1.3), and clients whose
    /// mappings have another address are told so (RFC 6887 §14.2).
    pub fn handle_snapshot(&mut self, snapshot: &Snapshot, now: Now) {
        if self.settings.dialects.natpmp() {
            self.natpmp.handle_snapshot(snapshot, now);
        }
        if self.settings.dialects.pcp() {
            let is_start = self.prefix == Prefix::Unseen;
            self.look_at_prefix(snapshot);
            // a start that lost nothing has nothing to tell, unless the last run was cut off in
            // the middle of its series
            let cut_off = u64::from(snapshot.pcp_epoch(now)) < Announcer::SERIES.as_secs();
            let epoch = snapshot.counters().pcp_epoch;
            // the last run may have ended before every client was told
            if self.exchange.handle_epoch(epoch, cut_off, now) || is_start {
                self.updates.handle_renumbering(snapshot, now.mono);
            }
        }
        self.handle_timeout(snapshot, now);
    }

    /// Queues what is due; early or twice changes nothing.
    pub fn handle_timeout(&mut self, snapshot: &Snapshot, now: Now) {
        if self.settings.dialects.natpmp() {
            self.natpmp.handle_timeout(snapshot, now);
        }
        if self.exchange.handle_timeout(now) {
            self.announce(snapshot, now);
        }
        for _ in 0..UPDATES_AT_ONCE {
            let Some(transmit) = self.updates.handle_timeout(snapshot, now) else {
                break;
            };
            self.exchange.send(transmit);
        }
    }

    /// Returns the next request to the writer.
    pub fn poll_request(&mut self) -> Option<(RequestToken, mapping::Request)> {
        if let Some((token, request)) = self.exchange.poll_request() {
            return Some((RequestToken(Owner::Pcp(token)), request));
        }
        let (token, request) = self.natpmp.poll_request()?;
        Some((RequestToken(Owner::NatPmp(token)), request))
    }

    /// Returns the next claim to look into: what bears the MAC of a host is that host's only if
    /// the link leads to it at the source address.
    pub fn poll_claim(&mut self) -> Option<(ClaimToken, Claim)> {
        let (token, claim) = self.exchange.poll_claim()?;
        Some((ClaimToken(token), claim))
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let own = self.exchange.poll_transmit();
        own.or_else(|| self.natpmp.poll_transmit())
    }

    /// Returns when to call [`Self::handle_timeout`] next, and for which timer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let update = self.updates.poll_timeout();
        let update = update.map(|due| (due, Timer::Update));
        [
            self.exchange.poll_timeout(),
            self.natpmp.poll_timeout(),
            update,
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, timer)| (*at, *timer != Timer::Drain))
    }

    /// Returns what was counted of PCP.
    #[must_use]
    pub const fn counters(&self) -> &Counters<ResultCode> {
        self.exchange.counters()
    }

    /// Returns how many mapping updates were sent (RFC 6887 §14.2).
    #[must_use]
    pub const fn updates(&self) -> u64 {
        self.updates.sent()
    }

    /// Returns what was counted of NAT-PMP.
    #[must_use]
    pub const fn natpmp_counters(&self) -> &Counters<natpmp::wire::ResultCode> {
        self.natpmp.counters()
    }

    /// Returns how many requests wait for the writer.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.exchange
            .pending()
            .saturating_add(self.natpmp.pending())
    }

    /// Returns how many datagrams wait for the truth of their claims.
    #[must_use]
    pub fn doubted(&self) -> usize {
        self.exchange.doubted()
    }

    fn handle_pcp(&mut self, bytes: &[u8], caller: Caller, snapshot: &Snapshot, now: Now) {
        let epoch = snapshot.pcp_epoch(now);
        let request = Request::parse(bytes);
        if opcode(&request, bytes).is_some_and(|it| !self.serves(it, caller, snapshot)) {
            return self.fail(caller, bytes, ResultCode::UnsuppOpcode, epoch);
        }
        let request = match request {
            Ok(request) => request,
            Err(malformed) => match unread(malformed) {
                Ok(code) => return self.fail(caller, bytes, code, epoch),
                Err(reason) => return self.exchange.drop(reason),
            },
        };
        match judge(&request, caller, &self.settings, snapshot, now) {
            Judged::Answer(answer) => self.succeed(caller, &request, &answer, snapshot, epoch),
            Judged::Ask(asked, to_writer) => self.exchange.ask(caller, bytes, asked, to_writer),
            Judged::Refused(code) => self.fail(caller, bytes, code, epoch),
        }
    }

    /// Tells whether an opcode is served (M-12): PEER where its mappings are carried alone.
    const fn serves(&self, opcode: Opcode, caller: Caller, snapshot: &Snapshot) -> bool {
        match opcode {
            Opcode::Announce => true,
            Opcode::Map => self.settings.map,
            Opcode::Peer => {
                let carriers = snapshot.carriers();
                let carried = match caller.source {
                    SocketAddr::V4(_) => carriers.ipv4.is_some(),
                    SocketAddr::V6(_) => carriers.pinholes,
                };
                self.settings.peer && carried
            }
            Opcode::Authentication | Opcode::Unknown(_) => false,
        }
    }

    fn look_at_prefix(&mut self, snapshot: &Snapshot) {
        let newest = snapshot.preferred().map(|generation| generation.id);
        self.prefix = match self.prefix {
            Prefix::Unseen => Prefix::First(newest),
            Prefix::First(known) if known == newest => Prefix::First(known),
            Prefix::First(_) | Prefix::Changed(_) => Prefix::Changed(newest),
        };
    }

    /// Tells the clients of every family that is served (RFC 6887 §14.1.3).
    fn announce(&mut self, snapshot: &Snapshot, now: Now) {
        let with_prefix = matches!(self.prefix, Prefix::Changed(_));
        let bytes = announcement(snapshot, with_prefix, snapshot.pcp_epoch(now));
        if self.settings.ipv6 {
            self.exchange.send(Transmit {
                from: None,
                to: CLIENTS_IPV6,
                bytes: bytes.clone(),
            });
        }
        self.exchange.send(Transmit {
            from: None,
            to: CLIENTS,
            bytes,
        });
    }

    fn succeed(
        &mut self,
        to: Caller,
        request: &Request<'_>,
        answer: &Answer<'_>,
        snapshot: &Snapshot,
        epoch: u32,
    ) {
        let bytes = answer.emit(request, snapshot, epoch);
        self.exchange.answer(to, ResultCode::Success, bytes);
    }

    fn fail(&mut self, to: Caller, request: &[u8], code: ResultCode, epoch: u32) {
        let bytes = emit_error(request, code, error_lifetime(code), epoch);
        self.exchange.answer(to, code, bytes);
    }
}

/// Returns the opcode of a request, also where what follows it cannot be read.
fn opcode(request: &Result<Request<'_>, Malformed>, bytes: &[u8]) -> Option<Opcode> {
    match request {
        Ok(request) => Some(request.body.opcode()),
        Err(malformed) => match malformed.field {
            Field::Length | Field::Body => bytes.get(1).copied().map(Opcode::from_number),
            Field::Start
            | Field::ResponseBit
            | Field::Version
            | Field::Header
            | Field::Opcode(_)
            | Field::Options => None,
        },
    }
}

/// What is done about a datagram that cannot be read (RFC 6887 §8.2): an error, or silence.
const fn unread(malformed: Malformed) -> Result<ResultCode, DropReason> {
    match malformed.field {
        Field::Start | Field::Header => Err(DropReason::Malformed),
        Field::ResponseBit => Err(DropReason::Response),
        Field::Version => Ok(ResultCode::UnsuppVersion),
        Field::Opcode(_) => Ok(ResultCode::UnsuppOpcode),
        Field::Length | Field::Body => Ok(ResultCode::MalformedRequest),
        Field::Options => Ok(ResultCode::MalformedOption),
    }
}

/// RFC 6887 §5: an IPv4 address stands as an IPv4-mapped one.
const fn in_ipv6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

/// RFC 6887 §14.1.3: all nodes of the link, port 5350.
const CLIENTS_IPV6: SocketAddr = SocketAddr::V6(SocketAddrV6::new(
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
    5350,
    0,
    0,
));

/// Clients that ask are heard between so many updates.
const UPDATES_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests;
