//! Finds slots by the hash of a key that they hold.

use std::num::NonZeroU32;

use crate::table::{MOST, Slab};

/// Linear hashing (Litwin 1980): values of one bucket are chained through their slots, and for each
/// value over the number of buckets one bucket is split. So an insertion moves the values of one
/// bucket at most, and the load is the same at every size.
///
/// No hash is kept: it takes room in every value. A bucket that is split asks for those of its
/// values, one or two in the mean; a lookup compares what is [`Tagged`] first.
#[derive(Debug)]
pub(crate) struct Index<const KIND: usize> {
    /// Of [`Tagged`]; bare, because only then does the allocator give it without touching it.
    segments: Vec<Box<[Option<NonZeroU32>]>>,
    buckets: u32,
    len: u32,
}

/// A value that is in one index of the kind `KIND`.
pub(crate) trait Chained<const KIND: usize> {
    fn chain(&self) -> Chain;
    fn chain_mut(&mut self) -> &mut Chain;
}

/// The next value of the same bucket.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Chain(Option<Tagged>);

/// The number of a value plus one, and above it eight bits of its hash that choose no bucket: of
/// 256 values that are not looked for, 255 need not be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tagged(NonZeroU32);

impl Tagged {
    const fn new(id: u32, hash: u32) -> Option<Self> {
        match NonZeroU32::new((hash & !MOST) | (id.wrapping_add(1) & MOST)) {
            Some(tagged) if id < MOST => Some(Self(tagged)),
            _ => None,
        }
    }

    const fn id(self) -> u32 {
        (self.0.get() & MOST) - 1
    }

    const fn may_have(self, hash: u32) -> bool {
        (self.0.get() ^ hash) & !MOST == 0
    }
}

impl<const KIND: usize> Index<KIND> {
    pub(crate) fn new() -> Self {
        Self {
            segments: vec![segment()],
            buckets: FEWEST,
            len: 0,
        }
    }

    /// Returns the number with this hash for which `is` holds.
    pub(crate) fn find<T: Chained<KIND>>(
        &self,
        slab: &Slab<T>,
        hash: u32,
        mut is: impl FnMut(&T) -> bool,
    ) -> Option<u32> {
        let mut next = self.head(self.bucket(hash));
        while let Some(found) = next {
            let value = slab.get(found.id())?;
            if found.may_have(hash) && is(value) {
                return Some(found.id());
            }
            next = value.chain().0;
        }
        None
    }

    /// Puts a value in; the caller keeps to one value per key. `hash_of` returns the hash of any
    /// value that is in.
    pub(crate) fn insert<T: Chained<KIND>>(
        &mut self,
        slab: &mut Slab<T>,
        new: u32,
        hash: u32,
        hash_of: impl Fn(&T) -> u32,
    ) {
        let Some(new) = Tagged::new(new, hash) else {
            return;
        };
        self.push(slab, self.bucket(hash), new);
        self.len += 1;
        if self.len > self.buckets {
            self.split(slab, hash_of);
        }
    }

    pub(crate) fn remove<T: Chained<KIND>>(&mut self, slab: &mut Slab<T>, old: u32, hash: u32) {
        let bucket = self.bucket(hash);
        let Some(after) = slab.get(old).map(Chained::chain) else {
            return;
        };
        let is_old = |next: Option<Tagged>| next.is_some_and(|next| next.id() == old);
        let mut next = self.head(bucket);
        if is_old(next) {
            self.set(bucket, after.0);
        } else {
            let before = loop {
                let Some(at) = next else {
                    return;
                };
                next = slab.get(at.id()).and_then(|value| value.chain().0);
                if is_old(next) {
                    break at;
                }
            };
            if let Some(value) = slab.get_mut(before.id()) {
                *value.chain_mut() = after;
            }
        }
        self.len -= 1;
        // Two, because one for each value would leave the load to fall.
        for _ in 0..2 {
            if self.buckets > FEWEST && self.len < self.buckets - self.buckets / 4 {
                self.merge(slab);
            }
        }
    }

    fn split<T: Chained<KIND>>(&mut self, slab: &mut Slab<T>, hash_of: impl Fn(&T) -> u32) {
        let new = self.buckets;
        let parent = parent(new);
        if new.is_multiple_of(SEGMENT) {
            self.segments.push(segment());
        }
        self.buckets += 1;
        let mut next = self.head(parent);
        self.set(parent, None);
        while let Some(at) = next {
            let Some(value) = slab.get(at.id()) else {
                break;
            };
            next = value.chain().0;
            let bucket = self.bucket(hash_of(value));
            self.push(slab, bucket, at);
        }
    }

    /// Puts the values of the last bucket where they were before it was split off.
    fn merge<T: Chained<KIND>>(&mut self, slab: &mut Slab<T>) {
        let old = self.buckets - 1;
        let parent = parent(old);
        let mut next = self.head(old);
        self.set(old, None);
        self.buckets = old;
        while let Some(at) = next {
            next = slab.get(at.id()).and_then(|value| value.chain().0);
            self.push(slab, parent, at);
        }
        if old.is_multiple_of(SEGMENT) {
            self.segments.truncate((old / SEGMENT) as usize);
        }
    }

    fn push<T: Chained<KIND>>(&mut self, slab: &mut Slab<T>, bucket: u32, new: Tagged) {
        let head = self.head(bucket);
        if let Some(value) = slab.get_mut(new.id()) {
            *value.chain_mut() = Chain(head);
            self.set(bucket, Some(new));
        }
    }

