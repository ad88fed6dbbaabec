//! The steps of a run, and how proptest makes them.

use super::*;

#[derive(Debug, Clone)]
pub enum Step {
    /// IPv4 forwards, and pinholes.
    Carry(bool, bool),
    Close {
        host: u8,
        port: u16,
        nonce: Option<u8>,
    },
    /// About one of those that wait or are open.
    Decide(usize, Option<Option<u64>>),
    Delegate(u8),
    Forget {
        host: u8,
        port: u16,
    },
    Join(u8),
    Leave(u8),
    Open(Wish),
    OpenSet(Wish, u16),
    Pass(u64),
    Pierce(Wish),
    Restart,
    Rule(u8, Option<HostPolicy>),
    Unpierce {
        host: u8,
        port: u16,
        nonce: Option<u8>,
    },
}

pub fn step() -> impl Strategy<Value = Step> {
    let host = || 0..4_u8;
    let nonce = || proptest::option::of(0..2_u8);
    let lasts = || proptest::option::of(50..900_u64);
    prop_oneof![
        3 => host().prop_map(Step::Join),
        1 => host().prop_map(Step::Leave),
        9 => wish().prop_map(Step::Open),
        1 => (wish(), 2..5_u16).prop_map(|(wish, size)| {
            let wanted = Wanted::Suggested(None);
            Step::OpenSet(Wish { wanted, ..wish }, size)
        }),
        3 => (host(), port(), nonce()).prop_map(|(host, port, nonce)| Step::Close { host, port, nonce }),
        3 => (0..20_usize, proptest::option::of(lasts())).prop_map(|(at, what)| Step::Decide(at, what)),
        1 => (host(), port()).prop_map(|(host, port)| Step::Forget { host, port }),
        2 => (host(), proptest::option::of(host_policy())).prop_map(|(host, policy)| Step::Rule(host, policy)),
        2 => (1..400_u64).prop_map(Step::Pass),
        1 => (0..3_u8).prop_map(Step::Delegate),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(ipv4, pinholes)| Step::Carry(ipv4, pinholes)),
        3 => wish().prop_map(|wish| {
            let wanted = Wanted::Exact(wish.internal);
            Step::Pierce(Wish { wanted, via: Via::Ipv6, ..wish })
        }),
        1 => (host(), port(), nonce()).prop_map(|(host, port, nonce)| Step::Unpierce { host, port, nonce }),
        1 => Just(Step::Restart),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(443_u16),
        Just(22),
        Just(25),
        Just(5351),
        8000..8004_u16
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    let wanted = prop_oneof![
        Just(Wanted::Suggested(None)),
        port().prop_map(|port| Wanted::Suggested(Some(port))),
        port().prop_map(Wanted::Any),
        port().prop_map(Wanted::Exact),
        port().prop_map(Wanted::Required),
    ];
    let via = prop_oneof![Just(Via::Both), Just(Via::Ipv4), Just(Via::Ipv6)];
    let filters = (any::<bool>(), proptest::collection::vec(0..4_u8, 0..2));
    let nonce = proptest::option::of(0..2_u8);
    let who = (0..4_u8, port(), nonce);
    (who, wanted, via, 1..900_u64, filters).prop_map(
        |((host, internal, nonce), wanted, via, seconds, (clear, add))| Wish {
            host,
            internal,
            wanted,
            via,
            nonce,
            seconds: Some(seconds),
            filters: Filters { clear, add },
        },
    )
}

/// Its end is how long it lasts.
fn host_policy() -> impl Strategy<Value = HostPolicy> {
    let access = prop::sample::select(Access::ALL.to_vec());
    let classes = [PortClass::All, PortClass::High, PortClass::None];
    let ports = proptest::option::of(prop::sample::select(classes.to_vec()));
    let quota = proptest::option::of(0..8_u32);
    let lasts = proptest::option::of(50..900_u64);
    (access, ports, quota, lasts).prop_map(|(access, ports, quota, until)| HostPolicy {
        access,
        ports,
        quota,
        until,
    })
}
