//! Who may open what, what people are asked, and what becomes of what they decide.

use super::*;

#[test]
fn port_outside_the_class_waits_for_a_person() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");

    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::Waiting));
    home.pass(MINUTE / 2);
    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::Waiting));

    let snapshot = home.core.snapshot();
    let waiting: Vec<_> = snapshot.waiting().collect();
    assert_eq!(waiting.len(), 1, "one for each port");
    assert_eq!(snapshot.waiting_of(CAMERA).count(), 1);
    assert_eq!(
        (waiting[0].internal_port.get(), waiting[0].host),
        (22, CAMERA)
    );
    assert_eq!(snapshot.mapping_count(), 0);
    assert_eq!(home.said(), ["mapping.requested"]);
}

#[test]
fn hasty_request_is_written_at_most_once_a_minute() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let ask = |home: &mut Home| {
        home.core
            .handle_request(&Request::Map(pcp(camera, 22, 1)), home.now);
        home.core.finish(home.now).delta
    };
    let first = ask(&mut home).unwrap();
    assert_eq!(first.waiting.len(), 1);

    home.now.mono += MINUTE - Duration::from_secs(1);
    home.now.wall = home.now.wall + (MINUTE - Duration::from_secs(1));
    assert_eq!(ask(&mut home), None);
    home.now.mono += Duration::from_secs(1);
    home.now.wall = home.now.wall + Duration::from_secs(1);
    let later = ask(&mut home).unwrap();

    assert_eq!((later.waiting.len(), later.audit.len()), (1, 0));
    let waiting = home.core.snapshot().waiting().next().unwrap();
    assert_eq!(waiting.last_asked, home.now.wall);
    assert_eq!(waiting.first_asked, first.audit[0].at);
}

#[test]
fn device_that_is_only_allowed_its_class_is_denied_the_rest() {
    let mut home = Home::with_policy(policy(Access::Allow));
    let camera = home.join(CAMERA, "camera");

    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::PortDenied));
    assert!(home.open(pcp(camera, 443, 1)).is_ok());
    assert_eq!(home.core.snapshot().waiting().count(), 0);
}

#[test]
fn device_that_is_denied_opens_nothing() {
    let mut home = Home::with_policy(policy(Access::Deny));
    let camera = home.join(CAMERA, "camera");

    for port in [22, 443, 8080] {
        assert_eq!(home.open(pcp(camera, port, 1)), Err(Refusal::PortDenied));
    }
    assert!(home.open(by_admin(443)).is_ok(), "an admin may");
}

#[test]
fn with_no_class_everything_waits() {
    let mut home = Home::with_policy(Policy {
        auto_allow: PortClass::None,
        ..Policy::default()
    });
    let camera = home.join(CAMERA, "camera");

    assert_eq!(home.open(pcp(camera, 443, 1)), Err(Refusal::Waiting));
    assert_eq!(home.open(pcp(camera, 8080, 1)), Err(Refusal::Waiting));
    assert_eq!(home.core.snapshot().waiting().count(), 2);
}

#[test]
fn always_rejected_ports_open_for_nobody() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");

    assert_eq!(home.open(pcp(camera, 445, 1)), Err(Refusal::PortDenied));
    assert_eq!(home.open(by_admin(445)), Err(Refusal::PortDenied));
    let outside = MapRequest {
        external: External::Exact(external(445)),
        ..upnp(camera, 8080)
    };
    assert_eq!(home.open(outside), Err(Refusal::ExternalPortDenied));
    assert_eq!(home.core.snapshot().waiting().count(), 0);
}

#[test]
fn which_of_the_two_ports_is_denied_is_told() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.rule(CAMERA, Access::Allow, Some(PortClass::High), None, None);
    let required = |internal, port| MapRequest {
        external: External::Required(external(port)),
        ..pcp(camera, internal, 1)
    };

    let outside = home.open(required(8080, 443));
    assert_eq!(outside, Err(Refusal::ExternalPortDenied));
    let inside = home.open(required(443, 8443));
    assert_eq!(inside, Err(Refusal::PortDenied));
    assert_eq!(home.open(required(443, 443)), Err(Refusal::PortDenied));
    assert_eq!(home.ports(), [0; 0]);
}

