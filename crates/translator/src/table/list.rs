//! Doubly linked lists whose links live in the slots of a slab.

use crate::table::{Number, Slab, id, number};

/// The neighbours of a slot in one list.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    prev: Option<Number>,
    next: Option<Number>,
}

/// A value that is in one list of the kind `KIND` at a time.
pub(crate) trait Linked<const KIND: usize> {
    fn link(&mut self) -> &mut Link;
    fn peek(&self) -> &Link;
}

/// The ends of a list.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct List<const KIND: usize> {
    head: Option<Number>,
    tail: Option<Number>,
    len: u32,
}

impl<const KIND: usize> List<KIND> {
    pub(crate) fn head(&self) -> Option<u32> {
        self.head.map(id)
    }

    pub(crate) fn tail(&self) -> Option<u32> {
        self.tail.map(id)
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn push_back<T: Linked<KIND>>(&mut self, slab: &mut Slab<T>, new: u32) {
        let number = number(new);
        if let Some(value) = slab.get_mut(new) {
            *value.link() = Link {
                prev: self.tail,
                next: None,
            };
        }
        match self.tail.and_then(|tail| slab.get_mut(id(tail))) {
            Some(tail) => tail.link().next = number,
            None => self.head = number,
        }
        self.tail = number;
        self.len += 1;
    }

    pub(crate) fn unlink<T: Linked<KIND>>(&mut self, slab: &mut Slab<T>, old: u32) {
        let Some(Link { prev, next }) = slab.get(old).map(|value| *value.peek()) else {
            return;
        };
        match prev.and_then(|prev| slab.get_mut(id(prev))) {
            Some(value) => value.link().next = next,
            None => self.head = next,
        }
        match next.and_then(|next| slab.get_mut(id(next))) {
            Some(value) => value.link().prev = prev,
            None => self.tail = prev,
        }
        self.len -= 1;
    }
}
