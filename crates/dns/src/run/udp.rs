//! UDP: one loop per socket. hickory's own loop cannot answer from the address that was asked,
//! counts nothing and starts a task for every datagram.

use std::net::SocketAddr;
use std::sync::Arc;

use net::udp::{Socket, Source};
use tokio::task::JoinSet;

use super::{Room, ServeError, forward};
use crate::counters::Counter;
use crate::server::{Received, Verdict};
use crate::wire::Transport;
use crate::zone::View;

pub(super) async fn serve(
    room: Arc<Room>,
    socket: Socket,
    listener: View,
) -> Result<(), ServeError> {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let mut buf = vec![0; LONGEST_QUERY];
    loop {
        let datagram = socket
            .recv(&mut buf)
            .await
            .map_err(|source| ServeError::Udp {
                local: socket.local_addr(),
                source,
            })?;
        while waiting.try_join_next().is_some() {}
        let Some(snapshot) = room.snapshot() else {
            continue;
        };
        if datagram.truncated {
            room.counters.count(Counter::DroppedOversized);
            continue;
        }
        let bytes = buf.get(..datagram.len).unwrap_or_default().to_vec();
        let (to, from) = (datagram.source, datagram.reply_from());
        let received = Received {
            bytes,
            from: to,
            transport: Transport::Udp,
            view: listener.of(to.ip(), snapshot.site()),
        };
        let now = room.clock.now();
        match room
            .server
            .handle_message(received, &snapshot, now, &room.counters)
        {
            Verdict::Answer(answer) => send(&room, &socket, &answer, to, from),
            Verdict::Drop(_) => {}
            Verdict::Forward(request) => {
                let room = Arc::clone(&room);
                let socket = Arc::clone(&socket);
                // bounded by the forwarder, which answers at once when it is busy
                waiting.spawn(async move {
                    let answer = forward::answer(&room, &request).await;
                    send(&room, &socket, &answer, to, from);
                });
            }
        }
    }
}

fn send(room: &Room, socket: &Socket, answer: &[u8], to: SocketAddr, from: Source) {
    if socket.try_send_to(answer, to, Some(from)).is_err() {
        room.counters.count(Counter::DroppedUnsent);
    }
}

/// A query with every EDNS option in use is far shorter.
const LONGEST_QUERY: usize = 4096;
