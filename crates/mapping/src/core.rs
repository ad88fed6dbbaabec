//! Decides: a [`Request`] in, an [`Outcome`] out, all on a value.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use imbl::{OrdMap, OrdSet, Vector};

#[cfg(doc)]
use crate::UnmapTarget;
use crate::admission::Admissions;
use crate::by_internal::ByInternal;
use crate::snapshot::{CHANGES_KEPT, PortKey};
use crate::{
    Anchor, AuditAction, AuditEntry, BootId, BootNumber, Carriers, Change, CloseReason, Counters,
    Epoch, Expiry, ExternalPort, Gates, Generation, GenerationId, Host, Instant, Mac, Mapping,
    MappingId, Meta, Now, Outcome, Permission, Pinhole, PinholeId, Policy, Protocol, Request,
    Requester, Revision, Site, Snapshot, Waiting, Waits,
};

mod batch;
mod decide;
mod external;
mod lease;
mod map;
mod permit;
mod pinhole;
mod policy;
mod prefix;
mod restore;
mod row;
mod set;
mod shared;
mod unmap;

#[cfg(test)]
mod tests;

pub use batch::{Batch, Closings};
pub use restore::RestoreError;

/// The truth, and the rules by which it changes.
///
/// A batch is decided on a clone; the clone becomes the truth only when [`Self::finish`]'s
/// [`crate::Delta`] is stored.
///
/// ```text
///   clone ──► handle_timeout, handle_request … ──► finish ──► store ──► the new truth
/// ```
#[derive(Debug, Clone)]
pub struct Core {
    snapshot: Snapshot,
    boot_id: BootId,
    /// Ends on this boot's clock, soonest first; for a mapping that was renewed, an earlier one.
    ends: OrdSet<(Instant, Ends)>,
    /// How much of its quota each host uses.
    held: OrdMap<Mac, usize>,
    shared: shared::SharedPorts,
    next_mapping: MappingId,
    next_generation: GenerationId,
    work: Work,
}

/// Why the core wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The clocks must be written down again.
    Anchor,
    /// A mapping, lease or generation ends.
    Expiry,
}

/// What a deadline ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ends {
    Declined(Ipv4Addr),
    Generation(GenerationId),
    HostPolicy(Mac),
    Kept(Protocol, ExternalPort),
    Lease(Mac),
    Mapping(MappingId),
    Permission(PortKey),
    Pinhole(PinholeId),
    Waiting(MappingId),
}

/// What the batch under way has done so far.
#[derive(Debug, Clone, Default)]
struct Work {
    hosts: std::collections::BTreeMap<Mac, Option<Arc<Host>>>,
    mappings: std::collections::BTreeMap<MappingId, Option<Arc<Mapping>>>,
    renewals: std::collections::BTreeMap<MappingId, Arc<Mapping>>,
    generations: std::collections::BTreeMap<GenerationId, Option<Generation>>,
    permissions: std::collections::BTreeMap<PortKey, Option<Permission>>,
    pinholes: std::collections::BTreeMap<PinholeId, Option<Arc<Pinhole>>>,
    waiting: std::collections::BTreeMap<MappingId, Option<Arc<Waiting>>>,
    policy: Option<Arc<Policy>>,
    audit: Vec<AuditEntry>,
    changes: Vec<Change>,
    closings: Closings,
    gates: Gates,
    dirty: bool,
}

