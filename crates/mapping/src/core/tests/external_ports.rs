//! Which external port a mapping gets, by what the client asks for.

use super::*;

#[test]
fn two_servers_may_both_own_a_port() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let nas = home.join(NAS, "nas");

    assert!(home.open(pcp(camera, 554, 1)).is_ok());
    assert!(home.open(pcp(nas, 554, 2)).is_ok());
    assert_eq!(home.core.snapshot().mapping_count(), 2);
}

#[test]
fn suggestion_that_the_policy_denies_is_replaced() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let request = MapRequest {
        external: External::Suggested(Some(external(22))),
        ..pcp(camera, 8022, 1)
    };

    assert_eq!(home.open(request).unwrap().0.external_port.get(), 8022);
}

#[test]
fn required_port_that_is_taken_is_refused() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(MapRequest {
        external: External::Exact(external(8080)),
        ..upnp(camera, 80)
    })
    .unwrap();
    let required = |port| MapRequest {
        external: External::Required(external(port)),
        ..pcp(camera, 443, 1)
    };

    assert_eq!(home.open(required(8080)), Err(Refusal::ExternalPortTaken));
    assert_eq!(home.open(required(443)).unwrap().0.external_port.get(), 443);
    assert_eq!(home.open(required(444)), Err(Refusal::ExternalPortTaken));
    assert_eq!(home.open(required(8443)), Err(Refusal::ExternalPortTaken));
}

#[test]
fn exact_port_of_the_same_host_is_overwritten() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let exact = |internal| MapRequest {
        external: External::Exact(external(8080)),
        ..upnp(camera, internal)
    };
    home.open(exact(80)).unwrap();

    home.open(exact(8000)).unwrap();

    let snapshot = home.core.snapshot();
    assert_eq!(
        snapshot.admission(camera, Protocol::Tcp, external(8080)),
        Some(&AdmissionRule::to(internal(8000)))
    );
    assert_eq!(snapshot.mapping_count(), 1);
}

#[test]
fn u_8_any_port_overwrites_an_own_mapping_and_finds_another_beside_a_guarded_one() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let any = |port, internal| MapRequest {
        external: External::Any(external(port)),
        ..upnp(camera, internal)
    };
    let (first, _) = home.open(any(8080, 80)).unwrap();
    let (again, _) = home.open(any(8080, 80)).unwrap();
    assert_eq!(again.id, first.id);
    let (second, _) = home.open(any(8080, 443)).unwrap();

    assert_eq!(second.external_port.get(), 8080);
    assert_eq!(home.core.snapshot().mapping_count(), 1);
    home.open(pcp(camera, 554, 1)).unwrap();
    let (beside, _) = home.open(any(554, 8554)).unwrap();
    assert_eq!(beside.external_port.get(), 8554);
}
