//! What the machine says to who sends to a closed port or of a connection that it does not know.

use mapping::Instant;

use super::Translator;
use crate::answer::{Answer, Quote};
use crate::closed_syns::ClosedSyn;
use crate::config::Closed;
use crate::filter::four_tuple;
use crate::frame::Frame;
use crate::incoming::{Segment, Tuple, determine_incoming_tuple};
use crate::verdict::DropReason;
use crate::wire::tcp::Flags;

impl Translator {
    /// Answers the packet in `frame`, which was dropped, if it was sent to nothing that is there.
    pub(super) fn answer_unknown(&mut self, frame: &Frame, reason: DropReason) {
        match reason {
            // DEVIATION RFC 6146 §3.5.2.2: not dropped in silence, because after a loss of state
            // both ends would go on sending to nobody for as long as they retransmit.
            DropReason::NotSyn | DropReason::UnknownConnection if self.config.reset_unknown => {
                self.answer(Answer::Reset, &Quote::of(frame));
            }
            // DEVIATION RFC 6886 §3.4: a reset answers the next segment of either end, and does not
            // leave with the end of the mapping: it takes the sequence number that its receiver
            // expects, which is not kept of connections.
            DropReason::Closed | DropReason::Filtered | DropReason::NoSession
                if self.config.reset_unknown && self.is_severed(frame) =>
            {
                self.answer(Answer::Reset, &Quote::of(frame));
            }
            DropReason::Closed | DropReason::Filtered
                if self.config.closed == Closed::Prohibited =>
            {
                self.answer_closed(frame);
            }
            _ => {}
        }
    }

    /// Tells whether a packet goes on with a connection that was cut with its port.
    fn is_severed(&self, frame: &Frame) -> bool {
        let severed = &self.filter.severed;
        let goes_on = |segment: &Segment| matches!(segment, Segment::Tcp(tcp) if !tcp.flags.opens() && !tcp.flags.has(Flags::RST));
        if severed.is_empty(self.tick()) {
            return false;
        }
        match determine_incoming_tuple(frame) {
            Ok(Tuple::Four(incoming)) if goes_on(&incoming.segment) => {
                severed.has_four(&four_tuple(&incoming), self.tick())
            }
            Ok(Tuple::Six(incoming)) if goes_on(&incoming.segment) => {
                let tuple = self.filter.six_tuple(&incoming);
                tuple.is_some_and(|tuple| severed.has_six(&tuple, self.tick()))
            }
            _ => false,
        }
    }

    fn answer_closed(&mut self, frame: &Frame) {
        let Ok(Tuple::Six(incoming)) = determine_incoming_tuple(frame) else {
            return;
        };
        match incoming.segment {
            Segment::Tcp(tcp) if tcp.flags.has(Flags::RST) => {}
            Segment::Tcp(tcp) if tcp.flags.has(Flags::SYN) => {
                if let Some(tuple) = self.filter.six_tuple(&incoming) {
                    self.closed_syns.put(tuple, frame.packet(), self.last_seen);
                }
            }
            _ => self.answer(Answer::Prohibited, &Quote::of(frame)),
        }
    }

    /// Answers the SYNs that have waited for long enough and that still have nowhere to go.
    pub(super) fn answer_closed_syns(&mut self, now: Instant) {
        while let Some(syn) = self.closed_syns.pop_due(now) {
            if !self.is_welcome(&syn) {
                self.answer(Answer::Prohibited, &Quote::whole(&syn.packet));
            }
        }
    }

    /// Tells whether a SYN would pass now, or one like it has passed.
    fn is_welcome(&self, syn: &ClosedSyn) -> bool {
        self.filter.admissions.admit(&syn.tuple).is_ok()
            || self.filter.sessions.find_six(&syn.tuple).is_some()
    }
}
