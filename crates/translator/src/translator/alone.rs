//! What the machine does besides when it stands alone: stateless translation, hairpinning, and
//! refusing what nobody has asked for.

use std::net::{Ipv4Addr, Ipv6Addr};

use mapping::Instant;

use super::Translator;
use crate::alone::{Found, Pair, Source, refusal, stateless_four, stateless_six};
use crate::cut::{self, Way};
use crate::frame::Frame;
use crate::incoming::{Incoming, Pieces, Tuple, determine_incoming_tuple};
use crate::session::SessionId;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ipv4;
use crate::{v4_to_v6, v6_to_v4};

impl Translator {
    /// Translates a packet whose addresses are both mapped; tells whether it was one.
    pub(super) fn mapped_six(
        &mut self,
        frame: &mut Frame,
        incoming: &Incoming<Ipv6Addr>,
    ) -> Result<bool, DropReason> {
        let Some(alone) = &self.config.alone else {
            return Ok(false);
        };
        let (nsps, bib) = (&self.filter.nsps, &self.filter.sessions.bib);
        let addrs = (incoming.src, incoming.dst);
        let Some(Pair { src, dst }) = stateless_six(alone, nsps, bib, addrs)? else {
            return Ok(false);
        };
        let outgoing = v6_to_v4::Outgoing::stateless(src, dst, &incoming.segment);
        self.fits_lan(incoming)?;
        let mss = self.config.links.mss();
        v6_to_v4::translate(frame, incoming, &outgoing, mss, &mut self.ids)?;
        self.counters.six_to_four.add(incoming.traffic());
        Ok(true)
    }

    /// As [`Self::mapped_six`], the other way; says how it leaves.
    pub(super) fn mapped_four(
        &mut self,
        frame: &mut Frame,
        incoming: &mut Incoming<Ipv4Addr>,
        source: Source,
    ) -> Result<Option<Way>, DropReason> {
        let Some(alone) = &self.config.alone else {
            return Ok(None);
        };
        let (nsps, bib) = (&self.filter.nsps, &self.filter.sessions.bib);
        let addrs = (incoming.src, incoming.dst);
        let Some(Pair { src, dst }) = stateless_four(alone, nsps, bib, addrs, source)? else {
            return Ok(None);
        };
        let way = cut::four_to_six(
            incoming,
            self.config.links.wan_mtu,
            self.config.lowest_ipv6_mtu,
        )?;
        let outgoing = v4_to_v6::Outgoing::stateless(src, dst, &incoming.segment);
        v4_to_v6::translate(frame, incoming, &outgoing, self.config.links.mss())?;
        self.counters.four_to_six.add(incoming.traffic());
        Ok(Some(way))
    }

    /// Translates a packet back to IPv6 if it was sent to an address that an IPv6 host has in
    /// IPv4 (RFC 6146 §3.8, RFC 7757 §4.2.2); its source is what the host is in IPv4.
    pub(super) fn hairpin(
        &mut self,
        frame: &mut Frame,
        came_in_pieces: Option<Pieces>,
    ) -> Result<Option<Verdict>, DropReason> {
        if self.config.alone.is_none() {
            return Ok(None);
        }
        let header = ipv4::Header::parse(frame.packet())?;
        if !self.comes_back(header.dst) {
            return Ok(None);
        }
        match determine_incoming_tuple(frame)? {
            Tuple::Four(mut incoming) => {
                incoming.came_in_pieces = came_in_pieces;
                let source = Source::Hairpinned;
                self.receive_four(frame, &mut incoming, source).map(Some)
            }
            Tuple::FourError(outer) => {
                let source = Source::Hairpinned;
                self.error_four_to_six(frame, &outer, source).map(Some)
            }
            _ => Err(DropReason::NotOurs),
        }
    }

    /// Tells whether a packet to this address goes back to an IPv6 host.
    pub(super) fn comes_back(&self, dst: Ipv4Addr) -> bool {
        let alone = self.config.alone.as_ref().filter(|alone| alone.hairpin);
        alone.is_some_and(|alone| {
            self.filter.sessions.bib.contains(dst) || alone.maps.six(dst).is_some()
        })
    }

    /// Refuses a packet from IPv4 whose source is an address of the pool: nobody there has one, and
    /// to an IPv6 host it would seem to come from another one. Behind a gateway it has no session.
    pub(super) fn is_not_forged(&self, src: Ipv4Addr, source: Source) -> Result<(), DropReason> {
        let is_forged = self.config.alone.is_some()
            && source == Source::Mapped
            && self.filter.sessions.bib.contains(src);
        if is_forged {
            return Err(DropReason::IllegalSource);
        }
        Ok(())
    }

    /// Finds the session of a packet from IPv4, or starts one where that may be; `None` when the
    /// packet waits.
    pub(super) fn session_from_four(
        &mut self,
        frame: &Frame,
        incoming: &Incoming<Ipv4Addr>,
    ) -> Result<Option<SessionId>, DropReason> {
        let tick = self.tick();
        match self.filter.four_to_six(incoming, tick) {
            Err(DropReason::NoSession) if self.filter.inbound.is_some() => {
                let now = (tick, self.last_seen);
                match self.filter.start_from_four(incoming, frame.packet(), now)? {
                    Found::Session(id) => Ok(Some(id)),
                    Found::Waits => Ok(None),
                }
            }
            result => result.map(Some),
        }
    }

    /// Refuses the SYNs from IPv4 that nobody has asked for.
    pub(super) fn refuse(&mut self, now: Instant) {
        let Some(inbound) = &mut self.filter.inbound else {
            return;
        };
        while let Some(syn) = inbound.refused(now) {
            self.counters.drops.count(DropReason::Unsolicited);
            if let Some((head, quote)) = refusal(syn.packet()) {
                self.outbox.push(&[&head, quote]);
            }
        }
    }

    /// Tells whether nothing behind the prefixes is closed.
    pub(super) fn everything_is_open(&self) -> bool {
        let alone = self.config.alone.as_ref();
        alone.is_some_and(|alone| !alone.restricted)
    }

    /// Returns when a SYN from IPv4 has waited for long enough.
    pub(super) fn next_refusal(&self) -> Option<Instant> {
        self.filter.inbound.as_ref()?.next_refusal()
    }
}
