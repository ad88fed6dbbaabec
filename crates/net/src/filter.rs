//! Programs of the classic BPF machine: what a socket hears, decided in the kernel.
//!
//! They need no privilege and no option of the kernel; a load beyond the packet ends a program
//! as if it had said no.

use std::collections::BTreeMap;
use std::io;

use mapping::Mac;
use socket2::SockFilter;

/// Attaches `program` to a socket, in place of the one before.
pub(crate) fn attach(socket: &socket2::Socket, program: &[Step]) -> io::Result<()> {
    let program: Vec<_> = program
        .iter()
        .map(|step| SockFilter::new(step.code, step.jt, step.jf, step.k))
        .collect();
    socket.attach_filter(&program)
}

/// An instruction, as in `linux/filter.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    code: u16,
    /// How many instructions a test that holds passes over.
    jt: u8,
    /// How many one passes over that does not hold.
    jf: u8,
    k: u32,
}

impl Step {
    const fn new(code: u16, jt: u8, jf: u8, k: u32) -> Self {
        Self { code, jt, jf, k }
    }
}

/// Hears nothing.
pub(crate) const fn nothing() -> [Step; 1] {
    [Step::new(RET, 0, 0, 0)]
}

/// Hears whole UDP datagrams over IPv4 to `port`; offset 0 is the IP header.
pub(crate) fn udp_v4(port: u16) -> [Step; 9] {
    [
        Step::new(LD_B_ABS, 0, 0, 9),
        Step::new(JEQ, 0, 6, UDP),
        Step::new(LD_H_ABS, 0, 0, 6),
        Step::new(JSET, 4, 0, 0x3fff),
        Step::new(LDX_HEADER_LEN, 0, 0, 0),
        Step::new(LD_H_IND, 0, 0, 2),
        Step::new(JEQ, 0, 1, u32::from(port)),
        Step::new(RET, 0, 0, ALL),
        Step::new(RET, 0, 0, 0),
    ]
}

/// Hears TCP segments that carry nothing; offset 0 is the TCP header.
pub(crate) const fn without_data() -> [Step; 8] {
    [
        Step::new(LD_B_ABS, 0, 0, 12),
        Step::new(RSH, 0, 0, 4),
        Step::new(LSH, 0, 0, 2),
        Step::new(TAX, 0, 0, 0),
        Step::new(LD_W_LEN, 0, 0, 0),
        Step::new(JEQ_X, 0, 1, 0),
        Step::new(RET, 0, 0, ALL),
        Step::new(RET, 0, 0, 0),
    ]
}

/// Hears everything.
pub(crate) const fn everything() -> [Step; 1] {
    [Step::new(RET, 0, 0, ALL)]
}

/// Hears UDP datagrams right after an IPv6 header to `port`; offset 0 is the IP header.
pub(crate) fn udp_v6(port: u16) -> [Step; 6] {
    [
        Step::new(LD_B_ABS, 0, 0, 6),
        Step::new(JEQ, 0, 3, UDP),
        Step::new(LD_H_ABS, 0, 0, 42),
        Step::new(JEQ, 0, 1, u32::from(port)),
        Step::new(RET, 0, 0, ALL),
        Step::new(RET, 0, 0, 0),
    ]
}

/// Hears what came in frames of `mac`, on a socket of any kind.
pub(crate) fn from_mac(mac: Mac) -> [Step; 6] {
    let [m0, m1, m2, m3, m4, m5] = mac.0;
    let high = u16::from_be_bytes([m0, m1]);
    let low = u32::from_be_bytes([m2, m3, m4, m5]);
    [
        Step::new(LD_H_ABS, 0, 0, LINK_LAYER + 6),
        Step::new(JEQ, 0, 3, u32::from(high)),
        Step::new(LD_W_ABS, 0, 0, LINK_LAYER + 8),
        Step::new(JEQ, 0, 1, low),
        Step::new(RET, 0, 0, ALL),
        Step::new(RET, 0, 0, 0),
    ]
}

/// Hears what `program` does, but nothing in frames of `macs`.
pub(crate) fn without(macs: impl Iterator<Item = Mac>, program: Vec<Step>) -> Vec<Step> {
    let mut all = Vec::new();
    for mac in macs {
        let [m0, m1, m2, m3, m4, m5] = mac.0;
        all.extend([
            Step::new(LD_W_ABS, 0, 0, LINK_LAYER + 8),
            Step::new(JEQ, 0, 3, u32::from_be_bytes([m2, m3, m4, m5])),
            Step::new(LD_H_ABS, 0, 0, LINK_LAYER + 6),
            Step::new(JEQ, 0, 1, u32::from(u16::from_be_bytes([m0, m1]))),
            Step::new(RET, 0, 0, 0),
        ]);
    }
    all.extend(program);
    all
}

