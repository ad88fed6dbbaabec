//! The revisioned value that followers act on and requesters read.

use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use imbl::{OrdMap, OrdSet, Vector};
use siphasher::sip::SipHasher13;
use siphasher::sip128::Hasher128 as _;

use crate::admission::Admissions;
use crate::by_internal::ByInternal;
use crate::{
    Admission, AdmissionRule, Anchor, BootNumber, Change, Client, Counters, Expiry, ExternalPort,
    Generation, GenerationId, Host, HostPolicy, Instant, InternalPort, Mac, Mapping, MappingId,
    Now, Permission, Pinhole, PinholeId, PinholeTuple, Policy, Protocol, ServerName, Site, Via,
    Waiting,
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
    pub(crate) mappings: OrdMap<MappingId, Row>,
    pub(crate) by_external: OrdMap<(Ipv4Addr, Protocol, ExternalPort), MappingId>,
    pub(crate) by_internal: ByInternal,
    /// The ports of the WAN's IPv4 address, which all servers share; an inbound and an outbound
    /// mapping of one internal port may have the same (RFC 6887 §11.3).
    pub(crate) by_shared: OrdMap<(Protocol, ExternalPort, bool), MappingId>,
    pub(crate) admission: Admissions,
    pub(crate) waiting: OrdMap<MappingId, Arc<Waiting>>,
    pub(crate) waiting_by: OrdMap<AskKey, MappingId>,
    pub(crate) permissions: OrdMap<PortKey, Permission>,
    pub(crate) pinholes: OrdMap<PinholeId, Arc<Pinhole>>,
    pub(crate) pinholes_by: OrdMap<PinholeTuple, PinholeId>,
    pub(crate) pinholes_of: OrdSet<(Mac, PinholeId)>,
    pub(crate) carriers: Carriers,
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

/// A mapping in the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) mapping: Arc<Mapping>,
    /// For when the core's timer for it is set: at its end or before.
    pub(crate) due: Option<Instant>,
}

/// What permissions are about.
pub(crate) type PortKey = (Mac, Protocol, InternalPort);

/// What waiting requests are about: a port, as a mapping or as a pinhole.
pub(crate) type AskKey = (Mac, Protocol, InternalPort, bool);

