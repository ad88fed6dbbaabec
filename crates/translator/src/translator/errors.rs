//! What the machine does with ICMP errors, and when it sends some of its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Translator;
use crate::alone::Source;
use crate::answer::{Answer, Quote};
use crate::counters::Traffic;
use crate::embedded::Embedded;
use crate::frame::Frame;
use crate::icmp_error::{Errors, Outer, Packet};
use crate::incoming::Incoming;
use crate::nsps::NspId;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{ipv4, ipv6};

impl Translator {
    /// Translates an ICMP error from IPv4.
    pub(super) fn error_four_to_six(
        &mut self,
        frame: &mut Frame,
        outer: &Outer<Ipv4Addr>,
        source: Source,
    ) -> Result<Verdict, DropReason> {
        let packet =
            Errors::new(&self.filter, &self.config).four_to_six(frame.packet(), outer, source)?;
        put(&packet, frame);
        self.counters.icmp_errors.1 += 1;
        self.counters.four_to_six.add(traffic(outer));
        Ok(Verdict::Forward)
    }

    /// Translates an ICMP error from IPv6.
    pub(super) fn error_six_to_four(
        &mut self,
        frame: &mut Frame,
        outer: &Outer<Ipv6Addr>,
    ) -> Result<Verdict, DropReason> {
        let packet = Errors::new(&self.filter, &self.config).six_to_four(
            frame.packet(),
            outer,
            &mut self.ids,
        )?;
        put(&packet, frame);
        self.counters.icmp_errors.0 += 1;
        self.counters.six_to_four.add(traffic(outer));
        Ok(self.hairpin(frame, None)?.unwrap_or(Verdict::Forward))
    }

    /// Refuses what neither fits the LAN nor may be cut there (RFC 7915 §5.1): the sender can
    /// make it smaller, since it is over 1280 bytes long in IPv6.
    pub(super) fn fits_lan(&self, incoming: &Incoming<Ipv6Addr>) -> Result<(), DropReason> {
        let (largest, _) = incoming.on_the_wire(ipv4::LEN);
        if incoming.came_in_pieces.is_none()
            && largest > usize::from(self.config.links.lan_mtu.max(ALWAYS_FITS))
        {
            return Err(DropReason::TooBig);
        }
        Ok(())
    }

    /// Tells the sender of the packet in `frame` why it was dropped, where an RFC wants that.
    pub(super) fn answer_drop(&mut self, frame: &Frame, reason: DropReason) {
        let links = self.config.links;
        let answer = match reason {
            // RFC 6146 §3.5.1.1, §3.5.2.3, §3.5.3 and RFC 6888 REQ-11 b; who was only too fast
            // asks again, which an error would keep him from
            DropReason::PoolExhausted
            | DropReason::RemoteFull
            | DropReason::ServerFull
            | DropReason::SessionsFull => Answer::AddressUnreachable,
            DropReason::SourceRouted => Answer::SourceRouted,
            DropReason::TooBig => Answer::TooBig {
                six: links.four_as_six().min(links.wan_mtu).max(ipv6::MIN_MTU),
                four: links.six_as_four().min(links.lan_mtu),
            },
            DropReason::UnsupportedProtocol
                if self.config.refuse_protocols && !is_single_hop(frame) =>
            {
                Answer::ProtocolUnreachable
            }
            _ => return,
        };
        let quote = Quote::of(frame);
        let is_silent = matches!(
            reason,
            DropReason::SourceRouted | DropReason::UnsupportedProtocol
        ) && self.asked(&quote).is_some_and(|asked| {
            !self.everything_is_open()
                && self
                    .filter
                    .admissions
                    .echo(asked.server, asked.remote)
                    .is_err()
        });
        if !is_silent {
            self.answer(answer, &quote);
        }
    }

    /// Answers a packet to one of our addresses.
    pub(super) fn answer(&mut self, answer: Answer, quote: &Quote<'_>) {
        let now = self.last_seen;
        if let Some(router) = self.router_six(quote) {
            self.answerer
                .six(answer, quote, router, &mut self.outbox, now);
        } else if let Some(router) = self.router_four(quote) {
            self.answerer
                .four(answer, quote, router, &mut self.outbox, now);
        }
    }

    /// Returns from which address we answer an IPv6 packet to one of our addresses.
    fn router_six(&self, quote: &Quote<'_>) -> Option<Ipv6Addr> {
        let bib = &self.filter.sessions.bib;
        let asked = self.asked(quote);
        match asked.and_then(|asked| self.filter.nsps.get(asked.nsp)) {
            Some(nsp) if !bib.pool_is_empty() && nsp.may_represent(bib.router()) => {
                Some(nsp.embed(bib.router()))
            }
            // nobody is left but whom the packet is for
            Some(_) => Some(Embedded::<Ipv6Addr>::parse(quote.packet()).ok()?.dst),
            None => {
                let dst = Embedded::<Ipv6Addr>::parse(quote.packet()).ok()?.dst;
                let alone = self.config.alone.as_ref()?;
                alone.maps.four(dst).map(|_| dst)
            }
        }
    }

    /// As [`Self::router_six`], for IPv4.
    fn router_four(&self, quote: &Quote<'_>) -> Option<Ipv4Addr> {
        let bib = &self.filter.sessions.bib;
        let packet = Embedded::<Ipv4Addr>::parse(quote.packet()).ok()?;
        if bib.contains(packet.dst) {
            return Some(bib.router());
        }
        let maps = &self.config.alone.as_ref()?.maps;
        let is_mapped = |v4| maps.six(v4).is_some();
        if bib.pool_is_empty() {
            Some(packet.dst)
        } else {
            (is_mapped(packet.dst) || is_mapped(packet.src)).then(|| bib.router())
        }
    }

    /// Returns which prefix and server an IPv6 packet asks for.
    fn asked(&self, quote: &Quote<'_>) -> Option<Asked> {
        let packet = Embedded::<Ipv6Addr>::parse(quote.packet()).ok()?;
        let (nsp, server) = self.filter.nsps.extract(packet.dst)?;
        Some(Asked {
            remote: packet.src,
            nsp,
            server,
        })
    }
}

/// Tells whether a packet is one of IGMP, which is for its link only and is dropped without a word
/// (RFC 7915 §4.2), or says that nothing follows (RFC 8200 §4.7).
fn is_single_hop(frame: &Frame) -> bool {
    const IGMP: u8 = 2;
    const NO_NEXT_HEADER: u8 = 59;
    let packet = frame.packet();
    let four = Embedded::<Ipv4Addr>::parse(packet).map(|packet| packet.protocol);
    let six = Embedded::<Ipv6Addr>::parse(packet).map(|packet| packet.protocol);
    four == Ok(IGMP) || six == Ok(NO_NEXT_HEADER)
}

/// Who asks for whom.
struct Asked {
    remote: Ipv6Addr,
    nsp: NspId,
    server: Ipv4Addr,
}

/// Errors come whole.
fn traffic<A>(outer: &Outer<A>) -> Traffic {
    let bytes = ipv6::LEN + outer.l4_len;
    Traffic {
        packets: 1,
        bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
    }
}

/// Puts an error into the frame of the one that it was made of.
fn put(packet: &Packet, frame: &mut Frame) {
    let bytes = packet.bytes();
    if let Some(space) = frame.space().get_mut(..bytes.len()) {
        space.copy_from_slice(bytes);
    }
    frame.filled(bytes.len());
}

/// RFC 7915 §5.1: what could have been an IPv6 packet of the minimum MTU is cut by IPv4 routers
/// where it must be.
const ALWAYS_FITS: u16 = 1260;
