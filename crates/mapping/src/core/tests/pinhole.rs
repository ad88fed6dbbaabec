//! Ports of hosts that have IPv6 addresses of their own.

use std::net::Ipv6Addr;

use super::*;

#[test]
fn pinhole_that_nobody_carries_is_refused() {
    let mut home = Home::with_prefix();
    home.join(CAMERA, "camera");

    assert_eq!(home.pierce(wish(443)), Err(Refusal::NotCarried));
    assert_eq!(home.core.snapshot().pinholes().count(), 0);
}

#[test]
fn same_tuple_extends_the_same_pinhole() {
    let mut home = Home::with_pinholes();
    let (first, lifetime) = home.pierce(wish(443)).unwrap();
    assert_eq!((first.id, lifetime), (PinholeId(1), HOUR));
    home.pass(HOUR / 2);

    let (again, lifetime) = home.pierce(wish(443)).unwrap();
    assert_eq!((again.id, lifetime), (first.id, HOUR));
    assert_eq!(again.changed_in, first.changed_in);
    let other = PinholeRequest {
        tuple: PinholeTuple {
            remote: Some(RemoteFilter {
                prefix: "2001:db8:1::7/128".parse().unwrap(),
                port: None,
            }),
            ..wish(443).tuple
        },
        ..wish(443)
    };
    assert_eq!(home.pierce(other).unwrap().0.id, PinholeId(2));
}

#[test]
fn policy_and_quota_hold_for_pinholes() {
    let mut home = Home::with_pinholes();

    assert_eq!(home.pierce(wish(22)), Err(Refusal::Waiting));
    assert_eq!(home.pierce(wish(445)), Err(Refusal::PortDenied));
    // what waits counts too
    home.rule(CAMERA, Access::Ask, None, Some(2), None);
    home.pierce(wish(443)).unwrap();
    assert_eq!(home.pierce(wish(8080)), Err(Refusal::QuotaExceeded));
    assert!(home.pierce(wish(443)).is_ok(), "a renewal is no new one");
    home.rule(CAMERA, Access::Deny, None, None, None);

    assert_eq!(home.core.snapshot().pinholes().count(), 0);
    assert_eq!(home.pierce(wish(443)), Err(Refusal::PortDenied));
}

#[test]
fn approved_pinhole_opens_at_once_and_is_guarded_by_no_nonce() {
    let mut home = Home::with_pinholes();
    let guarded = |nonce| PinholeRequest {
        requester: Requester::Pcp,
        nonce: Some(MappingNonce([nonce; 12])),
        filters: FilterChange {
            clear: false,
            add: vec![RemoteFilter {
                prefix: "2001:db8:1::/48".parse().unwrap(),
                port: None,
            }],
        },
        ..wish(22)
    };
    assert_eq!(home.pierce(guarded(1)), Err(Refusal::Waiting));
    assert_eq!(home.pierce(guarded(1)), Err(Refusal::Waiting));
    let id = home.waiting();
    home.core = home.restart(BOOT);
    home.core.finish(home.now);
    home.carry(None, true);

    let half = HOUR * 12;
    let granted = home.decide_on(id, Decision::Allow(Some(half)));

    let Ok(Grant::Pinholed { pinhole, lifetime }) = granted else {
        panic!("{granted:?}");
    };
    assert_eq!((pinhole.addr, pinhole.port.get()), (OWN, 22));
    assert_eq!(
        (pinhole.nonce, lifetime, pinhole.filters.len()),
        (None, half, 1)
    );
    assert_eq!(home.core.snapshot().waiting().count(), 0);
    // whoever asks later adopts it, for no longer than it was allowed
    let (adopted, lifetime) = home
        .pierce(PinholeRequest {
            lifetime: half * 2,
            ..guarded(2)
        })
        .unwrap();
    assert_eq!((adopted.id, lifetime), (pinhole.id, half));
    home.pass(half);
    assert_eq!(home.core.snapshot().pinholes().count(), 0);
    assert_eq!(home.pierce(guarded(2)), Err(Refusal::Waiting));
}

#[test]
fn one_answer_is_for_the_mapping_and_the_pinhole_of_a_port() {
    for decision in [Decision::Allow(None), Decision::Deny] {
        let mut home = Home::with_pinholes();
        let camera = home.core.snapshot().host(CAMERA).unwrap().addr;
        assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::Waiting));
        assert_eq!(home.pierce(wish(22)), Err(Refusal::Waiting));
        assert_eq!(home.core.snapshot().waiting().count(), 2);
        let id = home.core.snapshot().waiting().next().unwrap().id;

        home.decide_on(id, decision).unwrap();

        let snapshot = home.core.snapshot();
        let open = usize::from(decision != Decision::Deny);
        assert_eq!(snapshot.waiting().count(), 0);
        assert_eq!(snapshot.mapping_count(), open);
        assert_eq!(snapshot.pinholes().count(), open);
        let again = home.pierce(wish(22)).map(drop);
        let expected = match decision {
            Decision::Allow(_) => Ok(()),
            Decision::Deny => Err(Refusal::PortDenied),
        };
        assert_eq!(again, expected);
    }
}

