//! What holds for every packet that leaves.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::home::{new_nsp, nsp, sum16};

/// Panics unless a packet is whole and has translated addresses on both ends.
pub fn leaves_whole(packet: &[u8]) {
    let word = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    match packet[0] >> 4 {
        4 => {
            assert_eq!(packet[0], 0x45);
            assert_eq!(word(2), packet.len());
            assert_eq!(sum16(&packet[..20]), 0xffff, "header checksum");
            let (src, dst) = (addr4(&packet[12..16]), addr4(&packet[16..20]));
            assert!(in_pool(src), "{src} is not of the pool");
            assert!(!in_pool(dst), "{dst} is of the pool");
        }
        6 => {
            assert_eq!(word(4) + 40, packet.len());
            let (src, dst) = (addr6(&packet[8..24]), addr6(&packet[24..40]));
            let ours = [nsp(), new_nsp()];
            assert!(ours.iter().any(|nsp| nsp.extract(src).is_some()));
            assert!(!dst.is_multicast() && !dst.is_unspecified());
        }
        version => panic!("IP version {version}"),
    }
}

fn in_pool(addr: Ipv4Addr) -> bool {
    addr.to_bits() & 0xffff_ffc0 == Ipv4Addr::new(192, 168, 64, 192).to_bits()
}

pub fn addr4(bytes: &[u8]) -> Ipv4Addr {
    <[u8; 4]>::try_from(bytes).unwrap().into()
}

pub fn addr6(bytes: &[u8]) -> Ipv6Addr {
    <[u8; 16]>::try_from(bytes).unwrap().into()
}
