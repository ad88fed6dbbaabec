//! What is delegated but not assigned must not go back to the provider, who would send it here
//! again: RFC 7084 WPD-5.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use mapping::{Generation, Prefix6};
use net::netlink::{Route, Target};

/// What to change in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Missing routes.
    pub add: Vec<Route>,
    /// Routes of ours to prefixes that are no longer delegated, be it of an earlier run.
    pub remove: Vec<Route>,
}

/// Compares the kernel's routes with what the generations need. The answer "unreachable" tells
/// a remote at once that nobody is there (RFC 7084 WPD-5).
///
/// ```
/// assert_eq!(wan::null_routes::plan(&[], &[]), wan::null_routes::Plan::default());
/// ```
#[must_use]
pub fn plan(routes: &[Route], generations: &[Generation]) -> Plan {
    let wanted: BTreeSet<Prefix6> = generations
        .iter()
        .map(|generation| generation.delegated)
        .collect();
    let there: BTreeSet<Prefix6> = routes.iter().filter_map(ours).collect();
    Plan {
        add: wanted.difference(&there).copied().map(route).collect(),
        remove: there.difference(&wanted).copied().map(route).collect(),
    }
}

/// Returns the null route of a delegated prefix.
#[must_use]
pub fn route(prefix: Prefix6) -> Route {
    Route::new(IpAddr::V6(prefix.addr()), prefix.len(), Target::Unreachable).metric(METRIC)
}

fn ours(route: &Route) -> Option<Prefix6> {
    let IpAddr::V6(addr) = route.destination else {
        return None;
    };
    let any = addr == Ipv6Addr::UNSPECIFIED;
    if route.target != Target::Unreachable || route.metric != Some(METRIC) || any {
        return None;
    }
    Prefix6::new(addr, route.prefix_len).ok()
}

/// Loses against every other route to the same prefix, and tells ours from others'.
const METRIC: u32 = 2_146_407_565;

#[cfg(test)]
mod tests {
    use mapping::GenerationId;

    use super::*;

    #[test]
    fn wpd_5_every_valid_delegation_gets_one_route() {
        let generations = [
            generation(1, "2001:db8:64::/56"),
            generation(2, "2001:db8:65::/56"),
        ];

        let plan = plan(&[], &generations);

        assert_eq!(plan.add.len(), 2);
        assert!(
            plan.add
                .iter()
                .all(|route| route.target == Target::Unreachable)
        );
        assert!(plan.remove.is_empty());
    }

    #[test]
    fn a_withdrawn_delegation_loses_its_route_and_others_keep_theirs() {
        let old = route("2001:db8:64::/56".parse().unwrap());
        let new = route("2001:db8:65::/56".parse().unwrap());

        let plan = plan(&[old, new], &[generation(2, "2001:db8:65::/56")]);

        assert_eq!(
            plan,
            Plan {
                add: Vec::new(),
                remove: vec![old]
            }
        );
    }

    #[test]
    fn routes_of_others_are_left_alone() {
        let prefix = IpAddr::V6("2001:db8:64::".parse().unwrap());
        let foreign = [
            Route::new(prefix, 56, Target::Unreachable),
            Route::new(prefix, 56, Target::Unreachable).metric(1024),
            Route::new(prefix, 56, Target::Device(3)).metric(METRIC),
            Route::new("192.0.2.0".parse().unwrap(), 24, Target::Unreachable).metric(METRIC),
        ];

        let plan = plan(&foreign, &[]);

        assert_eq!(plan, Plan::default());
    }

    fn generation(id: u32, delegated: &str) -> Generation {
        let delegated: Prefix6 = delegated.parse().unwrap();
        Generation {
            id: GenerationId(id),
            delegated,
            nsp: delegated.nsp().unwrap(),
            preferred: id == 1,
            valid_until: None,
        }
    }
}
