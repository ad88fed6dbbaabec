//! A keyed hash: nobody outside can choose addresses and ports that collide.

use std::net::{Ipv4Addr, Ipv6Addr};

use siphasher::sip::SipHasher13;

use crate::bib::Remote;
use crate::limits::Prefix;
use crate::session::{FourTuple, SixTuple};

/// The key, random for each start.
#[derive(Clone, Copy)]
pub(crate) struct Key(SipHasher13);

impl Key {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(&key))
    }

    pub(crate) fn six(&self, tuple: &SixTuple) -> u32 {
        let mut bytes = [0; 32];
        let (remote, rest) = bytes.split_at_mut(16);
        remote.copy_from_slice(&tuple.remote.octets());
        rest.copy_from_slice(
            &pack([
                tuple.server.to_bits(),
                u32::from(tuple.remote_port) << 16 | u32::from(tuple.external_port),
                u32::from(tuple.nsp.0),
                tuple.transport as u32,
            ])
            .to_be_bytes(),
        );
        low(self.0.hash(&bytes))
    }

    pub(crate) fn four(&self, tuple: &FourTuple) -> u32 {
        let numbers = [
            tuple.pool.to_bits(),
            tuple.server.to_bits(),
            u32::from(tuple.pool_port) << 16 | u32::from(tuple.internal_port),
            tuple.transport as u32,
        ];
        low(self.0.hash(&pack(numbers).to_be_bytes()))
    }

    pub(crate) fn pair(&self, src: Ipv4Addr, dst: Ipv4Addr) -> u32 {
        let numbers = u128::from(src.to_bits()) << 32 | u128::from(dst.to_bits());
        low(self.0.hash(&numbers.to_be_bytes()))
    }

    pub(crate) fn addr(&self, addr: Ipv6Addr) -> u32 {
        low(self.0.hash(&addr.octets()))
    }

    pub(crate) fn prefix(&self, prefix: Prefix) -> u32 {
        low(self.0.hash(prefix.bytes()))
    }

    pub(crate) fn binding(&self, host: u32, port: u16, kind: u16) -> u32 {
        let numbers = u64::from(host) << 32 | u64::from(port) << 16 | u64::from(kind);
        low(self.0.hash(&numbers.to_be_bytes()))
    }

    pub(crate) fn remote(&self, remote: &Remote) -> u32 {
        let mut bytes = [0; 24];
        let (addr, rest) = bytes.split_at_mut(16);
        addr.copy_from_slice(&remote.addr.octets());
        let numbers = u64::from(remote.port) << 32 | u64::from(remote.nsp.0) << 8;
        rest.copy_from_slice(&(numbers | remote.transport as u64).to_be_bytes());
        low(self.0.hash(&bytes))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

fn pack(numbers: [u32; 4]) -> u128 {
    numbers
        .into_iter()
        .fold(0, |packed, number| packed << 32 | u128::from(number))
}

fn low(hash: u64) -> u32 {
    let [_, _, _, _, a, b, c, d] = hash.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}
