//! The way back from what the store holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::map::external;
use super::{Core, Ends};
use crate::by_internal::internal;
use crate::snapshot::Row;
use crate::{
    Anchor, BootId, BootNumber, Epoch, Expiry, Generation, Host, HostPolicy, Image, Lease, Mac,
    Mapping, Now, Permission, Pinhole, Policy, Requester, Revision, Site, Waiting, Wall,
};

impl Core {
    /// Returns the core that the image describes; the first [`Self::finish`] stores what the
    /// restart changed.
    ///
    /// What was computed in an earlier boot of the machine goes on where it stood at the last
    /// commit, less the time that the machine was off. While the wall clock stands before that
    /// commit, so that nobody knows how long, it is frozen; [`Self::handle_timeout`] goes on
    /// with it as soon as the clock is known.
    ///
    /// # Errors
    /// When the image contradicts itself; a store that keeps its constraints never gives one.
    pub fn restore(
        site: Site,
        image: Image,
        boot_id: BootId,
        now: Now,
    ) -> Result<Self, RestoreError> {
        let last = image.anchors.iter().max_by_key(|anchor| anchor.boot);
        let last = *last.ok_or(RestoreError::NoAnchor)?;
        let same = last.boot_id == boot_id;
        let boot = if same {
            last.boot
        } else {
            BootNumber(last.boot.0.saturating_add(1))
        };
        let mut core = Self::new(site, image.policy.clone(), image.key, boot_id, now);
        core.next_mapping = image.meta.next_mapping;
        core.next_generation = image.meta.next_generation;
        let snapshot = &mut core.snapshot;
        snapshot.boot = boot;
        snapshot.revision = image.meta.revision;
        snapshot.counters = image.meta.counters;
        snapshot.anchors = image
            .anchors
            .iter()
            .map(|anchor| (anchor.boot, *anchor))
            .collect();
        let here = Anchor {
            boot,
            boot_id,
            mono: now.mono,
            wall: now.wall,
        };
        snapshot.anchors.insert(boot, here);
        let next = Revision(snapshot.revision.0.saturating_add(1));
        (snapshot.names_in, snapshot.packets_in) = (next, next);
        snapshot.facts_since = next;
        core.restore_rows(image, now)?;
        core.snapshot.admission.forget(next);
        core.thaw(now);
        Ok(core)
    }

    /// Returns the core of an image that was read again because a batch could not be stored.
    ///
    /// What followers have counted goes on from here: revision, serial, SystemUpdateID. What is
    /// not stored is kept: the policy, the WAN addresses, the declined addresses, and the shared
    /// ports that are kept for their hosts. The changes are forgotten, since nobody knows whether
    /// the image holds that batch.
    ///
    /// # Errors
    /// As for [`Self::restore`].
    pub fn reread(&self, mut image: Image, now: Now) -> Result<Self, RestoreError> {
        let shown = &self.snapshot;
        let (seen, stored) = (shown.counters, &mut image.meta.counters);
        stored.serial = later(seen.serial, stored.serial);
        stored.system_update_id = later(seen.system_update_id, stored.system_update_id);
        stored.upnp_boot_id = seen.upnp_boot_id;
        image.meta.revision = image.meta.revision.max(shown.revision);
        let is_stored = image.policy == *shown.policy;
        image.policy = Policy::clone(&shown.policy);
        let mut core = Self::restore(Site::clone(&shown.site), image, self.boot_id, now)?;
        if !is_stored {
            let policy = Arc::clone(&shown.policy);
            core.work().policy = Some(policy);
        }
        core.snapshot.wan_addresses = Arc::clone(&shown.wan_addresses);
        core.snapshot.carriers = shown.carriers;
        core.snapshot.declined = shown.declined.clone();
        core.keep_on(&self.shared);
        for (addr, until) in &shown.declined {
            core.ends.insert((*until, Ends::Declined(*addr)));
        }
        Ok(core)
    }

    /// Counts a start of the program: UPnP's BOOTID rises. Call it once per process.
    pub fn handle_start(&mut self) {
        let id = &mut self.snapshot.counters.upnp_boot_id;
        *id = id.wrapping_add(1).max(1);
        self.work().dirty = true;
    }

    /// Has the clocks written down once more, before the program ends.
    pub const fn handle_stop(&mut self) {
        self.work().dirty = true;
    }

