//! Packets from the device to the machine and back.

use std::io;

use mapping::Instant;
use net::Parker;
use net::tun::Tun;

use crate::frame::Frame;
use crate::gather::{Gathered, Gatherer};
use crate::translator::Translator;
use crate::verdict::Verdict;

/// The device and what is in the hand between reading and writing.
#[derive(Debug)]
pub(super) struct Pump {
    pub(super) tun: Tun,
    pub(super) frame: Frame,
    gatherer: Gatherer,
    /// The frame holds a packet that nobody has looked at.
    holds_packet: bool,
    /// Packets for which the thread was ready to sleep, since the queue was last seen empty.
    parked: usize,
    /// Packets after these that were there already, since then.
    in_a_row: usize,
    refused: u64,
}

/// How a burst ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Burst {
    /// The device has no more packets, or so it seems.
    Drained,
    /// There may be more, but others want a turn.
    SpentBudget,
}

impl Pump {
    pub(super) fn new(tun: Tun) -> Self {
        Self {
            tun,
            frame: Frame::new(),
            gatherer: Gatherer::new(),
            holds_packet: false,
            parked: 0,
            in_a_row: 0,
            refused: 0,
        }
    }

    /// Returns the name of the device.
    pub(super) fn name(&self) -> &str {
        self.tun.name()
    }

    /// Returns how many packets the device did not take.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Sleeps until the next packet comes, `deadline` has come, or the parker's waker is used.
    /// Tells whether there is a packet, which the next burst begins with.
    pub(super) fn park(
        &mut self,
        parker: &mut Parker,
        deadline: Option<Instant>,
    ) -> io::Result<bool> {
        let space = self.frame.space();
        if let Some(len) = parker.park(deadline, || self.tun.read(space))? {
            self.frame.filled(len);
            self.holds_packet = true;
        }
        Ok(self.holds_packet)
    }

    /// Translates packets until there are none, or others want a turn.
    pub(super) fn burst(&mut self, translator: &mut Translator, now: Instant) -> io::Result<Burst> {
        let burst = self.read(translator, now);
        self.forward_trains(translator, now);
        burst
    }

    /// Writes what the machine sends besides the packets that it translates in place.
    pub(super) fn transmit(&mut self, translator: &mut Translator) {
        while let Some(packet) = translator.poll_transmit() {
            write(&self.tun, packet, &mut self.refused);
        }
    }

    fn read(&mut self, translator: &mut Translator, now: Instant) -> io::Result<Burst> {
        for _ in 0..BUDGET {
            if std::mem::take(&mut self.holds_packet) {
                self.parked += 1;
            } else if self.parked < LONE {
                // The read that may sleep tells as well as one in vain.
                return Ok(Burst::Drained);
            } else if self.read_next()? {
                self.in_a_row = self.in_a_row.saturating_add(1);
            } else {
                self.parked = 0;
                self.in_a_row = 0;
                self.gatherer.forget();
                return Ok(Burst::Drained);
            }
            if self.in_a_row > PATIENCE && self.tun.udp_offload() {
                self.gather(translator, now);
            } else {
                self.forward(translator, now);
            }
        }
        Ok(Burst::SpentBudget)
    }

    /// Reads what is there, if there is anything.
    fn read_next(&mut self) -> io::Result<bool> {
        loop {
            match self.tun.try_read(self.frame.space()) {
                Ok(len) => {
                    self.frame.filled(len);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn gather(&mut self, translator: &mut Translator, now: Instant) {
        let datagram = match self.gatherer.gather(&self.frame) {
            Gathered::Added => return,
            Gathered::Alone(datagram) => datagram,
            Gathered::AfterTrains(datagram) => {
                self.forward_trains(translator, now);
                datagram
            }
        };
        let forwarded = self.forward(translator, now);
        if let Some(datagram) = datagram
            && forwarded
        {
            self.gatherer.remember(&datagram);
        }
    }

    fn forward(&mut self, translator: &mut Translator, now: Instant) -> bool {
        let verdict = translator.handle_packet(&mut self.frame, now);
        let forwarded = carry_out(verdict, &self.frame, &self.tun, &mut self.refused);
        self.transmit(translator);
        forwarded
    }

    fn forward_trains(&mut self, translator: &mut Translator, now: Instant) {
        while let Some(frame) = self.gatherer.poll() {
            let verdict = translator.handle_packet(frame, now);
            carry_out(verdict, frame, &self.tun, &mut self.refused);
        }
        self.transmit(translator);
    }
}

fn carry_out(verdict: Verdict, frame: &Frame, tun: &Tun, refused: &mut u64) -> bool {
    match verdict {
        Verdict::Drop(reason) => tracing::trace!(reason = reason.as_str(), "dropped"),
        Verdict::Hold => {}
        Verdict::Forward => write(tun, frame.bytes(), refused),
    }
    verdict == Verdict::Forward
}

fn write(tun: &Tun, packet: &[u8], refused: &mut u64) {
    if let Err(error) = tun.try_write(packet) {
        *refused = refused.wrapping_add(1);
        tracing::trace!(%error, "lost");
    }
}

/// Packets in a row before others have a turn.
const BUDGET: usize = 64;

/// Packets that come one at a time before the thread looks whether more of them wait.
const LONE: usize = 8;

/// Packets that were there already before datagrams are gathered: who keeps up with what comes
/// gains nothing by it, and passes every packet on as it came.
const PATIENCE: usize = 8;
