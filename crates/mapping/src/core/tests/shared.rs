//! The one name space of a shared IPv4 address beside those of the servers' own addresses;
//! filters, sets of ports and ranges.

use std::num::NonZeroU16;

use super::*;

#[test]
fn u_7_shared_port_of_another_host_is_a_conflict() {
    let mut home = Home::with_ipv4();
    let (camera, nas) = (home.join(CAMERA, "camera"), home.join(NAS, "nas"));
    let (first, _) = home.open(upnp(camera, 554)).unwrap();
    assert_eq!(first.via, Via::Both);

    assert_eq!(home.open(upnp(nas, 554)), Err(Refusal::ExternalPortTaken));
    let udp = MapRequest {
        protocol: Protocol::Udp,
        ..upnp(nas, 554)
    };
    assert!(home.open(udp).is_ok(), "the other protocol is another port");
    assert!(home.open(upnp(camera, 554)).is_ok(), "its own is renewed");
}

#[test]
fn two_servers_both_own_a_port_where_nothing_is_shared() {
    let mut home = Home::with_ipv4();
    let (camera, nas) = (home.join(CAMERA, "camera"), home.join(NAS, "nas"));
    let own = |addr| MapRequest {
        via: Via::Ipv6,
        ..pcp(addr, 554, 1)
    };

    assert_eq!(home.open(own(camera)).unwrap().0.external_port.get(), 554);
    assert_eq!(home.open(own(nas)).unwrap().0.external_port.get(), 554);
    assert_eq!(home.core.snapshot().forwards().count(), 0);
    assert_eq!(home.core.snapshot().admissions().count(), 2);
}

#[test]
fn u_8_any_port_finds_another_at_the_shared_address() {
    let mut home = Home::with_ipv4();
    let (camera, nas) = (home.join(CAMERA, "camera"), home.join(NAS, "nas"));
    let any = |addr| MapRequest {
        external: External::Any(external(8080)),
        ..upnp(addr, 8080)
    };
    let (first, _) = home.open(any(camera)).unwrap();
    let (second, _) = home.open(any(nas)).unwrap();
    let (again, _) = home.open(any(camera)).unwrap();

    assert_eq!(first.external_port.get(), 8080);
    assert_ne!(second.external_port.get(), 8080);
    assert_eq!(again.id, first.id);
    let snapshot = home.core.snapshot();
    let found = |port| snapshot.mapping_by_shared(Protocol::Tcp, port).unwrap().id;
    assert_eq!(found(first.external_port), first.id);
    assert_eq!(found(second.external_port), second.id);
    assert_eq!(snapshot.forwards().count(), 2);
}

#[test]
fn np_5_companion_port_is_kept_for_the_same_client() {
    let mut home = Home::with_ipv4();
    let (camera, nas) = (home.join(CAMERA, "camera"), home.join(NAS, "nas"));
    let natpmp = |addr, protocol| MapRequest {
        requester: Requester::NatPmp,
        nonce: None,
        protocol,
        ..pcp(addr, 8080, 0)
    };
    home.open(natpmp(camera, Protocol::Tcp)).unwrap();

    let (other, _) = home.open(natpmp(nas, Protocol::Udp)).unwrap();
    assert_ne!(other.external_port.get(), 8080);
    let exact = MapRequest {
        protocol: Protocol::Udp,
        ..upnp(nas, 8080)
    };
    assert_eq!(home.open(exact), Err(Refusal::ExternalPortTaken));
    let (own, _) = home.open(natpmp(camera, Protocol::Udp)).unwrap();
    assert_eq!(own.external_port.get(), 8080);
}

#[test]
fn pcp_keeps_one_mapping_for_each_family() {
    let mut home = Home::with_ipv4();
    let camera = home.join(CAMERA, "camera");
    let at = |via, nonce| MapRequest {
        via,
        ..pcp(camera, 8080, nonce)
    };
    let (six, _) = home.open(at(Via::Ipv6, 1)).unwrap();
    let (four, _) = home.open(at(Via::Ipv4, 1)).unwrap();

    assert_ne!(six.id, four.id);
    let snapshot = home.core.snapshot();
    assert_eq!(snapshot.external_address_of(&four), Some(WAN4.into()));
    let nsp = snapshot.external_address(camera).unwrap();
    assert_eq!(snapshot.external_address_of(&six), Some(nsp.into()));
    assert_eq!(home.open(at(Via::Ipv4, 1)).unwrap().0.id, four.id);
    assert_eq!(home.open(at(Via::Ipv6, 1)).unwrap().0.id, six.id);
    assert_eq!(
        home.core.snapshot().admissions().count(),
        1,
        "the translator carries one of them"
    );
}