    fn restore_rows(&mut self, image: Image, now: Now) -> Result<(), RestoreError> {
        let changed_in = self.next_revision();
        for host in image.hosts {
            if self.snapshot.host_by_addr(host.addr).is_some()
                || self.snapshot.host_by_name(&host.name).is_some()
            {
                return Err(RestoreError::HostTwice);
            }
            if let Some(lease) = host.lease {
                self.schedule(lease.expires, Ends::Lease(host.mac));
            }
            if let Some(until) = host.policy.and_then(|policy| policy.until) {
                self.schedule(until, Ends::HostPolicy(host.mac));
            }
            self.replace_host(None, &Arc::new(Host { changed_in, ..host }));
        }
        self.restore_mappings(image.mappings, changed_in)?;
        for pinhole in image.pinholes {
            self.snapshot
                .host(pinhole.host)
                .ok_or(RestoreError::MappingWithoutHost)?;
            self.index_pinhole(Arc::new(Pinhole {
                changed_in,
                ..pinhole
            }));
        }
        for waiting in image.waiting {
            self.index_waiting(Arc::new(waiting));
        }
        for permission in image.permissions {
            self.index_permission(permission);
        }
        for generation in image.generations {
            if let Some(expiry) = generation.valid_until {
                self.schedule(expiry, Ends::Generation(generation.id));
            }
            self.snapshot.generations.insert(generation.id, generation);
        }
        self.work().hosts.clear();
        self.leave_old_subnet(now);
        Ok(())
    }

    /// Does what [`Self::insert_mapping`] does for each, one index after the other: in order, an
    /// index grows at its end alone, which takes a fraction of the time.
    fn restore_mappings(
        &mut self,
        rows: Vec<Mapping>,
        changed_in: Revision,
    ) -> Result<(), RestoreError> {
        let mut mappings: Vec<_> = rows
            .into_iter()
            .map(|row| Arc::new(Mapping { changed_in, ..row }))
            .collect();
        let mut held: BTreeMap<Mac, usize> = BTreeMap::new();
        let mut ends = Vec::new();
        for mapping in &mappings {
            let count = held.entry(mapping.host).or_default();
            *count = count.saturating_add(1);
            let due = self.end_here(mapping);
            ends.extend(due.map(|at| (at, Ends::Mapping(mapping.id))));
        }
        self.held.extend(held);
        ends.sort_unstable();
        self.ends.extend(ends);
        let rows = mappings.iter().map(|it| {
            let (mapping, due) = (Arc::clone(it), self.end_here(it));
            (it.id, Row { mapping, due })
        });
        let rows = rows.collect();
        let snapshot = &mut self.snapshot;
        snapshot.mappings = rows;
        mappings.sort_unstable_by_key(|it| (it.server, it.protocol, it.internal_port, it.id));
        for it in &mappings {
            snapshot.by_internal.insert(internal(it), it.id);
        }
        mappings.sort_unstable_by_key(|it| external(it));
        let ipv6 = mappings.iter().filter(|it| it.via.has_ipv6());
        snapshot
            .by_external
            .extend(ipv6.map(|it| (external(it), it.id)));
        let mut owner: Option<Arc<Host>> = None;
        for mapping in &mappings {
            if owner.as_ref().is_none_or(|host| host.mac != mapping.host) {
                owner = self.snapshot.host(mapping.host).cloned();
            }
            let host = owner.as_ref().filter(|host| host.addr == mapping.server);
            let host = host.ok_or(RestoreError::MappingWithoutHost)?;
            if host.lease.is_some() {
                self.admit(mapping);
            }
        }
        mappings.sort_unstable_by_key(|it| it.id);
        for mapping in &mappings {
            self.take_shared(mapping);
        }
        Ok(())
    }

    /// The configuration may have given the LAN another subnet.
    fn leave_old_subnet(&mut self, now: Now) {
        let hosts = self.snapshot.hosts.values();
        let stray = |host: &&Arc<Host>| !self.snapshot.site.is_leasable(host.addr);
        for host in hosts.filter(stray).cloned().collect::<Vec<_>>() {
            self.end_lease(host.mac, Requester::Dhcp, now);
            self.close_mappings_of(host.addr, Requester::Dhcp, now);
            self.resettle(host.mac);
        }
    }

    /// Moves what earlier boots left into this one, if the wall clock is known.
    pub(super) fn thaw(&mut self, now: Now) {
        let boot = self.snapshot.boot;
        let others = self
            .snapshot
            .anchors
            .values()
            .filter(|anchor| anchor.boot != boot);
        let old: BTreeMap<BootNumber, Anchor> =
            others.map(|anchor| (anchor.boot, *anchor)).collect();
        let latest = old.values().map(|anchor| anchor.wall).max();
        if latest.is_none_or(|latest| now.wall < latest.max(PLAUSIBLE)) {
            return;
        }
        let off = |anchor: &Anchor| match anchor.wall < PLAUSIBLE {
            true => Duration::ZERO, // that boot never knew the time
            false => now.wall.since(anchor.wall),
        };
        let moved = |expiry: Expiry| {
            let anchor = old.get(&expiry.boot)?;
            let left = expiry.at.since(anchor.mono).saturating_sub(off(anchor));
            Some(Expiry {
                boot,
                at: now.mono + left,
            })
        };
        self.thaw_hosts(&moved);
        self.thaw_mappings(&moved);
        self.thaw_generations(&moved);
        self.thaw_decisions(&moved);
        self.thaw_pinholes(&moved);
        let counters = self.snapshot.counters;
        let epoch = |epoch: Epoch| {
            let Some(anchor) = old.get(&epoch.at.boot) else {
                return epoch;
            };
            let run = anchor.mono.since(epoch.at.at);
            let value = epoch.value.saturating_add(run).saturating_add(off(anchor));
            Epoch {
                at: Expiry { boot, at: now.mono },
                value,
            }
        };
        self.snapshot.counters.pcp_epoch = epoch(counters.pcp_epoch);
        self.snapshot.counters.natpmp_epoch = epoch(counters.natpmp_epoch);
        for number in old.keys() {
            self.snapshot.anchors.remove(number);
        }
        self.work().dirty = true;
    }

