//! Random histories, judged by a model of RFC 6146 §3.5 that is as plain as the text: one session
//! per 5-tuple in a map, states as the text names them, one deadline.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "support/home.rs"]
mod home;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use home::{ACK, CAMERA, FIN, Home, Packet, RST, SYN, Segment, nsp};
use proptest::prelude::*;
use translator::{TcpState, Transport};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_history_tells_the_machine_from_the_rfc(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut home = Home::new();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Pass(seconds) => {
                    home.pass(Duration::from_secs(seconds.into()));
                    home.translator.handle_timeout(home.now);
                    model.pass(seconds.into());
                }
                Step::Packet { flow, from_remote, what } => {
                    if !from_remote && model.has_passed_on(flow) {
                        continue;
                    }
                    let expected = model.packet(flow, from_remote, what);
                    let passed = if from_remote {
                        home.send(&flow.there(what)).map(|packet| {
                            let (IpAddr::V4(pool), port) = (packet.src, packet.segment.ports().0)
                            else {
                                panic!("not IPv4: {packet:?}")
                            };
                            model.pool.insert(flow, (pool, port));
                        })
                    } else {
                        let Some(pool) = model.pool.get(&flow).copied() else {
                            continue;
                        };
                        home.send(&flow.back(what, pool)).map(drop)
                    };
                    prop_assert_eq!(passed.is_ok(), expected, "{:?} {:?}", flow, passed);
                }
            }
            home.transmitted();
            home.events();
            prop_assert_eq!(seen(&home), model.seen());
        }
    }
}

/// The live sessions, each with its state and the seconds it has left.
type Seen = BTreeMap<Flow, (Option<TcpState>, u64)>;

fn seen(home: &Home) -> Seen {
    let sessions = home.translator.sessions(0..u32::MAX, home.now);
    sessions
        .map(|(_, session)| {
            let [.., host] = session.remote.0.segments();
            let flow = Flow {
                kind: session.transport,
                host,
                port: session.remote.1,
            };
            (flow, (session.tcp, session.expires_in.as_secs()))
        })
        .collect()
}

/// Between one socket of a remote and the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    kind: Transport,
    host: u16,
    port: u16,
}

impl Flow {
    fn there(self, what: What) -> Packet {
        let segment = match self.kind {
            Transport::IcmpQuery => Segment::ping(self.port),
            Transport::Tcp => Segment::tcp(self.port, 80, what.flags()),
            Transport::Udp => Segment::udp(self.port, 5000),
        };
        let src = Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, self.host);
        Packet::new(src.into(), nsp().embed(CAMERA).into(), segment)
    }

    fn back(self, what: What, (pool, port): (Ipv4Addr, u16)) -> Packet {
        let segment = match self.kind {
            Transport::IcmpQuery => Segment::pong(port),
            Transport::Tcp => Segment::tcp(8080, port, what.flags()),
            Transport::Udp => Segment::udp(5001, port),
        };
        Packet::new(CAMERA.into(), pool.into(), segment)
    }
}

/// What a TCP segment is; of other packets there is one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Data,
    Fin,
    Rst,
    Syn,
    SynAck,
}

impl What {
    const fn flags(self) -> u8 {
        match self {
            Self::Data => ACK,
            Self::Fin => FIN | ACK,
            Self::Rst => RST,
            Self::Syn => SYN,
            Self::SynAck => SYN | ACK,
        }
    }
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    sessions: BTreeMap<Flow, State>,
    pool: BTreeMap<Flow, (Ipv4Addr, u16)>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    tcp: Option<TcpState>,
    /// Whether the server has spoken, and whether the remote has answered to that.
    spoken: bool,
    proven: bool,
    /// Both ends have finished, or the server has reset: a SYN opens another connection.
    over: bool,
    deadline: u64,
    /// What happens at the deadline, if not the end.
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    End,
    /// `TCP_TRANS` in the state TRANS.
    Trans,
    /// `TCP_TRANS` in the same state.
    Wait,
}

impl Model {
    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        let now = self.now;
        self.sessions.retain(|_, session| {
            while session.deadline <= now {
                match session.then {
                    Then::End => return false,
                    Then::Trans => session.tcp = Some(TcpState::Trans),
                    Then::Wait => {}
                }
                session.then = Then::End;
                session.deadline += TCP_TRANS + 1;
            }
            true
        });
    }

    /// Tells whether the packet passes.
    fn packet(&mut self, flow: Flow, from_remote: bool, what: What) -> bool {
        let now = self.now;
        let is_over = |session: &State| session.over;
        if from_remote && what == What::Syn && self.sessions.get(&flow).is_some_and(is_over) {
            // a deviation: a new connection is a new session
            self.sessions.remove(&flow);
        }
        match self.sessions.get_mut(&flow) {
            Some(session) if flow.kind == Transport::Tcp => session.segment(from_remote, what, now),
            Some(session) => {
                session.proven |= session.spoken && from_remote;
                session.spoken |= !from_remote;
                session.deadline = now + lifetime(flow.kind) + 1;
            }
            None if !from_remote || (flow.kind == Transport::Tcp && what != What::Syn) => {
                return false;
            }
            None => {
                let session = State {
                    tcp: (flow.kind == Transport::Tcp).then_some(TcpState::V6Init),
                    spoken: false,
                    proven: false,
                    over: false,
                    deadline: now + lifetime(flow.kind) + 1,
                    then: Then::End,
                };
                self.sessions.insert(flow, session);
            }
        }
        true
    }

    /// Tells whether what stood for a socket stands for another one now.
    fn has_passed_on(&self, flow: Flow) -> bool {
        let others = self.sessions.keys().filter(|other| **other != flow);
        let mut others = others.filter(|other| other.kind == flow.kind);
        others.any(|other| self.pool.get(other) == self.pool.get(&flow))
    }

    fn seen(&self) -> Seen {
        let sessions = self.sessions.iter();
        sessions
            .map(|(flow, session)| (*flow, (session.tcp, session.deadline - self.now)))
            .collect()
    }
}

