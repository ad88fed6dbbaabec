//! A home's packets as a script: bytes say what comes next, and what leaves is checked after each
//! step. The fuzz target runs it on what the fuzzer invents, a test on the corpus.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a scenario stops at the first surprise"
)]

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::check::{addr4, addr6};
use crate::home::{
    CAMERA, Home, NAS, OTHER, POOL, Packet, REMOTE, Rules, Segment, admits, new_nsp, nsp, remotes,
    seal_ipv4,
};
use mapping::{Instant, Protocol};
use translator::{Frame, Verdict};

/// Runs a script to its end.
pub fn run(script: &[u8]) {
    let mut script = Script(script);
    // to fill a frame with zeros takes longer than most steps
    let mut world = World::new(FRAME.take());
    for _ in 0..STEPS {
        let Some(step) = script.byte() else {
            break;
        };
        match step % 12 {
            0..=2 => world.fresh_packet(&mut script),
            3..=5 => world.answer(&mut script),
            6 => world.error(&mut script),
            7 => world.pieces(&mut script),
            8 => world.noise(&mut script),
            9 => world.time(&mut script),
            10 => world.opening(&mut script),
            _ => world.renumbering(&mut script),
        }
        world.check();
    }
    FRAME.set(Some(world.frame));
}

thread_local! {
    static FRAME: Cell<Option<Frame>> = const { Cell::new(None) };
}

/// What the fuzzer wrote.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn next(&mut self) -> u8 {
        self.byte().unwrap_or_default()
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.next(), self.next()])
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.next()) % choices.len()]
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

struct World {
    home: Home,
    frame: Frame,
    /// The packets that left last.
    left: Vec<Vec<u8>>,
    dropped: u64,
    held: u64,
    /// Nothing spoilt has come yet, so that what leaves must be right to the last bit.
    right: bool,
    /// The last identification of a packet in pieces.
    id: u16,
    rules: Rules,
}

impl World {
    fn new(frame: Option<Frame>) -> Self {
        let mut home = Home::with(|config| config.limits.sessions = 6);
        home.open(NAS, Protocol::Tcp, 443, 443);
        Self {
            home,
            frame: frame.unwrap_or_default(),
            left: Vec::new(),
            dropped: 0,
            held: 0,
            right: true,
            id: 0,
            rules: Rules::from([
                ((CAMERA, Protocol::Tcp, 80), (8080, Vec::new())),
                ((CAMERA, Protocol::Udp, 5000), (5001, Vec::new())),
                ((NAS, Protocol::Tcp, 443), (443, Vec::new())),
            ]),
        }
    }

    /// A packet of either side, perhaps spoilt.
    fn fresh_packet(&mut self, script: &mut Script<'_>) {
        let packet = packet(script);
        self.send_spoilt(packet.bytes(), script);
    }

    /// What left last, sent back with the ends exchanged.
    fn answer(&mut self, script: &mut Script<'_>) {
        let plain = |bytes: &&Vec<u8>| self.right && is_plain(bytes);
        let Some(bytes) = self.left.last().filter(plain) else {
            return;
        };
        let mut packet = Packet::parse(bytes);
        std::mem::swap(&mut packet.src, &mut packet.dst);
        match &mut packet.segment {
            Segment::Echo { request, .. } => *request = !*request,
            Segment::Tcp {
                src,
                dst,
                sequence,
                ack,
                flags,
                ..
            } => {
                std::mem::swap(src, dst);
                std::mem::swap(sequence, ack);
                *ack = ack.wrapping_add(1);
                *flags = script.next();
            }
            Segment::Udp { src, dst } => std::mem::swap(src, dst),
        }
        let packet = packet.with_payload(length(script));
        self.send_spoilt(packet.bytes(), script);
    }

