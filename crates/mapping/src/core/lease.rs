//! Hosts: their leases, addresses and names.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::{Core, Ends};
use crate::{
    AuditAction, Change, CloseReason, DeclineRequest, Grant, Host, Lease, LeaseRequest, Mac, Now,
    Outcome, Refusal, ReleaseRequest, Requester, ServerName, Waits,
};

impl Core {
    pub(super) fn lease(&mut self, request: &LeaseRequest, now: Now) -> (Outcome, Waits) {
        if let Err(refusal) = self.make_room(request, now) {
            return (Outcome::Refused(refusal), Waits::default());
        }
        let known = self.snapshot.host(request.mac).cloned();
        let appeared = known.as_ref().is_none_or(|host| host.lease.is_none());
        let name = self.name_for(request, known.as_deref());
        let renamed = known.as_ref().is_some_and(|host| host.name != name);
        let expires = self.expiry(request.lifetime, now);
        if let Some(lease) = known.as_ref().and_then(|host| host.lease) {
            self.unschedule(lease.expires, Ends::Lease(request.mac));
        }
        let host = Arc::new(Host {
            mac: request.mac,
            name,
            name_pinned: known.as_ref().is_some_and(|host| host.name_pinned),
            addr: request.addr,
            lease: Some(Lease { expires }),
            declared_name: request.declared_name.clone(),
            policy: known.as_ref().and_then(|host| host.policy),
            first_seen: known.as_ref().map_or(now.wall, |host| host.first_seen),
            last_seen: now.wall,
            changed_in: match &known {
                Some(host) if !(appeared || renamed) => host.changed_in,
                Some(_) | None => self.next_revision(),
            },
        });
        self.replace_host(known.as_deref(), &host);
        self.schedule(expires, Ends::Lease(request.mac));
        if appeared {
            self.audit(
                Requester::Dhcp,
                AuditAction::HostAppeared,
                describe(&host),
                now,
            );
            self.record(Change::HostAppeared(Arc::clone(&host)));
            self.admit_static_mappings(host.addr);
            self.touch_names();
        } else if let Some(old) = known.filter(|_| renamed) {
            self.named(&host, old.name.clone(), Requester::Dhcp, now);
        }
        let waits = Waits::for_names(host.changed_in);
        (Outcome::Granted(Grant::Leased(host)), waits)
    }

    pub(super) fn release(&mut self, request: &ReleaseRequest, now: Now) -> (Outcome, Waits) {
        let owned = self
            .snapshot
            .host(request.mac)
            .is_some_and(|host| host.addr == request.addr && host.lease.is_some());
        if !owned {
            return (Outcome::Refused(Refusal::NoLease), Waits::default());
        }
        self.end_lease(request.mac, Requester::Dhcp, now);
        (Outcome::Granted(Grant::Done), Waits::default())
    }

    /// The host moves to its next candidate, or is forgotten if none is free; nobody gets the
    /// declined address for a while.
    pub(super) fn decline(&mut self, request: &DeclineRequest, now: Now) -> (Outcome, Waits) {
        let host = self
            .snapshot
            .host(request.mac)
            .filter(|host| host.addr == request.addr);
        let Some(host) = host.cloned() else {
            return (Outcome::Refused(Refusal::NoLease), Waits::default());
        };
        self.end_lease(request.mac, Requester::Dhcp, now);
        let until = now.mono + DECLINED_FOR;
        self.snapshot.declined.insert(request.addr, until);
        self.ends.insert((until, Ends::Declined(request.addr)));
        // the address is gone, and with it what was bound to it
        self.close_mappings_of(host.addr, Requester::Dhcp, now);
        self.resettle(request.mac);
        (Outcome::Granted(Grant::Done), Waits::default())
    }

    pub(super) fn rename(&mut self, mac: Mac, name: &ServerName, now: Now) -> (Outcome, Waits) {
        let Some(known) = self.snapshot.host(mac).cloned() else {
            return (Outcome::Refused(Refusal::NotFound), Waits::default());
        };
        let taken = self
            .snapshot
            .host_by_name(name)
            .is_some_and(|host| host.mac != mac);
        if taken || name.is_reserved() {
            return (Outcome::Refused(Refusal::NameNotFree), Waits::default());
        }
        let changed_in = if known.name == *name {
            known.changed_in
        } else {
            self.next_revision()
        };
        let host = Arc::new(Host {
            name: name.clone(),
            name_pinned: true,
            changed_in,
            ..Host::clone(&known)
        });
        self.replace_host(Some(&known), &host);
        if known.name != host.name {
            self.named(&host, known.name.clone(), Requester::Cli, now);
        }
        (
            Outcome::Granted(Grant::Done),
            Waits::for_names(host.changed_in),
        )
    }

    /// The host is away: its ports close, its address and name stay its own.
    pub(super) fn end_lease(&mut self, mac: Mac, requester: Requester, now: Now) {
        let Some(known) = self
            .snapshot
            .host(mac)
            .filter(|host| host.lease.is_some())
            .cloned()
        else {
            return;
        };
        if let Some(lease) = known.lease {
            self.unschedule(lease.expires, Ends::Lease(mac));
        }
        for mapping in self
            .snapshot
            .mappings_of(known.addr)
            .cloned()
            .collect::<Vec<_>>()
        {
            if mapping.expires.is_some() {
                self.close_mapping(mapping.id, CloseReason::HostGone, requester, now);
            } else {
                let external = (mapping.server, mapping.protocol, mapping.external_port);
                self.snapshot.admission.remove(&external);
                self.touch_packets();
            }
        }
        self.close_pinholes_of(mac, requester, now);
        self.forget_waiting_of(mac);
        let host = Arc::new(Host {
            lease: None,
            last_seen: now.wall,
            changed_in: self.next_revision(),
            ..Host::clone(&known)
        });
        self.replace_host(Some(&known), &host);
        self.work().closings.leases.insert(mac);
        self.audit(requester, AuditAction::HostGone, describe(&host), now);
        self.record(Change::HostGone(host));
        self.touch_names();
    }

