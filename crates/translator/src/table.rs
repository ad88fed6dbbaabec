//! Bounded storage whose places are found by number, by hash, or by their neighbours. It grows and
//! shrinks by small pieces, so that no packet waits while much of it moves.

mod index;
mod list;
mod slab;

pub(crate) use index::{Chain, Chained, Index};
pub(crate) use list::{Link, Linked, List};
pub(crate) use slab::Slab;

/// Values of a [`Slab`], so that an [`Index`] has eight bits beside each number.
const MOST: u32 = (1 << 24) - 1;