    /// An ICMP error about what left last, from its destination or from a router.
    fn error(&mut self, script: &mut Script<'_>) {
        let Some(about) = self.left.last() else {
            return;
        };
        let embedded = about[..about.len().min(length(script))].to_vec();
        let (kind, code, rest) = (script.next() % 16, script.next() % 20, script.word());
        let from_router = script.next() & 1 == 1;
        let six = about[0] >> 4 == 6;
        if about.len() < if six { 40 } else { 20 } {
            return;
        }
        let mut icmp = vec![kind, code, 0, 0, 0, 0];
        icmp.extend(rest.to_be_bytes());
        icmp[5] = script.next();
        icmp.extend(&embedded);
        let bytes = if six {
            let src = if from_router {
                Ipv6Addr::new(0x2001, 0xdb8, 0xcccc, 0, 0, 0, 0, 3)
            } else {
                addr6(&about[24..40])
            };
            ipv6(src, addr6(&about[8..24]), 58, icmp)
        } else {
            let src = if from_router {
                Ipv4Addr::new(192, 168, 64, 1)
            } else {
                addr4(&about[16..20])
            };
            ipv4(src, addr4(&about[12..16]), 1, icmp)
        };
        self.send_spoilt(bytes, script);
    }

    /// A datagram in pieces, in any order, some lost or doubled.
    fn pieces(&mut self, script: &mut Script<'_>) {
        let whole = packet(script).bytes();
        let size = usize::from(script.next() % 24 + 1) * 64;
        self.id += 1;
        let pieces = cut(&whole, size, self.id);
        for _ in 0..script.next() % 12 {
            let piece = pieces[usize::from(script.next()) % pieces.len()].clone();
            self.send_spoilt(piece, script);
        }
    }

    /// Anything at all, offload header included.
    fn noise(&mut self, script: &mut Script<'_>) {
        let mut offload = [0; 10];
        for byte in &mut offload {
            *byte = script.next();
        }
        self.right = false;
        let bytes = match self.left.last() {
            Some(bytes) if script.next() & 1 == 1 => bytes.clone(),
            _ => {
                let len = usize::from(script.next());
                script.bytes(len).to_vec()
            }
        };
        self.send(&offload, &bytes);
    }

    fn time(&mut self, script: &mut Script<'_>) {
        let seconds = script.of(&[0, 1, 2, 5, 59, 61, 239, 241, 301, 7439, 7441]);
        let end = self.home.now + Duration::from_millis(seconds * 1000 + u64::from(script.next()));
        for _ in 0..10_000 {
            let due = self.home.translator.poll_timeout().map(|(due, _)| due);
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            self.home.now = self.home.now.max(due);
            self.home.translator.handle_timeout(self.home.now);
            self.collect();
        }
        let due = self.home.translator.poll_timeout();
        assert!(
            due.is_none_or(|(due, _)| due > end),
            "a timer that never rests: {due:?}"
        );
        self.home.now = end;
        self.home.translator.handle_timeout(end);
        self.collect();
    }

    fn opening(&mut self, script: &mut Script<'_>) {
        let server = script.of(&[CAMERA, NAS]);
        let protocol = script.of(&[Protocol::Tcp, Protocol::Udp]);
        let external = script.of(&[80, 443, 5000]);
        let how = script.next();
        if how & 1 == 1 {
            self.home.close(server, protocol, external);
            self.rules.remove(&(server, protocol, external));
            return;
        }
        let internal = script.of(&[8080, 443, 5001]);
        // as many filters as the upper bits say, so that most scripts have none
        let filters: Vec<_> = (0..(how >> 4) % 4)
            .map(|_| {
                let prefix = script.of(&PREFIXES);
                remotes(prefix, script.of(&[None, Some(4000)]))
            })
            .collect();
        self.home
            .open_to(server, protocol, external, internal, &filters);
        let rule = (internal, filters);
        self.rules.insert((server, protocol, external), rule);
    }

    fn renumbering(&mut self, script: &mut Script<'_>) {
        let both = [nsp(), new_nsp()];
        let valid = script.of(&[&both[..], &both[..1], &both[1..], &[]]);
        self.home.translator.handle_nsps(valid, self.home.now);
    }