#[test]
fn what_nobody_carries_is_refused_or_narrowed() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let four = MapRequest {
        via: Via::Ipv4,
        ..pcp(camera, 8080, 1)
    };

    assert_eq!(home.open(four.clone()), Err(Refusal::NotCarried));
    let (both, _) = home.open(upnp(camera, 8080)).unwrap();
    assert_eq!(both.via, Via::Ipv6);

    home.carry(Some(WAN4), false);
    let (both, _) = home.open(upnp(camera, 8080)).unwrap();
    assert_eq!(both.via, Via::Both, "the next renewal widens it");
    assert_eq!(home.core.snapshot().forwards().count(), 1);
    home.carry(None, false);
    assert_eq!(home.core.snapshot().forwards().count(), 0);
    assert_eq!(home.open(four), Err(Refusal::NotCarried));
}

#[test]
fn shared_port_opens_without_a_prefix() {
    let mut home = Home::new();
    home.carry(Some(WAN4), false);
    let camera = home.join(CAMERA, "camera");
    let four = MapRequest {
        via: Via::Ipv4,
        ..pcp(camera, 8080, 1)
    };

    assert!(home.open(four).is_ok());
}

#[test]
fn p_9_epoch_begins_anew_when_the_shared_address_changes() {
    let mut home = Home::with_ipv4();
    home.pass(HOUR);
    home.carry(Some(WAN4), true);
    assert!(home.core.snapshot().pcp_epoch(home.now) >= 3600);

    home.carry(Some([203, 0, 113, 9].into()), true);

    assert_eq!(home.core.snapshot().pcp_epoch(home.now), 0);
    assert_eq!(home.core.snapshot().natpmp_epoch(home.now), 0);
}

#[test]
fn p_9_epoch_goes_on_over_a_restart_with_the_same_shared_address() {
    let mut home = Home::with_ipv4();
    home.pass(HOUR);

    home.core = home.restart(BOOT);
    home.core.finish(home.now);
    home.carry(Some(WAN4), false);

    assert!(home.core.snapshot().pcp_epoch(home.now) >= 3600);
    assert!(home.core.snapshot().natpmp_epoch(home.now) >= 3600);
}

#[test]
fn e_1_peer_opens_for_its_remote_alone_and_needs_no_class() {
    let mut home = Home::with_ipv4();
    let camera = home.join(CAMERA, "camera");
    let peer = MapRequest {
        via: Via::Ipv4,
        peer: true,
        filters: add(&["::ffff:198.51.100.7/128"]),
        ..pcp(camera, 22, 1)
    };

    let (mapping, _) = home.open(peer.clone()).unwrap();

    assert!(mapping.peer && mapping.filters[0].is_ipv4());
    assert_eq!(home.core.snapshot().admissions().count(), 0);
    assert_eq!(home.open(pcp(camera, 22, 2)), Err(Refusal::Waiting));
    home.rule(CAMERA, Access::Deny, None, None, None);
    assert_eq!(home.ports(), [0; 0], "a denied host has no peers");
    assert_eq!(home.open(peer), Err(Refusal::PortDenied));
}

