//! Gathers datagrams of a flow that wait in the device's queue to one super-packet, as a card with
//! generic receive offload does: it is translated, written and forwarded once, and cut where it
//! leaves.
//!
//! What is gathered and cut again is what came, byte for byte, but for the identification of an
//! IPv4 packet that is too small to need one.

use crate::checksum::Sum;
use crate::frame::Frame;
use crate::wire::vnet::{self, Gso, Segmentation};
use crate::wire::{icmp, ipv4, ipv6, tcp, udp};

/// The trains under way, at most one for each flow that was forwarded of late.
#[derive(Debug)]
pub(crate) struct Gatherer {
    trains: Vec<Train>,
    /// Whose flow is forgotten next.
    oldest: usize,
}

/// What becomes of a packet; one that goes alone may be remembered when it was forwarded.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gathered {
    /// It is part of a train.
    Added,
    /// It goes alone, and must not overtake the trains.
    AfterTrains(Option<Datagram>),
    /// It goes alone.
    Alone(Option<Datagram>),
}

/// A datagram that can be part of a train.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram {
    flow: Flow,
    ip_len: usize,
    payload: usize,
}

/// What the packets of a flow have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flow {
    ports: [u8; 4],
    /// The IP header; what differs from packet to packet is zero.
    ip: [u8; ipv6::LEN],
}

#[derive(Debug)]
struct Train {
    flow: Option<Flow>,
    frame: Frame,
    ip_len: usize,
    /// Bytes of payload in each datagram but the last.
    size: usize,
    datagrams: usize,
    /// The last one has come.
    complete: bool,
}

impl Gatherer {
    pub(crate) fn new() -> Self {
        let train = || Train {
            flow: None,
            frame: Frame::new(),
            ip_len: 0,
            size: 0,
            datagrams: 0,
            complete: false,
        };
        Self {
            trains: std::iter::repeat_with(train).take(FLOWS).collect(),
            oldest: 0,
        }
    }

    /// Adds the packet in `frame` to the train of its flow, if its flow is remembered and it fits.
    pub(crate) fn gather(&mut self, frame: &Frame) -> Gathered {
        let Some(datagram) = Datagram::of(frame) else {
            return if is_no_datagram(frame.packet()) {
                Gathered::Alone(None)
            } else {
                Gathered::AfterTrains(None)
            };
        };
        let mut same_ports = false;
        for train in &mut self.trains {
            let Some(flow) = &train.flow else { continue };
            if flow.ports != datagram.flow.ports {
                continue;
            }
            if flow.ip == datagram.flow.ip {
                return if train.add(&datagram, frame) {
                    Gathered::Added
                } else {
                    Gathered::AfterTrains(Some(datagram))
                };
            }
            same_ports = true;
        }
        if same_ports {
            // Perhaps the same flow with another traffic class or hop limit.
            Gathered::AfterTrains(Some(datagram))
        } else {
            Gathered::Alone(Some(datagram))
        }
    }

    /// From now on gathers what follows this datagram, which was forwarded.
    pub(crate) fn remember(&mut self, datagram: &Datagram) {
        if self.trains.iter().any(|it| it.flow == Some(datagram.flow)) {
            return;
        }
        if let Some(train) = self.trains.get_mut(self.oldest)
            && train.datagrams == 0
        {
            train.flow = Some(datagram.flow);
        }
        self.oldest = (self.oldest + 1) % FLOWS;
    }

    /// Forgets all flows.
    pub(crate) fn forget(&mut self) {
        for train in &mut self.trains {
            train.flow = None;
        }
    }

    /// Returns a train, to be handled as if it had just been read; drain it before the device is
    /// waited for.
    pub(crate) fn poll(&mut self) -> Option<&mut Frame> {
        let train = self.trains.iter_mut().find(|train| train.datagrams > 0)?;
        if train.datagrams > 1 {
            train.couple();
        }
        train.datagrams = 0;
        train.complete = false;
        Some(&mut train.frame)
    }
}

impl Datagram {
    /// Returns the datagram in `frame` if it can be part of a train.
    ///
    /// Its checksum is computed anew when the train is cut, which must not repair it: so it has to
    /// be checked already, or still to be computed.
    fn of(frame: &Frame) -> Option<Self> {
        let offload = vnet::Header::parse(frame.bytes()).ok()?;
        let checked = vnet::is_checked(frame.bytes());
        if offload.segmentation.is_some() || (offload.partial.is_none() && !checked) {
            return None;
        }
        let packet = frame.packet();
        let (ip_len, varying): (_, &[usize]) = match packet.first()? {
            0x45 => (ipv4_of_datagram(packet)?, &[2, 4, 10]),
            0x60..0x70 => (ipv6_of_datagram(packet)?, &[4]),
            _ => return None,
        };
        let (header, segment) = packet.split_at_checked(ip_len)?;
        let udp = udp::Header::parse(segment).ok()?;
        let payload = segment.len() - udp::LEN;
        let fits = match offload.partial {
            Some(partial) => partial == checksum_to_do(ip_len)?,
            None => udp.checksum != 0,
        };
        if payload == 0 || !fits || udp.len != segment.len() {
            return None;
        }
        let mut ip = [0; ipv6::LEN];
        for (to, from) in ip.iter_mut().zip(header) {
            *to = *from;
        }
        for at in varying {
            put(&mut ip, *at, 0);
        }
        Some(Self {
            flow: Flow {
                ports: *segment.first_chunk()?,
                ip,
            },
            ip_len,
            payload,
        })
    }
}