#[test]
fn m_6_pinhole_of_pcp_lives_for_the_policys_least_at_least() {
    let second = Duration::from_secs(1);
    for (requester, least) in [
        (Requester::Pcp, Duration::from_secs(120)),
        (Requester::Upnp, second),
    ] {
        let mut home = Home::with_pinholes();
        let short = PinholeRequest {
            lifetime: second,
            requester,
            ..wish(443)
        };

        let (pinhole, granted) = home.pierce(short).unwrap();
        assert_eq!(granted, least);
        let update = Request::UpdatePinhole(UpdatePinholeRequest {
            subject: from(CAMERA),
            requester,
            id: pinhole.id,
            lifetime: second,
        });
        let updated = home.request(update);
        assert!(
            matches!(updated, Outcome::Granted(Grant::Pinholed { lifetime, .. }) if lifetime == least),
            "{updated:?}"
        );
    }
}

#[test]
fn pinholes_close_with_their_time_and_with_their_host() {
    let mut home = Home::with_pinholes();
    home.pierce(wish(443)).unwrap();
    home.pass(HOUR);
    assert_eq!(home.core.snapshot().pinholes().count(), 0);

    home.pierce(wish(443)).unwrap();
    let addr = home.core.snapshot().host(CAMERA).unwrap().addr;
    home.core.handle_request(
        &Request::Release(ReleaseRequest { mac: CAMERA, addr }),
        home.now,
    );
    let closings = home.core.finish(home.now).closings;

    assert_eq!(home.core.snapshot().pinholes().count(), 0);
    assert!(!closings.is_empty());
    assert_eq!(home.pierce(wish(443)), Err(Refusal::NoLease));
}

#[test]
fn closed_pinhole_is_closed_whatever_the_disk_does() {
    let mut home = Home::with_pinholes();
    let (pinhole, _) = home.pierce(wish(443)).unwrap();
    let mut shown = home.core.clone();
    let close = close(PinholeTarget::Id(pinhole.id));
    home.core
        .handle_request(&Request::ClosePinhole(close), home.now);
    let batch = home.core.finish(home.now);

    shown.close(&batch.closings, home.now);

    assert!(shown.snapshot().pinhole(pinhole.id).is_none());
}

#[test]
fn m_2_nonce_guards_a_pinhole() {
    let mut home = Home::with_pinholes();
    let nonce = |n| Some(MappingNonce([n; 12]));
    let guarded = PinholeRequest {
        requester: Requester::Pcp,
        nonce: nonce(1),
        ..wish(443)
    };
    let (pinhole, _) = home.pierce(guarded.clone()).unwrap();
    let foreign = Refusal::ForeignMapping {
        remaining: Some(HOUR),
    };
    let other = PinholeRequest {
        nonce: nonce(2),
        ..guarded.clone()
    };
    assert_eq!(home.pierce(other), Err(foreign));

    let short = PinholeRequest {
        lifetime: HOUR / 60,
        ..wish(443)
    };
    let (kept, lifetime) = home.pierce(short).unwrap();
    assert_eq!((kept.nonce, lifetime), (nonce(1), HOUR), "not cut short");
    let update = Request::UpdatePinhole(UpdatePinholeRequest {
        subject: from(CAMERA),
        requester: Requester::Upnp,
        id: pinhole.id,
        lifetime: HOUR / 60,
    });
    let updated = home.request(update);
    assert!(
        matches!(updated, Outcome::Granted(Grant::Pinholed { lifetime, .. }) if lifetime == HOUR),
        "{updated:?}"
    );

    for target in [
        PinholeTarget::Id(pinhole.id),
        PinholeTarget::Tuple(guarded.tuple, nonce(2)),
        PinholeTarget::Tuple(guarded.tuple, None),
    ] {
        assert_eq!(home.unpierce(target), Err(foreign), "{target:?}");
    }
    let own = PinholeTarget::Tuple(guarded.tuple, nonce(1));
    assert_eq!(home.unpierce(own), Ok(1));
    assert_eq!(home.unpierce(own), Ok(0), "RFC 6887 §15.1");
    let gone = PinholeTarget::Id(pinhole.id);
    assert_eq!(home.unpierce(gone), Err(Refusal::NotFound));
}

