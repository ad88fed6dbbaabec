//! Bounded storage whose places are found by number, by hash, or by their neighbours. It grows and
//! shrinks by small pieces, so that no packet waits while much of it moves.

mod index;
mod list;
mod slab;

pub(crate) use index::{Chain, Chained, Index};
pub(crate) use list::{Link, Linked, List};
pub(crate) use slab::Slab;

/// A number plus one, so that an absent one takes no room.
type Number = std::num::NonZeroU32;

const fn number(id: u32) -> Option<Number> {
    Number::new(id.wrapping_add(1))
}

const fn id(number: Number) -> u32 {
    number.get() - 1
}
