//! Finds slots by the hash of a key that they hold.

/// Open addressing with linear probing; a cell holds a hash and a number, so that a probe touches
/// no slot whose hash differs, and a removal shifts back what it would cut off.
#[derive(Debug)]
pub(crate) struct Index {
    /// `hash << 32 | id + 1`, zero when empty.
    cells: Box<[u64]>,
    mask: u32,
}

impl Index {
    /// Makes an index for at most `capacity` numbers; at least half of its cells stay empty.
    pub(crate) fn with_capacity(capacity: u32) -> Self {
        let cells = capacity
            .clamp(1, 1 << 30)
            .saturating_mul(2)
            .next_power_of_two();
        Self {
            cells: vec![0; usize::try_from(cells).unwrap_or(usize::MAX)].into_boxed_slice(),
            mask: cells - 1,
        }
    }

    /// Returns the number with this hash for which `is` holds.
    pub(crate) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = hash & self.mask;
        loop {
            let (found, id) = split(self.cell(at)?)?;
            if found == hash && is(id) {
                return Some(id);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Puts a number in; the caller keeps to the capacity and to one number per key.
    pub(crate) fn insert(&mut self, hash: u32, id: u32) {
        let mut at = hash & self.mask;
        while self.cell(at).is_some_and(|cell| cell != 0) {
            at = (at + 1) & self.mask;
        }
        self.set(at, u64::from(hash) << 32 | u64::from(id + 1));
    }

    pub(crate) fn remove(&mut self, hash: u32, id: u32) {
        let wanted = u64::from(hash) << 32 | u64::from(id + 1);
        let mut hole = hash & self.mask;
        loop {
            match self.cell(hole) {
                Some(cell) if cell == wanted => break,
                None | Some(0) => return,
                Some(_) => hole = (hole + 1) & self.mask,
            }
        }
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            let Some((hash, id)) = self.cell(at).and_then(split) else {
                break;
            };
            // What stands at `at` may move to the hole unless its own place lies between them.
            let from_home = at.wrapping_sub(hash) & self.mask;
            let from_hole = at.wrapping_sub(hole) & self.mask;
            if from_home >= from_hole {
                self.set(hole, u64::from(hash) << 32 | u64::from(id + 1));
                hole = at;
            }
        }
        self.set(hole, 0);
    }

    fn cell(&self, at: u32) -> Option<u64> {
        self.cells.get(usize::try_from(at).ok()?).copied()
    }

    fn set(&mut self, at: u32, value: u64) {
        if let Some(cell) = usize::try_from(at)
            .ok()
            .and_then(|at| self.cells.get_mut(at))
        {
            *cell = value;
        }
    }
}

fn split(cell: u64) -> Option<(u32, u32)> {
    let hash = u32::try_from(cell >> 32).ok()?;
    let id = u32::try_from(cell & 0xffff_ffff).ok()?.checked_sub(1)?;
    Some((hash, id))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn index_agrees_with_a_map(ops in prop::collection::vec((any::<bool>(), 0..24_u32), 0..300)) {
            let mut index = Index::with_capacity(24);
            let mut model = BTreeMap::new();
            for (insert, id) in ops {
                // few hashes near the end of the table: long runs that wrap round
                let hash = 60 + id % 5;
                if !insert {
                    index.remove(hash, id);
                    model.remove(&id);
                } else if model.insert(id, hash).is_none() {
                    index.insert(hash, id);
                }
                for id in 0..24 {
                    let found = index.find(60 + id % 5, |found| found == id);
                    prop_assert_eq!(found, model.contains_key(&id).then_some(id));
                }
            }
        }
    }
}
