//! What the machine does with a part of a datagram.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Translator;
use crate::alone::{Source, stateless_four, stateless_six};
use crate::fragment::Piece;
use crate::frame::Frame;
use crate::incoming::{Tuple, determine_incoming_tuple};
use crate::martian::is_host_v6;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{icmp, udp};

impl Translator {
    /// Keeps a fragment until it is the last one that was missing, where it cannot pass by itself.
    pub(super) fn six_piece(
        &mut self,
        frame: &mut Frame,
        piece: &Piece<Ipv6Addr>,
    ) -> Result<Verdict, DropReason> {
        if self.passes_by_itself_six(piece)? {
            return self.other_six(frame);
        }
        self.may_hold_six(piece)?;
        let data = frame.packet().get(piece.data.clone()).unwrap_or_default();
        let (table, drops) = (&mut self.fragments.six, &mut self.counters.drops);
        let Some(whole) = table.insert(piece, data, self.last_seen, drops)? else {
            return Ok(Verdict::Hold);
        };
        whole.starts(&mut self.starts);
        let translated = whole
            .write(frame)
            .and_then(|()| determine_incoming_tuple(frame))
            .and_then(|tuple| match tuple {
                Tuple::Six(mut incoming) => {
                    incoming.came_in_pieces = Some(whole.pieces);
                    self.receive_six(frame, &mut incoming)
                }
                Tuple::SixError(outer) => self.error_six_to_four(frame, &outer),
                _ => Err(DropReason::FragmentInconsistent),
            });
        self.starts.clear();
        translated.inspect_err(|reason| {
            self.counters.drops.add(*reason, whole.earlier_parts());
        })
    }

    /// As [`Self::six_piece`].
    pub(super) fn four_piece(
        &mut self,
        frame: &mut Frame,
        piece: &Piece<Ipv4Addr>,
    ) -> Result<Verdict, DropReason> {
        let data = frame.packet().get(piece.data.clone()).unwrap_or_default();
        if self.passes_by_itself_four(piece, data)? {
            return self.other_four(frame, Source::Mapped);
        }
        self.may_hold_four(piece)?;
        let (table, drops) = (&mut self.fragments.four, &mut self.counters.drops);
        let Some(whole) = table.insert(piece, data, self.last_seen, drops)? else {
            return Ok(Verdict::Hold);
        };
        whole.starts(&mut self.starts);
        let translated = whole
            .write(frame)
            .and_then(|()| determine_incoming_tuple(frame))
            .and_then(|tuple| match tuple {
                Tuple::Four(mut incoming) => {
                    incoming.came_in_pieces = Some(whole.pieces);
                    self.receive_four(frame, &mut incoming, Source::Mapped)
                }
                Tuple::FourError(outer) => self.error_four_to_six(frame, &outer, Source::Mapped),
                _ => Err(DropReason::FragmentInconsistent),
            });
        self.starts.clear();
        translated.inspect_err(|reason| {
            self.counters.drops.add(*reason, whole.earlier_parts());
        })
    }

    /// Tells whether a fragment needs nothing of the others: it belongs to no session, and its
    /// checksum is not that of ICMP, for which the length of the whole is needed.
    fn passes_by_itself_six(&self, piece: &Piece<Ipv6Addr>) -> Result<bool, DropReason> {
        let Some(alone) = &self.config.alone else {
            return Ok(false);
        };
        let (nsps, bib) = (&self.filter.nsps, &self.filter.sessions.bib);
        let pair = stateless_six(alone, nsps, bib, (piece.src, piece.dst))?;
        // at a pool address it comes back to a session
        let is_stateless = pair.is_some_and(|pair| !bib.contains(pair.dst));
        Ok(is_stateless && piece.protocol != icmp::PROTOCOL_V6)
    }

    /// As [`Self::passes_by_itself_six`]. A UDP datagram without a checksum needs one, so that its
    /// first part waits for those that follow (RFC 6146 §3.4).
    fn passes_by_itself_four(
        &self,
        piece: &Piece<Ipv4Addr>,
        data: &[u8],
    ) -> Result<bool, DropReason> {
        let Some(alone) = &self.config.alone else {
            return Ok(false);
        };
        let (nsps, bib) = (&self.filter.nsps, &self.filter.sessions.bib);
        let addrs = (piece.src, piece.dst);
        let pair = stateless_four(alone, nsps, bib, addrs, Source::Mapped)?;
        let checksum = data.get(udp::CHECKSUM_OFFSET..udp::LEN);
        let needs_checksum =
            piece.protocol == udp::PROTOCOL && piece.offset == 0 && checksum == Some(&[0; 2]);
        Ok(pair.is_some()
            && piece.protocol != icmp::PROTOCOL_V4
            && !needs_checksum
            && !self.fragments.four.holds(piece))
    }

    /// Tells whether a datagram may pass as far as its addresses tell: nothing is kept for others.
    fn may_hold_six(&self, piece: &Piece<Ipv6Addr>) -> Result<(), DropReason> {
        if !is_host_v6(piece.src) {
            return Err(DropReason::IllegalSource);
        }
        let alone = self.config.alone.as_ref();
        if alone.is_some_and(|alone| alone.maps.four(piece.dst).is_some()) {
            return Ok(());
        }
        let filter = &self.filter;
        let (_, server) = filter.nsps.extract(piece.dst).ok_or(DropReason::NotOurs)?;
        // a host that is bound answers to whoever has begun
        if alone.is_some_and(|alone| !alone.restricted || !alone.bindings.is_empty()) {
            return Ok(());
        }
        if filter.nsps.contains(piece.src) {
            return Err(DropReason::SourceInPref64);
        }
        if filter.sessions.bib.contains(server) && !filter.hairpins() {
            return Err(DropReason::Hairpin);
        }
        // without `end_on_close` a server has sessions that no port lets in any more
        if self.config.end_on_close {
            filter.admissions.echo(server, piece.src)?;
        }
        Ok(())
    }

    /// As [`Self::may_hold_six`], the other way.
    fn may_hold_four(&self, piece: &Piece<Ipv4Addr>) -> Result<(), DropReason> {
        let bib = &self.filter.sessions.bib;
        if let Some(alone) = &self.config.alone {
            let known = bib.is_used(piece.dst)
                || bib.pool_is_empty()
                || alone.maps.six(piece.dst).is_some()
                || alone.maps.six(piece.src).is_some();
            return if known {
                Ok(())
            } else {
                Err(DropReason::NotOurs)
            };
        }
        if !bib.contains(piece.dst) {
            return Err(DropReason::NotOurs);
        }
        let may_have_sessions =
            !self.config.end_on_close || self.filter.admissions.has_open_port(piece.src);
        if bib.is_used(piece.dst) && may_have_sessions {
            Ok(())
        } else {
            Err(DropReason::NoSession)
        }
    }
}
