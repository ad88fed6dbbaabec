//! TCP: one loop per listener, and one task per connection (RFC 7766).

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mapping::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tracing::debug;

use super::{Room, ServeError, forward};
use crate::admission::{Admission, Place};
use crate::connection::{Closed, Connection};
use crate::counters::Counter;
use crate::server::{Received, Verdict};
use crate::wire::Transport;
use crate::zone::View;

/// Every listener has places of its own, so that strangers cannot take those of the LAN.
pub(super) async fn serve(
    room: Arc<Room>,
    listener: TcpListener,
    view: View,
) -> Result<(), ServeError> {
    let mut acceptor = Acceptor {
        room,
        view,
        admission: Arc::default(),
        tasks: JoinSet::new(),
        handles: BTreeMap::new(),
    };
    loop {
        match listener.accept().await {
            Ok((stream, from)) => acceptor.admit_stream(stream, from),
            Err(error) => {
                acceptor.room.counters.count(Counter::TcpAcceptFailed);
                debug!(%error, "a DNS connection could not be accepted");
                if !is_of_one_connection(&error) {
                    let clock = acceptor.room.clock;
                    clock.sleep_until(clock.mono() + ACCEPT_PAUSE).await;
                }
            }
        }
        while let Some(ended) = acceptor.tasks.try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                return Err(ServeError::Task);
            }
        }
    }
}

/// Any other error, like too many open files, is there again at the next attempt.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

struct Acceptor {
    room: Arc<Room>,
    view: View,
    admission: Arc<Mutex<Admission>>,
    tasks: JoinSet<()>,
    handles: BTreeMap<Place, AbortHandle>,
}

impl Acceptor {
    fn admit_stream(&mut self, stream: TcpStream, from: SocketAddr) {
        let counters = &self.room.counters;
        let now = self.room.clock.mono();
        let admitted = match lock(&self.admission).admit(from.ip(), now) {
            Ok(admitted) => admitted,
            // dropping the stream closes it
            Err(error) => return counters.count_not_admitted(error),
        };
        self.handles.retain(|_, handle| !handle.is_finished());
        if let Some(evicted) = admitted.evicted {
            counters.count(Counter::TcpEvicted);
            if let Some(handle) = self.handles.remove(&evicted) {
                handle.abort();
            }
        }
        counters.count(Counter::TcpAdmitted);
        let client = Client {
            room: Arc::clone(&self.room),
            listener: self.view,
            from,
            place: HeldPlace {
                admission: Arc::clone(&self.admission),
                place: admitted.place,
            },
            connection: Connection::new(now),
            asked: JoinSet::new(),
        };
        let handle = self.tasks.spawn(client.serve(stream));
        self.handles.insert(admitted.place, handle);
    }
}

/// Gives the place back however the connection ends.
struct HeldPlace {
    admission: Arc<Mutex<Admission>>,
    place: Place,
}

impl HeldPlace {
    fn update(&self, idle_since: Option<Instant>) {
        lock(&self.admission).update(self.place, idle_since);
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        lock(&self.admission).release(self.place);
    }
}

/// One connection. The exchanges with resolvers end with it.
struct Client {
    room: Arc<Room>,
    listener: View,
    from: SocketAddr,
    place: HeldPlace,
    connection: Connection,
    asked: JoinSet<Vec<u8>>,
}

impl Client {
    async fn serve(mut self, stream: TcpStream) {
        let closed = self.talk(stream).await;
        let counters = &self.room.counters;
        counters.count_closed(closed);
        for _ in 0..self.connection.pending() {
            counters.count(Counter::DroppedUnsent);
        }
    }

    async fn talk(&mut self, mut stream: TcpStream) -> Closed {
        // an answer must not wait for the acknowledgement of the one before it; without the
        // option it only comes later
        drop(stream.set_nodelay(true));
        let clock = self.room.clock;
        let (mut reader, mut writer) = stream.split();
        let mut buf = vec![0; READ_AT_ONCE];
        loop {
            self.take_queries();
            if let Some(closed) = self.connection.poll_event() {
                return closed;
            }
            self.place.update(self.connection.idle_since());
            let deadline = self.connection.poll_timeout().map(|(at, _)| at);
            let output = self.connection.poll_transmit();
            // a read, a write and a join that are cancelled have done nothing
            tokio::select! {
                read = reader.read(&mut buf), if self.connection.wants_bytes() => match read {
                    Ok(0) => self.end(),
                    Ok(len) => self.connection.handle_bytes(buf.get(..len).unwrap_or_default()),
                    Err(_) => self.connection.handle_broken(),
                },
                sent = writer.write(output.unwrap_or_default()), if output.is_some() => match sent {
                    Ok(0) | Err(_) => self.connection.handle_broken(),
                    Ok(len) => self.connection.handle_sent(len, clock.mono()),
                },
                Some(answer) = self.asked.join_next() => match answer {
                    Ok(answer) => self.connection.handle_answer(&answer, clock.mono()),
                    Err(_) => self.connection.handle_broken(),
                },
                () = clock.sleep_until_some(deadline) => {
                    self.connection.handle_timeout(clock.mono());
                }
            }
        }
    }

    fn end(&mut self) {
        if let Err(malformed) = self.connection.handle_end() {
            self.room.counters.count_malformed(malformed);
        }
    }

    fn take_queries(&mut self) {
        let Some(snapshot) = self.room.snapshot() else {
            return self.connection.handle_broken();
        };
        let (server, counters) = (&self.room.server, &self.room.counters);
        let view = self.listener.of(self.from.ip(), snapshot.site());
        let now = self.room.clock.now();
        while let Some(bytes) = self.connection.poll_query() {
            let received = Received {
                bytes,
                from: self.from,
                transport: Transport::Tcp,
                view,
            };
            match server.handle_message(received, &snapshot, now, counters) {
                Verdict::Answer(answer) => self.connection.handle_answer(&answer, now.mono),
                Verdict::Drop(reason) => self.connection.handle_drop(reason),
                Verdict::Forward(request) => {
                    let room = Arc::clone(&self.room);
                    self.asked
                        .spawn(async move { forward::answer(&room, &request).await });
                }
            }
        }
    }
}

fn lock(admission: &Mutex<Admission>) -> MutexGuard<'_, Admission> {
    admission.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Some queries; a long one comes in parts.
const READ_AT_ONCE: usize = 4096;

/// How long accepting rests after an error that does not go away by itself.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