/// Does what `then` does for frames of `macs`, and what `otherwise` does for the rest, after as
/// many steps as it takes to halve `macs` until one is left.
pub(crate) fn among(
    macs: impl IntoIterator<Item = Mac>,
    then: Vec<Step>,
    otherwise: Vec<Step>,
) -> Vec<Step> {
    let mut groups: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
    for mac in macs {
        let [m0, m1, m2, m3, m4, m5] = mac.0;
        let low = u32::from_be_bytes([m2, m3, m4, m5]);
        let group = groups.entry(low).or_default();
        group.push(u16::from_be_bytes([m0, m1]));
    }
    let groups: Vec<_> = groups.into_iter().collect();
    if groups.is_empty() {
        return otherwise;
    }
    let mut all = vec![Step::new(LD_W_ABS, 0, 0, LINK_LAYER + 8)];
    all.extend(search(&groups));
    let (len, then_len) = (all.len(), then.len());
    for (at, step) in all.iter_mut().enumerate() {
        let behind = len.saturating_sub(at).saturating_sub(1);
        match (step.code, step.k) {
            (JA, FOUND) => *step = jump(behind),
            (JA, LOST) => *step = jump(behind.saturating_add(then_len)),
            _ => {}
        }
    }
    all.extend(then);
    all.extend(otherwise);
    all
}

/// Looks for the frame's source, whose last four bytes are in the accumulator; ends with a jump
/// to [`FOUND`] or to [`LOST`].
fn search(groups: &[(u32, Vec<u16>)]) -> Vec<Step> {
    let (left, right) = groups.split_at(groups.len() / 2);
    let Some((low, high)) = right.first() else {
        return vec![Step::new(JA, 0, 0, LOST)];
    };
    if left.is_empty() {
        let mut steps = vec![
            Step::new(JEQ, 1, 0, *low),
            Step::new(JA, 0, 0, LOST),
            Step::new(LD_H_ABS, 0, 0, LINK_LAYER + 6),
        ];
        for high in high {
            steps.push(Step::new(JEQ, 0, 1, (*high).into()));
            steps.push(Step::new(JA, 0, 0, FOUND));
        }
        steps.push(Step::new(JA, 0, 0, LOST));
        return steps;
    }
    let (left, right) = (search(left), search(right));
    let mut steps = vec![Step::new(JGE, 0, 1, *low), jump(left.len())];
    steps.extend(left);
    steps.extend(right);
    steps
}

/// Passes over so many steps; no program is longer than the kernel's 4,096.
fn jump(over: usize) -> Step {
    Step::new(JA, 0, 0, u32::try_from(over).unwrap_or(LOST))
}

// linux/bpf_common.h
const LD_W_ABS: u16 = 0x20;
const LD_H_ABS: u16 = 0x28;
const LD_B_ABS: u16 = 0x30;
const LD_H_IND: u16 = 0x48;
const LDX_HEADER_LEN: u16 = 0xb1;
const LD_W_LEN: u16 = 0x80;
const LSH: u16 = 0x64;
const RSH: u16 = 0x74;
const TAX: u16 = 0x07;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JEQ_X: u16 = 0x1d;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;

/// `SKF_LL_OFF` of linux/filter.h: offsets from here on count from the link layer's header.
const LINK_LAYER: u32 = 0xffe0_0000;

/// Where a jump goes that is not yet known: further than any program is long.
const FOUND: u32 = u32::MAX - 1;

/// As [`FOUND`].
const LOST: u32 = u32::MAX;

/// More than any packet has.
const ALL: u32 = u32::MAX;

const UDP: u32 = 17;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_mac_is_found_if_and_only_if_it_is_among_them(
            macs in prop::collection::btree_set(mac(), 0..200),
            others in prop::collection::vec(mac(), 1..20),
        ) {
            let ret = |value| vec![Step::new(RET, 0, 0, value)];
            let program = among(macs.iter().copied(), ret(1), ret(2));

            prop_assert!(program.len() < 4096);
            for mac in macs.iter().copied().chain(others) {
                let expected = if macs.contains(&mac) { 1 } else { 2 };
                prop_assert_eq!(run(&program, mac), expected);
            }
        }
    }

    /// Few of each half, so that many MACs have one in common.
    fn mac() -> impl Strategy<Value = Mac> {
        let low = prop_oneof![0..8_u32, any::<u32>()];
        (0..4_u16, low).prop_map(|(high, low)| {
            let ([m0, m1], [m2, m3, m4, m5]) = (high.to_be_bytes(), low.to_be_bytes());
            Mac([m0, m1, m2, m3, m4, m5])
        })
    }

    /// What the kernel does with the steps that are in use here.
    fn run(program: &[Step], mac: Mac) -> u32 {
        let [m0, m1, m2, m3, m4, m5] = mac.0;
        let (mut at, mut value) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            let skip = |yes| usize::from(if yes { step.jt } else { step.jf });
            match step.code {
                LD_W_ABS if step.k == LINK_LAYER + 8 => {
                    value = u32::from_be_bytes([m2, m3, m4, m5]);
                }
                LD_H_ABS if step.k == LINK_LAYER + 6 => {
                    value = u32::from(u16::from_be_bytes([m0, m1]));
                }
                JA => at += usize::try_from(step.k).unwrap(),
                JEQ => at += skip(value == step.k),
                JGE => at += skip(value >= step.k),
                RET => return step.k,
                code => panic!("step {code:#x}"),
            }
        }
    }
}
