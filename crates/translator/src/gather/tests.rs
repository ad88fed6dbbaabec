use proptest::prelude::*;

use super::*;

#[test]
fn a_train_is_cut_to_what_came() {
    for (six, checked) in [(true, false), (true, true), (false, false), (false, true)] {
        let packets: Vec<_> = [64, 64, 64, 7]
            .into_iter()
            .map(|len| {
                Packet {
                    six,
                    checked,
                    len,
                    ..Packet::default()
                }
                .build()
            })
            .collect();

        let left = pass(&packets);

        let [first, train] = left.as_slice() else {
            panic!("{} packets left", left.len());
        };
        assert_eq!(first, &packets[0]);
        assert_eq!(
            cut(train),
            packets[1..].iter().map(|it| whole(it)).collect::<Vec<_>>()
        );
    }
}

#[test]
fn what_comes_before_a_flow_is_remembered_or_is_alone_leaves_as_it_came() {
    let packets = [Packet::default().build(), Packet::default().build()];

    assert_eq!(pass(&packets), packets);
}

#[test]
fn a_checksum_that_nobody_checked_is_left_alone() {
    let mut packet = Packet {
        checked: true,
        ..Packet::default()
    }
    .build();
    packet[0] = 0;

    let packets = vec![packet; 4];

    assert_eq!(pass(&packets), packets);
}

#[test]
fn a_train_ends_with_a_shorter_datagram_and_a_longer_one_begins_another() {
    let packets: Vec<_> = [9, 9, 9, 5, 9, 9, 12, 12]
        .into_iter()
        .map(|len| {
            Packet {
                len,
                ..Packet::default()
            }
            .build()
        })
        .collect();

    let left = pass(&packets);

    let sizes: Vec<_> = left.iter().map(|packet| cut(packet).len()).collect();
    assert_eq!(sizes, [1, 3, 1, 1, 1, 1]);
    assert_eq!(
        cut_all(&left),
        packets.iter().map(|it| whole(it)).collect::<Vec<_>>()
    );
}

#[test]
fn flows_do_not_mix_and_none_overtakes_itself() {
    let with = |port, tos| {
        Packet {
            port,
            tos,
            ..Packet::default()
        }
        .build()
    };
    let packets = [
        with(1, 0),
        with(2, 0),
        with(1, 0),
        with(2, 0),
        with(1, 0),
        with(2, 0),
        with(1, 8),
        with(1, 0),
    ];

    let left = pass(&packets);

    for port in [1, 2] {
        let of_port = |packets: &[Vec<u8>]| -> Vec<_> {
            let ports = packets.iter().filter(|it| it[47..49] == [0, port]);
            ports.cloned().collect()
        };
        let came: Vec<_> = packets.iter().map(|it| whole(it)).collect();
        assert_eq!(of_port(&cut_all(&left)), of_port(&came), "port {port}");
    }
    assert!(left.len() < packets.len());
}

#[test]
fn what_is_no_whole_datagram_is_left_alone() {
    let right = Packet {
        six: false,
        ..Packet::default()
    }
    .build();
    let change = |at: usize, value| {
        let mut packet = right.clone();
        packet[LEN + at] = value;
        let sum = {
            put(&mut packet[LEN..], 10, 0);
            !Sum::of(&packet[LEN..LEN + 20]).fold()
        };
        put(&mut packet[LEN..], 10, sum);
        packet
    };
    let cases = [
        ("more fragments", change(6, 0x20)),
        ("TCP", change(9, 6)),
        ("a UDP length that is not the packet's", change(25, 9)),
        ("cut short", right[..30].to_vec()),
        ("no packet", right[..LEN].to_vec()),
    ];
    for (name, packet) in cases {
        let packets = vec![packet; 3];
        assert_eq!(pass(&packets), packets, "{name}");
    }
}

#[test]
fn an_ipv4_datagram_that_may_be_fragmented_keeps_its_identification() {
    let long = Packet {
        six: false,
        len: 1400,
        ..Packet::default()
    };
    let packets = vec![long.build(); 3];

    assert_eq!(pass(&packets), packets);
}

#[test]
fn a_train_is_no_longer_than_what_the_kernel_gathers_and_ip_carries() {
    for (len, most) in [(1, MAX_DATAGRAMS), (1400, 46)] {
        let packets = vec![
            Packet {
                len,
                ..Packet::default()
            }
            .build();
            200
        ];

        let left = pass(&packets);

        assert_eq!(left.iter().map(|it| cut(it).len()).max(), Some(most));
        assert_eq!(
            cut_all(&left),
            packets.iter().map(|it| whole(it)).collect::<Vec<_>>()
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_panic(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
    ) {
        pass(&packets);
    }

    #[test]
    fn whatever_is_gathered_is_cut_to_what_came(
        packets in prop::collection::vec(
            (any::<bool>(), any::<bool>(), 1..3_u8, 1..4_usize).prop_map(|(six, checked, port, len)| {
                Packet { six, checked, port, len: len * 100, tos: 0 }.build()
            }),
            0..200,
        ),
    ) {
        let mut came: Vec<_> = packets.iter().map(|it| whole(it)).collect();
        let mut left = cut_all(&pass(&packets));

        // Flows may overtake each other; within one the order was tested above.
        came.sort();
        left.sort();
        prop_assert_eq!(left, came);
    }
}

/// Lets packets pass as the pump does, without a machine.
fn pass(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut gatherer = Gatherer::new();
    let mut frame = Frame::new();
    let mut left = Vec::new();
    for packet in packets {
        frame.space()[..packet.len()].copy_from_slice(packet);
        frame.filled(packet.len());
        let datagram = match gatherer.gather(&frame) {
            Gathered::Added => continue,
            Gathered::Alone(datagram) => datagram,
            Gathered::AfterTrains(datagram) => {
                left.extend(trains(&mut gatherer));
                datagram
            }
        };
        left.push(packet.clone());
        if let Some(datagram) = datagram {
            gatherer.remember(&datagram);
        }
    }
    left.extend(trains(&mut gatherer));
    left
}

fn trains(gatherer: &mut Gatherer) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| gatherer.poll().map(|frame| frame.bytes().to_vec())).collect()
}