#[test]
fn s11_3_inbound_and_outbound_mapping_share_a_port_and_go_on_apart() {
    let mut home = Home::with_ipv4();
    let (camera, nas) = (home.join(CAMERA, "camera"), home.join(NAS, "nas"));
    home.open(upnp(nas, 5000)).unwrap();
    let inbound = |external| MapRequest {
        external,
        via: Via::Ipv4,
        ..pcp(camera, 5000, 1)
    };
    let outbound = MapRequest {
        peer: true,
        filters: add(&["::ffff:198.51.100.7/128"]),
        ..inbound(External::Suggested(None))
    };
    let (out, _) = home.open(outbound).unwrap();
    let port = out.external_port;
    assert_ne!(port.get(), 5000);

    let elsewhere = home.open(inbound(External::Required(external(6000))));
    assert_eq!(elsewhere, Err(Refusal::ExternalPortTaken));
    let suggested = External::Suggested(Some(external(6000)));
    let (into, _) = home.open(inbound(suggested)).unwrap();
    assert_eq!(into.external_port, port);
    let snapshot = home.core.snapshot();
    assert_eq!(
        snapshot.mapping_by_shared(Protocol::Tcp, port).unwrap().id,
        into.id
    );
    assert_eq!(snapshot.forwards().count(), 3);
    let other = MapRequest {
        external: External::Required(port),
        via: Via::Ipv4,
        ..pcp(camera, 5001, 1)
    };
    assert_eq!(home.open(other), Err(Refusal::ExternalPortTaken));
    let snapshot = home.core.snapshot();
    assert_eq!(snapshot.shared_mappings().count(), 2, "inbound ones");

    let delete = unmap(camera, Requester::Pcp, 5000, Some(1));
    assert_eq!(home.close(delete), Ok(1));
    let snapshot = home.core.snapshot();
    assert_eq!(snapshot.mapping_by_shared(Protocol::Tcp, port), None);
    assert!(snapshot.forwards().any(|it| it.id == out.id));
    assert_eq!(home.close(delete), Err(Refusal::OutboundMapping));
    let natpmp = unmap(camera, Requester::NatPmp, 5000, None);
    assert_eq!(home.close(natpmp), Ok(0), "it has none");
    let (again, _) = home.open(inbound(External::Required(port))).unwrap();
    assert_eq!(again.external_port, port);
}

#[test]
fn m_8_ports_that_are_kept_are_as_many_as_the_quota_and_come_back_to_their_host() {
    let mut home = Home::with_ipv4();
    let (camera, nas) = (home.join(CAMERA, "camera"), home.join(NAS, "nas"));
    for port in 2000..2040 {
        home.open(upnp(camera, port)).unwrap();
        let closed = home.close(unmap(camera, Requester::Upnp, port, None));
        assert_eq!(closed, Ok(1));
        home.pass(Duration::from_secs(1));
    }

    // 32 at most are kept, the last ones
    assert!(home.open(upnp(nas, 2007)).is_ok());
    assert_eq!(home.open(upnp(nas, 2008)), Err(Refusal::ExternalPortTaken));
    assert!(home.open(upnp(camera, 2008)).is_ok());
    let any = MapRequest {
        external: External::Any(external(2009)),
        ..upnp(nas, 80)
    };
    let (moved, _) = home.open(any).unwrap();
    assert_eq!(moved.external_port.get(), 80);
    home.core = home.core.reread(home.image(), home.now).unwrap();
    home.core.finish(home.now);
    assert_eq!(home.open(upnp(nas, 2039)), Err(Refusal::ExternalPortTaken));
    home.pass(Duration::from_secs(124 * 60));
    assert!(home.open(upnp(nas, 2039)).is_ok());
}

#[test]
fn np_5_search_goes_round_the_companions_of_others_and_finds_its_own() {
    let mut home = Home::with_ipv4();
    let (camera, nas) = (home.join(CAMERA, "camera"), home.join(NAS, "nas"));
    let natpmp = |addr, port, protocol| MapRequest {
        requester: Requester::NatPmp,
        nonce: None,
        protocol,
        ..pcp(addr, port, 0)
    };
    for port in 8080..8084 {
        home.open(natpmp(camera, port, Protocol::Tcp)).unwrap();
    }
    let udp = MapRequest {
        protocol: Protocol::Udp,
        external: External::Suggested(Some(external(8080))),
        ..pcp(nas, 8080, 1)
    };
    assert_eq!(home.open(udp).unwrap().0.external_port.get(), 8084);
    // a port that PCP took over reserves nothing any more
    home.open(pcp(camera, 8083, 1)).unwrap();
    let udp = MapRequest {
        protocol: Protocol::Udp,
        external: External::Suggested(Some(external(8083))),
        ..pcp(nas, 8081, 1)
    };
    assert_eq!(home.open(udp).unwrap().0.external_port.get(), 8083);
    let own = natpmp(camera, 8081, Protocol::Udp);
    assert_eq!(home.open(own).unwrap().0.external_port.get(), 8081);
}