impl Train {
    fn add(&mut self, datagram: &Datagram, frame: &Frame) -> bool {
        if self.datagrams == 0 {
            self.frame.copy(frame);
            self.ip_len = datagram.ip_len;
            self.size = datagram.payload;
            self.datagrams = 1;
            return true;
        }
        let payload = frame.packet().get(datagram.ip_len + udp::LEN..);
        let fits = !self.complete
            && datagram.payload <= self.size
            && self.datagrams < MAX_DATAGRAMS
            && self.frame.packet().len() + datagram.payload <= MAX_LEN
            && self.frame.append(payload.unwrap_or_default());
        if fits {
            self.datagrams += 1;
            self.complete = datagram.payload < self.size;
        }
        fits
    }

    /// Makes the headers those of a super-packet.
    fn couple(&mut self) {
        let ip_len = self.ip_len;
        let was_partial =
            vnet::Header::parse(self.frame.bytes()).is_ok_and(|offload| offload.partial.is_some());
        let Some((offload, packet)) = self.frame.bytes_mut().split_first_chunk_mut() else {
            return;
        };
        vnet::Header {
            partial: checksum_to_do(ip_len),
            segmentation: Some(Segmentation {
                kind: Gso::UdpL4,
                size: word(self.size),
            }),
            hdr_len: word(ip_len + udp::LEN),
        }
        .emit(offload);
        let (total_len, udp_len) = (word(packet.len()), word(packet.len() - ip_len));
        if ip_len == ipv4::LEN {
            let change = Sum::change_word(get(packet, 2), total_len);
            put(packet, 2, total_len);
            put(packet, 10, change.update(get(packet, 10)));
        } else {
            put(packet, 4, udp_len);
        }
        let change = Sum::change_word(get(packet, ip_len + 4), udp_len);
        put(packet, ip_len + 4, udp_len);
        let at = ip_len + udp::CHECKSUM_OFFSET;
        let sum = if was_partial {
            change.update_partial(get(packet, at))
        } else {
            pseudo_header(packet, ip_len, udp_len)
        };
        put(packet, at, sum);
    }
}

/// Returns the length of the header if all that follows is one datagram.
fn ipv4_of_datagram(packet: &[u8]) -> Option<usize> {
    let header = ipv4::Header::parse(packet).ok()?;
    // A longer one may be fragmented behind the translator; it keeps its identification.
    let is_atomic = header.dont_fragment || packet.len() <= MAX_UNNUMBERED;
    let is_whole = usize::from(header.total_len) == packet.len() && !header.is_fragment();
    (header.protocol == udp::PROTOCOL && is_atomic && is_whole).then_some(ipv4::LEN)
}

fn ipv6_of_datagram(packet: &[u8]) -> Option<usize> {
    let header = ipv6::Header::parse(packet).ok()?;
    let is_whole = ipv6::LEN + usize::from(header.payload_len) == packet.len();
    (header.next_header == udp::PROTOCOL && is_whole).then_some(ipv6::LEN)
}

/// Tells, at a glance, whether this cannot be of the same flow as any datagram.
fn is_no_datagram(packet: &[u8]) -> bool {
    let protocol = match packet.first().map(|first| first >> 4) {
        Some(4) => packet.get(9),
        Some(6) => packet.get(6),
        Some(_) | None => None,
    };
    protocol.is_some_and(|it| [tcp::PROTOCOL, icmp::PROTOCOL_V4, icmp::PROTOCOL_V6].contains(it))
}

fn checksum_to_do(ip_len: usize) -> Option<vnet::Partial> {
    Some(vnet::Partial {
        start: u16::try_from(ip_len).ok()?,
        offset: u16::try_from(udp::CHECKSUM_OFFSET).ok()?,
    })
}

/// Returns the folded sum of the pseudo-header.
fn pseudo_header(packet: &[u8], ip_len: usize, udp_len: u16) -> u16 {
    let addrs = if ip_len == ipv4::LEN { 12..20 } else { 8..40 };
    let addrs = Sum::of(packet.get(addrs).unwrap_or_default());
    let rest = [udp_len.to_be_bytes(), [0, udp::PROTOCOL]];
    (addrs + Sum::of(rest.as_flattened())).fold()
}

fn word(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

fn get(bytes: &[u8], at: usize) -> u16 {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
    word.map_or(0, |word| u16::from_be_bytes(*word))
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(word) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *word = value.to_be_bytes();
    }
}

/// Flows that are remembered; a train of each may be under way.
const FLOWS: usize = 16;

/// As many as the kernel itself gathers.
const MAX_DATAGRAMS: usize = 64;

/// An IPv4 packet of this length is translated to one of IPv6's minimum MTU, which is never cut
/// (RFC 7915 §4).
const MAX_UNNUMBERED: usize = 1260;

/// A longer IP header must still fit.
const MAX_LEN: usize = 65_000;

#[cfg(test)]
mod tests;