impl Core {
    /// Returns a core that knows nothing yet; `key` chooses the addresses of hosts.
    #[must_use]
    pub fn new(site: Site, policy: Policy, key: [u8; 16], boot_id: BootId, now: Now) -> Self {
        let boot = BootNumber(0);
        let epoch = Epoch::starting(boot, now.mono);
        let anchor = Anchor {
            boot,
            boot_id,
            mono: now.mono,
            wall: now.wall,
        };
        let snapshot = Snapshot {
            revision: Revision(0),
            site: Arc::new(site),
            policy: Arc::new(policy),
            key,
            hosts: OrdMap::new(),
            by_addr: OrdMap::new(),
            by_name: OrdMap::new(),
            mappings: OrdMap::new(),
            by_external: OrdMap::new(),
            by_internal: ByInternal::default(),
            by_shared: OrdMap::new(),
            admission: Admissions::default(),
            waiting: OrdMap::new(),
            waiting_by: OrdMap::new(),
            permissions: OrdMap::new(),
            pinholes: OrdMap::new(),
            pinholes_by: OrdMap::new(),
            pinholes_of: OrdSet::new(),
            carriers: Carriers::default(),
            generations: OrdMap::new(),
            wan_addresses: Arc::from([]),
            counters: Counters {
                pcp_epoch: epoch,
                natpmp_epoch: epoch,
                upnp_boot_id: 1,
                system_update_id: 0,
                shared_ipv4: None,
                serial: 1,
            },
            boot,
            anchors: OrdMap::unit(boot, anchor),
            declined: OrdMap::new(),
            names_in: Revision(0),
            packets_in: Revision(0),
            changes: Vector::new(),
            facts_since: Revision(0),
        };
        let work = Work {
            dirty: true,
            ..Work::default()
        };
        Self {
            snapshot,
            boot_id,
            ends: OrdSet::new(),
            held: OrdMap::new(),
            shared: shared::SharedPorts::default(),
            next_mapping: MappingId(1),
            next_generation: GenerationId(1),
            work,
        }
    }

    /// Returns the state with everything decided so far.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Returns the key that the store must keep.
    #[must_use]
    pub const fn key(&self) -> [u8; 16] {
        self.snapshot.key
    }

    /// Decides one request. A refusal has changed nothing, except that of [`UnmapTarget::All`],
    /// which closes what it may (RFC 6886 §3.4).
    pub fn handle_request(&mut self, request: &Request, now: Now) -> (Outcome, Waits) {
        match request {
            Request::Carriers(carriers) => self.carriers(*carriers, now),
            Request::ClosePinhole(close) => self.close_pinholes(close, now),
            Request::Decide(decide) => self.decide(decide, now),
            Request::Decline(decline) => self.decline(decline, now),
            Request::ForgetPermission {
                host,
                protocol,
                internal_port,
                requester,
            } => self.forget_permission((*host, *protocol, *internal_port), *requester, now),
            Request::HostPolicy(policy) => self.set_host_policy(policy, now),
            Request::Lease(lease) => self.lease(lease, now),
            Request::Map(map) => self.map(map, now),
            Request::MapSet(set) => self.map_set(set, now),
            Request::Pinhole(pinhole) => self.pinhole(pinhole, now),
            Request::Prefer(generation) => self.prefer(*generation, now),
            Request::Prefix(prefix) => self.prefix(prefix, now),
            Request::Release(release) => self.release(release, now),
            Request::Rename { host, name } => self.rename(*host, name, now),
            Request::SessionsEnded { requester, target } => {
                self.audit(*requester, AuditAction::SessionsEnded, target.clone(), now);
                self.work.dirty = true;
                (Outcome::Granted(crate::Grant::Done), Waits::default())
            }
            Request::Unmap(unmap) => self.unmap(unmap, now),
            Request::UpdatePinhole(update) => self.update_pinhole(update, now),
            Request::WanAddresses(addresses) => self.wan_addresses(addresses),
        }
    }