#[test]
fn neighbour_neither_closes_nor_changes_a_pinhole() {
    let mut home = Home::with_pinholes();
    home.join(NAS, "nas");
    let (pinhole, _) = home.pierce(wish(443)).unwrap();
    let update = |subject| {
        Request::UpdatePinhole(UpdatePinholeRequest {
            subject,
            requester: Requester::Upnp,
            id: pinhole.id,
            lifetime: HOUR * 2,
        })
    };
    let foreign = Refusal::ForeignMapping { remaining: None };

    assert_eq!(home.request(update(from(NAS))), Outcome::Refused(foreign));
    let theirs = ClosePinholeRequest {
        subject: from(NAS),
        ..close(PinholeTarget::Id(pinhole.id))
    };
    assert_eq!(
        home.request(Request::ClosePinhole(theirs)),
        Outcome::Refused(foreign)
    );
    let same = PinholeRequest {
        subject: from(NAS),
        ..wish(443)
    };
    assert_eq!(home.pierce(same), Err(Refusal::ExternalPortTaken));
    let longer = home.request(update(from(CAMERA)));
    assert!(
        matches!(longer, Outcome::Granted(Grant::Pinholed { lifetime, .. }) if lifetime == HOUR * 2),
        "{longer:?}"
    );
}

#[test]
fn o_3_filters_of_a_pinhole_add_up() {
    let mut home = Home::with_pinholes();
    let with = |prefix: &str| PinholeRequest {
        filters: FilterChange {
            clear: false,
            add: vec![RemoteFilter {
                prefix: prefix.parse().unwrap(),
                port: None,
            }],
        },
        ..wish(443)
    };
    let (first, _) = home.pierce(with("2001:db8:1::/48")).unwrap();
    let (second, _) = home.pierce(with("2001:db8:2::/48")).unwrap();

    assert_eq!((first.filters.len(), second.filters.len()), (1, 2));
    assert!(second.changed_in > first.changed_in);
}

#[test]
fn numbers_of_pinholes_are_used_again_last() {
    let mut home = Home::with_pinholes();
    let (first, _) = home.pierce(wish(8001)).unwrap();
    home.pierce(wish(8002)).unwrap();
    home.unpierce(PinholeTarget::Id(first.id)).unwrap();

    assert_eq!(home.pierce(wish(8003)).unwrap().0.id, PinholeId(3));
}

#[test]
fn pinholes_survive_a_restart_and_another_boot() {
    let mut home = Home::with_pinholes();
    let (pinhole, _) = home.pierce(wish(443)).unwrap();

    for boot in [BOOT, BootId([9; 16])] {
        let mut core = home.restart(boot);
        core.finish(home.now);
        let snapshot = core.snapshot();
        let found = snapshot.pinhole_by_tuple(&pinhole.tuple()).unwrap();
        assert_eq!(found.id, pinhole.id);
        assert_eq!(snapshot.remaining(found.expires, home.now), HOUR);
        assert_eq!(snapshot.pinholes_of(CAMERA).count(), 1);
        let mut now = home.now;
        now.mono += HOUR;
        core.handle_timeout(now);
        assert_eq!(core.snapshot().pinholes().count(), 0);
    }
}

fn wish(port: u16) -> PinholeRequest {
    PinholeRequest {
        subject: from(CAMERA),
        requester: Requester::Upnp,
        tuple: PinholeTuple {
            addr: OWN,
            protocol: Protocol::Tcp,
            port: internal(port),
            remote: None,
        },
        filters: FilterChange::default(),
        lifetime: HOUR,
        nonce: None,
        description: Some("web".to_owned()),
    }
}

fn from(mac: Mac) -> Subject {
    Subject::Client(Client {
        addr: OWN.into(),
        mac: Some(mac),
    })
}

fn close(target: PinholeTarget) -> ClosePinholeRequest {
    ClosePinholeRequest {
        subject: from(CAMERA),
        requester: Requester::Upnp,
        target,
    }
}

impl Home {
    fn with_pinholes() -> Self {
        let mut home = Self::with_prefix();
        home.carry(None, true);
        home.join(CAMERA, "camera");
        home
    }

    fn pierce(&mut self, request: PinholeRequest) -> Result<(Arc<Pinhole>, Duration), Refusal> {
        match self.request(Request::Pinhole(request)) {
            Outcome::Granted(Grant::Pinholed { pinhole, lifetime }) => Ok((pinhole, lifetime)),
            Outcome::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn decide_on(&mut self, id: MappingId, decision: Decision) -> Result<Grant, Refusal> {
        let request = DecideRequest {
            id,
            requester: Requester::Cli,
            decision,
        };
        match self.request(Request::Decide(request)) {
            Outcome::Granted(grant) => Ok(grant),
            Outcome::Refused(refusal) => Err(refusal),
        }
    }

    fn unpierce(&mut self, target: PinholeTarget) -> Result<usize, Refusal> {
        match self.request(Request::ClosePinhole(close(target))) {
            Outcome::Granted(Grant::Unmapped(count)) => Ok(count),
            Outcome::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }
}

const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 1);