impl State {
    fn segment(&mut self, from_remote: bool, what: What, now: u64) {
        use TcpState::*;
        let is_syn = matches!(what, What::Syn | What::SynAck);
        // the helpers' SYN has 17 and their acknowledgment is 18
        self.proven |=
            self.spoken && from_remote && matches!(what, What::Data | What::Fin | What::SynAck);
        self.spoken |= !from_remote && is_syn;
        let state = self.tcp.unwrap();
        let (next, set) = match (state, what) {
            // *** V6 INIT ***
            (V6Init, _) if is_syn && !from_remote => (Established, Set::Established),
            (V6Init, _) if is_syn => (V6Init, Set::Trans),
            (V6Init, _) => (V6Init, Set::Nothing),
            // *** ESTABLISHED ***, and resets of RFC 7857 §2.2
            (Established | V4FinRcv | V6FinRcv, What::Rst) if from_remote => (Trans, Set::Doubt),
            (Established | V4FinRcv | V6FinRcv, What::Rst) => (Trans, Set::Over),
            (Established, What::Fin) if from_remote => (V6FinRcv, Set::Established),
            (Established, What::Fin) => (V4FinRcv, Set::Established),
            (Established, _) => (Established, Set::Established),
            // *** V4 FIN RCV ***, *** V6 FIN RCV ***
            (V4FinRcv, What::Fin) if from_remote => (V4FinV6FinRcv, Set::Over),
            (V6FinRcv, What::Fin) if !from_remote => (V4FinV6FinRcv, Set::Over),
            (V4FinRcv | V6FinRcv, _) => (state, Set::Established),
            // *** V6 FIN + V4 FIN RCV ***
            (V4FinV6FinRcv, _) => (V4FinV6FinRcv, Set::Nothing),
            // *** TRANS ***
            // the server confirms what was in doubt
            (Trans, What::Rst) if !from_remote && self.proven && !self.over => (Trans, Set::Over),
            (Trans, What::Rst) => (Trans, Set::Nothing),
            (Trans, _) => (Established, Set::Established),
            // no session starts from IPv4
            (V4Init, _) => (V4Init, Set::Nothing),
        };
        self.tcp = Some(next);
        let (lifetime, then) = match set {
            Set::Nothing => return,
            // RFC 5382 §5: open in part
            _ if !self.proven => (TCP_TRANS, Then::End),
            Set::Over | Set::Trans => (TCP_TRANS, Then::End),
            Set::Doubt => (10, Then::Wait),
            Set::Established if next == Established => (TCP_EST, Then::Trans),
            Set::Established => (TCP_EST, Then::Wait),
        };
        self.over = set == Set::Over && (self.proven || next == V4FinV6FinRcv);
        self.deadline = now + lifetime + 1;
        self.then = then;
    }
}

/// What a segment sets the lifetime to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    /// `TCP_TRANS` after the server was asked whether the reset was real.
    Doubt,
    Established,
    Nothing,
    /// `TCP_TRANS`, after which there is nothing more to come.
    Over,
    Trans,
}

const fn lifetime(kind: Transport) -> u64 {
    match kind {
        Transport::IcmpQuery => 60,
        Transport::Tcp => TCP_TRANS,
        Transport::Udp => 300,
    }
}

/// RFC 6146 §4.
const TCP_TRANS: u64 = 240;
const TCP_EST: u64 = 7200;

#[derive(Debug, Clone)]
enum Step {
    Packet {
        flow: Flow,
        from_remote: bool,
        what: What,
    },
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        6 => Just(Transport::Tcp),
        1 => Just(Transport::Udp),
        1 => Just(Transport::IcmpQuery),
    ];
    let what = prop_oneof![
        4 => Just(What::Data),
        2 => Just(What::Fin),
        1 => Just(What::Rst),
        3 => Just(What::Syn),
        3 => Just(What::SynAck),
    ];
    let packet = (kind, 1..3_u16, 4000..4002_u16, any::<bool>(), what).prop_map(
        |(kind, host, port, from_remote, what)| Step::Packet {
            flow: Flow { kind, host, port },
            from_remote,
            what,
        },
    );
    let pass = prop::sample::select(vec![0, 1, 9, 10, 11, 59, 60, 61, 239, 240, 241, 7199, 7201]);
    prop_oneof![8 => packet, 1 => pass.prop_map(Step::Pass)]
}
