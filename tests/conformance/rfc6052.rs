//! Addresses of translators (RFC 6052), by the requirement ids X-A*.

#[path = "../../crates/translator/tests/support/home.rs"]
mod home;

use std::net::{IpAddr, Ipv6Addr};

use home::{CAMERA, Home, Segment, from_camera, nsp, to_camera};
use mapping::{InvalidPrefix, Nsp};

#[test]
fn x_a1_prefix_with_bits_64_to_71_set_is_refused() {
    let addr: Ipv6Addr = "2001:db8:64:1:100::".parse().unwrap();

    assert_eq!(Nsp::new(addr), Err(InvalidPrefix::UOctet));
}

#[test]
fn x_a3_well_known_prefix_never_carries_private_addresses() {
    let addr: Ipv6Addr = "64:ff9b::".parse().unwrap();

    assert_eq!(Nsp::new(addr), Err(InvalidPrefix::NotGlobal));
}

#[test]
fn x_a5_server_is_the_last_32_bits_behind_the_prefix() {
    let mut home = Home::new();
    let mut packet = to_camera(Segment::udp(4000, 5000));
    packet.dst = "2001:db8:64:1::c0a8:4007".parse().unwrap();

    let arrived = home.send(&packet).unwrap();
    let answer = home.send(&from_camera(Segment::udp(5001, 4000))).unwrap();

    assert_eq!(arrived.dst, IpAddr::from(CAMERA));
    assert_eq!(answer.src, packet.dst);
}

#[test]
fn x_a5_mapping_is_reversible() {
    assert_eq!(nsp().extract(nsp().embed(CAMERA)), Some(CAMERA));
}
