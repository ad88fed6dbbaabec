//! What the model, the core and the store say after each step.

use super::*;

impl Run {
    /// What the model and the core say is the same, and every index agrees.
    pub fn compare(&self) {
        let snapshot = self.core.snapshot();
        let left = |ends: u64| ends - self.model.now;
        let seconds = |expiry| snapshot.remaining(expiry, self.now()).as_secs();
        let open: BTreeSet<_> = self
            .model
            .open
            .iter()
            .map(|it| {
                (
                    it.id,
                    it.host,
                    it.internal,
                    it.external,
                    it.via,
                    left(it.ends),
                )
            })
            .collect();
        let listed: BTreeSet<_> = snapshot
            .mappings()
            .map(|it| {
                let (internal, external) = (it.internal_port.get(), it.external_port.get());
                let left = seconds(it.expires.unwrap());
                (it.id.0, number(it.host), internal, external, it.via, left)
            })
            .collect();
        assert_eq!(listed, open);
        for open in &self.model.open {
            let mapping = snapshot.mapping(MappingId(open.id)).unwrap();
            assert_eq!(mapping.filters[..], filters(&open.filters)[..]);
            assert_eq!(mapping.nonce, nonce_of(open.nonce));
            let (server, protocol, port) =
                (mapping.server, mapping.protocol, mapping.external_port);
            let found = snapshot.mapping_by_external(server, protocol, port);
            assert_eq!(found == Some(mapping), open.via.has_ipv6());
            let found = snapshot.mapping_by_shared(protocol, port);
            assert_eq!(found == Some(mapping), open.via.has_ipv4());
            let rule = snapshot.admission(server, protocol, port);
            let rule = rule.filter(|rule| rule.internal == mapping.internal_port);
            assert!(rule.is_some() || !open.via.has_ipv6());
        }
        let by_ipv6 = self.model.open.iter().filter(|it| it.via.has_ipv6());
        assert_eq!(snapshot.admissions().count(), by_ipv6.count());
        let by_ipv4 = self
            .model
            .open
            .iter()
            .filter(|it| it.via.has_ipv4())
            .count();
        assert_eq!(snapshot.shared_mappings().count(), by_ipv4);
        let carried = if self.model.carried { by_ipv4 } else { 0 };
        assert_eq!(snapshot.forwards().count(), carried);
        self.compare_decisions();
        self.compare_pinholes();
        self.compare_stored();
        let names: BTreeSet<_> = snapshot.hosts().map(|host| host.name.clone()).collect();
        let addrs: BTreeSet<_> = snapshot.hosts().map(|host| host.addr).collect();
        let hosts = snapshot.hosts().count();
        assert_eq!((names.len(), addrs.len()), (hosts, hosts));
        let preferred = snapshot.generations().filter(|it| it.preferred);
        assert!(preferred.count() <= 1);
    }

    /// The store holds what is shown, and no end is slept through.
    fn compare_stored(&self) {
        let snapshot = self.core.snapshot();
        let rows = |mappings: &mut dyn Iterator<Item = &Arc<Mapping>>| -> Vec<_> {
            let changed_in = Revision(0);
            let row = |it: &Arc<Mapping>| Mapping {
                changed_in,
                ..Mapping::clone(it)
            };
            mappings.map(row).collect()
        };
        let stored = rows(&mut self.stored.mappings.values());
        assert_eq!(stored, rows(&mut snapshot.mappings()));
        let here = self.stored.meta.unwrap().anchor.boot;
        let ends = snapshot.mappings().filter_map(|it| it.expires);
        let first = ends.filter(|it| it.boot == here).map(|it| it.at).min();
        let wakes = self.core.poll_timeout().map(|(at, _)| at);
        assert!(first.is_none_or(|first| wakes.is_some_and(|wakes| wakes <= first)));
    }

    fn compare_pinholes(&self) {
        let snapshot = self.core.snapshot();
        assert_eq!(snapshot.pinholes().count(), self.model.pinholes.len());
        for known in &self.model.pinholes {
            let pinhole = snapshot.pinhole(PinholeId(known.id)).unwrap();
            let left = snapshot.remaining(pinhole.expires, self.now());
            assert_eq!(pinhole.tuple(), tuple(known.host, known.port));
            assert_eq!(snapshot.pinhole_by_tuple(&pinhole.tuple()), Some(pinhole));
            assert_eq!(pinhole.nonce, nonce_of(known.nonce));
            assert_eq!(pinhole.filters[..], filters(&known.filters)[..]);
            assert_eq!(left.as_secs(), known.ends - self.model.now);
            assert!(
                snapshot
                    .pinholes_of(mac(known.host))
                    .any(|it| it == pinhole)
            );
        }
    }

    fn compare_decisions(&self) {
        let snapshot = self.core.snapshot();
        let seconds = |expiry| snapshot.remaining(expiry, self.now()).as_secs();
        let left = |ends: u64| ends - self.model.now;
        let waiting: BTreeSet<_> = self
            .model
            .waiting
            .iter()
            .map(|it| {
                (
                    it.id,
                    it.wish.host,
                    it.wish.internal,
                    it.pinhole,
                    it.wish.via,
                    left(it.ends),
                )
            })
            .collect();
        let listed: BTreeSet<_> = snapshot
            .waiting()
            .map(|it| {
                let port = it.internal_port.get();
                let pinhole = it.pinhole.is_some();
                let left = seconds(it.expires);
                (it.id.0, number(it.host), port, pinhole, it.via, left)
            })
            .collect();
        assert_eq!(listed, waiting);
        let permissions: BTreeSet<_> = self
            .model
            .permissions
            .iter()
            .map(|((host, port), it)| (*host, *port, it.allow, it.until.map(left)))
            .collect();
        let listed: BTreeSet<_> = snapshot
            .permissions()
            .map(|it| {
                let port = it.internal_port.get();
                (number(it.host), port, it.allow, it.until.map(seconds))
            })
            .collect();
        assert_eq!(listed, permissions);
        for host in snapshot.hosts() {
            let own = self.model.policies.get(&number(host.mac));
            let known = host
                .policy
                .map(|it| (it.access, it.ports, it.quota, it.until.map(seconds)));
            let expected = own.map(|it| (it.access, it.ports, it.quota, it.until.map(left)));
            assert_eq!(known, expected);
        }
    }

    /// A revision is one step, and a gate is touched exactly if what it guards changed.
    pub fn check_batch(&self, before: &mapping::Snapshot, gates: Gates, stored: bool) {
        let after = self.core.snapshot();
        let step = Revision(before.revision().0 + u64::from(stored));
        assert_eq!(after.revision(), step);
        let moved = !after.admission_changes(before).is_empty();
        assert!(!moved || gates.packets);
        assert_eq!(
            gates.names,
            after.counters().serial != before.counters().serial
        );
    }
}
