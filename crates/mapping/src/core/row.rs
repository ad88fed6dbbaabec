//! The row of a mapping: its place in the table, its timer, and what of it is to be stored.

use std::sync::Arc;

use super::{Core, Ends};
use crate::snapshot::Row;
use crate::{CloseReason, Instant, Mapping, MappingId, Now};

impl Core {
    /// Puts a mapping into the table; tells whether it was not there.
    ///
    /// A timer that is set for sooner stays as it is, and is set again when it goes off: to move
    /// it with every renewal would cost as much as the rest of the renewal.
    pub(super) fn put_row(&mut self, mapping: Arc<Mapping>) -> bool {
        let id = mapping.id;
        let end = self.end_here(&mapping);
        let (is_new, set) = match self.snapshot.mappings.get_mut(&id) {
            Some(row) => {
                row.mapping = mapping;
                let set = row.due;
                if let (Some(set), Some(end)) = (set, end)
                    && set <= end
                {
                    return false;
                }
                row.due = end;
                (false, set)
            }
            None => {
                let row = Row { mapping, due: end };
                self.snapshot.mappings.insert(id, row);
                (true, None)
            }
        };
        self.move_timer(id, set, end);
        is_new
    }

    /// Takes a mapping out of the table, and out of the store.
    pub(super) fn remove_row(&mut self, id: MappingId) -> Option<Arc<Mapping>> {
        let Row { mapping, due } = self.snapshot.mappings.remove(&id)?;
        self.move_timer(id, due, None);
        let work = self.work();
        work.renewals.remove(&id);
        work.mappings.insert(id, None);
        Some(mapping)
    }

    /// The timer of a mapping went off.
    pub(super) fn end_mapping(&mut self, id: MappingId, now: Now) {
        let Some(row) = self.snapshot.mappings.get_mut(&id) else {
            return;
        };
        row.due = None;
        let mapping = Arc::clone(&row.mapping);
        if self.end_here(&mapping).is_some_and(|end| end <= now.mono) {
            self.close_mapping(id, CloseReason::Expired, mapping.requester, now);
        } else {
            self.put_row(mapping);
        }
    }

    /// Returns when a mapping ends, if that is known on the clock of this boot.
    pub(super) fn end_here(&self, mapping: &Mapping) -> Option<Instant> {
        let boot = self.snapshot.boot;
        mapping
            .expires
            .filter(|expiry| expiry.boot == boot)
            .map(|expiry| expiry.at)
    }

    /// Has a row stored that is new, or of which more is new than a renewal changes.
    pub(super) fn store_row(&mut self, mapping: &Arc<Mapping>) {
        let work = self.work();
        work.renewals.remove(&mapping.id);
        work.mappings.insert(mapping.id, Some(Arc::clone(mapping)));
    }

    /// Has the new end and memo of a mapping stored.
    pub(super) fn store_renewal(&mut self, mapping: &Arc<Mapping>) {
        let work = self.work();
        if let Some(row) = work.mappings.get_mut(&mapping.id) {
            *row = Some(Arc::clone(mapping)); // this batch stores the whole row anyway
        } else {
            work.renewals.insert(mapping.id, Arc::clone(mapping));
        }
    }

    fn move_timer(&mut self, id: MappingId, from: Option<Instant>, to: Option<Instant>) {
        if let Some(from) = from {
            self.ends.remove(&(from, Ends::Mapping(id)));
        }
        if let Some(to) = to {
            self.ends.insert((to, Ends::Mapping(id)));
        }
    }
}