    /// Makes sure that the address is the client's to have.
    fn make_room(&mut self, request: &LeaseRequest, now: Now) -> Result<(), Refusal> {
        let snapshot = &self.snapshot;
        if !snapshot.site.is_leasable(request.addr) || snapshot.is_declined(request.addr) {
            return Err(Refusal::AddressNotFree);
        }
        // H-8: the MAC chooses the address, whatever else the client shows
        if let Some(host) = snapshot.host(request.mac) {
            if host.addr != request.addr {
                return Err(Refusal::AddressNotFree);
            }
            return Ok(());
        }
        let Some(holder) = snapshot.host_by_addr(request.addr).cloned() else {
            return Ok(());
        };
        let bound = holder.lease.is_some() || snapshot.is_kept(&holder);
        if bound || !snapshot.is_full() {
            return Err(Refusal::AddressNotFree);
        }
        self.audit(
            Requester::Dhcp,
            AuditAction::HostGone,
            describe(&holder),
            now,
        );
        self.forget_host(holder.mac);
        Ok(())
    }

    /// An admin's name stays; else what the host declares, told apart by its MAC if taken.
    fn name_for(&self, request: &LeaseRequest, known: Option<&Host>) -> ServerName {
        if let Some(host) = known
            && (host.name_pinned || host.declared_name == request.declared_name)
        {
            return host.name.clone();
        }
        let free = |name: &ServerName| {
            self.snapshot
                .host_by_name(name)
                .is_none_or(|host| host.mac == request.mac)
        };
        let declared = request
            .declared_name
            .as_deref()
            .and_then(ServerName::sanitise);
        let own = ServerName::of_mac(request.mac);
        let [_, _, _, a, b, c] = request.mac.0;
        let wanted = declared.unwrap_or_else(|| own.clone());
        let apart = wanted.with_suffix(&format!("{a:02x}{b:02x}{c:02x}"));
        let counted = (2..=u32::MAX).map(|n| own.with_suffix(&n.to_string()));
        [wanted, apart]
            .into_iter()
            .chain(counted)
            .find(free)
            .unwrap_or(own)
    }

    /// Puts a host into every index, in place of what was known of it.
    pub(super) fn replace_host(&mut self, known: Option<&Host>, host: &Arc<Host>) {
        let snapshot = &mut self.snapshot;
        if let Some(known) = known {
            snapshot.by_name.remove(&known.name);
            snapshot.by_addr.remove(&known.addr);
        }
        snapshot.by_name.insert(host.name.clone(), host.mac);
        snapshot.by_addr.insert(host.addr, host.mac);
        snapshot.hosts.insert(host.mac, Arc::clone(host));
        let work = self.work();
        work.hosts.insert(host.mac, Some(Arc::clone(host)));
        work.dirty = true;
    }

    pub(super) fn close_mappings_of(&mut self, addr: Ipv4Addr, requester: Requester, now: Now) {
        for mapping in self.snapshot.mappings_of(addr).cloned().collect::<Vec<_>>() {
            self.close_mapping(mapping.id, CloseReason::HostGone, requester, now);
        }
    }

    /// Moves a host to its next candidate, or forgets it if none is free.
    pub(super) fn resettle(&mut self, mac: Mac) {
        match self.snapshot.lease_candidate(mac, |_| false) {
            Some(addr) if self.snapshot.host_by_addr(addr).is_none() => self.move_host(mac, addr),
            // an address that another host keeps is given away only to who asks for it
            Some(_) | None => self.forget_host(mac),
        }
    }

    fn move_host(&mut self, mac: Mac, addr: Ipv4Addr) {
        if let Some(known) = self.snapshot.host(mac).cloned() {
            let host = Arc::new(Host {
                addr,
                ..Host::clone(&known)
            });
            self.replace_host(Some(&known), &host);
        }
    }

    fn forget_host(&mut self, mac: Mac) {
        if let Some(host) = self.snapshot.hosts.remove(&mac) {
            self.snapshot.by_name.remove(&host.name);
            self.snapshot.by_addr.remove(&host.addr);
            if let Some(until) = host.policy.and_then(|policy| policy.until) {
                self.unschedule(until, Ends::HostPolicy(mac));
            }
            let work = self.work();
            work.hosts.insert(mac, None);
            work.dirty = true;
            self.forget_permissions_of(mac);
        }
    }

    fn admit_static_mappings(&mut self, addr: Ipv4Addr) {
        for mapping in self.snapshot.mappings_of(addr).cloned().collect::<Vec<_>>() {
            self.admit(&mapping);
            self.touch_packets();
        }
    }

    fn named(&mut self, host: &Arc<Host>, old: ServerName, requester: Requester, now: Now) {
        self.audit(requester, AuditAction::HostNamed, describe(host), now);
        self.record(Change::HostNamed {
            host: Arc::clone(host),
            old,
        });
        self.touch_names();
    }
}

fn describe(host: &Host) -> String {
    format!("{} {} {}", host.mac, host.addr, host.name)
}

/// Long enough that a person finds the device that took the address by itself.
const DECLINED_FOR: Duration = Duration::from_secs(3600);
