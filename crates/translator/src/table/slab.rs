//! Numbered slots.

/// At most `capacity` values, each of which keeps its number until it is removed.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Option<u32>,
    len: u32,
    capacity: u32,
}

#[derive(Debug)]
enum Slot<T> {
    Free { next: Option<u32> },
    Used(T),
}

impl<T> Slab<T> {
    pub(crate) fn with_capacity(capacity: u32) -> Self {
        let slots = Vec::with_capacity(usize::try_from(capacity).unwrap_or(usize::MAX));
        Self {
            slots,
            free: None,
            len: 0,
            capacity,
        }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.len >= self.capacity
    }

    /// Returns one more than the highest number that was ever used.
    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Returns the number of the value, `None` when there is no room.
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        let id = match self.free {
            Some(id) => {
                let slot = self.slots.get_mut(at(id))?;
                let Slot::Free { next } = *slot else {
                    return None;
                };
                self.free = next;
                *slot = Slot::Used(value);
                id
            }
            None => {
                let id = self.end();
                self.slots.push(Slot::Used(value));
                id
            }
        };
        self.len += 1;
        Some(id)
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let slot = self.slots.get_mut(at(id))?;
        match std::mem::replace(slot, Slot::Free { next: self.free }) {
            Slot::Used(value) => {
                self.free = Some(id);
                self.len -= 1;
                Some(value)
            }
            freed @ Slot::Free { .. } => {
                *slot = freed;
                None
            }
        }
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        match self.slots.get(at(id)) {
            Some(Slot::Used(value)) => Some(value),
            Some(Slot::Free { .. }) | None => None,
        }
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        match self.slots.get_mut(at(id)) {
            Some(Slot::Used(value)) => Some(value),
            Some(Slot::Free { .. }) | None => None,
        }
    }
}

fn at(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}