    /// Ends what is due; early or twice changes nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        self.thaw(now);
        while let Some(&(at, ends)) = self.ends.get_min() {
            if at > now.mono {
                break;
            }
            self.ends.remove(&(at, ends));
            match ends {
                Ends::Declined(addr) => {
                    self.snapshot.declined.remove(&addr);
                }
                Ends::Generation(id) => self.withdraw(id, now),
                Ends::HostPolicy(mac) => self.end_host_policy(mac, now),
                Ends::Kept(protocol, port) => self.end_kept(protocol, port),
                Ends::Lease(mac) => self.end_lease(mac, Requester::Dhcp, now),
                Ends::Mapping(id) => self.end_mapping(id, now),
                Ends::Permission(key) => self.end_permission(key, now),
                Ends::Pinhole(id) => {
                    let requester = self.snapshot.pinhole(id).map(|pinhole| pinhole.requester);
                    if let Some(requester) = requester {
                        self.close_pinhole(id, CloseReason::Expired, requester, now);
                    }
                }
                Ends::Waiting(id) => self.forget_waiting(id),
            }
        }
        if self.anchor_is_due(now) {
            self.work.dirty = true;
        }
    }

    /// Returns when to call [`Self::handle_timeout`] next, and for which timer. That of a mapping
    /// which was renewed may be early.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let expiry = self.ends.get_min().map(|(at, _)| (*at, Timer::Expiry));
        let anchor = self
            .anchor()
            .map(|anchor| (anchor.mono + ANCHOR_EVERY, Timer::Anchor));
        [expiry, anchor]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    fn anchor(&self) -> Option<&Anchor> {
        self.snapshot.anchors.get(&self.snapshot.boot)
    }

    /// Tells whether the written clocks are old, or the wall clock was set since.
    fn anchor_is_due(&self, now: Now) -> bool {
        self.anchor().is_none_or(|anchor| {
            let run = now.mono.since(anchor.mono);
            let expected = anchor.wall + run;
            let step = expected.since(now.wall).max(now.wall.since(expected));
            run >= ANCHOR_EVERY || step > STEP
        })
    }

    fn next_revision(&self) -> Revision {
        Revision(self.snapshot.revision.0.saturating_add(1))
    }

    fn expiry(&self, after: Duration, now: Now) -> Expiry {
        Expiry {
            boot: self.snapshot.boot,
            at: now.mono + after,
        }
    }

    fn schedule(&mut self, expiry: Expiry, ends: Ends) {
        if expiry.boot == self.snapshot.boot {
            self.ends.insert((expiry.at, ends));
        }
    }

    fn unschedule(&mut self, expiry: Expiry, ends: Ends) {
        if expiry.boot == self.snapshot.boot {
            self.ends.remove(&(expiry.at, ends));
        }
    }

    fn record(&mut self, change: Change) {
        self.work.dirty = true;
        self.work.changes.push(change);
    }

    fn audit(&mut self, requester: Requester, action: AuditAction, target: String, now: Now) {
        self.work.audit.push(AuditEntry {
            at: now.wall,
            requester,
            action,
            target,
        });
    }

    fn touch_names(&mut self) {
        self.work.gates.names = true;
        self.snapshot.names_in = self.next_revision();
    }

    fn touch_packets(&mut self) {
        self.work.gates.packets = true;
        self.snapshot.packets_in = self.next_revision();
    }

    fn meta(&self, anchor: Anchor) -> Meta {
        Meta {
            revision: self.snapshot.revision,
            next_mapping: self.next_mapping,
            next_generation: self.next_generation,
            counters: self.snapshot.counters,
            anchor,
        }
    }

    fn remember(&mut self, changes: Vec<Change>) {
        let revision = self.snapshot.revision;
        for change in changes {
            if self.snapshot.changes.len() >= CHANGES_KEPT
                && let Some((forgotten, _)) = self.snapshot.changes.pop_front()
            {
                self.snapshot.facts_since = forgotten;
            }
            self.snapshot.changes.push_back((revision, change));
        }
    }
}

/// An idle gateway writes its clocks down this often, so that what passes while it is off is
/// known.
const ANCHOR_EVERY: Duration = Duration::from_secs(3600);

/// A jump of the wall clock that is worth writing down.
const STEP: Duration = Duration::from_secs(2);
