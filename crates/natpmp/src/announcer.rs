//! When to tell clients that the gateway lost state or got another address (RFC 6886 §3.2.1,
//! RFC 6887 §14.1.3).

use std::time::Duration;

use mapping::{Epoch, Instant};

/// Says ten times that an announcement is due, each gap twice the last.
///
/// ```text
///            handle_restart            tenth due
///   Quiet ───────────────────► Sending ──────────► Quiet
/// ```
#[derive(Debug)]
pub struct Announcer {
    state: State,
}

impl Announcer {
    /// An announcer that has nothing to say.
    pub const QUIET: Self = Self {
        state: State::Quiet,
    };

    /// How long a whole series takes.
    pub const SERIES: Duration = Duration::from_millis(250 * ((1 << (REPEATS - 1)) - 1));

    /// Starts a new series; a series under way begins again.
    pub const fn handle_restart(&mut self, now: Instant) {
        self.state = State::Sending { sent: 0, due: now };
    }

    /// Returns whether to send an announcement now; early and repeated calls say no.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let State::Sending { sent, due } = self.state else {
            return false;
        };
        if now < due {
            return false;
        }
        let sent = sent.saturating_add(1);
        self.state = if sent < REPEATS {
            let gap = FIRST_GAP * (1 << (sent - 1));
            State::Sending {
                sent,
                due: now + gap,
            }
        } else {
            State::Quiet
        };
        true
    }

    /// Returns when to call [`Self::handle_timeout`] next.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Quiet => None,
            State::Sending { due, .. } => Some(due),
        }
    }
}

/// Tells whether `new` began after `known`, rather than goes on in another boot of the machine.
pub(crate) fn begins_anew(known: Epoch, new: Epoch) -> bool {
    known != new && new.value == Duration::ZERO
}

#[derive(Debug, Clone, Copy)]
enum State {
    Quiet,
    Sending { sent: u32, due: Instant },
}

/// RFC 6886 §3.2.1 and RFC 6887 §14.1.3: ten notifications.
const REPEATS: u32 = 10;

/// RFC 6886 §3.2.1 and RFC 6887 §14.1.3: the first gap is 250 ms and doubles.
const FIRST_GAP: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_is_ten_long_doubles_and_takes_its_time() {
        let mut announcer = Announcer::QUIET;
        let mut now = Instant::from_nanos(0);
        let mut gaps = Vec::new();

        announcer.handle_restart(now);
        assert!(announcer.handle_timeout(now));
        while let Some(due) = announcer.poll_timeout() {
            assert!(!announcer.handle_timeout(now));
            gaps.push(due - now);
            now = due;
            assert!(announcer.handle_timeout(now));
        }

        assert_eq!(gaps.len(), 9);
        assert_eq!(gaps.first(), Some(&FIRST_GAP));
        assert!(gaps.windows(2).all(|pair| pair[1] == pair[0] * 2));
        assert_eq!(gaps.iter().sum::<Duration>(), Announcer::SERIES);
        assert!(!announcer.handle_timeout(now));
    }
}
