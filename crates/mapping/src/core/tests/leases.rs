//! Addresses and names of hosts: who gets which, and for how long.

use super::*;

#[test]
fn address_follows_the_mac_and_survives_absence() {
    let mut home = Home::new();
    let camera = home.join(CAMERA, "camera");
    home.pass(LEASE * 3);
    let nas = home.join(NAS, "nas");

    assert_ne!(camera, nas);
    assert_eq!(home.join(CAMERA, "camera"), camera);
    let fresh = Home::new().join(CAMERA, "camera");
    assert_eq!(fresh, camera, "the hash of the MAC chose it");
}

#[test]
fn other_address_than_the_macs_own_is_refused() {
    let mut home = Home::new();
    let camera = home.join(CAMERA, "camera");
    let other = home
        .core
        .snapshot()
        .lease_candidate(NAS, |_| false)
        .unwrap();
    let lease = |mac, addr| {
        Request::Lease(LeaseRequest {
            mac,
            addr,
            lifetime: LEASE,
            declared_name: None,
        })
    };

    for (mac, addr) in [
        (CAMERA, other),
        (NAS, camera),
        (NAS, Ipv4Addr::new(192, 168, 64, 1)),
        (NAS, Ipv4Addr::new(192, 168, 64, 200)),
        (NAS, Ipv4Addr::new(10, 0, 0, 1)),
    ] {
        let refused = Outcome::Refused(Refusal::AddressNotFree);
        assert_eq!(home.request(lease(mac, addr)), refused, "{mac} {addr}");
    }
}

#[test]
fn full_range_gives_the_address_of_who_is_away_longest() {
    let site = Site::new([10, 0, 0, 1].into(), 28, "home.example".to_owned()).unwrap();
    let mut home = Home::at(site);
    let macs: Vec<_> = (0..10).map(|n| Mac([2, 0, 0, 0, 0, n])).collect();
    for mac in &macs {
        home.join(*mac, "box");
        home.pass(Duration::from_secs(1));
    }
    let newcomer = Mac([2, 0, 0, 0, 1, 0]);
    assert_eq!(
        home.core.snapshot().lease_candidate(newcomer, |_| false),
        None
    );
    home.pass(LEASE - Duration::from_secs(7));

    let gone = home.core.snapshot().host(macs[0]).unwrap().addr;
    assert_eq!(home.join(newcomer, "box"), gone);
    assert!(home.core.snapshot().host(macs[0]).is_none());
}

#[test]
fn declined_address_moves_the_host() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 554, 1)).unwrap();

    home.request(Request::Decline(DeclineRequest {
        mac: CAMERA,
        addr: camera,
    }));

    assert_ne!(home.join(CAMERA, "camera"), camera);
    assert!(home.core.snapshot().is_declined(camera));
    assert_eq!(home.core.snapshot().mapping_count(), 0);
    home.pass(HOUR);
    assert!(!home.core.snapshot().is_declined(camera));
}

#[test]
fn declining_in_a_full_range_takes_no_address_of_who_is_away() {
    let site = Site::new([10, 0, 0, 1].into(), 28, "home.example".to_owned()).unwrap();
    let mut home = Home::at(site);
    let macs: Vec<_> = (0..10).map(|n| Mac([2, 0, 0, 0, 0, n])).collect();
    let addrs: Vec<_> = macs.iter().map(|mac| home.join(*mac, "box")).collect();
    let (mac, addr) = (macs[0], addrs[0]);
    home.request(Request::Release(ReleaseRequest { mac, addr }));

    home.request(Request::Decline(DeclineRequest {
        mac: macs[9],
        addr: addrs[9],
    }));

    let snapshot = home.core.snapshot();
    assert!(snapshot.host(macs[9]).is_none());
    assert_eq!(snapshot.host_by_addr(addr).unwrap().mac, mac);
    assert_eq!(home.join(macs[9], "box"), addr, "who asks for it gets it");
    assert!(home.core.snapshot().host(mac).is_none());
}

#[test]
fn address_of_who_is_away_is_not_given_while_another_is_only_offered() {
    let site = Site::new([10, 0, 0, 1].into(), 28, "home.example".to_owned()).unwrap();
    let mut home = Home::at(site);
    let addr = home.join(CAMERA, "camera");
    home.request(Request::Release(ReleaseRequest { mac: CAMERA, addr }));

    let offered_to_others = |offered| offered != addr;
    let snapshot = home.core.snapshot();
    assert_eq!(snapshot.lease_candidate(NAS, offered_to_others), None);
}

#[test]
fn name_belongs_to_the_first_mac() {
    let mut home = Home::new();
    home.join(CAMERA, "camera");
    home.join(NAS, "camera");
    home.join(Mac([2, 0, 0, 0, 0, 9]), "wpad");
    let name = |home: &Home, mac| home.core.snapshot().host(mac).unwrap().name.to_string();

    assert_eq!(name(&home, CAMERA), "camera");
    assert_eq!(name(&home, NAS), "camera-000002");
    assert_eq!(name(&home, Mac([2, 0, 0, 0, 0, 9])), "device-000009");
    home.pass(LEASE * 2);
    home.join(NAS, "camera");
    assert_eq!(
        name(&home, NAS),
        "camera-000002",
        "also while the owner is away"
    );
}

#[test]
fn name_that_an_admin_gave_stays() {
    let mut home = Home::new();
    home.join(CAMERA, "IPC-3000");
    let rename = |host, name: &str| Request::Rename {
        host,
        name: name.parse().unwrap(),
    };

    assert_eq!(
        home.request(rename(CAMERA, "front")),
        Outcome::Granted(Grant::Done)
    );
    home.join(CAMERA, "IPC-4000");

    let host = home.core.snapshot().host(CAMERA).unwrap();
    assert_eq!(host.name.as_str(), "front");
    home.join(NAS, "nas");
    let refused = Outcome::Refused(Refusal::NameNotFree);
    assert_eq!(home.request(rename(NAS, "front")), refused);
    assert_eq!(home.request(rename(NAS, "gateway")), refused);
}

#[test]
fn other_subnet_gives_every_host_a_new_address() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 554, 1)).unwrap();
    let image = home.image();
    let site = Site::new([10, 9, 8, 1].into(), 24, "home.example".to_owned()).unwrap();

    let core = Core::restore(site.clone(), image, BOOT, home.now).unwrap();

    let host = core.snapshot().host(CAMERA).unwrap();
    assert!(site.is_leasable(host.addr) && host.lease.is_none());
    assert_eq!(host.name.as_str(), "camera");
    assert_eq!(core.snapshot().mapping_count(), 0);
}
