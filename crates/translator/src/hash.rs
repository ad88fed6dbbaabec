//! A keyed hash: nobody outside can choose addresses and ports that collide.

use std::hash::Hasher as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use siphasher::sip::SipHasher13;

/// The key, random for each start.
#[derive(Clone, Copy)]
pub(crate) struct Key(SipHasher13);

impl Key {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(&key))
    }

    pub(crate) fn six(&self, remote: Ipv6Addr, server: Ipv4Addr, numbers: [u16; 4]) -> u32 {
        let mut hasher = self.0;
        hasher.write_u128(remote.to_bits());
        hasher.write_u32(server.to_bits());
        hasher.write_u64(pack(numbers));
        low(hasher.finish())
    }

    pub(crate) fn four(&self, pool: Ipv4Addr, server: Ipv4Addr, numbers: [u16; 4]) -> u32 {
        let mut hasher = self.0;
        hasher.write_u32(pool.to_bits());
        hasher.write_u32(server.to_bits());
        hasher.write_u64(pack(numbers));
        low(hasher.finish())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

fn pack(numbers: [u16; 4]) -> u64 {
    numbers
        .into_iter()
        .fold(0, |packed, number| packed << 16 | u64::from(number))
}

fn low(hash: u64) -> u32 {
    let [_, _, _, _, a, b, c, d] = hash.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}
