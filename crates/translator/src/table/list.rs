//! Doubly linked lists whose links live in the slots of a slab.

use std::num::NonZeroU32;

use crate::table::Slab;

/// The neighbours of a slot in one list; the first and the last are neighbours too.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    prev: Option<NonZeroU32>,
    next: Option<NonZeroU32>,
}

/// A value that is in one list of the kind `KIND` at a time.
pub(crate) trait Linked<const KIND: usize> {
    fn link(&mut self) -> &mut Link;
    fn peek(&self) -> &Link;
}

/// The first of a ring, and how many there are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct List<const KIND: usize> {
    head: Option<NonZeroU32>,
    len: u32,
}

impl<const KIND: usize> List<KIND> {
    pub(crate) fn head(&self) -> Option<u32> {
        self.head.map(id)
    }

    pub(crate) fn tail<T: Linked<KIND>>(&self, slab: &Slab<T>) -> Option<u32> {
        slab.get(self.head()?)?.peek().prev.map(id)
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// Iterates from the head.
    pub(crate) fn iter<T: Linked<KIND>>(&self, slab: &Slab<T>) -> impl Iterator<Item = u32> {
        let next = |at: &NonZeroU32| slab.get(id(*at))?.peek().next;
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        std::iter::successors(self.head, next).take(len).map(id)
    }

    pub(crate) fn push_back<T: Linked<KIND>>(&mut self, slab: &mut Slab<T>, new: u32) {
        let own = number(new);
        let head = self.head.or(own);
        let tail = match self.head {
            None => own,
            Some(head) => slab.get(id(head)).and_then(|value| value.peek().prev),
        };
        set(slab, own, |link| {
            *link = Link {
                prev: tail,
                next: head,
            };
        });
        set(slab, tail, |link| link.next = own);
        set(slab, head, |link| link.prev = own);
        self.head = head;
        self.len += 1;
    }

    /// Makes the first the last.
    pub(crate) fn rotate<T: Linked<KIND>>(&mut self, slab: &Slab<T>) {
        let head = self.head().and_then(|head| slab.get(head));
        if let Some(head) = head {
            self.head = head.peek().next;
        }
    }

    pub(crate) fn unlink<T: Linked<KIND>>(&mut self, slab: &mut Slab<T>, old: u32) {
        let Some(Link { prev, next }) = slab.get(old).map(|value| *value.peek()) else {
            return;
        };
        set(slab, prev, |link| link.next = next);
        set(slab, next, |link| link.prev = prev);
        self.len -= 1;
        if self.len == 0 {
            self.head = None;
        } else if self.head == number(old) {
            self.head = next;
        }
    }
}

fn set<const KIND: usize, T: Linked<KIND>>(
    slab: &mut Slab<T>,
    at: Option<NonZeroU32>,
    change: impl FnOnce(&mut Link),
) {
    if let Some(value) = at.and_then(|at| slab.get_mut(id(at))) {
        change(value.link());
    }
}

/// Returns a number plus one, so that an absent one takes no room.
const fn number(id: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(id.wrapping_add(1))
}

const fn id(number: NonZeroU32) -> u32 {
    number.get() - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Value(Link);

    impl Linked<0> for Value {
        fn link(&mut self) -> &mut Link {
            &mut self.0
        }

        fn peek(&self) -> &Link {
            &self.0
        }
    }

    proptest! {
        #[test]
        fn list_agrees_with_a_vector(
            ops in prop::collection::vec((0..3_u8, any::<prop::sample::Index>()), 0..100),
        ) {
            let (mut slab, mut list) = (Slab::new(u32::MAX), List::<0>::default());
            let mut model = Vec::new();
            for (op, at) in ops {
                if op == 0 && !model.is_empty() {
                    list.rotate(&slab);
                    model.rotate_left(1);
                } else if op == 1 {
                    let id = slab.insert(Value::default()).unwrap();
                    list.push_back(&mut slab, id);
                    model.push(id);
                } else if !model.is_empty() {
                    let id = model.remove(at.index(model.len()));
                    list.unlink(&mut slab, id);
                    slab.remove(id);
                }
                prop_assert_eq!(list.head(), model.first().copied());
                prop_assert_eq!(list.tail(&slab), model.last().copied());
                prop_assert_eq!(list.len() as usize, model.len());
                prop_assert_eq!(list.iter(&slab).collect::<Vec<_>>(), model.clone());
            }
        }
    }
}
