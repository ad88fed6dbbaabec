//! One packet, of any bytes, to a home whose sessions are live.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a scenario stops at the first surprise"
)]

use std::cell::RefCell;
use std::time::Duration;

use crate::home::{Home, Segment, seal_ipv4, to_camera};
use translator::{Frame, Verdict};

/// Sends the packet behind a byte that says what else is to happen.
pub fn run(input: &[u8]) {
    let Some((options, mut packet)) = input.split_first() else {
        return;
    };
    let mut offload = [0; 10];
    if options & 1 != 0
        && let Some((header, rest)) = packet.split_first_chunk::<10>()
    {
        offload = *header;
        packet = rest;
    }
    let mut packet = packet.to_vec();
    let header = packet
        .first()
        .map_or(0, |first| usize::from(first & 15) * 4);
    if options & 2 == 0 && header >= 20 && header <= packet.len() {
        seal_ipv4(&mut packet);
    }

    TABLE.with_borrow_mut(|table| table.run(&offload, &packet, *options));
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::new(Table::new());
}

/// A home that serves again while nothing but its counters has changed, since to make one takes
/// longer than a packet.
struct Table {
    home: Home,
    frame: Frame,
    served: u32,
}

impl Table {
    fn new() -> Self {
        let mut home = Home::with(|config| config.limits.sessions = 6);
        home.connect(4000);
        for segment in [Segment::udp(4000, 5000), Segment::ping(4000)] {
            home.send(&to_camera(segment)).unwrap();
        }
        home.events();
        Self {
            home,
            frame: Frame::new(),
            served: 0,
        }
    }

    fn run(&mut self, offload: &[u8; 10], packet: &[u8], options: u8) {
        let opened = self.home.translator.counters().sessions_opened;
        let mut held = self.send(offload, packet);
        if options & 4 != 0 {
            held |= self.send(offload, packet);
        }
        let changed = self.home.translator.counters().sessions_opened != opened;
        if held || changed || options & 0x78 == 0x08 {
            self.home.now += Duration::from_secs(61);
            self.home.translator.handle_timeout(self.home.now);
            self.collect();
            self.served = SERVES;
        }
        self.served += 1;
        if self.served > SERVES {
            *self = Self::new();
        }
    }

    fn send(&mut self, offload: &[u8; 10], packet: &[u8]) -> bool {
        let space = self.frame.space();
        let len = packet.len().min(space.len() - 10);
        space[..10].copy_from_slice(offload);
        space[10..10 + len].copy_from_slice(&packet[..len]);
        self.frame.filled(10 + len);
        let translator = &mut self.home.translator;
        let verdict = translator.handle_packet(&mut self.frame, self.home.now);
        if verdict == Verdict::Forward {
            crate::check::leaves_whole(self.frame.packet());
        }
        self.collect();
        verdict == Verdict::Hold
    }

    fn collect(&mut self) {
        while let Some(left) = self.home.translator.poll_transmit() {
            crate::check::leaves_whole(&left[10..]);
        }
        while self.home.translator.poll_event().is_some() {}
    }
}

/// Packets before a home is made anew.
const SERVES: u32 = 1000;
