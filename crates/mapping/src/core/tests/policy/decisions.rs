//! What a person decides about a port: approvals, denials and permissions.

use super::*;

#[test]
fn approved_port_opens_at_once_and_any_later_request_adopts_it() {
    for retry in [
        |addr| pcp(addr, 22, 9),
        |addr| upnp(addr, 22),
        |addr| MapRequest {
            requester: Requester::NatPmp,
            nonce: None,
            ..pcp(addr, 22, 0)
        },
    ] {
        let mut home = Home::with_prefix();
        let camera = home.join(CAMERA, "camera");
        assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::Waiting));
        let id = home.waiting();

        let opened = home.decide(id, Decision::Allow(None)).unwrap().unwrap();

        assert_eq!(home.ports(), [22]);
        assert_eq!((opened.host, opened.nonce), (CAMERA, None));
        assert_eq!(opened.id, id, "it keeps its number");
        assert_eq!(home.left(&opened), Policy::default().max_lease);
        assert_eq!(home.core.snapshot().waiting().count(), 0);
        let (adopted, lifetime) = home.open(retry(camera)).unwrap();
        assert_eq!((adopted.id, lifetime), (opened.id, Some(HOUR)));
        assert_eq!(
            home.said(),
            ["mapping.requested", "mapping.opened", "mapping.renewed"]
        );
    }
}

#[test]
fn adopted_port_belongs_to_the_nonce_that_adopted_it() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 22, 1)).unwrap_err();
    home.decide(home.waiting(), Decision::Allow(None)).unwrap();

    home.open(pcp(camera, 22, 9)).unwrap();

    let foreign = Err(Refusal::ForeignMapping {
        remaining: Some(HOUR),
    });
    assert_eq!(home.open(pcp(camera, 22, 1)), foreign);
}

#[test]
fn permission_without_an_end_opens_the_port_again() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.prolong(CAMERA, camera);
    home.open(pcp(camera, 22, 1)).unwrap_err();
    home.decide(home.waiting(), Decision::Allow(None)).unwrap();
    home.pass(Policy::default().max_lease);
    assert_eq!(home.ports(), NONE);

    assert!(home.open(pcp(camera, 22, 1)).is_ok());
    assert_eq!(home.core.snapshot().permissions_of(CAMERA).count(), 1);
}

#[test]
fn permission_for_a_time_ends_with_everything_it_opened() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 22, 1)).unwrap_err();
    home.decide(home.waiting(), Decision::Allow(Some(HOUR)))
        .unwrap();
    home.pass(HOUR / 2);

    let longer = MapRequest {
        lifetime: Some(HOUR * 5),
        ..pcp(camera, 22, 1)
    };
    let (_, lifetime) = home.open(longer.clone()).unwrap();
    assert_eq!(lifetime, Some(HOUR / 2), "not beyond the permission");
    let second = MapRequest {
        external: External::Exact(external(8022)),
        ..upnp(camera, 22)
    };
    assert_eq!(home.open(second).unwrap().1, Some(HOUR / 2));
    home.pass(HOUR / 2);

    assert_eq!(home.ports(), NONE);
    assert_eq!(home.core.snapshot().permissions().count(), 0);
    assert_eq!(home.open(longer), Err(Refusal::Waiting), "it is asked anew");
}

#[test]
fn denied_port_stays_closed_and_is_not_asked_about_again() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 22, 1)).unwrap_err();
    let id = home.waiting();

    assert_eq!(home.decide(id, Decision::Deny), Ok(None));

    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::PortDenied));
    assert_eq!(home.open(upnp(camera, 22)), Err(Refusal::PortDenied));
    assert_eq!(home.core.snapshot().waiting().count(), 0);
    assert_eq!(
        home.decide(id, Decision::Allow(None)),
        Err(Refusal::NotFound)
    );
    assert_eq!(home.said(), ["mapping.requested", "mapping.denied"]);
}

#[test]
fn denied_mapping_closes_whatever_the_disk_does() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let (mapping, _) = home.open(pcp(camera, 8080, 1)).unwrap();
    let second = MapRequest {
        external: External::Exact(external(9090)),
        ..upnp(camera, 8080)
    };
    let (second, _) = home.open(second).unwrap();

    let request = Request::Decide(DecideRequest {
        id: mapping.id,
        requester: Requester::Cli,
        decision: Decision::Deny,
    });
    let mut shown = home.core.clone();
    let (outcome, waits) = home.core.handle_request(&request, home.now);
    let batch = home.core.finish(home.now);

    assert_eq!(outcome, Outcome::Granted(Grant::Done));
    assert_eq!(waits.packets, Some(home.core.snapshot().revision()));
    assert_eq!(home.ports(), NONE, "both lead to the port that is denied");
    shown.close(&batch.closings, home.now);
    assert!(shown.snapshot().mapping(mapping.id).is_none());
    assert!(shown.snapshot().mapping(second.id).is_none());
    assert_eq!(home.open(pcp(camera, 8080, 1)), Err(Refusal::PortDenied));
}

#[test]
fn allowing_an_open_port_for_a_time_caps_its_life() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let (mapping, _) = home.open(pcp(camera, 8080, 1)).unwrap();

    let capped = home.decide(mapping.id, Decision::Allow(Some(HOUR / 4)));
    assert_eq!(home.left(&capped.unwrap().unwrap()), HOUR / 4);
    let longer = home.open(pcp(camera, 8080, 1)).unwrap().1;
    assert_eq!(longer, Some(HOUR / 4));
    home.pass(HOUR / 4);

    assert_eq!(home.ports(), NONE);
}

