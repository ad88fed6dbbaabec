//! What a server's epoch tells of lost state.

use mapping::Instant;

/// The last epoch that a server told, and when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Epoch {
    last: Option<(u32, Instant)>,
}

impl Epoch {
    /// Nothing was told yet.
    pub const NEW: Self = Self { last: None };

    /// Takes the epoch time of a PCP response and tells whether it is valid; an invalid one says
    /// that the server may have lost its mappings
    /// ([RFC 6887 §8.5](https://www.rfc-editor.org/rfc/rfc6887#section-8.5)).
    #[must_use]
    pub fn check_pcp(&mut self, told: u32, now: Instant) -> bool {
        let Some((before, at)) = self.last.replace((told, now)) else {
            return true;
        };
        if told.saturating_add(1) < before {
            return false;
        }
        let client = now.since(at).as_secs();
        let server = u64::from(told.saturating_sub(before));
        let behind = client.saturating_add(SLACK) < server.saturating_sub(server / 16);
        let ahead = server.saturating_add(SLACK) < client.saturating_sub(client / 16);
        !behind && !ahead
    }

    /// Takes the seconds since start of epoch of a NAT-PMP packet and tells whether they are
    /// plausible ([RFC 6886 §3.6](https://www.rfc-editor.org/rfc/rfc6886#section-3.6)).
    #[must_use]
    pub fn check_natpmp(&mut self, told: u32, now: Instant) -> bool {
        let Some((before, at)) = self.last.replace((told, now)) else {
            return true;
        };
        let elapsed = now.since(at).as_secs();
        let estimate = u64::from(before).saturating_add(elapsed.saturating_mul(7) / 8);
        u64::from(told).saturating_add(SLACK) >= estimate
    }
}

/// Both RFCs forgive two seconds.
const SLACK: u64 = 2;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn p_10_first_epoch_is_valid_and_one_second_back_is_forgiven() {
        let mut epoch = Epoch::default();

        assert!(epoch.check_pcp(5, at(100)), "the first one");
        assert!(epoch.check_pcp(4, at(100)), "reordered");
        assert!(!epoch.check_pcp(2, at(100)), "two seconds back");
        assert!(epoch.check_pcp(2, at(100)), "the last one told counts");
    }

    #[test]
    fn p_10_clocks_may_differ_by_a_sixteenth_and_two_seconds() {
        for (client, server, valid) in [
            (1600, 1498, true),
            (1600, 1497, false),
            (1498, 1600, true),
            (1497, 1600, false),
            (0, 2, true),
            (0, 3, false),
            (3, 0, false),
            (2, 0, true),
        ] {
            let mut epoch = Epoch::default();
            assert!(epoch.check_pcp(1000, at(50)));

            assert_eq!(
                epoch.check_pcp(1000 + server, at(50 + client)),
                valid,
                "{client} s here, {server} s there"
            );
        }
    }

    #[test]
    fn np_10_estimate_is_seven_eighths_of_the_time_and_two_seconds_are_forgiven() {
        for (told, valid) in [
            (1700, true),
            (1698, true),
            (1697, false),
            (9000, true),
            (0, false),
        ] {
            let mut epoch = Epoch::default();
            assert!(epoch.check_natpmp(1000, at(0)));

            assert_eq!(epoch.check_natpmp(told, at(800)), valid, "{told}");
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::default() + Duration::from_secs(seconds)
    }
}