/// What is carried besides the translator's packets. What is not carried is not granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carriers {
    /// The WAN's IPv4 address, where forwards from it are carried.
    pub ipv4: Option<Ipv4Addr>,
    /// Whether pinholes to IPv6 hosts are.
    pub pinholes: bool,
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

    /// Returns the host that a client is: the one that owns its IPv4 address, or, for a client
    /// with an IPv6 address, the one whose MAC its frame bears. A MAC that is another host's than
    /// the address makes it nobody.
    #[must_use]
    pub fn host_of(&self, client: Client) -> Option<&Arc<Host>> {
        let host = match client.addr {
            IpAddr::V4(addr) => self.host_by_addr(addr),
            IpAddr::V6(_) => client.mac.and_then(|mac| self.host(mac)),
        };
        host.filter(|host| client.mac.is_none_or(|mac| mac == host.mac))
    }

    /// Tells whether a client shows another MAC than that of the lease of its IPv4 address: an
    /// answer would go to a host that did not ask.
    #[must_use]
    pub fn is_forged(&self, client: Client) -> bool {
        let (IpAddr::V4(addr), Some(mac)) = (client.addr, client.mac) else {
            return false;
        };
        let holder = self.host_by_addr(addr).filter(|host| host.lease.is_some());
        holder.is_some_and(|host| host.mac != mac)
    }

    /// Returns the host that owns a name, here or away.
    #[must_use]
    pub fn host_by_name(&self, name: &ServerName) -> Option<&Arc<Host>> {
        self.by_name.get(name).and_then(|mac| self.host(*mac))
    }

    /// Returns the host, here or away, that a text names: by its label or by its full name in the
    /// zone.
    #[must_use]
    pub fn host_named(&self, text: &str) -> Option<&Arc<Host>> {
        let label = text.strip_suffix(self.site.zone());
        let label = label.and_then(|label| label.strip_suffix('.'));
        let name: ServerName = label.unwrap_or(text).parse().ok()?;
        self.host_by_name(&name)
    }

    /// Iterates over the mappings, by id.
    pub fn mappings(&self) -> impl Iterator<Item = &Arc<Mapping>> {
        self.mappings.values().map(|row| &row.mapping)
    }

    /// Iterates over the mappings from an id on, by id.
    pub fn mappings_from(&self, first: MappingId) -> impl Iterator<Item = &Arc<Mapping>> {
        self.mappings.range(first..).map(|(_, row)| &row.mapping)
    }

    /// Returns how many mappings there are.
    #[must_use]
    pub fn mapping_count(&self) -> usize {
        self.mappings.len()
    }

    /// Returns a mapping.
    #[must_use]
    pub fn mapping(&self, id: MappingId) -> Option<&Arc<Mapping>> {
        self.mappings.get(&id).map(|row| &row.mapping)
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
        self.by_internal
            .of_port((server, protocol, port))
            .filter_map(|id| self.mapping(id))
    }

    /// Iterates over the mappings of a server, by protocol and internal port.
    pub fn mappings_of(&self, server: Ipv4Addr) -> impl Iterator<Item = &Arc<Mapping>> {
        self.by_internal
            .of_server(server)
            .filter_map(|id| self.mapping(id))
    }

    /// Returns the inbound mapping behind a port of the shared IPv4 address.
    #[must_use]
    pub fn mapping_by_shared(
        &self,
        protocol: Protocol,
        port: ExternalPort,
    ) -> Option<&Arc<Mapping>> {
        self.by_shared
            .get(&(protocol, port, false))
            .and_then(|id| self.mapping(*id))
    }

    /// Iterates over the mappings at a port of the shared IPv4 address, the inbound one first.
    pub(crate) fn mappings_by_shared(
        &self,
        protocol: Protocol,
        port: ExternalPort,
    ) -> impl Iterator<Item = &Arc<Mapping>> {
        self.by_shared
            .range((protocol, port, false)..=(protocol, port, true))
            .filter_map(|(_, id)| self.mapping(*id))
    }

    /// Iterates over the inbound mappings at the shared IPv4 address, by protocol and external
    /// port.
    pub fn shared_mappings(&self) -> impl Iterator<Item = &Arc<Mapping>> {
        let inbound = self.by_shared.iter().filter(|((_, _, peer), _)| !peer);
        inbound.filter_map(|(_, id)| self.mapping(*id))
    }

    /// Iterates over what the IPv4 side carries: the inbound and outbound mappings at the shared
    /// IPv4 address of the servers that are here.
    pub fn forwards(&self) -> impl Iterator<Item = &Arc<Mapping>> {
        let all = self.by_shared.values().filter_map(|id| self.mapping(*id));
        all.filter(|mapping| self.carriers.ipv4.is_some() && self.is_here(mapping.host))
    }

    /// Returns what is carried besides the translator's packets.
    #[must_use]
    pub const fn carriers(&self) -> Carriers {
        self.carriers
    }

    /// Iterates over the requests about which a person decides, by id.
    pub fn waiting(&self) -> impl Iterator<Item = &Arc<Waiting>> {
        self.waiting.values()
    }

    /// Returns a request about which a person decides.
    #[must_use]
    pub fn waiting_request(&self, id: MappingId) -> Option<&Arc<Waiting>> {
        self.waiting.get(&id)
    }

    /// Iterates over the requests of a host about which a person decides.
    pub fn waiting_of(&self, host: Mac) -> impl Iterator<Item = &Arc<Waiting>> {
        self.waiting_by
            .range((host, Protocol::Tcp, LOWEST, false)..)
            .take_while(move |((mac, ..), _)| *mac == host)
            .filter_map(|(_, id)| self.waiting.get(id))
    }

    /// Iterates over what people decided about ports.
    pub fn permissions(&self) -> impl Iterator<Item = &Permission> {
        self.permissions.values()
    }

    /// Iterates over what people decided about ports of a host.
    pub fn permissions_of(&self, host: Mac) -> impl Iterator<Item = &Permission> {
        self.permissions
            .range((host, Protocol::Tcp, LOWEST)..)
            .take_while(move |((mac, ..), _)| *mac == host)
            .map(|(_, permission)| permission)
    }

    /// Iterates over the pinholes, by id.
    pub fn pinholes(&self) -> impl Iterator<Item = &Arc<Pinhole>> {
        self.pinholes.values()
    }

    /// Returns a pinhole.
    #[must_use]
    pub fn pinhole(&self, id: PinholeId) -> Option<&Arc<Pinhole>> {
        self.pinholes.get(&id)
    }

    /// Returns the pinhole of a tuple.
    #[must_use]
    pub fn pinhole_by_tuple(&self, tuple: &PinholeTuple) -> Option<&Arc<Pinhole>> {
        self.pinholes_by.get(tuple).and_then(|id| self.pinhole(*id))
    }

    /// Iterates over the pinholes of a host, by id.
    pub fn pinholes_of(&self, host: Mac) -> impl Iterator<Item = &Arc<Pinhole>> {
        self.pinholes_of
            .range((host, PinholeId(0))..)
            .take_while(move |(mac, _)| *mac == host)
            .filter_map(|(_, id)| self.pinhole(*id))
    }

    /// Returns what holds for a host: its own policy, or else what the policy says.
    #[must_use]
    pub fn host_policy(&self, host: &Host) -> HostPolicy {
        let default = self.default_policy();
        host.policy.map_or(default, |own| HostPolicy {
            ports: own.ports.or(default.ports),
            quota: own.quota.or(default.quota),
            ..own
        })
    }

    /// Returns what the policy says about a host that has none of its own.
    #[must_use]
    pub fn default_policy(&self) -> HostPolicy {
        HostPolicy {
            access: self.policy.new_device,
            ports: Some(self.policy.auto_allow),
            quota: Some(self.policy.max_per_device),
            until: None,
        }
    }

    /// Returns the rule of an open external port of a server that is here.
    #[must_use]
    pub fn admission(
        &self,
        server: Ipv4Addr,
        protocol: Protocol,
        port: ExternalPort,
    ) -> Option<&AdmissionRule> {
        self.admission.get(&(server, protocol, port))
    }

    /// Returns what changed in the admission of packets since `old`, an earlier snapshot of the
    /// same writer. Everything that closes comes before everything that opens.
    #[must_use]
    pub fn admission_changes(&self, old: &Self) -> Vec<Admission> {
        self.admission.changes(&old.admission, old.revision)
    }

    /// Iterates over everything that is admitted.
    pub fn admissions(
        &self,
    ) -> impl Iterator<Item = (Ipv4Addr, Protocol, ExternalPort, &AdmissionRule)> {
        self.admission
            .iter()
            .map(|(&(server, protocol, port), rule)| (server, protocol, port, rule))
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

    /// Returns the address at which remotes reach a mapping: that of [`Self::external_address`],
    /// or the shared IPv4 address for a mapping that is reached there alone.
    #[must_use]
    pub fn external_address_of(&self, mapping: &Mapping) -> Option<IpAddr> {
        match mapping.via {
            Via::Ipv4 => self.carriers.ipv4.map(IpAddr::V4),
            Via::Both | Via::Ipv6 => self.external_address(mapping.server).map(IpAddr::V6),
        }
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
    /// MAC onward; else, when every address is bound, that of the host that has been away for
    /// longest, has no mapping, and about which nobody decided anything. Addresses that somebody
    /// declined, or for which `skip` is true, are passed over.
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

    /// Tells whether a host keeps its address while it is away, whoever needs one: it has
    /// mappings, or a person decided about it.
    pub(crate) fn is_kept(&self, host: &Host) -> bool {
        host.policy.is_some()
            || self.mappings_of(host.addr).next().is_some()
            || self.permissions_of(host.mac).next().is_some()
    }

    pub(crate) fn is_here(&self, host: Mac) -> bool {
        self.host(host).is_some_and(|host| host.lease.is_some())
    }

    pub(crate) fn is_full(&self) -> bool {
        let bound = self.by_addr.len().saturating_add(self.declined.len());
        u32::try_from(bound).unwrap_or(u32::MAX) >= self.site.leasable_count()
    }

    fn longest_away(&self, usable: impl Fn(Ipv4Addr) -> bool) -> Option<&Arc<Host>> {
        self.hosts
            .values()
            .filter(|host| host.lease.is_none() && usable(host.addr))
            .filter(|host| !self.is_kept(host))
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

pub(crate) const LOWEST: InternalPort = match InternalPort::new(1) {
    Some(port) => port,
    None => unreachable!(),
};
