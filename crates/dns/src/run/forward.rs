//! Drives one exchange with the resolvers outside.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::PoisonError;

use hickory_proto::op::ResponseCode;
use hickory_server::server::Request;
use net::udp::Socket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Room;
use crate::counters::Counter;
use crate::forward::{Exchange, NotForwarded, Outcome, Transmit};
use crate::server::{self, Reply};
use crate::wire::{self, Head, Transport};

/// Returns what the resolvers say, as it came unless it is too long, or else that we could not.
pub(super) async fn answer(room: &Room, request: &Request) -> Vec<u8> {
    match ask(room, request.as_slice()).await {
        Some(answer) => wire::fit(answer, server::longest_answer(request)),
        None => {
            let reply = Reply::failure(request, &room.counters);
            server::encode(&reply, request, &room.counters)
        }
    }
}

/// Asks the resolvers; `None` if none has an answer.
async fn ask(room: &Room, query: &[u8]) -> Option<Vec<u8>> {
    let counters = &room.counters;
    let resolvers = room.resolvers.borrow().clone();
    let begun = {
        let mut forwarder = room
            .forwarder
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        forwarder.begin(query, &resolvers, room.clock.mono())
    };
    let exchange = match begun {
        Ok(exchange) => exchange,
        Err(error) => {
            counters.count(match error {
                NotForwarded::Busy => Counter::ForwardBusy,
                NotForwarded::Malformed(_) => Counter::ForwardFailed,
                NotForwarded::NoResolver => Counter::ForwardNoResolver,
            });
            return None;
        }
    };
    let mut pending = Pending { room, exchange };
    match drive(room, &mut pending.exchange).await {
        Outcome::Answered(answer) => {
            let code = Head::parse(&answer).map_or(0, Head::rcode);
            let code = ResponseCode::from(0, u8::try_from(code).unwrap_or(0));
            counters.count(Counter::Forwarded);
            counters.count_answer(code);
            Some(answer)
        }
        Outcome::Failed => {
            counters.count(Counter::ForwardFailed);
            None
        }
    }
}

/// Gives the place in the forwarder back, also when the client's connection ends.
struct Pending<'a> {
    room: &'a Room,
    exchange: Exchange,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut forwarder = self
            .room
            .forwarder
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        forwarder.end(&self.exchange);
    }
}

async fn drive(room: &Room, exchange: &mut Exchange) -> Outcome {
    let mut path = Path::None;
    loop {
        if let Some(outcome) = exchange.poll_event() {
            return outcome;
        }
        if let Some(transmit) = exchange.poll_transmit() {
            path = open(transmit).await;
        }
        let deadline = exchange.poll_timeout().map(|(at, _)| at);
        let received = tokio::select! {
            received = path.recv() => Some(received),
            () = room.clock.sleep_until_some(deadline) => None,
        };
        let now = room.clock.mono();
        match received {
            Some(Ok((from, bytes))) => {
                if exchange.handle_response(from, &bytes, now).is_err() {
                    room.counters.count(Counter::ForwardIgnored);
                }
            }
            Some(Err(_)) => {
                path = Path::None;
                if exchange.handle_unreachable(now) {
                    room.counters.count(Counter::ForwardTimeout);
                }
            }
            None => {
                if exchange.handle_timeout(now) {
                    room.counters.count(Counter::ForwardTimeout);
                }
            }
        }
    }
}

/// What a resolver sent, and from where.
type Received = io::Result<(SocketAddr, Vec<u8>)>;

/// The way to one resolver; each attempt has a port of its own.
enum Path {
    Failed(Option<io::Error>),
    None,
    Tcp(Pin<Box<dyn Future<Output = Received> + Send>>),
    Udp(Socket, Vec<u8>),
}

impl Path {
    async fn recv(&mut self) -> Received {
        match self {
            Self::Failed(error) => Err(error.take().unwrap_or_else(broken)),
            Self::None => std::future::pending().await,
            Self::Tcp(answer) => {
                let answer = answer.await;
                // a finished future must not be awaited again
                *self = Self::None;
                answer
            }
            Self::Udp(socket, buf) => {
                let datagram = socket.recv(buf).await?;
                let bytes = buf.get(..datagram.len).unwrap_or_default().to_vec();
                Ok((datagram.source, bytes))
            }
        }
    }
}

async fn open(transmit: Transmit) -> Path {
    let Transmit {
        to,
        transport,
        payload,
    } = transmit;
    if transport == Transport::Tcp {
        return Path::Tcp(Box::pin(over_tcp(to, payload)));
    }
    let socket = match Socket::bind_towards(to) {
        Ok(socket) => socket,
        Err(error) => return Path::Failed(Some(error.source)),
    };
    match socket.send_to(&payload, to, None).await {
        Ok(()) => Path::Udp(socket, vec![0; LONGEST_ANSWER]),
        Err(error) => Path::Failed(Some(error)),
    }
}

/// RFC 1035 §4.2.2: two bytes of length, then the message.
async fn over_tcp(to: SocketAddr, payload: Vec<u8>) -> Received {
    let mut stream = TcpStream::connect(to).await?;
    let length = u16::try_from(payload.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&payload);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok((to, answer))
}

fn broken() -> io::Error {
    io::Error::from(io::ErrorKind::NotConnected)
}

/// The longest datagram.
const LONGEST_ANSWER: usize = 65_535;