#[test]
fn another_configuration_closes_what_it_does_not_permit_and_leaves_a_line() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.carry(None, true);
    home.open(by_admin(25)).unwrap();
    for port in [443, 554, 8080] {
        home.open(pcp(camera, port, 1)).unwrap();
    }
    home.open(pcp(camera, 22, 1)).unwrap_err();
    let policy = Policy {
        auto_allow: PortClass::High,
        always_reject: vec!["8080".parse().unwrap()],
        ..Policy::default()
    };

    home.core.handle_policy(policy.clone(), home.now);
    let batch = home.core.finish(home.now);

    let delta = batch.delta.unwrap();
    assert_eq!(delta.policy.as_deref(), Some(&policy));
    let actions: Vec<_> = delta.audit.iter().map(|it| it.action).collect();
    assert_eq!(actions[0], AuditAction::PolicyChanged);
    assert_eq!(actions[1..], [AuditAction::MappingClosed; 3]);
    assert_eq!(home.ports(), [25], "what an admin opened stays");
    assert_eq!(home.core.snapshot().waiting().count(), 1);
    // the same again is nothing
    home.core.handle_policy(policy.clone(), home.now);
    assert_eq!(home.core.finish(home.now).delta, None);
    let deny = Policy {
        new_device: Access::Deny,
        ..policy
    };
    home.core.handle_policy(deny, home.now);
    home.core.finish(home.now);
    assert_eq!(home.core.snapshot().waiting().count(), 0);
}

#[test]
fn configuration_survives_a_disk_that_is_read_again() {
    let mut home = Home::with_prefix();
    let image = home.image();
    let policy = Policy {
        auto_allow: PortClass::None,
        ..Policy::default()
    };
    home.core.handle_policy(policy.clone(), home.now);
    home.core.finish(home.now);

    let mut core = home.core.reread(image, home.now).unwrap();

    assert_eq!(core.snapshot().policy(), &policy);
    let delta = core.finish(home.now).delta.unwrap();
    assert_eq!(delta.policy.as_deref(), Some(&policy), "to be stored yet");
}

#[test]
fn external_port_outside_the_class_waits_too_if_it_is_the_only_one() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let exactly = |port| MapRequest {
        external: External::Exact(external(port)),
        ..upnp(camera, 8022)
    };

    assert_eq!(home.open(exactly(22)), Err(Refusal::Waiting));
    let any = MapRequest {
        external: External::Any(external(22)),
        ..upnp(camera, 8023)
    };
    assert_eq!(home.open(any).unwrap().0.external_port.get(), 8023);
    assert!(home.open(exactly(8022)).is_ok());
    assert_eq!(
        home.core.snapshot().waiting().count(),
        1,
        "another external port answers nothing"
    );

    let id = home.waiting();
    home.decide(id, Decision::Allow(None)).unwrap();

    assert_eq!(home.ports(), [22, 8022, 8023]);
}

#[test]
fn m_11_what_waits_counts_against_the_quota() {
    let mut home = Home::with_policy(Policy {
        max_per_device: 2,
        ..Policy::default()
    });
    let camera = home.join(CAMERA, "camera");
    let nas = home.join(NAS, "nas");
    home.open(pcp(camera, 8080, 1)).unwrap();
    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::Waiting));

    assert_eq!(home.open(pcp(camera, 25, 1)), Err(Refusal::QuotaExceeded));
    assert_eq!(home.open(pcp(camera, 8081, 1)), Err(Refusal::QuotaExceeded));
    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::Waiting));
    assert_eq!(home.open(pcp(nas, 22, 1)), Err(Refusal::Waiting));
}

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
fn what_waits_ends_when_the_host_leaves() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 22, 1)).unwrap_err();
    let id = home.waiting();
    home.request(Request::Release(ReleaseRequest {
        mac: CAMERA,
        addr: camera,
    }));

    assert_eq!(home.core.snapshot().waiting().count(), 0);
    assert_eq!(
        home.decide(id, Decision::Allow(None)),
        Err(Refusal::NotFound)
    );
}

#[test]
fn what_waits_ends_after_the_longest_lease() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.prolong(CAMERA, camera);
    home.open(pcp(camera, 22, 1)).unwrap_err();

    home.pass(Policy::default().max_lease - Duration::from_nanos(1));
    assert_eq!(home.core.snapshot().waiting().count(), 1);
    home.pass(Duration::from_nanos(1));

    assert_eq!(home.core.snapshot().waiting().count(), 0);
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
fn hosts_own_policy_counts_before_the_default() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let nas = home.join(NAS, "nas");
    home.rule(NAS, Access::Allow, Some(PortClass::All), Some(1), None);

    assert!(home.open(pcp(nas, 22, 1)).is_ok());
    assert_eq!(home.open(pcp(nas, 8080, 1)), Err(Refusal::QuotaExceeded));
    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::Waiting));
    home.unrule(NAS);

    assert_eq!(home.ports(), NONE, "the default does not open it");
    assert_eq!(home.open(pcp(nas, 22, 1)), Err(Refusal::Waiting));
}

