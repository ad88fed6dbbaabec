//! Mapping nonces that outlive the process.

use std::hash::Hasher as _;
use std::net::IpAddr;

use mapping::MappingNonce;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::address::wide;
use crate::port::PortKey;

/// The nonce of a port at a server: nobody guesses it without the secret, it is another one for
/// every server and port, and after a restart it is the same.
// DEVIATION RFC 6887 §11.2: not chosen anew when the client is initialised, because the server
// would refuse to renew what we opened before until that expires.
pub fn nonce(secret: [u8; 16], server: IpAddr, key: PortKey) -> MappingNonce {
    let mut hasher = SipHasher24::new_with_key(&secret);
    for addr in [server, key.addr] {
        hasher.write(&wide(addr).octets());
    }
    hasher.write_u8(key.protocol.number());
    hasher.write_u16(key.port.get());
    let [nonce @ .., _, _, _, _] = hasher.finish128().as_bytes();
    MappingNonce(nonce)
}

#[cfg(test)]
mod tests {
    use mapping::{ExternalPort, Protocol};

    use super::*;

    #[test]
    fn nonces_differ_by_server_and_port_and_are_the_same_after_a_restart() {
        let key = |port| PortKey {
            addr: "2001:db8:64:1::c0a8:400a".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: ExternalPort::new(port).unwrap(),
        };
        let server = "fe80::1".parse().unwrap();
        let made = nonce([7; 16], server, key(80));

        assert_eq!(made, nonce([7; 16], server, key(80)));
        assert_ne!(made, nonce([7; 16], server, key(81)));
        assert_ne!(made, nonce([7; 16], "fe80::2".parse().unwrap(), key(80)));
        assert_ne!(made, nonce([8; 16], server, key(80)));
    }
}
