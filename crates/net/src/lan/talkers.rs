//! Top talkers: a neighbour that sends so much that datagrams are lost is filtered out for a
//! while, so that only it suffers from the loss.
//!
//! Fair queueing in user space would come too late: the kernel drops what it has no room for
//! before anybody can choose. So the socket's filter drops the packets of the top talker, at the
//! price of some ten instructions for each. A sender that forges another source MAC in every frame
//! cannot be singled out; against that, known hosts have a queue of their own
//! ([`super::Socket::prefer`]).

use std::collections::BTreeMap;
use std::time::Duration;

use mapping::{Instant, Mac};

/// Counts by MAC, and decides who is left out.
#[derive(Debug, Default)]
pub(super) struct Talkers {
    /// When the window under way began.
    since: Option<Instant>,
    counts: BTreeMap<Mac, u32>,
    left_out: Vec<LeftOut>,
}

#[derive(Debug, Clone, Copy)]
struct LeftOut {
    mac: Mac,
    until: Instant,
    /// How long it is left out this time; it doubles for who goes on at once.
    span: Duration,
    silent: bool,
}

impl Talkers {
    /// Takes the senders of a batch.
    pub(super) fn count(&mut self, macs: impl Iterator<Item = Mac>, now: Instant) {
        self.since.get_or_insert(now);
        for mac in macs {
            if self.counts.len() < MOST_COUNTED || self.counts.contains_key(&mac) {
                let count = self.counts.entry(mac).or_default();
                *count = count.saturating_add(1);
            }
        }
    }

    /// Tells whether it is time for [`Self::judge`].
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now >= since + WINDOW)
            || self.wake().is_some_and(|wake| now >= wake)
    }

    /// Returns when the next of them is heard again.
    pub(super) fn wake(&self) -> Option<Instant> {
        let silent = self.left_out.iter().filter(|it| it.silent);
        silent.map(|it| it.until).min()
    }

    /// Ends a window in which `lost` datagrams found no room; tells whether others are left out
    /// than before.
    pub(super) fn judge(&mut self, lost: u32, now: Instant) -> bool {
        self.since = None;
        let counts = std::mem::take(&mut self.counts);
        let mut changed = false;
        for it in &mut self.left_out {
            if it.silent && it.until <= now {
                it.silent = false;
                changed = true;
            }
        }
        // who has kept quiet for as long again starts afresh
        self.left_out
            .retain(|it| it.silent || now < it.until + it.span);
        if lost > 0
            && let Some((mac, count)) = counts.into_iter().max_by_key(|(_, count)| *count)
            && count >= LOUD
        {
            changed |= self.leave_out(mac, now);
        }
        changed
    }

    /// Iterates over those that are not heard now.
    pub(super) fn silent(&self) -> impl Iterator<Item = Mac> {
        let silent = self.left_out.iter().filter(|it| it.silent);
        silent.map(|it| it.mac)
    }

    fn leave_out(&mut self, mac: Mac, now: Instant) -> bool {
        let known = self.left_out.iter().position(|it| it.mac == mac);
        let span = match known.map(|at| self.left_out.swap_remove(at)) {
            Some(before) => before.span.saturating_mul(2).min(LONGEST),
            None => SHORTEST,
        };
        if self.left_out.len() >= MOST_LEFT_OUT {
            return known.is_some();
        }
        self.left_out.push(LeftOut {
            mac,
            until: now + span,
            span,
            silent: true,
        });
        true
    }
}

/// Shorter than the retransmission of any client.
const WINDOW: Duration = Duration::from_millis(20);

/// In one window: 3,200 datagrams a second, which no host of a home has to say.
const LOUD: u32 = 64;

const SHORTEST: Duration = Duration::from_secs(1);

/// Of a host that never stops: then a queue full of it comes once in so long.
const LONGEST: Duration = Duration::from_secs(60);

/// More neighbours than a home has; whoever comes later in a window is not counted.
const MOST_COUNTED: usize = 256;

/// So that the filter stays short.
const MOST_LEFT_OUT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loudest_is_left_out_where_something_was_lost_and_heard_again_later() {
        let mut talkers = Talkers::default();
        let begin = Instant::from_nanos(1_000_000_000);
        let fill = |talkers: &mut Talkers, now| {
            let loud = std::iter::repeat_n(mac(1), 1000);
            talkers.count(loud.chain(std::iter::repeat_n(mac(2), 100)), now);
        };

        fill(&mut talkers, begin);
        assert!(!talkers.is_due(begin) && talkers.is_due(begin + WINDOW));
        assert!(!talkers.judge(0, begin + WINDOW), "nothing was lost");

        fill(&mut talkers, begin);
        assert!(talkers.judge(5, begin + WINDOW));
        assert_eq!(talkers.silent().collect::<Vec<_>>(), [mac(1)]);
        let wake = begin + WINDOW + SHORTEST;
        assert_eq!(talkers.wake(), Some(wake));

        assert!(talkers.is_due(wake) && talkers.judge(0, wake));
        assert_eq!((talkers.silent().count(), talkers.wake()), (0, None));
    }

    #[test]
    fn who_goes_on_is_left_out_for_longer_and_who_stops_begins_afresh() {
        let mut talkers = Talkers::default();
        let mut now = Instant::from_nanos(1_000_000_000);
        let mut spans = Vec::new();
        for _ in 0..8 {
            talkers.count(std::iter::repeat_n(mac(1), 1000), now);
            assert!(talkers.judge(1, now));
            let wake = talkers.wake().unwrap();
            spans.push((wake - now).as_secs());
            now = wake;
            assert!(talkers.judge(0, now));
        }
        assert_eq!(spans, [1, 2, 4, 8, 16, 32, 60, 60]);

        now += LONGEST;
        talkers.judge(0, now);
        talkers.count(std::iter::repeat_n(mac(1), 1000), now);
        assert!(talkers.judge(1, now));
        assert_eq!(talkers.wake(), Some(now + SHORTEST));
    }

    #[test]
    fn quiet_hosts_are_heard_whatever_was_lost() {
        let mut talkers = Talkers::default();
        let now = Instant::from_nanos(1_000_000_000);

        talkers.count((0..=u8::MAX).map(mac), now);
        talkers.count((0..=u8::MAX).map(mac), now);

        assert!(!talkers.judge(1000, now));
        assert_eq!(talkers.silent().count(), 0);
    }

    #[test]
    fn filter_stays_short_whoever_floods() {
        let mut talkers = Talkers::default();
        let now = Instant::from_nanos(1_000_000_000);
        for host in 0..40 {
            talkers.count(std::iter::repeat_n(mac(host), 1000), now);
            talkers.judge(1, now);
        }

        assert_eq!(talkers.silent().count(), MOST_LEFT_OUT);
    }

    fn mac(host: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, host])
    }
}
