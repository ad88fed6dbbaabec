//! What the machine does with a part of a datagram.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Translator;
use crate::alone::Source;
use crate::fragment::Piece;
use crate::frame::Frame;
use crate::incoming::{Tuple, determine_incoming_tuple};
use crate::martian::is_host_v6;
use crate::verdict::{DropReason, Verdict};

impl Translator {
    /// Keeps a fragment until it is the last one that was missing.
    pub(super) fn six_piece(
        &mut self,
        frame: &mut Frame,
        piece: &Piece<Ipv6Addr>,
    ) -> Result<Verdict, DropReason> {
        self.may_hold_six(piece)?;
        let data = frame.packet().get(piece.data.clone()).unwrap_or_default();
        let (table, drops) = (&mut self.fragments.six, &mut self.counters.drops);
        let Some(whole) = table.insert(piece, data, self.last_seen, drops)? else {
            return Ok(Verdict::Hold);
        };
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
        translated.inspect_err(|reason| {
            self.counters.drops.add(*reason, whole.earlier_parts());
        })
    }

    /// Keeps a fragment until it is the last one that was missing.
    pub(super) fn four_piece(
        &mut self,
        frame: &mut Frame,
        piece: &Piece<Ipv4Addr>,
    ) -> Result<Verdict, DropReason> {
        self.may_hold_four(piece)?;
        let data = frame.packet().get(piece.data.clone()).unwrap_or_default();
        let (table, drops) = (&mut self.fragments.four, &mut self.counters.drops);
        let Some(whole) = table.insert(piece, data, self.last_seen, drops)? else {
            return Ok(Verdict::Hold);
        };
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
        translated.inspect_err(|reason| {
            self.counters.drops.add(*reason, whole.earlier_parts());
        })
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
