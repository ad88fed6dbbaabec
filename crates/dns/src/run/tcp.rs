//! TCP: hickory's server, with our handler behind it (RFC 7766).

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Header, HeaderCounts, Message, Metadata};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::TcpListener;
use tracing::debug;

use super::{Room, ServeError, forward};
use crate::server::{Decision, Reply};
use crate::zone::View;

pub(super) async fn serve(
    room: Arc<Room>,
    listener: TcpListener,
    view: View,
) -> Result<(), ServeError> {
    let mut server = hickory_server::Server::new(Handler { room, view });
    server.register_listener(listener, IDLE, QUEUED_ANSWERS);
    server
        .block_until_done()
        .await
        .map_err(|error| ServeError::Tcp(error.to_string()))
}

struct Handler {
    room: Arc<Room>,
    view: View,
}

impl Handler {
    async fn answer(&self, request: &Request) -> Option<Reply> {
        let room = &self.room;
        let snapshot = room.snapshot()?;
        let view = self.view.of(request.src().ip(), snapshot.site());
        let now = room.clock.now();
        match room
            .server
            .decide(request, view, &snapshot, now, &room.counters)
        {
            Decision::Answer(reply) => Some(reply),
            Decision::Drop(_) => None,
            Decision::Forward => {
                let answer = forward::ask(room, request.as_slice()).await;
                let message = answer.and_then(|bytes| Message::from_vec(&bytes).ok());
                Some(match message {
                    Some(message) => Reply::relay(message),
                    None => Reply::failure(request, &room.counters),
                })
            }
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let metadata = Metadata::response_from_request(&request.metadata);
        let unsent = Header {
            metadata,
            counts: HeaderCounts::default(),
        };
        let Some(reply) = self.answer(request).await else {
            return unsent.into();
        };
        let builder = MessageResponseBuilder::new(&request.queries, reply.edns.as_ref());
        let message = builder.build(
            reply.metadata,
            &reply.answers,
            &reply.authorities,
            [],
            &reply.additionals,
        );
        match response_handle.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                debug!(%error, "a DNS answer could not be sent");
                unsent.into()
            }
        }
    }
}

/// RFC 7766 §6.2.3: in the order of a few seconds.
const IDLE: Duration = Duration::from_secs(5);

/// hickory answers the requests of a connection one after the other.
const QUEUED_ANSWERS: usize = 16;
