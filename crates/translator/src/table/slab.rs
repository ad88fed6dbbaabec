//! Numbered slots.

use crate::table::MOST;

/// At most `capacity` values, and never more than [`MOST`], each of which keeps its number until it
/// is removed.
///
/// The slots stand in chunks, which are made when they are needed and given back when they are
/// empty; a new value takes the lowest free number. A chunk of `WORDS` times 64 slots is so large that
/// the allocator asks the kernel for each, which backs only what was touched and has it back at
/// once.
#[derive(Debug)]
pub(crate) struct Slab<T, const WORDS: usize = 128> {
    chunks: Vec<Vec<Option<T>>>,
    used: Vec<Used>,
    /// No chunk before it has a free slot.
    first: usize,
    len: u32,
    capacity: u32,
}

/// Which slots of a chunk are in use.
#[derive(Debug)]
struct Used {
    words: Box<[u64]>,
    len: usize,
    /// No word before it has a free slot.
    first: usize,
}

impl<T, const WORDS: usize> Slab<T, WORDS> {
    /// Slots of a chunk.
    const CHUNK: usize = WORDS * BITS;

    pub(crate) const fn new(capacity: u32) -> Self {
        Self {
            chunks: Vec::new(),
            used: Vec::new(),
            first: 0,
            len: 0,
            capacity: if capacity < MOST { capacity } else { MOST },
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
        let slots = self.chunks.last().map_or(0, Vec::len);
        let before = self.chunks.len().saturating_sub(1) * Self::CHUNK;
        u32::try_from(before + slots).unwrap_or(u32::MAX)
    }

    /// Returns the number of the value, `None` when there is no room.
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        let mut chunks = self.used.iter().skip(self.first);
        let at = match chunks.position(|used| used.len < Self::CHUNK) {
            Some(after) => self.first + after,
            None => {
                self.chunks.push(Vec::new());
                self.used.push(Used::new(WORDS));
                self.used.len() - 1
            }
        };
        self.first = at;
        let slot = self.used.get_mut(at)?.take()?;
        let slots = self.chunks.get_mut(at)?;
        match slots.get_mut(slot) {
            Some(place) => *place = Some(value),
            None => {
                slots.reserve_exact(Self::CHUNK - slots.len());
                slots.push(Some(value));
            }
        }
        self.len += 1;
        u32::try_from(at * Self::CHUNK + slot).ok()
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let (at, slot) = Self::place(id);
        let slots = self.chunks.get_mut(at)?;
        let value = slots.get_mut(slot)?.take()?;
        let used = self.used.get_mut(at)?;
        used.give_back(slot);
        self.first = self.first.min(at);
        self.len -= 1;
        if used.len == 0 {
            *slots = Vec::new();
        }
        while self.used.last().is_some_and(|used| used.len == 0) {
            self.chunks.pop();
            self.used.pop();
        }
        Some(value)
    }

    const fn place(id: u32) -> (usize, usize) {
        let id = id as usize;
        (id / Self::CHUNK, id % Self::CHUNK)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let (at, slot) = Self::place(id);
        self.chunks.get(at)?.get(slot)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (at, slot) = Self::place(id);
        self.chunks.get_mut(at)?.get_mut(slot)?.as_mut()
    }
}

impl Used {
    fn new(words: usize) -> Self {
        Self {
            words: vec![0; words].into_boxed_slice(),
            len: 0,
            first: 0,
        }
    }

    /// Takes the lowest free slot.
    fn take(&mut self) -> Option<usize> {
        let words = self.words.iter_mut().enumerate().skip(self.first);
        let (at, word) = words.into_iter().find(|(_, word)| **word != u64::MAX)?;
        let bit = (!*word).trailing_zeros();
        *word |= 1 << bit;
        self.first = at;
        self.len += 1;
        Some(at * BITS + bit as usize)
    }

    fn give_back(&mut self, slot: usize) {
        if let Some(word) = self.words.get_mut(slot / BITS) {
            *word &= !(1 << (slot % BITS));
            self.len -= 1;
            self.first = self.first.min(slot / BITS);
        }
    }
}

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
            ops in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..400),
        ) {
            let mut slab = Slab::<_, 2>::new(1500);
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
        let mut slab = Slab::<_, 2>::new(u32::MAX);
        for value in 0..10_000_u32 {
            assert_eq!(slab.insert(value), Some(value), "in order");
        }
        for id in 1..10_000 {
            slab.remove(id).unwrap();
        }

        assert_eq!(slab.get(0), Some(&0));
        assert_eq!((slab.chunks.len(), slab.end() as usize), (1, 128));
        assert_eq!(slab.insert(7), Some(1), "the lowest free number");
    }

    fn insert(slab: &mut Slab<u32, 2>, model: &mut BTreeMap<u32, u32>, value: u32) {
        match slab.insert(value) {
            Some(id) => assert_eq!(model.insert(id, value), None),
            None => assert_eq!(model.len(), 1500),
        }
    }

    fn pick(model: &BTreeMap<u32, u32>, which: prop::sample::Index) -> Option<u32> {
        (!model.is_empty()).then(|| *model.keys().nth(which.index(model.len())).unwrap())
    }
}