    /// Sends a packet, changed in a few places if the script wants it.
    fn send_spoilt(&mut self, mut bytes: Vec<u8>, script: &mut Script<'_>) {
        let changes = script.next();
        if changes >= 0xf0 {
            self.right = false;
            for _ in 0..changes % 4 {
                let at = usize::from(script.word()) % bytes.len();
                bytes[at] = script.next();
            }
            if changes & 4 != 0 {
                bytes.truncate(usize::from(script.word()) % bytes.len());
            }
            let header = bytes.first().map_or(0, |first| usize::from(first & 15) * 4);
            if changes & 8 != 0 && bytes.len() >= 20 && (20..=bytes.len()).contains(&header) {
                seal_ipv4(&mut bytes);
            }
        }
        self.send(&[0; 10], &bytes);
    }

    fn send(&mut self, offload: &[u8; 10], packet: &[u8]) {
        let space = self.frame.space();
        let len = packet.len().min(space.len() - 10);
        space[..10].copy_from_slice(offload);
        space[10..10 + len].copy_from_slice(&packet[..len]);
        self.frame.filled(10 + len);
        let verdict = self
            .home
            .translator
            .handle_packet(&mut self.frame, self.home.now);
        match verdict {
            Verdict::Drop(_) => self.dropped += 1,
            Verdict::Forward => {
                let bytes = self.frame.bytes().to_vec();
                self.leaves(&bytes);
            }
            Verdict::Hold => self.held += 1,
        }
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(bytes) = self.home.translator.poll_transmit().map(<[u8]>::to_vec) {
            self.leaves(&bytes);
        }
        self.home.events();
    }

    /// Checks a packet that leaves: whole, and with translated addresses on both ends.
    fn leaves(&mut self, bytes: &[u8]) {
        let (offload, packet) = bytes.split_at(10);
        crate::check::leaves_whole(packet);
        if self.right && offload.iter().all(|byte| *byte == 0) && is_plain(packet) {
            // panics where a length or a checksum is wrong
            Packet::parse(packet);
        }
        self.left.push(packet.to_vec());
        if self.left.len() > 8 {
            self.left.remove(0);
        }
    }

    fn check(&self) {
        let counters = self.home.translator.counters();
        // what waited may be lost later
        let drops = counters.drops.total();
        assert!((self.dropped..=self.dropped + self.held).contains(&drops));
        let sessions = counters.sessions;
        assert!(sessions.icmp + sessions.tcp + sessions.udp <= 6);
        let due = self.home.translator.poll_timeout();
        assert!(due.is_none_or(|(due, _)| due >= Instant::from_nanos(0)));
        let live = self.home.translator.sessions(0..u32::MAX, self.home.now);
        for (_, session) in live {
            assert!(admits(&self.rules, &session), "{session:?}");
        }
    }
}

/// A packet between somebody and somebody.
fn packet(script: &mut Script<'_>) -> Packet {
    let ports = [80, 443, 4000, 4001, 5000, 5001, 8080, 53, 65_535];
    let (src, dst) = (script.of(&ports), script.of(&ports));
    let segment = match script.next() % 8 {
        0..=3 => Segment::tcp(src, dst, script.of(&[2, 16, 18, 17, 4, 20, 3])),
        4..=5 => Segment::udp(src, dst),
        6 => Segment::ping(src),
        _ => Segment::pong(dst),
    };
    let (src, dst): (IpAddr, IpAddr) = if script.next() & 1 == 0 {
        let remote = script.of(&[
            REMOTE,
            OTHER,
            REMOTE,
            OTHER,
            Ipv6Addr::LOCALHOST,
            nsp().embed(NAS),
        ]);
        let server = script.of(&[CAMERA, NAS, CAMERA, POOL, Ipv4Addr::BROADCAST]);
        let nsp = script.of(&[nsp(), nsp(), new_nsp()]);
        (remote.into(), nsp.embed(server).into())
    } else {
        let server = script.of(&[CAMERA, NAS, Ipv4Addr::LOCALHOST, POOL]);
        (server.into(), script.of(&[POOL, POOL, NAS]).into())
    };
    let mut packet = Packet::new(src, dst, segment).with_payload(length(script));
    packet.tos = script.next();
    packet.ttl = script.next().max(1);
    packet.dont_fragment = script.next() & 1 == 1;
    packet
}