#[test]
fn o_3_filters_add_up_over_renewals_until_they_are_cleared() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let with = |filters| MapRequest {
        filters,
        ..pcp(camera, 8080, 1)
    };
    let rule = |home: &Home| {
        let snapshot = home.core.snapshot();
        let rule = snapshot.admission(camera, Protocol::Tcp, external(8080));
        rule.unwrap().filters.len()
    };
    let (first, _) = home.open(with(add(&["2001:db8:1::/48"]))).unwrap();
    assert_eq!(rule(&home), 1);

    let (second, _) = home.open(with(add(&["2001:db8:2::/48"]))).unwrap();
    assert_eq!((rule(&home), second.id), (2, first.id));
    assert!(second.changed_in > first.changed_in, "packets wait for it");
    let (same, _) = home.open(with(FilterChange::default())).unwrap();
    assert_eq!(same.changed_in, second.changed_in);
    let clear = FilterChange {
        clear: true,
        ..add(&["2001:db8:3::/48"])
    };
    home.open(with(clear)).unwrap();

    assert_eq!(rule(&home), 1);
    let before = home.core.snapshot().clone();
    let many: Vec<_> = (0..16).map(|n| format!("2001:db8:{n:x}::/48")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    home.open(with(add(&many[4..16]))).unwrap();
    let more = add(&[
        "2001:db8:20::/44",
        "2001:db8:30::/44",
        "2001:db8:40::/44",
        "2001:db8:50::/44",
    ]);
    assert_eq!(home.open(with(more)), Err(Refusal::TooManyFilters));
    assert_eq!(rule(&home), 13, "a refusal changes nothing");
    let changes = home.core.snapshot().admission_changes(&before);
    assert!(
        matches!(changes[..], [Admission::Open(..)]),
        "a filter closes nothing by itself: {changes:?}"
    );
}

#[test]
fn filters_are_not_changed_by_a_client_without_the_nonce() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(MapRequest {
        filters: add(&["2001:db8:1::/48"]),
        ..pcp(camera, 8080, 1)
    })
    .unwrap();

    let (mapping, _) = home
        .open(MapRequest {
            filters: FilterChange {
                clear: true,
                add: Vec::new(),
            },
            ..upnp(camera, 8080)
        })
        .unwrap();

    assert_eq!(mapping.filters.len(), 1);
}

#[test]
fn ports_of_a_set_are_contiguous_and_renewed_together() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");

    let (first, size, _) = home.open_set(set(camera, 8000, 4)).unwrap();
    assert_eq!((first.external_port.get(), size), (8000, 4));
    assert_eq!(home.ports(), [8000, 8001, 8002, 8003]);
    home.pass(HOUR / 2);
    let (again, size, lifetime) = home.open_set(set(camera, 8000, 4)).unwrap();

    assert_eq!((again.id, size, lifetime), (first.id, 4, Some(HOUR)));
    assert_eq!(home.ports().len(), 4);
    let unset = UnmapRequest {
        target: UnmapTarget::InternalSet(
            Protocol::Tcp,
            internal(8000),
            NonZeroU16::new(4).unwrap(),
            Some(MappingNonce([1; 12])),
        ),
        ..unmap(camera, Requester::Pcp, 8000, Some(1))
    };
    assert_eq!(home.close(unset), Ok(4));
    assert_eq!(home.close(unset), Ok(0), "what is gone is granted");
}

#[test]
fn set_is_as_large_as_policy_quota_and_neighbours_allow() {
    let mut home = Home::with_policy(Policy {
        max_per_device: 5,
        ..Policy::default()
    });
    let camera = home.join(CAMERA, "camera");
    assert_eq!(home.open_set(set(camera, 442, 3)), Err(Refusal::Waiting));
    let (first, size, _) = home.open_set(set(camera, 443, 3)).unwrap();
    assert_eq!((first.external_port.get(), size), (443, 1), "444 is asked");
    assert_eq!(home.core.snapshot().waiting().count(), 1, "by nobody");

    let (_, size, _) = home.open_set(set(camera, 9000, 10)).unwrap();
    assert_eq!(size, 3, "the quota");
    let last = home.open_set(set(camera, 65_535, 2));
    assert_eq!(last, Err(Refusal::QuotaExceeded));
}

#[test]
fn set_ends_where_another_port_stands_in_the_way() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let exact = MapRequest {
        external: External::Exact(external(8002)),
        ..upnp(camera, 80)
    };
    home.open(exact).unwrap();

    let (_, size, _) = home.open_set(set(camera, 8000, 4)).unwrap();
    assert_eq!(size, 2);
    let (_, size, _) = home.open_set(set(camera, 65_535, 4)).unwrap();
    assert_eq!(size, 1, "there is no port beyond");
}

