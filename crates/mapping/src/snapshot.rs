//! The revisioned value that followers act on and requesters read.

use std::hash::Hasher as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet, Vector};
use siphasher::sip::SipHasher13;
use siphasher::sip128::Hasher128 as _;

use crate::{
    Anchor, BootNumber, Change, Counters, Expiry, ExternalPort, Generation, GenerationId, Host,
    Instant, InternalPort, Mac, Mapping, MappingId, Now, Policy, Protocol, ServerName, Site,
};

/// Counts the published states; a later state has a higher number, over restarts too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// Everything that is true at one revision. Cloning costs a few reference counts.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) revision: Revision,
    pub(crate) site: Arc<Site>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) key: [u8; 16],
    pub(crate) hosts: OrdMap<Mac, Arc<Host>>,
    pub(crate) by_addr: OrdMap<Ipv4Addr, Mac>,
    pub(crate) by_name: OrdMap<ServerName, Mac>,
    pub(crate) mappings: OrdMap<MappingId, Arc<Mapping>>,
    pub(crate) by_external: OrdMap<(Ipv4Addr, Protocol, ExternalPort), MappingId>,
    pub(crate) by_internal: OrdSet<(Ipv4Addr, Protocol, InternalPort, MappingId)>,
    pub(crate) admission: OrdMap<(Ipv4Addr, Protocol, ExternalPort), InternalPort>,
    pub(crate) generations: OrdMap<GenerationId, Generation>,
    pub(crate) wan_addresses: Arc<[Ipv6Addr]>,
    pub(crate) counters: Counters,
    pub(crate) boot: BootNumber,
    pub(crate) anchors: OrdMap<BootNumber, Anchor>,
    pub(crate) declined: OrdMap<Ipv4Addr, Instant>,
    pub(crate) names_in: Revision,
    pub(crate) packets_in: Revision,
    pub(crate) changes: Vector<(Revision, Change)>,
    /// Who has seen this revision finds every later fact in `changes`.
    pub(crate) facts_since: Revision,
}

/// A change of what the translator passes, see [`Snapshot::admission_changes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Packets to (server, protocol, external port) stop.
    Close(Ipv4Addr, Protocol, ExternalPort),
    /// Packets to (server, protocol, external port) go to the internal port.
    Open(Ipv4Addr, Protocol, ExternalPort, InternalPort),
}

impl Snapshot {
    /// Returns the revision.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the last revision that changed the zone.
    #[must_use]
    pub const fn names_revision(&self) -> Revision {
        self.names_in
    }

    /// Returns the last revision that changed what passes.
    #[must_use]
    pub const fn packets_revision(&self) -> Revision {
        self.packets_in
    }

    /// Returns the LAN that is served.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Returns the policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the counters.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns PCP's epoch time (RFC 6887 §8.5).
    #[must_use]
    pub fn pcp_epoch(&self, now: Now) -> u32 {
        self.counters.pcp_epoch.seconds(self.boot, now.mono)
    }

    /// Returns NAT-PMP's seconds since the start of epoch (RFC 6886 §3.6).
    #[must_use]
    pub fn natpmp_epoch(&self, now: Now) -> u32 {
        self.counters.natpmp_epoch.seconds(self.boot, now.mono)
    }

