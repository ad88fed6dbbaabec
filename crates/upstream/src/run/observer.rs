//! Questions of people, answered by the room's own task.

use std::net::Ipv4Addr;

use gateway::{
    Busy, Count, Observe, ObserveFuture, UpstreamCursor, UpstreamGateway, UpstreamPage,
    UpstreamPort,
};
use mapping::Instant;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot, watch};

use crate::counters::Counters;
use crate::port::{PortKey, PortState};
use crate::upstreams::{Chain, Upstreams};

/// Reads the counters and asks for the chain.
#[derive(Debug, Clone)]
pub struct Observer {
    asks: mpsc::Sender<Ask>,
    tally: watch::Receiver<Tally>,
}

/// A question and where its answer goes.
#[derive(Debug)]
pub(super) struct Ask {
    cursor: UpstreamCursor,
    limit: usize,
    answer: oneshot::Sender<UpstreamPage>,
}

/// The counters at the end of a wake-up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    pub(super) machine: Counters,
    pub(super) send_errors: u64,
}

impl Observer {
    pub(super) fn new() -> (Self, mpsc::Receiver<Ask>, watch::Sender<Tally>) {
        let (asks, inbox) = mpsc::channel(QUEUE);
        let (sender, tally) = watch::channel(Tally {
            machine: Counters::ZERO,
            send_errors: 0,
        });
        (Self { asks, tally }, inbox, sender)
    }
}

impl Observe for Observer {
    fn room(&self) -> &'static str {
        "upstream"
    }

    fn counters(&self) -> ObserveFuture<'_, Vec<Count>> {
        let tally = *self.tally.borrow();
        let own = [("send_errors_total", "", tally.send_errors)];
        let count = |(name, reason, value)| Count::new(name, reason, value);
        let counts = tally.machine.iter().chain(own).map(count).collect();
        Box::pin(std::future::ready(counts))
    }

    fn upstream(
        &self,
        cursor: UpstreamCursor,
        limit: usize,
    ) -> ObserveFuture<'_, Result<Option<UpstreamPage>, Busy>> {
        Box::pin(async move {
            let (answer, page) = oneshot::channel();
            let ask = Ask {
                cursor,
                limit,
                answer,
            };
            self.asks.try_send(ask).map_err(|_| Busy)?;
            page.await.map(Some).map_err(|_| Busy)
        })
    }
}

pub(super) fn answer(machine: &Upstreams<StdRng>, ask: Ask, now: Instant) {
    // who has gone away is not waited for
    drop(ask.answer.send(page(machine, ask.cursor, ask.limit, now)));
}

fn page(
    machine: &Upstreams<StdRng>,
    cursor: UpstreamCursor,
    limit: usize,
    now: Instant,
) -> UpstreamPage {
    let mut gateways: Vec<_> = machine.chain().iter().map(gateway).collect();
    for (key, _, state) in machine.ports() {
        let own = gateways
            .iter_mut()
            .find(|it| it.address.is_ipv4() == key.addr.is_ipv4());
        let Some(own) = own else {
            continue;
        };
        let count = match state {
            PortState::Open(_) => &mut own.open,
            PortState::Refused { .. } => &mut own.refused,
            PortState::Asking | PortState::Waiting => &mut own.waiting,
            PortState::Closing => continue,
        };
        *count = count.saturating_add(1);
    }
    let skip = usize::try_from(cursor.0).unwrap_or(usize::MAX);
    let mut rest = machine.ports().skip(skip);
    let ports: Vec<_> = rest
        .by_ref()
        .take(limit)
        .map(|(key, server, state)| port(key, server, state, now))
        .collect();
    let shown = u64::try_from(ports.len()).unwrap_or(u64::MAX);
    let next = rest
        .next()
        .map(|_| UpstreamCursor(cursor.0.saturating_add(shown)));
    UpstreamPage {
        mode: machine.mode().as_str(),
        gateways,
        ports,
        next,
    }
}

fn gateway(chain: &Chain) -> UpstreamGateway {
    UpstreamGateway {
        kind: chain.kind,
        address: chain.link.server,
        own: chain.link.local,
        external: chain.external,
        reach: chain.reach().as_str(),
        carrier_nat: chain.is_carrier_nat(),
        open: 0,
        refused: 0,
        waiting: 0,
    }
}

fn port(key: PortKey, server: Ipv4Addr, state: PortState, now: Instant) -> UpstreamPort {
    let (granted, why, end) = match state {
        PortState::Open(granted) => (Some(granted), None, Some(granted.expires())),
        PortState::Refused { why, until } => (None, Some(why.as_str()), Some(until)),
        PortState::Asking | PortState::Closing | PortState::Waiting => (None, None, None),
    };
    UpstreamPort {
        server,
        address: key.addr,
        protocol: key.protocol,
        port: key.port.get(),
        state: state.as_str(),
        why,
        external_address: granted.and_then(|granted| granted.addr),
        external_port: granted.map(|granted| granted.port),
        ends_in: end.map(|end| end.since(now)),
    }
}

/// More people at once are told to ask again.
const QUEUE: usize = 16;
