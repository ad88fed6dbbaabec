//! What the snapshot wants to be open at the upstream gateways.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use mapping::{Admission, ExternalPort, Filters, Generation, Mapping, Nsp, Protocol, Snapshot};

use crate::port::PortKey;

/// Follows snapshots; what two of them share costs nothing.
#[derive(Debug, Default)]
pub struct Wanted {
    seen: Option<Arc<Snapshot>>,
}

/// What changed, closings first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Ports that are wanted no more.
    pub close: Vec<PortKey>,
    /// Ports that are wanted.
    pub open: Vec<Wish>,
}

/// A port that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which port.
    pub key: PortKey,
    /// The server of ours behind it.
    pub server: Ipv4Addr,
    /// Who may come in.
    pub filters: Filters,
}

impl Wanted {
    /// Returns what changed since the snapshot before: each open port at each prefix that is
    /// accepted, also while a prefix is on its way out; and each forward at our IPv4 address.
    pub fn handle_snapshot(&mut self, snapshot: &Arc<Snapshot>) -> Wishes {
        let old = self.seen.replace(Arc::clone(snapshot));
        let mut changes = Changes::default();
        admitted(old.as_deref(), snapshot, &mut changes);
        forwarded(old.as_deref(), snapshot, &mut changes);
        changes.wishes()
    }
}

fn admitted(old: Option<&Snapshot>, new: &Snapshot, changes: &mut Changes) {
    let prefixes = |snapshot: &Snapshot| snapshot.generations().map(nsp).collect::<Vec<_>>();
    let (before, after) = (old.map(prefixes).unwrap_or_default(), prefixes(new));
    for gone in before.iter().filter(|nsp| !after.contains(nsp)) {
        for (server, protocol, port, _) in old.iter().flat_map(|old| old.admissions()) {
            changes.close(gone.embed(server).into(), protocol, port);
        }
    }
    for come in after.iter().filter(|nsp| !before.contains(nsp)) {
        for (server, protocol, port, rule) in new.admissions() {
            let addr = come.embed(server).into();
            changes.open(addr, protocol, port, server, &rule.filters);
        }
    }
    let Some(old) = old.filter(|old| old.packets_revision() != new.packets_revision()) else {
        return;
    };
    let stays: Vec<_> = after.iter().filter(|nsp| before.contains(nsp)).collect();
    for change in new.admission_changes(old) {
        for nsp in &stays {
            match &change {
                Admission::Close(server, protocol, port) => {
                    changes.close(nsp.embed(*server).into(), *protocol, *port);
                }
                Admission::Open(server, protocol, port, rule) => {
                    let addr = nsp.embed(*server).into();
                    changes.open(addr, *protocol, *port, *server, &rule.filters);
                }
            }
        }
    }
}

fn forwarded(old: Option<&Snapshot>, new: &Snapshot, changes: &mut Changes) {
    let shared = |snapshot: &Snapshot| snapshot.carriers().ipv4.map(IpAddr::V4);
    let before = old.and_then(shared);
    let same = old.is_some_and(|old| old.packets_revision() == new.packets_revision());
    if same && before == shared(new) {
        return;
    }
    // what PEER made is for the server's own connections: no remote opens one there
    let inbound = |mapping: &&Arc<Mapping>| !mapping.peer;
    if let (Some(old), Some(addr)) = (old, before) {
        for it in old.forwards().filter(inbound) {
            changes.close(addr, it.protocol, it.external_port);
        }
    }
    if let Some(addr) = shared(new) {
        for it in new.forwards().filter(inbound) {
            changes.open(addr, it.protocol, it.external_port, it.server, &it.filters);
        }
    }
}

/// A port that closes and opens in one revision leads to another internal port, which nobody
/// upstream sees.
#[derive(Default)]
struct Changes(BTreeMap<PortKey, Option<(Ipv4Addr, Filters)>>);

impl Changes {
    fn close(&mut self, addr: IpAddr, protocol: Protocol, port: ExternalPort) {
        self.0.insert(
            PortKey {
                addr,
                protocol,
                port,
            },
            None,
        );
    }

    fn open(
        &mut self,
        addr: IpAddr,
        protocol: Protocol,
        port: ExternalPort,
        server: Ipv4Addr,
        filters: &Filters,
    ) {
        let key = PortKey {
            addr,
            protocol,
            port,
        };
        self.0.insert(key, Some((server, Arc::clone(filters))));
    }

    fn wishes(self) -> Wishes {
        let mut wishes = Wishes::default();
        for (key, wanted) in self.0 {
            match wanted {
                None => wishes.close.push(key),
                Some((server, filters)) => wishes.open.push(Wish {
                    key,
                    server,
                    filters,
                }),
            }
        }
        wishes
    }
}

const fn nsp(generation: &Generation) -> Nsp {
    generation.nsp
}

#[cfg(test)]
mod tests;
