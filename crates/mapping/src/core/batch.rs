//! The end of a batch, and what must close even if the batch cannot be stored.

use std::collections::BTreeSet;

use super::{Core, Work};
use crate::{
    Anchor, Change, CloseReason, Delta, Gates, GenerationId, Mac, MappingId, Now, PinholeId,
    Requester, Revision,
};

/// What a batch did.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What to store; `None` if nothing changed.
    pub delta: Option<Delta>,
    /// Which followers must come along.
    pub gates: Gates,
    /// What must close whatever becomes of the store.
    pub closings: Closings,
}

/// What a batch closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closings {
    pub(super) generations: BTreeSet<GenerationId>,
    pub(super) leases: BTreeSet<Mac>,
    pub(super) mappings: BTreeSet<MappingId>,
    pub(super) pinholes: BTreeSet<PinholeId>,
}

impl Closings {
    /// Tells whether there is nothing to close.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.generations.is_empty()
            && self.leases.is_empty()
            && self.mappings.is_empty()
            && self.pinholes.is_empty()
    }

    /// Adds what `other` closes.
    pub fn extend(&mut self, other: Self) {
        self.generations.extend(other.generations);
        self.leases.extend(other.leases);
        self.mappings.extend(other.mappings);
        self.pinholes.extend(other.pinholes);
    }
}

impl Core {
    /// Ends a batch: gives it its revision and returns what to store.
    pub fn finish(&mut self, now: Now) -> Batch {
        let mut work = std::mem::take(&mut self.work);
        let gates = work.gates;
        let closings = std::mem::take(&mut work.closings);
        if !work.dirty {
            return Batch {
                delta: None,
                gates,
                closings,
            };
        }
        let snapshot = &mut self.snapshot;
        snapshot.revision = Revision(snapshot.revision.0.saturating_add(1));
        if gates.names {
            snapshot.counters.serial = snapshot.counters.serial.wrapping_add(1).max(1);
        }
        let moves = work.changes.iter().any(changes_a_mapping);
        if moves {
            let id = snapshot.counters.system_update_id;
            snapshot.counters.system_update_id = id.wrapping_add(1);
        }
        let anchor = Anchor {
            boot: snapshot.boot,
            boot_id: self.boot_id,
            mono: now.mono,
            wall: now.wall,
        };
        snapshot.anchors.insert(anchor.boot, anchor);
        snapshot.admission.finish(snapshot.revision);
        self.remember(work.changes);
        let delta = Delta {
            hosts: work.hosts,
            mappings: work.mappings,
            renewals: work.renewals,
            generations: work.generations,
            permissions: work.permissions,
            pinholes: work.pinholes,
            waiting: work.waiting,
            policy: work.policy,
            audit: work.audit,
            meta: self.meta(anchor),
        };
        Batch {
            delta: Some(delta),
            gates,
            closings,
        }
    }

    /// Closes what an earlier batch closed but could not store.
    pub fn close(&mut self, closings: &Closings, now: Now) {
        for id in &closings.mappings {
            let requester = self.snapshot.mapping(*id).map(|mapping| mapping.requester);
            if let Some(requester) = requester {
                self.close_mapping(*id, CloseReason::Removed, requester, now);
            }
        }
        for id in &closings.pinholes {
            let requester = self.snapshot.pinhole(*id).map(|pinhole| pinhole.requester);
            if let Some(requester) = requester {
                self.close_pinhole(*id, CloseReason::Removed, requester, now);
            }
        }
        for mac in &closings.leases {
            self.end_lease(*mac, Requester::Dhcp, now);
        }
        for id in &closings.generations {
            self.withdraw(*id, now);
        }
    }

    pub(super) const fn work(&mut self) -> &mut Work {
        &mut self.work
    }
}

/// U-12: additions, removals and updates count, one step per batch.
const fn changes_a_mapping(change: &Change) -> bool {
    matches!(
        change,
        Change::MappingOpened(_) | Change::MappingClosed { .. } | Change::MappingRenewed(_)
    )
}
