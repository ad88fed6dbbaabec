//! Decides what a message is answered with.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;
use hickory_server::zone_handler::{MessageRequest, MessageResponseBuilder, Queries};
use mapping::{Now, Snapshot};

use crate::counters::{Counter, Counters};
use crate::wire::{self, Head, Malformed, Transport};
use crate::zone::{Answer, View, Zone};

/// The server: keeps nothing between two messages.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    zone: Zone,
}

/// A message, not yet decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Itself, without the length that TCP puts before it.
    pub bytes: Vec<u8>,
    /// Who sent it.
    pub from: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// What the sender may see.
    pub view: View,
}

/// What becomes of a message.
#[derive(Debug)]
pub enum Verdict {
    /// Send this back.
    Answer(Vec<u8>),
    /// Send nothing.
    Drop(DropReason),
    /// Ask a resolver outside, see [`crate::forward`].
    Forward(Box<Request>),
}

/// Why a message gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Not even a head.
    Malformed(Malformed),
    /// It is an answer itself: to answer it could go on for ever.
    Response,
    /// Its source cannot be answered.
    Source,
}

/// An answer, not yet encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The head.
    pub metadata: Metadata,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// The SOA of a negative answer.
    pub authorities: Vec<Record>,
    /// Glue.
    pub additionals: Vec<Record>,
    /// Present if the client sent one (RFC 6891 §6.1.1).
    pub edns: Option<Edns>,
}

impl Server {
    /// Makes a server of the zones.
    #[must_use]
    pub const fn new(zone: Zone) -> Self {
        Self { zone }
    }

    /// Takes one message of UDP or TCP; every one is answered, forwarded or dropped, and counted.
    #[must_use]
    pub fn handle_message(
        &self,
        received: Received,
        snapshot: &Snapshot,
        now: Now,
        counters: &Counters,
    ) -> Verdict {
        let reject = |reason: DropReason| {
            counters.count(match reason {
                DropReason::Malformed(_) => Counter::MalformedHead,
                DropReason::Response => Counter::DroppedResponse,
                DropReason::Source => Counter::DroppedSource,
            });
            Verdict::Drop(reason)
        };
        let (from, view) = (received.from, received.view);
        let head = match Head::parse(&received.bytes) {
            Ok(head) => head,
            Err(malformed) => return reject(DropReason::Malformed(malformed)),
        };
        if head.is_response() {
            return reject(DropReason::Response);
        }
        if from.port() == 0 || !is_answerable(from.ip()) {
            return reject(DropReason::Source);
        }
        let request = match parse(head, received) {
            Ok(Some(request)) => request,
            Ok(None) => {
                counters.count_view(view);
                counters.count(Counter::OtherOpcode);
                counters.count_answer(ResponseCode::NotImp);
                return Verdict::Answer(head.bare_answer(ResponseCode::NotImp));
            }
            Err(malformed) => {
                counters.count_view(view);
                counters.count_malformed(malformed);
                counters.count_answer(ResponseCode::FormErr);
                return Verdict::Answer(head.bare_answer(ResponseCode::FormErr));
            }
        };
        match self.decide(&request, view, snapshot, now, counters) {
            Some(reply) => Verdict::Answer(encode(&reply, &request, counters)),
            None => Verdict::Forward(Box::new(request)),
        }
    }

    /// Returns the answer to a decoded message; `None` if a resolver outside knows it.
    fn decide(
        &self,
        request: &MessageRequest,
        view: View,
        snapshot: &Snapshot,
        now: Now,
        counters: &Counters,
    ) -> Option<Reply> {
        counters.count_view(view);
        let mut reply = Reply::to(request);
        match self.query(request, view, snapshot, now, counters) {
            Ok(Answer::Elsewhere) if view == View::Lan => return None,
            Ok(Answer::Elsewhere) => reply.metadata.response_code = ResponseCode::Refused,
            Ok(answer) => reply.fill(answer),
            Err(code) => reply.metadata.response_code = code,
        }
        reply.metadata.recursion_available = view == View::Lan;
        counters.count_answer(reply.metadata.response_code);
        Some(reply)
    }

    fn query(
        &self,
        request: &MessageRequest,
        view: View,
        snapshot: &Snapshot,
        now: Now,
        counters: &Counters,
    ) -> Result<Answer, ResponseCode> {
        if request.version() > 0 {
            // RFC 6891 §6.1.3
            return Err(ResponseCode::BADVERS);
        }
        let rejected = match request.metadata.op_code {
            OpCode::Query => None,
            OpCode::Notify => Some((Counter::Notify, ResponseCode::NotImp)),
            // D-U5: by policy; nobody has a key yet
            OpCode::Update => Some((Counter::Update, ResponseCode::Refused)),
            OpCode::Status | OpCode::Unknown(_) => {
                Some((Counter::OtherOpcode, ResponseCode::NotImp))
            }
        };
        if let Some((counter, code)) = rejected {
            counters.count(counter);
            return Err(code);
        }
        let [query] = request.queries.queries() else {
            return Err(ResponseCode::FormErr);
        };
        if query.query_class() != DNSClass::IN {
            counters.count(Counter::Class);
            return Err(ResponseCode::Refused);
        }
        match query.query_type() {
            RecordType::AXFR | RecordType::IXFR => {
                counters.count(Counter::Transfer);
                Err(ResponseCode::Refused)
            }
            // meta types that are no question (RFC 6895 §3.1)
            RecordType::OPT | RecordType::TSIG => Err(ResponseCode::FormErr),
            kind => Ok(self
                .zone
                .answer(snapshot, view, &query.original().name, kind, now)),
        }
    }
}

