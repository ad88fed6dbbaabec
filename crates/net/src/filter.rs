//! Programs of the classic BPF machine: what a socket hears, decided in the kernel.
//!
//! They need no privilege and no option of the kernel; a load beyond the packet ends a program
//! as if it had said no.

use std::io;

use mapping::Mac;
use socket2::SockFilter;

/// Attaches `program` to a socket, in place of the one before.
pub(crate) fn attach(socket: &socket2::Socket, program: &[SockFilter]) -> io::Result<()> {
    socket.attach_filter(program)
}

/// Hears nothing.
pub(crate) const fn nothing() -> [SockFilter; 1] {
    [SockFilter::new(RET, 0, 0, 0)]
}

/// Hears whole UDP datagrams over IPv4 to `port`; offset 0 is the IP header.
pub(crate) fn udp_v4(port: u16) -> [SockFilter; 9] {
    [
        SockFilter::new(LD_B_ABS, 0, 0, 9),
        SockFilter::new(JEQ, 0, 6, UDP),
        SockFilter::new(LD_H_ABS, 0, 0, 6),
        SockFilter::new(JSET, 4, 0, 0x3fff),
        SockFilter::new(LDX_HEADER_LEN, 0, 0, 0),
        SockFilter::new(LD_H_IND, 0, 0, 2),
        SockFilter::new(JEQ, 0, 1, u32::from(port)),
        SockFilter::new(RET, 0, 0, ALL),
        SockFilter::new(RET, 0, 0, 0),
    ]
}

/// Hears TCP segments that carry nothing; offset 0 is the TCP header.
pub(crate) const fn without_data() -> [SockFilter; 8] {
    [
        SockFilter::new(LD_B_ABS, 0, 0, 12),
        SockFilter::new(RSH, 0, 0, 4),
        SockFilter::new(LSH, 0, 0, 2),
        SockFilter::new(TAX, 0, 0, 0),
        SockFilter::new(LD_W_LEN, 0, 0, 0),
        SockFilter::new(JEQ_X, 0, 1, 0),
        SockFilter::new(RET, 0, 0, ALL),
        SockFilter::new(RET, 0, 0, 0),
    ]
}

/// Hears everything.
pub(crate) const fn everything() -> [SockFilter; 1] {
    [SockFilter::new(RET, 0, 0, ALL)]
}

/// Hears UDP datagrams right after an IPv6 header to `port`; offset 0 is the IP header.
pub(crate) fn udp_v6(port: u16) -> [SockFilter; 6] {
    [
        SockFilter::new(LD_B_ABS, 0, 0, 6),
        SockFilter::new(JEQ, 0, 3, UDP),
        SockFilter::new(LD_H_ABS, 0, 0, 42),
        SockFilter::new(JEQ, 0, 1, u32::from(port)),
        SockFilter::new(RET, 0, 0, ALL),
        SockFilter::new(RET, 0, 0, 0),
    ]
}

/// Hears what came in frames of `mac`, on a socket of any kind.
pub(crate) fn from_mac(mac: Mac) -> [SockFilter; 6] {
    let [m0, m1, m2, m3, m4, m5] = mac.0;
    let high = u16::from_be_bytes([m0, m1]);
    let low = u32::from_be_bytes([m2, m3, m4, m5]);
    [
        SockFilter::new(LD_H_ABS, 0, 0, LINK_LAYER + 6),
        SockFilter::new(JEQ, 0, 3, u32::from(high)),
        SockFilter::new(LD_W_ABS, 0, 0, LINK_LAYER + 8),
        SockFilter::new(JEQ, 0, 1, low),
        SockFilter::new(RET, 0, 0, ALL),
        SockFilter::new(RET, 0, 0, 0),
    ]
}

/// Hears what `program` does, but nothing in frames of `macs`.
pub(crate) fn without(
    macs: impl Iterator<Item = Mac>,
    program: Vec<SockFilter>,
) -> Vec<SockFilter> {
    let mut all = Vec::new();
    for mac in macs {
        let [m0, m1, m2, m3, m4, m5] = mac.0;
        all.extend([
            SockFilter::new(LD_W_ABS, 0, 0, LINK_LAYER + 8),
            SockFilter::new(JEQ, 0, 3, u32::from_be_bytes([m2, m3, m4, m5])),
            SockFilter::new(LD_H_ABS, 0, 0, LINK_LAYER + 6),
            SockFilter::new(JEQ, 0, 1, u32::from(u16::from_be_bytes([m0, m1]))),
            SockFilter::new(RET, 0, 0, 0),
        ]);
    }
    all.extend(program);
    all
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
const JEQ: u16 = 0x15;
const JEQ_X: u16 = 0x1d;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;

/// `SKF_LL_OFF` of linux/filter.h: offsets from here on count from the link layer's header.
const LINK_LAYER: u32 = 0xffe0_0000;

/// More than any packet has.
const ALL: u32 = u32::MAX;

const UDP: u32 = 17;