    const fn bucket(&self, hash: u32) -> u32 {
        let mask = self.buckets.next_power_of_two() - 1;
        let bucket = hash & mask;
        if bucket < self.buckets {
            bucket
        } else {
            bucket & (mask >> 1)
        }
    }

    fn head(&self, bucket: u32) -> Option<Tagged> {
        let (segment, at) = place(bucket);
        self.segments.get(segment)?.get(at)?.map(Tagged)
    }

    fn set(&mut self, bucket: u32, head: Option<Tagged>) {
        let (segment, at) = place(bucket);
        let segment = self.segments.get_mut(segment);
        if let Some(cell) = segment.and_then(|segment| segment.get_mut(at)) {
            *cell = head.map(|head| head.0);
        }
    }
}

/// Returns the bucket whose values a bucket shares when it is made.
const fn parent(bucket: u32) -> u32 {
    bucket ^ (1 << bucket.ilog2())
}

fn segment() -> Box<[Option<NonZeroU32>]> {
    vec![None; SEGMENT as usize].into_boxed_slice()
}

const fn place(bucket: u32) -> (usize, usize) {
    ((bucket / SEGMENT) as usize, (bucket % SEGMENT) as usize)
}

/// Buckets for which memory is asked at once; the kernel backs the pages that are touched.
const SEGMENT: u32 = 1 << 16;

const FEWEST: u32 = 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    struct Value {
        key: u32,
        chain: Chain,
    }

    impl Chained<0> for Value {
        fn chain(&self) -> Chain {
            self.chain
        }

        fn chain_mut(&mut self) -> &mut Chain {
            &mut self.chain
        }
    }

    /// Keys of few hashes make long chains, keys of many make many buckets.
    #[derive(Clone, Copy)]
    struct Table<'a>(&'a dyn Fn(u32) -> u32);

    impl Table<'_> {
        fn check(self, ops: &[(bool, u32)]) {
            let (mut slab, mut index) = (Slab::new(u32::MAX), Index::<0>::new());
            let mut model = BTreeMap::new();
            for (add, key) in ops {
                let (key, hash) = (*key, self.0(*key));
                let found = index.find(&slab, hash, |value: &Value| value.key == key);
                assert_eq!(found, model.get(&key).copied());
                match found {
                    None if *add => {
                        let chain = Chain::default();
                        let id = slab.insert(Value { key, chain }).unwrap();
                        index.insert(&mut slab, id, hash, |value| self.0(value.key));
                        model.insert(key, id);
                    }
                    Some(id) if !add => {
                        index.remove(&mut slab, id, hash);
                        slab.remove(id);
                        model.remove(&key);
                    }
                    None | Some(_) => {}
                }
                let load = index.len.max(FEWEST);
                assert!(index.len as usize == model.len() && index.buckets <= load * 4 / 3 + 4);
            }
            for (key, id) in model {
                let found = index.find(&slab, self.0(key), |value| value.key == key);
                assert_eq!(found, Some(id));
            }
        }
    }

    proptest! {
        #[test]
        fn index_agrees_with_a_map(ops in prop::collection::vec((any::<bool>(), 0..40_u32), 0..300)) {
            Table(&|key| key % 5).check(&ops);
            Table(&|key| key.wrapping_mul(0x9e37_79b1)).check(&ops);
        }

        #[test]
        fn index_grows_and_shrinks_by_a_bucket_at_a_time(most in 1..4000_u32, least in 0..4000_u32) {
            let grow = (0..most).map(|key| (true, key));
            let shrink = (least.min(most)..most).map(|key| (false, key));
            let again = (0..most).rev().map(|key| (true, key));
            let ops: Vec<_> = grow.chain(shrink).chain(again).collect();
            Table(&|key| key.wrapping_mul(0x9e37_79b1) >> 3).check(&ops);
        }
    }

    #[test]
    fn load_is_the_same_at_every_size() {
        let (mut slab, mut index) = (Slab::new(u32::MAX), Index::<0>::new());
        // no tag tells one from another
        let hash = |key: u32| (key.wrapping_mul(0x9e37_79b1) ^ (key >> 7)) & MOST;
        let mut probes = Vec::new();
        for size in [2_000_u32, 10_000, 50_000, 100_000] {
            for key in slab.len()..size {
                let chain = Chain::default();
                let id = slab.insert(Value { key, chain }).unwrap();
                index.insert(&mut slab, id, hash(key), |value| hash(value.key));
            }
            assert_eq!(index.buckets, size);
            let mut looked_at = 0;
            for key in 0..size {
                let found = index.find(&slab, hash(key), |value| {
                    looked_at += 1;
                    value.key == key
                });
                assert!(found.is_some());
            }
            probes.push(looked_at * 100 / size);
        }
        assert!(probes.iter().all(|probes| *probes < 200), "{probes:?}");
    }

    #[test]
    fn tag_spares_what_has_another_hash() {
        let (mut slab, mut index) = (Slab::new(u32::MAX), Index::<0>::new());
        let hash = |key: u32| key.rotate_right(8);
        for key in 0..256 {
            let chain = Chain::default();
            let id = slab.insert(Value { key, chain }).unwrap();
            index.insert(&mut slab, id, hash(key), |value| hash(value.key));
        }
        for key in 0..256 {
            let found = index.find(&slab, hash(key), |value| {
                assert_eq!(value.key, key, "all are of one bucket");
                true
            });
            assert_eq!(found, Some(key));
        }
    }
}