#[test]
fn denied_host_loses_its_ports_and_what_waits() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let (mapping, _) = home.open(pcp(camera, 8080, 1)).unwrap();
    home.open(pcp(camera, 22, 1)).unwrap_err();
    let (by_admin, _) = home.open(by_admin(443)).unwrap();

    home.rule(CAMERA, Access::Deny, None, None, None);

    assert_eq!(home.ports(), [443], "an admin's port stays");
    assert_eq!(by_admin.requester, Requester::Cli);
    assert_eq!(home.core.snapshot().waiting().count(), 0);
    let closed = home.core.snapshot().recent_changes().any(|(_, change)| {
        matches!(change, Change::MappingClosed { mapping: it, reason: CloseReason::Denied }
            if it.id == mapping.id)
    });
    assert!(closed);
    assert_eq!(home.open(pcp(camera, 8080, 1)), Err(Refusal::PortDenied));
}

#[test]
fn denied_host_is_not_helped_by_permissions() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 22, 1)).unwrap_err();
    home.decide(home.waiting(), Decision::Allow(None)).unwrap();

    home.rule(CAMERA, Access::Deny, None, None, None);
    assert_eq!(home.ports(), NONE);
    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::PortDenied));
    home.unrule(CAMERA);

    assert!(home.open(pcp(camera, 22, 1)).is_ok(), "it still stands");
}

#[test]
fn hosts_policy_for_a_time_falls_back_with_what_it_opened() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.rule(
        CAMERA,
        Access::Allow,
        Some(PortClass::All),
        None,
        Some(HOUR),
    );
    let day = |port| MapRequest {
        lifetime: Some(HOUR * 20),
        ..pcp(camera, port, 1)
    };
    assert_eq!(home.open(day(22)).unwrap().1, Some(HOUR), "borrowed time");
    assert_eq!(home.open(day(8080)).unwrap().1, Some(HOUR * 20));

    home.pass(HOUR);

    assert_eq!(home.core.snapshot().host(CAMERA).unwrap().policy, None);
    assert_eq!(home.ports(), [8080]);
    let said = home.said();
    let times = said.iter().filter(|it| **it == "host.policy").count();
    assert_eq!(times, 2, "it is said when it begins and when it ends");
}

#[test]
fn denial_for_a_time_ends() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.rule(CAMERA, Access::Deny, None, None, Some(HOUR));
    assert_eq!(home.open(pcp(camera, 8080, 1)), Err(Refusal::PortDenied));

    home.pass(HOUR);

    assert!(home.open(pcp(camera, 8080, 1)).is_ok());
}

#[test]
fn narrower_class_closes_what_it_does_not_hold() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 443, 1)).unwrap();
    home.open(pcp(camera, 8080, 1)).unwrap();

    home.rule(CAMERA, Access::Ask, Some(PortClass::High), None, None);

    assert_eq!(home.ports(), [8080]);
    assert_eq!(home.open(pcp(camera, 443, 1)), Err(Refusal::Waiting));
}

