//! The DHCP clients of the field: busybox' udhcpc, ISC dhclient and dhcpcd.

use super::*;

#[test]
fn udhcpc_gets_the_same_address_after_its_memory_is_lost() {
    let home = Home::new();
    let gateway = home.start();
    let (camera, nas) = (home.join(1), home.join(2));

    let first = camera.udhcpc("camera", &[]);
    let other = nas.udhcpc("nas", &[]);
    camera.forget();
    let again = camera.udhcpc("camera", &[]);

    let host = gateway.host(camera.mac);
    assert_eq!(first.get("ip"), host.addr.to_string());
    assert_eq!(again.get("ip"), first.get("ip"));
    assert_ne!(other.get("ip"), first.get("ip"));
    assert_eq!(host.name.as_str(), "camera");
    for (key, value) in [
        ("subnet", "255.255.255.0"),
        ("router", "192.168.64.1"),
        ("dns", "192.168.64.1"),
        ("domain", "home.example"),
        ("serverid", "192.168.64.1"),
        ("lease", "86400"),
        ("broadcast", "192.168.64.255"),
    ] {
        assert_eq!(first.get(key), value, "{key}");
    }
}

#[test]
fn udhcpc_releases_and_keeps_its_binding() {
    let home = Home::new();
    let gateway = home.start();
    let camera = home.join(1);
    // with -q it ends without a word; as a daemon it releases when it is told to
    let bound = camera.udhcpc_daemon();
    camera.stop();

    gateway.wait("the lease to end", |gateway| {
        gateway.host(camera.mac).lease.is_none()
    });

    assert_eq!(gateway.host(camera.mac).addr.to_string(), bound.get("ip"));
    assert_eq!(camera.udhcpc("camera", &[]).get("ip"), bound.get("ip"));
}

#[test]
fn udhcpc_asking_for_broadcast_and_for_another_address_is_served() {
    let home = Home::new();
    let gateway = home.start();
    let camera = home.join(1);

    let bound = camera.udhcpc("camera", &["-B", "-r", "192.168.64.77"]);

    assert_eq!(bound.get("ip"), gateway.host(camera.mac).addr.to_string());
    assert_ne!(bound.get("ip"), "192.168.64.77");
}

#[test]
fn dhclient_joins_reboots_and_releases() {
    let home = Home::new();
    let gateway = home.start();
    let nas = home.join(1);

    let bound = nas.dhclient(&["-1"], "BOUND");
    let host = gateway.host(nas.mac);
    assert_eq!(bound.get("new_ip_address"), host.addr.to_string());
    assert_eq!(host.name.as_str(), "nas");
    nas.stop();
    nas.forget();
    // it kept its lease file: INIT-REBOOT
    let rebooted = nas.dhclient(&["-1"], "REBOOT");
    assert_eq!(rebooted.get("new_ip_address"), bound.get("new_ip_address"));
    nas.dhclient(&["-r"], "RELEASE");

    gateway.wait("the lease to end", |gateway| {
        gateway.host(nas.mac).lease.is_none()
    });
}

#[test]
fn dhcpcd_joins_with_its_probes() {
    let home = Home::new();
    let gateway = home.start();
    let pump = home.join(1);

    let bound = pump.dhcpcd();

    let host = gateway.host(pump.mac);
    assert_eq!(bound.get("new_ip_address"), host.addr.to_string());
    assert_eq!(bound.get("new_dhcp_lease_time"), "86400");
    assert_eq!(host.name.as_str(), "pump");
}