fn cut_all(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    packets.iter().flat_map(|packet| cut(packet)).collect()
}

/// Cuts a super-packet as the kernel does, every checksum computed, without offload headers; an
/// identification becomes zero.
fn cut(packet: &[u8]) -> Vec<Vec<u8>> {
    let offload = vnet::Header::parse(packet).unwrap();
    let Some(segmentation) = offload.segmentation else {
        return vec![whole(packet)];
    };
    assert_eq!(segmentation.kind, Gso::UdpL4);
    let packet = &packet[LEN..];
    let ip_len = usize::from(offload.partial.unwrap().start);
    assert_eq!(usize::from(offload.hdr_len), ip_len + 8);
    if ip_len == 20 {
        let header = ipv4::Header::parse(packet).unwrap();
        assert_eq!(usize::from(header.total_len), packet.len());
    } else {
        let header = ipv6::Header::parse(packet).unwrap();
        assert_eq!(usize::from(header.payload_len) + 40, packet.len());
    }
    let udp_len = u16::try_from(packet.len() - ip_len).unwrap();
    assert_eq!(get(packet, ip_len + 4), udp_len);
    assert_eq!(
        get(packet, ip_len + 6),
        pseudo_header(packet, ip_len, udp_len)
    );
    let (headers, payload) = packet.split_at(ip_len + 8);
    payload
        .chunks(usize::from(segmentation.size))
        .map(|payload| {
            let mut packet = [headers, payload].concat();
            finish(&mut packet, ip_len);
            packet
        })
        .collect()
}

/// As [`cut`], of a packet that is not cut.
fn whole(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet[LEN..].to_vec();
    let ip_len = if packet[0] == 0x45 { 20 } else { 40 };
    finish(&mut packet, ip_len);
    packet
}

/// Writes lengths and checksums.
fn finish(packet: &mut [u8], ip_len: usize) {
    let udp_len = u16::try_from(packet.len() - ip_len).unwrap();
    if ip_len == 20 {
        put(packet, 2, udp_len + 20);
        put(packet, 4, 0);
        put(packet, 10, 0);
        let sum = !Sum::of(&packet[..20]).fold();
        put(packet, 10, sum);
    } else {
        put(packet, 4, udp_len);
    }
    put(packet, ip_len + 4, udp_len);
    let pseudo = pseudo_header(packet, ip_len, udp_len);
    put(packet, ip_len + 6, pseudo);
    let sum = !Sum::of(&packet[ip_len..]).fold();
    put(packet, ip_len + 6, if sum == 0 { 0xffff } else { sum });
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    six: bool,
    checked: bool,
    port: u8,
    len: usize,
    tos: u8,
}

impl Default for Packet {
    fn default() -> Self {
        Self {
            six: true,
            checked: false,
            port: 1,
            len: 64,
            tos: 0,
        }
    }
}

impl Packet {
    fn build(self) -> Vec<u8> {
        let ip_len = if self.six { 40 } else { 20 };
        let mut packet = vec![0; ip_len + 8 + self.len];
        if self.six {
            packet[..2].copy_from_slice(&[0x60 | (self.tos >> 4), self.tos << 4]);
            packet[6..8].copy_from_slice(&[17, 64]);
            packet[8] = 0x20;
            packet[24] = 0x20;
        } else {
            packet[..2].copy_from_slice(&[0x45, self.tos]);
            packet[8..10].copy_from_slice(&[64, 17]);
            packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        }
        packet[ip_len..ip_len + 4].copy_from_slice(&[0, self.port, 0x20, 0]);
        for (n, byte) in packet[ip_len + 8..].iter_mut().enumerate() {
            *byte = u8::try_from(n % 251).unwrap();
        }
        finish(&mut packet, ip_len);
        let mut offload = [0; LEN];
        if self.checked {
            offload[0] = 2;
        } else {
            let udp_len = u16::try_from(8 + self.len).unwrap();
            let pseudo = pseudo_header(&packet, ip_len, udp_len);
            put(&mut packet, ip_len + 6, pseudo);
            let header = vnet::Header {
                partial: checksum_to_do(ip_len),
                ..vnet::Header::default()
            };
            header.emit(&mut offload);
        }
        [&offload[..], &packet].concat()
    }
}

const LEN: usize = vnet::LEN;
