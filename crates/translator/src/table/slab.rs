//! Numbered slots.

/// At most `capacity` values, each of which keeps its number until it is removed.
///
/// The slots stand in chunks, which are made when they are needed and given back when they are
/// empty; a new value takes the lowest free number.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// A bit for each chunk that has room.
    roomy: Vec<u64>,
    len: u32,
    capacity: u32,
}

#[derive(Debug)]
struct Chunk<T> {
    slots: Vec<Option<T>>,
    used: [u64; WORDS],
}

impl<T> Slab<T> {
    pub(crate) const fn new(capacity: u32) -> Self {
        Self {
            chunks: Vec::new(),
            roomy: Vec::new(),
            len: 0,
            capacity,
        }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.len >= self.capacity
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// Returns a number above all that are in use.
    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK).unwrap_or(u32::MAX)
    }

    /// Returns the number of the value, `None` when there is no room.
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        let at = self.chunk_with_room();
        let chunk = self.chunks.get_mut(at)?;
        let slot = chunk.insert(value)?;
        if chunk.is_full() {
            self.set_roomy(at, false);
        }
        self.len += 1;
        u32::try_from(at * CHUNK + slot).ok()
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let (at, slot) = place(id);
        let chunk = self.chunks.get_mut(at)?;
        let value = chunk.remove(slot)?;
        let empty = chunk.is_empty();
        if empty && at > 0 {
            chunk.slots = Vec::new();
        }
        self.set_roomy(at, true);
        self.len -= 1;
        while self.chunks.len() > 1 && self.chunks.last().is_some_and(Chunk::is_empty) {
            self.chunks.pop();
            self.set_roomy(self.chunks.len(), false);
        }
        Some(value)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let (at, slot) = place(id);
        self.chunks.get(at)?.slots.get(slot)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (at, slot) = place(id);
        self.chunks.get_mut(at)?.slots.get_mut(slot)?.as_mut()
    }

    fn chunk_with_room(&mut self) -> usize {
        let words = self.roomy.iter().enumerate();
        if let Some((at, word)) = words.into_iter().find(|(_, word)| **word != 0) {
            return at * BITS + lowest(*word);
        }
        self.chunks.push(Chunk {
            slots: Vec::new(),
            used: [0; WORDS],
        });
        let at = self.chunks.len() - 1;
        self.set_roomy(at, true);
        at
    }

    fn set_roomy(&mut self, at: usize, roomy: bool) {
        if self.roomy.len() <= at / BITS {
            self.roomy.resize(at / BITS + 1, 0);
        }
        if let Some(word) = self.roomy.get_mut(at / BITS) {
            let bit = 1 << (at % BITS);
            *word = if roomy { *word | bit } else { *word & !bit };
        }
    }
}

impl<T> Chunk<T> {
    fn is_full(&self) -> bool {
        self.used == [u64::MAX; WORDS]
    }

    fn is_empty(&self) -> bool {
        self.used == [0; WORDS]
    }

    fn insert(&mut self, value: T) -> Option<usize> {
        let (at, word) = self
            .used
            .iter_mut()
            .enumerate()
            .find(|(_, word)| **word != u64::MAX)?;
        let slot = at * BITS + lowest(!*word);
        *word |= *word + 1;
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some(value),
            None => {
                // All at once, because memory that is not yet touched costs nothing.
                self.slots.reserve_exact(CHUNK - self.slots.len());
                self.slots.push(Some(value));
            }
        }
        Some(slot)
    }

    fn remove(&mut self, slot: usize) -> Option<T> {
        let value = self.slots.get_mut(slot)?.take()?;
        if let Some(word) = self.used.get_mut(slot / BITS) {
            *word &= !(1 << (slot % BITS));
        }
        Some(value)
    }
}

const fn place(id: u32) -> (usize, usize) {
    let id = id as usize;
    (id / CHUNK, id % CHUNK)
}

const fn lowest(word: u64) -> usize {
    word.trailing_zeros() as usize
}

/// Slots of a chunk.
const CHUNK: usize = WORDS * BITS;

const WORDS: usize = 4;

const BITS: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slab_agrees_with_a_map(
            grow in 0..2000_u32,
            ops in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..2000),
        ) {
            let mut slab = Slab::new(1500);
            let mut model = BTreeMap::new();
            for value in 0..grow {
                insert(&mut slab, &mut model, value);
            }
            for (value, (add, which)) in (grow..).zip(ops) {
                if add {
                    insert(&mut slab, &mut model, value);
                } else if let Some(id) = pick(&model, which) {
                    prop_assert_eq!(slab.remove(id), model.remove(&id));
                    prop_assert_eq!(slab.remove(id), None);
                }
                prop_assert_eq!(slab.len() as usize, model.len());
            }
            for id in 0..slab.end() + 300 {
                prop_assert_eq!(slab.get(id), model.get(&id));
            }
        }
    }

    #[test]
    fn what_is_empty_is_given_back() {
        let mut slab = Slab::new(u32::MAX);
        for value in 0..10_000_u32 {
            assert_eq!(slab.insert(value), Some(value), "in order");
        }
        for id in 1..10_000 {
            slab.remove(id).unwrap();
        }

        assert_eq!(slab.get(0), Some(&0));
        assert_eq!(slab.chunks.len(), 1);
        assert_eq!(slab.insert(7), Some(1), "the lowest free number");
    }

    fn insert(slab: &mut Slab<u32>, model: &mut BTreeMap<u32, u32>, value: u32) {
        match slab.insert(value) {
            Some(id) => assert_eq!(model.insert(id, value), None),
            None => assert_eq!(model.len(), 1500),
        }
    }

    fn pick(model: &BTreeMap<u32, u32>, which: prop::sample::Index) -> Option<u32> {
        (!model.is_empty()).then(|| *model.keys().nth(which.index(model.len())).unwrap())
    }
}
