//! The policy that a person gave to one host.

use super::*;

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
