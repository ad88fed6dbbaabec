//! Drives the updates of the zone above.

use std::net::SocketAddr;
use std::sync::Arc;

use mapping::Snapshot;
use net::udp::{Datagram, Socket};
use rand::rngs::StdRng;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{Room, ServeError};
use crate::counters::Counter;
use crate::parent::{Event, Updater};

pub(super) async fn serve(
    room: Arc<Room>,
    mut updater: Updater<StdRng>,
    server: SocketAddr,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
) -> Result<(), ServeError> {
    let mut buf = vec![0; LONGEST_ANSWER];
    let mut socket = None;
    let learn = |updater: &mut Updater<StdRng>, snapshot: &Snapshot| {
        updater.handle_addresses(snapshot.wan_addresses(), room.clock.now());
    };
    learn(&mut updater, &snapshots.borrow_and_update().clone());
    loop {
        while let Some(event) = updater.poll_event() {
            report(&room, event);
        }
        if let Some(message) = updater.poll_transmit() {
            socket = send(server, &message).await;
        }
        let deadline = updater.poll_timeout().map(|(at, _)| at);
        tokio::select! {
            () = newer(&mut snapshots) => {
                let snapshot = Arc::clone(&snapshots.borrow_and_update());
                learn(&mut updater, &snapshot);
            }
            received = recv(socket.as_ref(), &mut buf) => match received {
                Some(datagram) if datagram.source == server => {
                    let bytes = buf.get(..datagram.len).unwrap_or_default();
                    updater.handle_response(bytes, room.clock.now());
                }
                Some(_) => room.counters.count(Counter::ParentUnverified),
                None => socket = None,
            },
            () = room.clock.sleep_until_some(deadline) => {
                updater.handle_timeout(room.clock.now());
            }
        }
    }
}

fn report(room: &Room, event: Event) {
    match event {
        Event::Refused(code) => {
            room.counters.count(Counter::ParentRefused);
            warn!(%code, "the parent zone's server refused to update our delegation");
        }
        Event::TimedOut => {
            room.counters.count(Counter::ParentTimeout);
            warn!("the parent zone's server does not answer");
        }
        Event::Unverified(error) => {
            room.counters.count(Counter::ParentUnverified);
            warn!(%error, "an answer of the parent zone's server is not authentic");
        }
        Event::Updated => {
            room.counters.count(Counter::ParentUpdated);
            info!("the parent zone delegates to our address");
        }
    }
}

/// Sends from a port of its own; what is not sent is repeated by the machine.
async fn send(server: SocketAddr, message: &[u8]) -> Option<Socket> {
    let socket = match Socket::bind_towards(server) {
        Ok(socket) => socket,
        Err(error) => {
            debug!(%error, "no socket for an update of the parent zone");
            return None;
        }
    };
    if let Err(error) = socket.send_to(message, server, None).await {
        debug!(%error, "an update of the parent zone could not be sent");
    }
    Some(socket)
}

/// Waits for a newer snapshot; after the writer's end there is none.
async fn newer(snapshots: &mut watch::Receiver<Arc<Snapshot>>) {
    if snapshots.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn recv(socket: Option<&Socket>, buf: &mut [u8]) -> Option<Datagram> {
    match socket {
        Some(socket) => socket.recv(buf).await.ok(),
        None => std::future::pending().await,
    }
}

/// More than any server answers to an update.
const LONGEST_ANSWER: usize = 4096;
