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

use crate::home::{ACK, Home, Packet, SYN, Segment, from_camera, seal_ipv4, to_camera};
use translator::{Config, Frame, Verdict};

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

/// A home that serves again as long as its three sessions are all that there is, since to make
/// one takes longer than a packet. Whatever else an input leaves is taken away before the next
/// one, so that an input which fails does so by itself.
struct Table {
    home: Home,
    /// The numbers of the sessions that are live before an input.
    own: Vec<u32>,
    frame: Frame,
    openers: [Vec<u8>; 4],
    served: u32,
}

impl Table {
    fn new() -> Self {
        let openers = [
            Segment::tcp(4000, 80, SYN),
            Segment::tcp(4000, 80, ACK),
            Segment::udp(4000, 5000),
            Segment::ping(4000),
        ];
        let mut table = Self {
            home: Home::with(configure),
            own: Vec::new(),
            frame: Frame::new(),
            openers: openers.map(|segment| to_camera(segment).bytes()),
            served: 0,
        };
        table.open();
        table
    }

    /// Makes the home anew; the frame stays, because to fill it with zeros takes longer than all
    /// the rest.
    fn renew(&mut self) {
        self.home = Home::with(configure);
        self.open();
        self.served = 0;
    }

    fn open(&mut self) {
        for at in 0..self.openers.len() {
            let packet = std::mem::take(&mut self.openers[at]);
            assert_eq!(self.send(&[0; 10], &packet), Verdict::Forward);
            self.openers[at] = packet;
            if at == 0 {
                let t = Packet::parse(self.frame.packet()).segment.ports().0;
                let answer = from_camera(Segment::tcp(8080, t, SYN | ACK)).bytes();
                assert_eq!(self.send(&[0; 10], &answer), Verdict::Forward);
            }
        }
        let live = self.home.translator.sessions(0..u32::MAX, self.home.now);
        self.own = live.map(|(number, _)| number).collect();
        assert_eq!(self.own.len(), 3);
    }

    fn run(&mut self, offload: &[u8; 10], packet: &[u8], options: u8) {
        let opened = self.home.translator.counters().sessions_opened;
        let mut held = self.send(offload, packet) == Verdict::Hold;
        if options & 4 != 0 {
            held |= self.send(offload, packet) == Verdict::Hold;
        }
        let time_passes = options & 0x78 == 0x08;
        if held || time_passes {
            self.home.now += Duration::from_secs(61);
            self.home.translator.handle_timeout(self.home.now);
            self.collect();
            return self.renew();
        }
        if self.home.translator.counters().sessions_opened != opened {
            self.end_others();
        }
        self.served += 1;
        if self.served > SERVES {
            self.renew();
        }
    }

    fn end_others(&mut self) {
        let (translator, now) = (&mut self.home.translator, self.home.now);
        let live = translator.sessions(0..u32::MAX, now);
        let live: Vec<_> = live.map(|(number, _)| number).collect();
        for number in live.iter().filter(|number| !self.own.contains(number)) {
            assert!(translator.end_session(*number, now));
        }
        if !self.own.iter().all(|number| live.contains(number)) {
            return self.renew();
        }
        self.collect();
    }

    fn send(&mut self, offload: &[u8; 10], packet: &[u8]) -> Verdict {
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
        verdict
    }

    fn collect(&mut self) {
        while let Some(left) = self.home.translator.poll_transmit() {
            crate::check::leaves_whole(&left[10..]);
        }
        while self.home.translator.poll_event().is_some() {}
    }
}

const fn configure(config: &mut Config) {
    config.limits.sessions = 6;
}

/// Inputs before a home is made anew: they may change how far its sessions are.
const SERVES: u32 = 1000;