#[test]
fn set_keeps_the_parity_that_is_asked_for() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let suggested = |parity| MapSetRequest {
        first: MapRequest {
            external: External::Suggested(Some(external(9001))),
            ..pcp(camera, 8000, 1)
        },
        size: NonZeroU16::new(2).unwrap(),
        parity,
    };

    let (first, _, _) = home.open_set(suggested(true)).unwrap();
    assert_eq!(first.external_port.get(), 8000);
}

#[test]
fn u_10_range_is_deleted_as_one_but_for_what_a_nonce_guards() {
    let mut home = Home::with_prefix();
    let (camera, nas) = (home.join(CAMERA, "camera"), home.join(NAS, "nas"));
    for port in 8000..8004 {
        home.open(upnp(camera, port)).unwrap();
    }
    home.open(upnp(nas, 8001)).unwrap();
    home.open(pcp(camera, 8005, 1)).unwrap();
    let range = |first, last| UnmapRequest {
        target: UnmapTarget::Range(Protocol::Tcp, external(first), external(last)),
        ..unmap(camera, Requester::Upnp, 1, None)
    };

    assert_eq!(home.close(range(9000, 9999)), Err(Refusal::NotFound));
    assert_eq!(home.close(range(8005, 8005)), Err(Refusal::NotFound));
    assert_eq!(home.ports().len(), 6);
    assert_eq!(home.close(range(8002, 8005)), Ok(2));
    assert_eq!(home.close(range(8001, 8003)), Ok(1));
    assert_eq!(
        home.ports(),
        [8000, 8001, 8005],
        "the neighbour's and the rest stay"
    );
}

#[test]
fn shared_port_waits_for_its_static_host() {
    let mut home = Home::with_ipv4();
    home.join(CAMERA, "camera");
    let by_admin = MapRequest {
        subject: Subject::Admin(CAMERA),
        requester: Requester::Cli,
        lifetime: None,
        nonce: None,
        ..pcp(Ipv4Addr::UNSPECIFIED, 22, 0)
    };
    home.open(by_admin).unwrap();
    assert_eq!(home.core.snapshot().forwards().count(), 1);

    home.pass(LEASE);
    assert_eq!(home.core.snapshot().forwards().count(), 0);
    home.join(CAMERA, "camera");

    assert_eq!(home.core.snapshot().forwards().count(), 1);
}

#[test]
fn shared_ports_survive_a_restart() {
    let mut home = Home::with_ipv4();
    let (camera, nas) = (home.join(CAMERA, "camera"), home.join(NAS, "nas"));
    home.open(upnp(camera, 8080)).unwrap();

    home.core = home.restart(BOOT);
    home.core.finish(home.now);
    home.carry(Some(WAN4), false);

    assert_eq!(home.open(upnp(nas, 8080)), Err(Refusal::ExternalPortTaken));
    assert_eq!(home.core.snapshot().forwards().count(), 1);
}

fn add(filters: &[&str]) -> FilterChange {
    let filter = |text: &&str| RemoteFilter {
        prefix: text.parse().unwrap(),
        port: None,
    };
    FilterChange {
        clear: false,
        add: filters.iter().map(filter).collect(),
    }
}

fn set(addr: Ipv4Addr, port: u16, size: u16) -> MapSetRequest {
    MapSetRequest {
        first: pcp(addr, port, 1),
        size: NonZeroU16::new(size).unwrap(),
        parity: false,
    }
}

impl Home {
    fn with_ipv4() -> Self {
        let mut home = Self::with_prefix();
        home.carry(Some(WAN4), false);
        home
    }

    pub(super) fn carry(&mut self, ipv4: Option<Ipv4Addr>, pinholes: bool) {
        let outcome = self.request(Request::Carriers(Carriers { ipv4, pinholes }));
        assert_eq!(outcome, Outcome::Granted(Grant::Done));
    }

    fn open_set(
        &mut self,
        request: MapSetRequest,
    ) -> Result<(Arc<Mapping>, u16, Option<Duration>), Refusal> {
        match self.request(Request::MapSet(request)) {
            Outcome::Granted(Grant::MappedSet {
                first,
                size,
                lifetime,
                ..
            }) => Ok((first, size.get(), lifetime)),
            Outcome::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }
}

const WAN4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
