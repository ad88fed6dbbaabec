//! Whatever comes, the machine keeps its contract.

use std::net::SocketAddr;

use mapping::{ExternalPort, Protocol, RemoteFilter};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Close(u16),
    Echo {
        result: u8,
        lifetime: u32,
        epoch: u32,
    },
    Hear(Vec<u8>),
    Link(bool),
    Open(u16),
    Wait(u32),
}

proptest! {
    /// Nothing panics, time-outs do not stand still, and what is remembered is what is wanted
    /// and what is being closed.
    #[test]
    fn whatever_is_heard_the_machine_keeps_its_contract(
        seed: u64,
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let speaks = Speaks { pcp: true, nat_pmp: true };
        let mut client = Client::new(speaks, [1; 16], StdRng::seed_from_u64(seed));
        let mut now = Instant::from_nanos(1);
        let mut wanted = BTreeSet::new();
        let mut last = Vec::new();
        client.handle_link(Some(link()), now);
        for step in steps {
            match step {
                Step::Open(port) => {
                    wanted.insert(key(port));
                    client.handle_open(&wish(port, seed), now);
                }
                Step::Close(port) => {
                    wanted.remove(&key(port));
                    client.handle_close(key(port), now);
                }
                Step::Hear(bytes) => client.handle_datagram(&bytes, source(), now),
                Step::Echo { result, lifetime, epoch } => {
                    let bytes = echo(&last, result, lifetime, epoch);
                    client.handle_datagram(&bytes, source(), now);
                }
                Step::Link(up) => client.handle_link(up.then(link), now),
                Step::Wait(seconds) => {
                    now += Duration::from_secs(seconds.into());
                    client.handle_timeout(now);
                }
            }
            while let Some(bytes) = client.poll_transmit() {
                prop_assert!(bytes.len() <= 1100);
                last = bytes;
            }
            if let Some(at) = client.poll_timeout()
                && at <= now
            {
                client.handle_timeout(now);
                while client.poll_transmit().is_some() {}
                prop_assert!(client.poll_timeout().is_none_or(|next| next > now), "it spins");
            }
            let known: BTreeSet<_> = client.ports().map(|it| it.0).collect();
            prop_assert!(wanted.is_subset(&known), "{wanted:?} {known:?}");
            let closing = client.ports().filter(|it| it.2 == PortState::Closing);
            prop_assert_eq!(known.len(), wanted.len() + closing.count());
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let echo =
        (0_u8..15, 0_u32..9000, 0_u32..100_000).prop_map(|(result, lifetime, epoch)| Step::Echo {
            result,
            lifetime,
            epoch,
        });
    prop_oneof![
        3 => (1_u16..20).prop_map(Step::Open),
        2 => (1_u16..20).prop_map(Step::Close),
        6 => echo,
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Step::Hear),
        1 => any::<bool>().prop_map(Step::Link),
        3 => (0_u32..4000).prop_map(Step::Wait),
    ]
}

/// The server's answer to a request: what was sent comes back as a response.
fn echo(request: &[u8], result: u8, lifetime: u32, epoch: u32) -> Vec<u8> {
    let mut bytes = request.to_vec();
    if let Some(code) = bytes.get_mut(1) {
        *code |= 0x80;
    }
    if bytes.first() == Some(&2) && bytes.len() >= 24 {
        bytes[3] = result;
        bytes[4..8].copy_from_slice(&lifetime.to_be_bytes());
        bytes[8..12].copy_from_slice(&epoch.to_be_bytes());
    } else if bytes.len() == 12 {
        let ports: [u8; 4] = bytes[4..8].try_into().unwrap();
        bytes[2..4].copy_from_slice(&u16::from(result % 6).to_be_bytes());
        bytes[4..8].copy_from_slice(&epoch.to_be_bytes());
        bytes[8..12].copy_from_slice(&ports);
        bytes.extend(lifetime.to_be_bytes());
    } else {
        bytes.resize(2, 0);
        bytes.extend([0, result & 1]);
        bytes.extend(epoch.to_be_bytes());
        bytes.extend([203, 0, 113, 9]);
    }
    bytes
}

/// Every other port is for some remotes only.
fn wish(port: u16, seed: u64) -> Wish {
    let some = RemoteFilter {
        prefix: format!("::ffff:192.0.2.{}/128", seed % 4).parse().unwrap(),
        port: None,
    };
    Wish {
        key: key(port),
        server: Ipv4Addr::new(192, 168, 64, 10),
        filters: if port.is_multiple_of(2) {
            Arc::from([some])
        } else {
            Arc::from([])
        },
    }
}

fn key(port: u16) -> PortKey {
    PortKey {
        addr: Ipv4Addr::new(192, 168, 0, 7).into(),
        protocol: Protocol::Tcp,
        port: ExternalPort::new(port).unwrap(),
    }
}

fn link() -> Link {
    Link {
        server: Ipv4Addr::new(192, 168, 0, 1).into(),
        local: Ipv4Addr::new(192, 168, 0, 7).into(),
    }
}

fn source() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(192, 168, 0, 1).into(), SERVER_PORT)
}
