//! Counters of a session in little room.

use crate::counters::Traffic;

/// Packets and bytes in 12 bytes: 40 bits for packets and 56 for bytes, either of which stays at its
/// highest value.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally([u32; 3]);

impl Tally {
    pub(crate) fn add(&mut self, traffic: Traffic) {
        let old = self.total();
        let packets = old.packets.saturating_add(traffic.packets).min(MAX_PACKETS);
        let bytes = old.bytes.saturating_add(traffic.bytes).min(MAX_BYTES);
        let (packets_high, packets_low) = halves(packets);
        let (bytes_high, bytes_low) = halves(bytes);
        self.0 = [packets_low, bytes_low, bytes_high << 8 | packets_high];
    }

    pub(crate) const fn total(self) -> Traffic {
        let [packets, bytes, high] = self.0;
        Traffic {
            packets: ((high & 0xff) as u64) << 32 | packets as u64,
            bytes: ((high >> 8) as u64) << 32 | bytes as u64,
        }
    }
}

fn halves(number: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}

const MAX_PACKETS: u64 = (1 << 40) - 1;

const MAX_BYTES: u64 = (1 << 56) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tally_stays_at_its_highest_values() {
        let mut tally = Tally::default();
        let traffic = |packets, bytes| Traffic { packets, bytes };
        let half = 1 << 50;
        for (more, total) in [
            (traffic(1, 40), traffic(1, 40)),
            (traffic(1 << 33, half), traffic((1 << 33) + 1, half + 40)),
            (
                traffic(1 << 40, 1 << 55),
                traffic(MAX_PACKETS, (1 << 55) + half + 40),
            ),
            (traffic(u64::MAX, u64::MAX), traffic(MAX_PACKETS, MAX_BYTES)),
        ] {
            tally.add(more);
            assert_eq!(tally.total(), total);
        }
    }
}