#[test]
fn policy_of_nobody_is_refused() {
    let mut home = Home::with_prefix();
    let request = HostPolicyRequest {
        host: CAMERA,
        requester: Requester::Cli,
        access: Some(Access::Deny),
        ports: None,
        quota: None,
        lasts: None,
    };

    let refused = Outcome::Refused(Refusal::NotFound);
    assert_eq!(home.request(Request::HostPolicy(request)), refused);
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

#[test]
fn host_about_which_somebody_decided_keeps_its_address() {
    let site = Site::new([10, 0, 0, 1].into(), 28, "home.example".to_owned()).unwrap();
    let mut home = Home::at(site);
    let macs: Vec<_> = (0..10).map(|n| Mac([2, 0, 0, 0, 0, n])).collect();
    for mac in &macs {
        home.join(*mac, "box");
        home.pass(Duration::from_secs(1));
    }
    home.rule(macs[0], Access::Deny, None, None, None);
    home.pass(LEASE);

    let newcomer = Mac([2, 0, 0, 0, 1, 0]);
    let next = home.core.snapshot().host(macs[1]).unwrap().addr;
    assert_eq!(home.join(newcomer, "box"), next);
    assert!(home.core.snapshot().host(macs[0]).is_some());
}

#[test]
fn client_with_an_ipv6_address_is_known_by_its_mac() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let from = |addr: &str, mac| MapRequest {
        subject: Subject::Client(Client {
            addr: addr.parse().unwrap(),
            mac,
        }),
        ..pcp(camera, 8080, 1)
    };

    for addr in ["fe80::1", "fd00::1", "2001:db8:5::1"] {
        let (mapping, _) = home.open(from(addr, Some(CAMERA))).unwrap();
        assert_eq!((mapping.host, mapping.server), (CAMERA, camera));
        assert_eq!(home.open(from(addr, None)), Err(Refusal::NoLease));
        assert_eq!(home.open(from(addr, Some(NAS))), Err(Refusal::NoLease));
    }
}

fn policy(new_device: Access) -> Policy {
    Policy {
        new_device,
        ..Policy::default()
    }
}

fn by_admin(port: u16) -> MapRequest {
    MapRequest {
        subject: Subject::Admin(CAMERA),
        requester: Requester::Cli,
        lifetime: None,
        nonce: None,
        ..pcp(Ipv4Addr::UNSPECIFIED, port, 0)
    }
}

impl Home {
    /// Returns the one request that waits.
    #[track_caller]
    pub(super) fn waiting(&self) -> MappingId {
        let ids: Vec<_> = self.core.snapshot().waiting().map(|it| it.id).collect();
        assert_eq!(ids.len(), 1);
        ids[0]
    }

    pub(super) fn decide(
        &mut self,
        id: MappingId,
        decision: Decision,
    ) -> Result<Option<Arc<Mapping>>, Refusal> {
        let request = DecideRequest {
            id,
            requester: Requester::Cli,
            decision,
        };
        match self.request(Request::Decide(request)) {
            Outcome::Granted(Grant::Mapped { mapping, .. }) => Ok(Some(mapping)),
            Outcome::Granted(_) => Ok(None),
            Outcome::Refused(refusal) => Err(refusal),
        }
    }

    pub(super) fn rule(
        &mut self,
        host: Mac,
        access: Access,
        ports: Option<PortClass>,
        quota: Option<u32>,
        lasts: Option<Duration>,
    ) {
        let request = HostPolicyRequest {
            host,
            requester: Requester::Cli,
            access: Some(access),
            ports,
            quota,
            lasts,
        };
        let outcome = self.request(Request::HostPolicy(request));
        assert_eq!(outcome, Outcome::Granted(Grant::Done));
    }

    fn unrule(&mut self, host: Mac) {
        let request = HostPolicyRequest {
            host,
            requester: Requester::Cli,
            access: None,
            ports: None,
            quota: None,
            lasts: None,
        };
        let outcome = self.request(Request::HostPolicy(request));
        assert_eq!(outcome, Outcome::Granted(Grant::Done));
    }

    /// Returns the external ports that are open, rising.
    pub(super) fn ports(&self) -> Vec<u16> {
        let snapshot = self.core.snapshot();
        let mut ports: Vec<_> = snapshot
            .mappings()
            .map(|it| it.external_port.get())
            .collect();
        ports.sort_unstable();
        ports
    }

    pub(super) fn left(&self, mapping: &Mapping) -> Duration {
        let expires = mapping.expires.unwrap();
        self.core.snapshot().remaining(expires, self.now)
    }

    /// Returns the names of what was said about ports and policies, oldest first.
    fn said(&self) -> Vec<&'static str> {
        let facts = self.core.snapshot().recent_changes();
        facts
            .filter_map(|(_, change)| match change {
                Change::MappingRequested(_) => Some("mapping.requested"),
                Change::MappingDenied(_) => Some("mapping.denied"),
                Change::MappingOpened(_) => Some("mapping.opened"),
                Change::MappingRenewed(_) => Some("mapping.renewed"),
                Change::MappingClosed { .. } => Some("mapping.closed"),
                Change::HostPolicyChanged(_) => Some("host.policy"),
                _ => None,
            })
            .collect()
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const NONE: [u16; 0] = [];