    /// Iterates over the hosts, by MAC.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.hosts.values()
    }

    /// Returns a host.
    #[must_use]
    pub fn host(&self, mac: Mac) -> Option<&Arc<Host>> {
        self.hosts.get(&mac)
    }

    /// Returns the host that owns an address, here or away.
    #[must_use]
    pub fn host_by_addr(&self, addr: Ipv4Addr) -> Option<&Arc<Host>> {
        self.by_addr.get(&addr).and_then(|mac| self.host(*mac))
    }

    /// Returns the host that owns a name, here or away.
    #[must_use]
    pub fn host_by_name(&self, name: &ServerName) -> Option<&Arc<Host>> {
        self.by_name.get(name).and_then(|mac| self.host(*mac))
    }

    /// Iterates over the mappings, by id.
    pub fn mappings(&self) -> impl Iterator<Item = &Arc<Mapping>> {
        self.mappings.values()
    }

    /// Returns how many mappings there are.
    #[must_use]
    pub fn mapping_count(&self) -> usize {
        self.mappings.len()
    }

    /// Returns a mapping.
    #[must_use]
    pub fn mapping(&self, id: MappingId) -> Option<&Arc<Mapping>> {
        self.mappings.get(&id)
    }

    /// Returns the mapping behind an external port of a server.
    #[must_use]
    pub fn mapping_by_external(
        &self,
        server: Ipv4Addr,
        protocol: Protocol,
        port: ExternalPort,
    ) -> Option<&Arc<Mapping>> {
        self.by_external
            .get(&(server, protocol, port))
            .and_then(|id| self.mapping(*id))
    }

    /// Iterates over the mappings that lead to an internal port of a server, oldest first.
    pub fn mappings_by_internal(
        &self,
        server: Ipv4Addr,
        protocol: Protocol,
        port: InternalPort,
    ) -> impl Iterator<Item = &Arc<Mapping>> {
        let key = |id| (server, protocol, port, MappingId(id));
        self.by_internal
            .range(key(0)..=key(u64::MAX))
            .filter_map(|(_, _, _, id)| self.mapping(*id))
    }

    /// Iterates over the mappings of a server, by protocol and internal port.
    pub fn mappings_of(&self, server: Ipv4Addr) -> impl Iterator<Item = &Arc<Mapping>> {
        self.by_internal
            .range((server, Protocol::Tcp, LOWEST, MappingId(0))..)
            .take_while(move |(addr, ..)| *addr == server)
            .filter_map(|(_, _, _, id)| self.mapping(*id))
    }

    /// Returns the internal port behind an open external port of a server that is here.
    #[must_use]
    pub fn admission(
        &self,
        server: Ipv4Addr,
        protocol: Protocol,
        port: ExternalPort,
    ) -> Option<InternalPort> {
        self.admission.get(&(server, protocol, port)).copied()
    }

    /// Iterates over what changed in the admission of packets since `old`; what both share is
    /// not looked at. Everything that closes comes before everything that opens.
    #[must_use]
    pub fn admission_changes(&self, old: &Self) -> Vec<Admission> {
        let mut closed = Vec::new();
        let mut opened = Vec::new();
        for item in old.admission.diff(&self.admission) {
            match item {
                DiffItem::Add(&(server, protocol, port), &internal) => {
                    opened.push(Admission::Open(server, protocol, port, internal));
                }
                DiffItem::Remove(&(server, protocol, port), _) => {
                    closed.push(Admission::Close(server, protocol, port));
                }
                DiffItem::Update {
                    new: (&(server, protocol, port), &internal),
                    ..
                } => {
                    closed.push(Admission::Close(server, protocol, port));
                    opened.push(Admission::Open(server, protocol, port, internal));
                }
            }
        }
        closed.append(&mut opened);
        closed
    }

    /// Iterates over everything that is admitted.
    pub fn admissions(
        &self,
    ) -> impl Iterator<Item = (Ipv4Addr, Protocol, ExternalPort, InternalPort)> {
        self.admission
            .iter()
            .map(|(&(server, protocol, port), &to)| (server, protocol, port, to))
    }

    /// Iterates over the prefix generations that the translator accepts, oldest first.
    pub fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.generations.values()
    }

    /// Returns the generation that DNS publishes.
    #[must_use]
    pub fn preferred(&self) -> Option<&Generation> {
        self.generations
            .values()
            .find(|generation| generation.preferred)
    }

    /// Returns the newest generation if it waits to become the preferred one.
    #[must_use]
    pub fn to_prefer(&self) -> Option<&Generation> {
        let open_ended = |generation: &&Generation| generation.valid_until.is_none();
        self.generations
            .values()
            .rev()
            .find(open_ended)
            .filter(|newest| !newest.preferred)
    }

    /// Returns the address at which remotes reach a server: in the preferred NSP, or in the
    /// newest valid one while none is preferred.
    #[must_use]
    pub fn external_address(&self, server: Ipv4Addr) -> Option<Ipv6Addr> {
        self.preferred()
            .or_else(|| self.generations.values().next_back())
            .map(|generation| generation.nsp.embed(server))
    }

    /// Returns the gateway's own global addresses on the WAN.
    #[must_use]
    pub fn wan_addresses(&self) -> &[Ipv6Addr] {
        &self.wan_addresses
    }

    /// Returns what is left until an expiry. What was left in an earlier boot stands still until
    /// the wall clock is known.
    #[must_use]
    pub fn remaining(&self, expiry: Expiry, now: Now) -> Duration {
        if expiry.boot == self.boot {
            return expiry.at.since(now.mono);
        }
        self.anchors
            .get(&expiry.boot)
            .map_or(Duration::ZERO, |anchor| expiry.at.since(anchor.mono))
    }

    /// Returns the facts since `revision`, oldest first, `None` if they are forgotten: then
    /// look at the whole snapshot.
    #[must_use]
    pub fn changes_since(&self, revision: Revision) -> Option<Vec<(Revision, Change)>> {
        if revision >= self.revision {
            return Some(Vec::new());
        }
        if revision < self.facts_since {
            return None;
        }
        let newer = self
            .changes
            .iter()
            .rev()
            .take_while(|(at, _)| *at > revision)
            .count();
        let start = self.changes.len().saturating_sub(newer);
        Some(self.changes.iter().skip(start).cloned().collect())
    }

    /// Returns the facts that are remembered, oldest first.
    pub fn recent_changes(&self) -> impl Iterator<Item = &(Revision, Change)> {
        self.changes.iter()
    }

    /// Returns the address for a MAC: its own; else the first free one from a keyed hash of the
    /// MAC onward; else, when every address is bound, that of the host which is away for longest
    /// and has no mapping. Addresses that somebody declined or that `skip` names are passed over.
    #[must_use]
    pub fn lease_candidate(&self, mac: Mac, skip: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let usable = |addr| !self.declined.contains_key(&addr) && !skip(addr);
        if let Some(host) = self.host(mac) {
            let addr = host.addr;
            if self.site.is_leasable(addr) && !self.declined.contains_key(&addr) {
                return Some(addr);
            }
        }
        if self.is_full() {
            return self.longest_away(usable).map(|host| host.addr);
        }
        let first = hash(self.key, mac);
        (0..u64::from(self.site.leasable_count()))
            .map(|step| self.site.leasable(first.wrapping_add(step)))
            .find(|addr| usable(*addr) && !self.by_addr.contains_key(addr))
    }

    /// Returns a secret for one purpose, the same over restarts; it tells nothing of the key that
    /// chooses addresses.
    #[must_use]
    pub fn secret(&self, purpose: &str) -> [u8; 16] {
        let mut hasher = siphasher::sip128::SipHasher24::new_with_key(&self.key);
        hasher.write(purpose.as_bytes());
        hasher.finish128().as_bytes()
    }

    /// Tells whether `addr` was declined a short while ago.
    #[must_use]
    pub fn is_declined(&self, addr: Ipv4Addr) -> bool {
        self.declined.contains_key(&addr)
    }

    pub(crate) fn is_full(&self) -> bool {
        let bound = self.by_addr.len().saturating_add(self.declined.len());
        u32::try_from(bound).unwrap_or(u32::MAX) >= self.site.leasable_count()
    }

    fn longest_away(&self, usable: impl Fn(Ipv4Addr) -> bool) -> Option<&Arc<Host>> {
        self.hosts
            .values()
            .filter(|host| host.lease.is_none() && usable(host.addr))
            .filter(|host| self.mappings_of(host.addr).next().is_none())
            .min_by_key(|host| host.last_seen)
    }
}

/// Spreads MACs over the addresses; the key keeps a neighbour from choosing a MAC that collides.
fn hash(key: [u8; 16], mac: Mac) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&key);
    hasher.write(&mac.0);
    hasher.finish()
}

/// A slow reader may fall this many facts behind before it must look at the whole snapshot.
pub(crate) const CHANGES_KEPT: usize = 1024;

const LOWEST: InternalPort = match InternalPort::new(1) {
    Some(port) => port,
    None => unreachable!(),
};