impl Reply {
    /// Begins the answer to a request: its id, opcode, RD and CD, and an OPT if it had one.
    #[must_use]
    pub fn to(request: &MessageRequest) -> Self {
        let edns = request.edns.as_ref().map(|_| {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            edns
        });
        Self {
            metadata: Metadata::response_from_request(&request.metadata),
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            edns,
        }
    }

    /// Returns an answer that says only that we could not.
    #[must_use]
    pub fn failure(request: &MessageRequest, counters: &Counters) -> Self {
        let mut reply = Self::to(request);
        reply.metadata.response_code = ResponseCode::ServFail;
        reply.metadata.recursion_available = true;
        counters.count_answer(ResponseCode::ServFail);
        reply
    }

    fn fill(&mut self, answer: Answer) {
        self.metadata.authoritative = true;
        match answer {
            Answer::Elsewhere => self.metadata.authoritative = false,
            Answer::Found { records, glue } => {
                self.answers = records;
                self.additionals = glue;
            }
            Answer::NoData(soa) => self.authorities.push(soa),
            Answer::NoName(soa) => {
                self.metadata.response_code = ResponseCode::NXDomain;
                self.authorities.push(soa);
            }
        }
    }
}

/// Encodes an answer; what does not fit leaves without records and with TC, so that no part of a
/// set is taken for the whole (RFC 2181 §9).
#[must_use]
pub fn encode(reply: &Reply, request: &Request, counters: &Counters) -> Vec<u8> {
    let limit = match transport_of(request) {
        Transport::Tcp => longest_answer(request),
        Transport::Udp => longest_answer(request).min(usize::from(PAYLOAD)),
    };
    let whole = emit(reply, &request.queries);
    if whole.as_ref().is_some_and(|bytes| bytes.len() <= limit) {
        return whole.unwrap_or_default();
    }
    counters.count(Counter::Truncated);
    let mut cut = Reply {
        answers: Vec::new(),
        authorities: Vec::new(),
        additionals: Vec::new(),
        ..reply.clone()
    };
    cut.metadata.truncation = true;
    emit(&cut, &request.queries).unwrap_or_default()
}

/// Returns the longest answer that the client takes (RFC 6891 §6.2.3, RFC 1035 §4.2.2).
#[must_use]
pub fn longest_answer(request: &Request) -> usize {
    usize::from(match transport_of(request) {
        Transport::Tcp => u16::MAX,
        Transport::Udp => request.max_payload(),
    })
}

fn transport_of(request: &Request) -> Transport {
    match request.protocol() {
        Protocol::Tcp => Transport::Tcp,
        _ => Transport::Udp,
    }
}

fn emit(reply: &Reply, queries: &Queries) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(SHORTEST_PAYLOAD);
    let mut encoder = BinEncoder::new(&mut bytes);
    let none: [&Record; 0] = [];
    let message = MessageResponseBuilder::new(queries, reply.edns.as_ref()).build(
        reply.metadata,
        &reply.answers,
        &reply.authorities,
        none,
        &reply.additionals,
    );
    message.destructive_emit(&mut encoder).ok()?;
    Some(bytes)
}

/// Decodes a request; `None` if its opcode is one that nobody here knows.
fn parse(head: Head, received: Received) -> Result<Option<Request>, Malformed> {
    let op_code = OpCode::from_u8(u8::try_from(head.opcode()).unwrap_or(u8::MAX));
    if matches!(op_code, OpCode::Status | OpCode::Unknown(_)) {
        return Ok(None);
    }
    let [questions, answers, authorities, additionals] = head.counts;
    // IXFR carries a SOA in its authority section, OPT and TSIG are additional
    let plain = answers == 0 && authorities <= 1 && additionals <= 2;
    if questions != 1 || (op_code == OpCode::Query && !plain) {
        return Err(Malformed::Counts);
    }
    wire::question(&received.bytes)?;
    let protocol = match received.transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    };
    Request::from_bytes(received.bytes, received.from, protocol)
        .map(Some)
        .map_err(|_| Malformed::Body)
}

const fn is_answerable(source: IpAddr) -> bool {
    !source.is_unspecified()
        && !source.is_multicast()
        && match source {
            IpAddr::V4(v4) => !v4.is_broadcast(),
            IpAddr::V6(_) => true,
        }
}

/// What fits into one packet on every path: the smallest MTU of IPv6 less 48 octets of headers.
pub const PAYLOAD: u16 = 1232;

/// RFC 1035 §4.2.1.
const SHORTEST_PAYLOAD: usize = 512;

#[cfg(test)]
mod tests;
