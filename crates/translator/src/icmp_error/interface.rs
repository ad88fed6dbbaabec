//! What IPv6 calls the router that says an error, for who reads it in IPv4 (RFC 5837, RFC 6791 §4).

use std::net::Ipv6Addr;

use crate::checksum::Sum;

/// The extensions of a translated error (RFC 4884 §7): those that it came with, and the router's
/// address.
#[derive(Debug)]
pub(super) struct Extensions {
    bytes: [u8; MOST],
    len: usize,
}

impl Extensions {
    /// Keeps what was said, and adds from whom it is if that has no address in IPv4.
    pub(super) fn new(said: &[u8], origin: Option<Ipv6Addr>) -> Self {
        let mut extensions = Self {
            bytes: [0; MOST],
            len: 0,
        };
        // what is longer finds no room in the error
        if said.len() <= MOST {
            extensions.push(said);
        }
        let Some(origin) = origin else {
            return extensions;
        };
        if extensions.len == 0 {
            extensions.push(&HEADER);
            extensions.seal(&HEADER);
        }
        if extensions.may_grow() {
            let object = object(origin);
            extensions.push(&object);
            extensions.seal(&object);
        }
        extensions
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Tells whether another object fits behind those that are there, none of which tells of an
    /// interface: each may be told of once (RFC 5837 §4).
    fn may_grow(&self) -> bool {
        let Some((header, mut objects)) = self.bytes().split_first_chunk::<{ HEADER.len() }>()
        else {
            return false;
        };
        if header[0] >> 4 != VERSION || self.len + OBJECT > MOST {
            return false;
        }
        loop {
            match *objects {
                [] => return true,
                [l0, l1, class, _, ..] => {
                    let len = usize::from(u16::from_be_bytes([l0, l1]));
                    match objects.get(len..) {
                        Some(rest) if len >= 4 && class != INTERFACE => objects = rest,
                        _ => return false,
                    }
                }
                _ => return false,
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        }
    }

    /// Makes the checksum cover `added` too, as right or wrong as it was; zero is none, except
    /// where nothing was said before.
    fn seal(&mut self, added: &[u8]) {
        let [_, _, c0, c1, ..] = self.bytes;
        let old = u16::from_be_bytes([c0, c1]);
        let new = if added == HEADER {
            !Sum::of(added).fold()
        } else if old == 0 {
            0
        } else {
            Sum::of(added).update(old)
        };
        [self.bytes[2], self.bytes[3]] = new.to_be_bytes();
    }
}

/// An Interface Information Object with an IP Address Sub-Object (RFC 5837 §4).
// DEVIATION RFC 5837 §4.2: the address is one of IPv6 in an error about an IPv4 packet, because
// that is what RFC 6791 §4 wants it for.
fn object(addr: Ipv6Addr) -> [u8; OBJECT] {
    let mut object = [0; OBJECT];
    let (head, place) = object.split_at_mut(OBJECT - 16);
    head.copy_from_slice(&[
        0,
        OBJECT_LEN,
        INTERFACE,
        ARRIVAL_WITH_ADDRESS,
        0,
        AFI_V6,
        0,
        0,
    ]);
    place.copy_from_slice(&addr.octets());
    object
}

/// RFC 4884 §7: version 2, and no checksum yet.
const HEADER: [u8; 4] = [VERSION << 4, 0, 0, 0];
const VERSION: u8 = 2;

/// RFC 5837 §4: the class of Interface Information Objects.
const INTERFACE: u8 = 2;

/// RFC 5837 §4.1: the interface upon which the packet arrived, by its address.
const ARRIVAL_WITH_ADDRESS: u8 = 0b0000_0100;

/// IANA address family number.
const AFI_V6: u8 = 2;

/// Headers of object and sub-object, and an address.
const OBJECT: usize = OBJECT_LEN as usize;
const OBJECT_LEN: u8 = 4 + 4 + 16;

/// An error in IPv4 has 548 bytes for quote and extensions, and RFC 4884 §3 gives the quote 128.
const MOST: usize = 420;

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xfeed, 0, 0, 0, 0, 1);

    #[test]
    fn what_was_said_is_kept_and_one_interface_added() {
        let mpls = [0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4];
        assert_eq!(Extensions::new(&mpls, None).bytes(), mpls);
        let both = Extensions::new(&mpls, Some(ROUTER));
        assert_eq!(both.bytes()[..12], mpls);
        assert_eq!(both.bytes()[12..], object(ROUTER));

        // none of these may grow
        let interface = Extensions::new(&[], Some(ROUTER));
        let other_version = [0x10, 0, 0, 0];
        let cut = [0x20, 0, 0, 0, 0, 9, 1, 1];
        let endless = [0x20, 0, 0, 0, 0, 0, 1, 1];
        let crumb = [0x20, 0, 0, 0, 0, 4, 1, 1, 7];
        for said in [interface.bytes(), &other_version, &cut, &endless, &crumb] {
            assert_eq!(Extensions::new(said, Some(ROUTER)).bytes(), said);
        }
        assert!(Extensions::new(&[0; MOST + 1], None).bytes().is_empty());
    }

    #[test]
    fn checksum_is_as_right_as_it_was() {
        let fresh = Extensions::new(&[], Some(ROUTER));
        assert_eq!(fresh.bytes().len(), 28);
        assert_eq!(Sum::of(fresh.bytes()).fold(), 0xffff);

        let mut said = [0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4];
        let sum = (!Sum::of(&said).fold()).to_be_bytes();
        (said[2], said[3]) = (sum[0], sum[1]);
        let grown = Extensions::new(&said, Some(ROUTER));
        assert_eq!(Sum::of(grown.bytes()).fold(), 0xffff);
        said[11] ^= 1;
        let wrong = Extensions::new(&said, Some(ROUTER));
        assert_ne!(Sum::of(wrong.bytes()).fold(), 0xffff);
    }
}
