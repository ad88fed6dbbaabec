//! Mappings by where they lead.

use std::net::Ipv4Addr;

use imbl::{OrdMap, OrdSet};

use crate::snapshot::LOWEST;
use crate::{InternalPort, Mapping, MappingId, Protocol};

/// A port of a server.
pub(crate) type Internal = (Ipv4Addr, Protocol, InternalPort);

/// Returns where a mapping leads.
pub(crate) const fn internal(mapping: &Mapping) -> Internal {
    (mapping.server, mapping.protocol, mapping.internal_port)
}

/// The mappings that lead to each port of a server, oldest first.
///
/// Nearly always it is one, which a look-up by key finds; a range over the tree costs a walk to
/// each of its ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct ByInternal {
    oldest: OrdMap<Internal, MappingId>,
    others: OrdSet<(Internal, MappingId)>,
}

impl ByInternal {
    /// Adds a mapping that may be there.
    pub(crate) fn insert(&mut self, to: Internal, id: MappingId) {
        let oldest = self.oldest.get(&to).copied();
        if oldest.is_none_or(|oldest| id < oldest) {
            self.oldest.insert(to, id);
        }
        if let Some(oldest) = oldest
            && oldest != id
        {
            self.others.insert((to, id.max(oldest)));
        }
    }

    /// Takes out a mapping that may be there.
    pub(crate) fn remove(&mut self, to: Internal, id: MappingId) {
        if self.oldest.get(&to) != Some(&id) {
            self.others.remove(&(to, id));
            return;
        }
        let next = self.others_of(to).next();
        match next {
            Some(next) => {
                self.others.remove(&(to, next));
                self.oldest.insert(to, next);
            }
            None => {
                self.oldest.remove(&to);
            }
        }
    }

    /// Iterates over the mappings that lead to a port.
    pub(crate) fn of_port(&self, to: Internal) -> impl Iterator<Item = MappingId> {
        let oldest = self.oldest.get(&to).copied();
        oldest.into_iter().chain(self.others_of(to))
    }

    /// Iterates over the mappings that lead to a server, by protocol and port.
    pub(crate) fn of_server(&self, server: Ipv4Addr) -> impl Iterator<Item = MappingId> {
        self.oldest
            .range((server, Protocol::Tcp, LOWEST)..)
            .take_while(move |((addr, ..), _)| *addr == server)
            .flat_map(|(to, oldest)| std::iter::once(*oldest).chain(self.others_of(*to)))
    }

    fn others_of(&self, to: Internal) -> impl Iterator<Item = MappingId> {
        let all = (to, MappingId(0))..=(to, MappingId(u64::MAX));
        // An empty tree is common, and a walk into it as dear as into another.
        let range = (!self.others.is_empty()).then(|| self.others.range(all));
        range.into_iter().flatten().map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_a_set_of_tuples(
            changes in prop::collection::vec((any::<bool>(), 0_u8..2, any::<bool>(), 1_u16..3, 0_u64..5), 0..80),
        ) {
            let mut real = ByInternal::default();
            let mut model = BTreeSet::new();
            for (adds, server, is_tcp, port, id) in changes {
                let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
                let to = (server_at(server), protocol, InternalPort::new(port).unwrap());
                let id = MappingId(id);
                if adds {
                    real.insert(to, id);
                    model.insert((to, id));
                } else {
                    real.remove(to, id);
                    model.remove(&(to, id));
                }

                let of_port: Vec<_> = real.of_port(to).collect();
                let expected: Vec<_> = model.iter().filter(|it| it.0 == to).map(|it| it.1).collect();
                prop_assert_eq!(of_port, expected);
                let of_server: Vec<_> = real.of_server(to.0).collect();
                let same = model.iter().filter(|it| it.0.0 == to.0);
                let expected: Vec<_> = same.map(|it| it.1).collect();
                prop_assert_eq!(of_server, expected);
            }
        }
    }

    const fn server_at(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 64, last)
    }
}