#[test]
fn forgotten_permission_closes_what_it_opened() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 22, 1)).unwrap_err();
    home.decide(home.waiting(), Decision::Allow(None)).unwrap();
    let forget = Request::ForgetPermission {
        host: CAMERA,
        protocol: Protocol::Tcp,
        internal_port: internal(22),
        requester: Requester::Cli,
    };

    assert_eq!(home.request(forget.clone()), Outcome::Granted(Grant::Done));

    assert_eq!(home.ports(), NONE);
    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::Waiting));
    assert_eq!(home.request(forget), Outcome::Refused(Refusal::NotFound));
}

#[test]
fn forgotten_denial_lets_the_class_decide_again() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let (mapping, _) = home.open(pcp(camera, 8080, 1)).unwrap();
    home.decide(mapping.id, Decision::Deny).unwrap();
    assert_eq!(home.open(pcp(camera, 8080, 1)), Err(Refusal::PortDenied));

    home.request(Request::ForgetPermission {
        host: CAMERA,
        protocol: Protocol::Tcp,
        internal_port: internal(8080),
        requester: Requester::Cli,
    });

    assert!(home.open(pcp(camera, 8080, 1)).is_ok());
}

#[test]
fn approval_that_cannot_be_followed_changes_nothing() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let exactly = |port, internal| MapRequest {
        external: External::Required(external(port)),
        ..pcp(camera, internal, 1)
    };
    home.open(exactly(8022, 22)).unwrap_err();
    home.open(exactly(8022, 8080)).unwrap();
    let before = format!("{:?}", home.core.snapshot());

    assert_eq!(
        home.decide(home.waiting(), Decision::Allow(None)),
        Err(Refusal::ExternalPortTaken)
    );

    assert_eq!(format!("{:?}", home.core.snapshot()), before);
}

#[test]
fn every_decision_leaves_an_audit_entry() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let mut audit = Vec::new();
    let mut note = |home: &mut Home, request: &Request| {
        home.core.handle_timeout(home.now);
        let outcome = home.core.handle_request(request, home.now).0;
        let delta = home.core.finish(home.now).delta;
        audit.extend(delta.map(|it| it.audit).unwrap_or_default());
        outcome
    };
    note(&mut home, &Request::Map(pcp(camera, 22, 1)));
    let id = home.waiting();
    let decide = |id, decision| {
        Request::Decide(DecideRequest {
            id,
            requester: Requester::Cli,
            decision,
        })
    };
    let opened = note(&mut home, &decide(id, Decision::Allow(Some(HOUR))));
    let Outcome::Granted(Grant::Mapped { mapping, .. }) = opened else {
        panic!("{opened:?}");
    };
    note(&mut home, &decide(mapping.id, Decision::Deny));
    note(
        &mut home,
        &Request::ForgetPermission {
            host: CAMERA,
            protocol: Protocol::Tcp,
            internal_port: internal(22),
            requester: Requester::Cli,
        },
    );
    note(
        &mut home,
        &Request::HostPolicy(HostPolicyRequest {
            host: CAMERA,
            requester: Requester::Cli,
            access: Some(Access::Deny),
            ports: None,
            quota: None,
            lasts: Some(HOUR),
        }),
    );
    home.now.mono += HOUR;
    note(
        &mut home,
        &Request::WanAddresses(vec!["2001:db8::1".parse().unwrap()]),
    );

    let lines: Vec<_> = audit
        .iter()
        .map(|line| (line.action.as_str(), line.requester.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            ("mapping.requested", "pcp"),
            ("mapping.approved", "cli"),
            ("mapping.opened", "pcp"),
            ("mapping.denied", "cli"),
            ("mapping.closed", "cli"),
            ("permission.forgotten", "cli"),
            ("host.policy", "cli"),
            ("host.policy", "policy"),
        ]
    );
    assert!(audit[1].target.contains("02:00:00:00:00:01 tcp 22"));
}

#[test]
fn decisions_survive_a_restart_and_another_boot() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.prolong(CAMERA, camera);
    for port in [22, 25, 26] {
        home.open(pcp(camera, port, 1)).unwrap_err();
    }
    let ids: Vec<_> = home.core.snapshot().waiting().map(|it| it.id).collect();
    home.decide(ids[0], Decision::Allow(Some(HOUR * 2)))
        .unwrap();
    home.decide(ids[1], Decision::Deny).unwrap();
    home.rule(CAMERA, Access::Ask, None, Some(9), Some(HOUR * 3));
    home.now.wall = home.now.wall + HOUR;
    home.now.mono += HOUR;
    home.core.handle_stop();
    home.core.finish(home.now);

    for boot in [BOOT, BootId([9; 16])] {
        let mut core = home.restart(boot);
        core.finish(home.now);
        let snapshot = core.snapshot();
        assert_eq!(snapshot.waiting().count(), 1);
        assert_eq!(snapshot.waiting_of(CAMERA).next().unwrap().id, ids[2]);
        assert_eq!(snapshot.permissions().count(), 2);
        assert_eq!(snapshot.mapping_count(), 1);
        let host = snapshot.host(CAMERA).unwrap();
        assert_eq!(snapshot.host_policy(host).quota, Some(9));
        let until = host.policy.unwrap().until.unwrap();
        assert_eq!(snapshot.remaining(until, home.now), HOUR * 2);

        let mut now = home.now;
        now.mono += HOUR;
        now.wall = now.wall + HOUR;
        core.handle_timeout(now);
        assert_eq!(core.snapshot().permissions().count(), 1, "one ended");
        assert_eq!(core.snapshot().mapping_count(), 0);
        now.mono += HOUR;
        core.handle_timeout(now);
        assert_eq!(core.snapshot().host(CAMERA).unwrap().policy, None);
    }
}