    fn thaw_hosts(&mut self, moved: &dyn Fn(Expiry) -> Option<Expiry>) {
        for host in self.snapshot.hosts.values().cloned().collect::<Vec<_>>() {
            let lease = host.lease.and_then(|lease| moved(lease.expires));
            let until = host.policy.and_then(|policy| policy.until).and_then(moved);
            if lease.is_none() && until.is_none() {
                continue;
            }
            let mut host = Host::clone(&host);
            if let Some(expires) = lease {
                host.lease = Some(Lease { expires });
                self.schedule(expires, Ends::Lease(host.mac));
            }
            if let Some(until) = until {
                host.policy = host.policy.map(|policy| HostPolicy {
                    until: Some(until),
                    ..policy
                });
                self.schedule(until, Ends::HostPolicy(host.mac));
            }
            let host = Arc::new(host);
            self.replace_host(Some(&host), &host);
        }
    }

    fn thaw_mappings(&mut self, moved: &dyn Fn(Expiry) -> Option<Expiry>) {
        for mapping in self.snapshot.mappings().cloned().collect::<Vec<_>>() {
            if let Some(expires) = mapping.expires.and_then(moved) {
                let mapping = Arc::new(Mapping {
                    expires: Some(expires),
                    ..Mapping::clone(&mapping)
                });
                self.put_row(Arc::clone(&mapping));
                self.store_renewal(&mapping);
            }
        }
    }

    fn thaw_decisions(&mut self, moved: &dyn Fn(Expiry) -> Option<Expiry>) {
        for permission in self
            .snapshot
            .permissions
            .values()
            .copied()
            .collect::<Vec<_>>()
        {
            if let Some(until) = permission.until.and_then(moved) {
                let permission = Permission {
                    until: Some(until),
                    ..permission
                };
                self.work()
                    .permissions
                    .insert(permission.key(), Some(permission));
                self.index_permission(permission);
            }
        }
        for waiting in self.snapshot.waiting.values().cloned().collect::<Vec<_>>() {
            if let Some(expires) = moved(waiting.expires) {
                let waiting = Arc::new(Waiting {
                    expires,
                    ..Waiting::clone(&waiting)
                });
                self.work()
                    .waiting
                    .insert(waiting.id, Some(Arc::clone(&waiting)));
                self.index_waiting(waiting);
            }
        }
    }

    fn thaw_pinholes(&mut self, moved: &dyn Fn(Expiry) -> Option<Expiry>) {
        for pinhole in self.snapshot.pinholes.values().cloned().collect::<Vec<_>>() {
            if let Some(expires) = moved(pinhole.expires) {
                let pinhole = Arc::new(Pinhole {
                    expires,
                    ..Pinhole::clone(&pinhole)
                });
                self.work()
                    .pinholes
                    .insert(pinhole.id, Some(Arc::clone(&pinhole)));
                self.index_pinhole(pinhole);
            }
        }
    }

    fn thaw_generations(&mut self, moved: &dyn Fn(Expiry) -> Option<Expiry>) {
        for generation in self
            .snapshot
            .generations
            .values()
            .copied()
            .collect::<Vec<_>>()
        {
            if let Some(valid_until) = generation.valid_until.and_then(moved) {
                let generation = Generation {
                    valid_until: Some(valid_until),
                    ..generation
                };
                self.schedule(valid_until, Ends::Generation(generation.id));
                self.work()
                    .generations
                    .insert(generation.id, Some(generation));
                self.snapshot.generations.insert(generation.id, generation);
            }
        }
    }
}

/// Returns the number that was counted later (RFC 1982 §3.2).
const fn later(a: u32, b: u32) -> u32 {
    if a.wrapping_sub(b) < 1 << 31 { a } else { b }
}

/// Why an image cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Two hosts share a name or an address.
    #[error("two hosts share a name or an address")]
    HostTwice,
    /// A mapping belongs to no host, or to one with another address.
    #[error("a mapping belongs to no host")]
    MappingWithoutHost,
    /// The clocks were never written down.
    #[error("the clocks were never written down")]
    NoAnchor,
}

/// 2026-01-01: a wall clock before it was never set.
const PLAUSIBLE: Wall = Wall::from_secs(1_767_225_600);

#[cfg(test)]
mod tests;
