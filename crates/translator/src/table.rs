//! Storage of bounded size for the packet path: nothing here allocates after it was made, and the
//! operating system backs only the pages that are used.

mod index;
mod list;
mod slab;

pub(crate) use index::Index;
pub(crate) use list::{Link, Linked, List};
pub(crate) use slab::Slab;