fn length(script: &mut Script<'_>) -> usize {
    script.of(&[
        0, 1, 8, 20, 40, 48, 68, 1180, 1240, 1252, 1400, 1452, 3000, 9000,
    ])
}

/// Cuts a packet into fragments with `size` bytes of payload.
fn cut(whole: &[u8], size: usize, id: u16) -> Vec<Vec<u8>> {
    let six = whole[0] >> 4 == 6;
    let (header, payload) = whole.split_at(if six { 40 } else { 20 });
    let mut pieces = Vec::new();
    let mut offset = 0;
    for part in payload.chunks(size) {
        let more = offset + part.len() < payload.len();
        let mut piece = header.to_vec();
        if six {
            let field = (offset / 8 * 8) as u16 | u16::from(more);
            piece[4..6].copy_from_slice(&(part.len() as u16 + 8).to_be_bytes());
            piece[6] = 44;
            piece.extend([header[6], 0]);
            piece.extend(field.to_be_bytes());
            piece.extend([0, 0]);
            piece.extend(id.to_be_bytes());
            piece.extend(part);
        } else {
            let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
            piece[2..4].copy_from_slice(&(part.len() as u16 + 20).to_be_bytes());
            piece[4..6].copy_from_slice(&id.to_be_bytes());
            piece[6..8].copy_from_slice(&field.to_be_bytes());
            seal_ipv4(&mut piece);
            piece.extend(part);
        }
        pieces.push(piece);
        offset += part.len();
    }
    pieces
}

/// Tells whether `Packet::parse` knows what this is: a whole packet of TCP, UDP or echo.
fn is_plain(packet: &[u8]) -> bool {
    match packet[0] >> 4 {
        4 => {
            packet[6] & 0x3f == 0
                && packet[7] == 0
                && match packet[9] {
                    1 => packet.len() >= 28 && [0, 8].contains(&packet[20]) && packet[21] == 0,
                    6 => packet.len() >= 40,
                    17 => packet.len() >= 28,
                    _ => false,
                }
        }
        _ => match packet[6] {
            58 => packet.len() >= 48 && [128, 129].contains(&packet[40]) && packet[41] == 0,
            6 => packet.len() >= 60,
            17 => packet.len() >= 48,
            _ => false,
        },
    }
}

fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, mut payload: Vec<u8>) -> Vec<u8> {
    let sum = !crate::home::sum16(&payload);
    payload[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = vec![0x45, 0];
    bytes.extend((payload.len() as u16 + 20).to_be_bytes());
    bytes.extend([0, 0, 0, 0, 60, protocol, 0, 0]);
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    seal_ipv4(&mut bytes);
    bytes.extend(payload);
    bytes
}

fn ipv6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, mut payload: Vec<u8>) -> Vec<u8> {
    let len = payload.len() as u16;
    let mut pseudo = [src.octets(), dst.octets()].concat();
    pseudo.extend([0, 0]);
    pseudo.extend(len.to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    pseudo.extend(&payload);
    let sum = !crate::home::sum16(&pseudo);
    payload[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(len.to_be_bytes());
    bytes.extend([protocol, 60]);
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    bytes.extend(payload);
    bytes
}

/// Enough for a history, few enough for speed.
const STEPS: usize = 48;

/// Those of both remotes, of one, and of nobody.
const PREFIXES: [&str; 4] = [
    "2001:db8::/32",
    "2001:db8:aaaa::/64",
    "2001:db8:bbbb::2/128",
    "::ffff:192.0.2.0/120",
];
