//! Packets that leave besides those that are translated in place: pieces of a packet that is too
//! long, answers, probes.

/// A queue of packets, bounded in bytes. One buffer holds them all and is used again when all
/// have left, so that nothing is allocated per packet.
#[derive(Debug)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// Where packets end, in order.
    ends: Vec<usize>,
    /// How many have left.
    popped: usize,
    refused: u64,
}

impl Outbox {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            popped: 0,
            refused: 0,
        }
    }

    /// Adds a packet, offload header first, in parts that follow each other; without room it is
    /// lost and counted.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if self.bytes.len() + len > CAPACITY {
            self.refused = self.refused.wrapping_add(1);
            return;
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.ends.push(self.bytes.len());
    }

    /// Returns the packet that was added first of those that are left.
    pub(crate) fn pop(&mut self) -> Option<&[u8]> {
        let start = match self.popped.checked_sub(1) {
            Some(last) => *self.ends.get(last)?,
            None => 0,
        };
        let Some(end) = self.ends.get(self.popped) else {
            self.bytes.clear();
            self.ends.clear();
            self.popped = 0;
            return None;
        };
        self.popped += 1;
        self.bytes.get(start..*end)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.popped == self.ends.len()
    }

    /// Returns how many packets were lost for want of room.
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }
}

/// Two of the largest packets, cut into the smallest pieces.
const CAPACITY: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_whole_and_in_order() {
        let mut outbox = Outbox::new();
        for _ in 0..2 {
            outbox.push(&[b"ab", b"c"]);
            outbox.push(&[b"d"]);
            assert_eq!(outbox.pop(), Some(&b"abc"[..]));
            outbox.push(&[b"ef"]);
            assert_eq!(outbox.pop(), Some(&b"d"[..]));
            assert_eq!(outbox.pop(), Some(&b"ef"[..]));
            assert_eq!(outbox.pop(), None);
        }
    }

    #[test]
    fn memory_is_bounded_and_what_is_refused_is_counted() {
        let mut outbox = Outbox::new();
        let packet = [0; 65_535];
        for _ in 0..6 {
            outbox.push(&[&packet]);
        }

        assert_eq!(outbox.refused(), 2);
        assert_eq!(
            std::iter::from_fn(|| outbox.pop().map(<[u8]>::len)).count(),
            4
        );
        outbox.push(&[&packet]);
        assert!(outbox.pop().is_some());
    }
}
