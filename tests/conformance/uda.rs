//! UPnP Device Architecture 1.1, by its sections, and what IGD asks of discovery (U-).
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use mapping::{
    BootId, Carriers, Client, Core, External, ExternalPort, FilterChange, Instant, InternalPort,
    LeaseRequest, Mac, MapRequest, Now, Policy, PrefixRequest, Protocol, ReleaseRequest, Request,
    Requester, Site, Subject, UnmapRequest, UnmapTarget, Via, Wall,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use upnp::server::{
    Connection, Delivery, Gena, Lan, MAX_IN_FLIGHT_TO_ONE, MAX_IN_FLIGHT_TO_STRANGERS,
    MAX_PER_HOST, MAX_STRANGER_SUBSCRIPTIONS, MAX_SUBSCRIPTIONS, Notification, OnLink, Peer,
    Searcher, Situation, Ssdp, SsdpConfig, Step, Web,
};
use upnp::wire::gena::Sid;
use upnp::wire::http::Status;
use upnp::wire::ssdp::Header;
use upnp::{Counters, DeviceKind, Edition, Event, Identity, Resource, ServiceKind};

#[test]
fn u_2_byebye_comes_before_the_first_alive() {
    let mut net = Net::new();
    net.ssdp.start(net.now);

    let first = net.drain();
    assert_eq!(first.len(), 21);
    assert!(
        first
            .iter()
            .all(|(to, text)| *to == GROUP && text.contains("NTS: ssdp:byebye"))
    );
    let second = net.next();
    assert!(
        second
            .iter()
            .all(|(_, text)| text.contains("NTS: ssdp:alive"))
    );
    let targets: BTreeSet<_> = second.iter().map(|(_, text)| header(text, "USN")).collect();
    assert_eq!(targets.len(), 21);
    for (_, text) in &second {
        assert_eq!(header(text, "HOST"), "239.255.255.250:1900");
        assert_eq!(header(text, "CACHE-CONTROL"), "max-age=1800");
        assert_eq!(header(text, "BOOTID.UPNP.ORG"), "3");
        assert_eq!(header(text, "CONFIGID.UPNP.ORG"), "99");
        assert!(header(text, "LOCATION").starts_with("http://192.168.64.1:5000/"));
    }
}

#[test]
fn s1_2_2_announcements_are_repeated_and_come_again_before_half_of_max_age() {
    let mut net = Net::new();
    net.ssdp.start(net.now);
    net.drain();
    let mut times = Vec::new();
    for _ in 0..6 {
        assert_eq!(net.next().len(), 21);
        times.push(net.now);
    }

    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for repeat in [gaps[0], gaps[2], gaps[4]] {
        assert!(repeat < Duration::from_secs(1), "{repeat:?}");
    }
    for wait in [gaps[1], gaps[3]] {
        assert!(
            wait > Duration::from_secs(400) && wait < Duration::from_secs(900),
            "{wait:?}"
        );
    }
    assert_ne!(gaps[1], gaps[3]);
}

#[test]
fn s1_2_3_shutdown_says_byebye_twice_and_answers_nobody() {
    let mut net = Net::new();
    net.search("ssdp:all", "MX: 3\r\n");
    net.ssdp.handle_shutdown(net.now);

    let last = net.drain();
    assert_eq!(last.len(), 42);
    assert!(
        last.iter()
            .all(|(to, text)| *to == GROUP && text.contains("NTS: ssdp:byebye"))
    );
    assert!(net.ssdp.poll_timeout().is_none());
}

#[test]
fn s1_3_2_every_target_is_answered_once_by_the_root_of_its_version() {
    let identity = Identity::new([7; 16]);
    for edition in Edition::ALL {
        let mut targets: Vec<String> = Vec::new();
        for device in DeviceKind::ALL {
            targets.push(device.urn(edition));
            targets.push(identity.uuid(edition, device));
        }
        targets.push(ServiceKind::WanIpConnection.urn(edition.version()));
        for target in targets {
            let mut net = Net::new();
            let answers = net.answers(&target, "MX: 1\r\n");
            assert_eq!(answers.len(), 1, "{target}");
            let (_, text) = &answers[0];
            assert_eq!(header(text, "ST"), target);
            let path = Resource::Description(edition).path(&identity);
            assert_eq!(
                header(text, "LOCATION"),
                format!("http://192.168.64.1:5000{path}")
            );
            assert!(header(text, "USN").starts_with("uuid:"));
        }
    }
}

#[test]
fn s1_3_2_a_uuid_is_found_in_upper_case_too() {
    let uuid = Identity::new([7; 16]).uuid(Edition::V2, DeviceKind::InternetGateway);
    let searched = uuid.to_uppercase().replace("UUID:", "uuid:");
    assert_ne!(searched, uuid);

    let answers = Net::new().answers(&searched, "MX: 1\r\n");

    assert_eq!(answers.len(), 1);
    assert_eq!(header(&answers[0].1, "USN"), uuid);
}

#[test]
fn s1_3_2_searches_for_all_and_for_roots_find_both() {
    let mut net = Net::new();
    let all = net.answers("ssdp:all", "MX: 5\r\n");
    let roots = net.answers("upnp:rootdevice", "MX: 1\r\n");

    let unique: BTreeSet<_> = all.iter().map(|(_, text)| header(text, "USN")).collect();
    assert_eq!((all.len(), unique.len(), roots.len()), (21, 21, 2));
    let locations: BTreeSet<_> = roots
        .iter()
        .map(|(_, text)| header(text, "LOCATION"))
        .collect();
    assert_eq!(locations.len(), 2);
}

#[test]
fn s1_3_2_other_targets_and_newer_versions_are_not_ours() {
    let mut net = Net::new();
    for target in [
        "urn:schemas-upnp-org:device:InternetGatewayDevice:3",
        "urn:schemas-upnp-org:service:WANPPPConnection:1",
        "urn:schemas-upnp-org:device:MediaServer:1",
        "uuid:00000000-0000-0000-0000-000000000000",
    ] {
        assert!(net.answers(target, "MX: 1\r\n").is_empty(), "{target}");
    }
    assert_eq!(net.counters.value(Event::SearchOther), 4);
}

#[test]
fn s1_3_3_answers_wait_a_random_time_below_mx_and_half_a_second() {
    let target = "upnp:rootdevice";
    for max_wait in [1, 3, 120] {
        let mut delays = BTreeSet::new();
        for seed in 0..40 {
            let mut net = Net::seeded(seed);
            net.search(target, &format!("MX: {max_wait}\r\n"));
            let begin = net.now;
            while net.ssdp.poll_timeout().is_some() {
                net.next();
                delays.insert(net.now - begin);
            }
        }
        assert!(delays.len() > 60);
        // igd-next of iroh's portmapper says 3 and waits one second
        assert!(delays.last().unwrap() <= &Duration::from_millis(500));
        assert!(delays.last().unwrap() > &Duration::from_millis(400));
    }
}

#[test]
fn s1_3_3_multicast_without_mx_is_dropped_and_unicast_is_answered_at_once() {
    let mut net = Net::new();
    assert!(net.answers("upnp:rootdevice", "").is_empty());
    assert!(net.answers("upnp:rootdevice", "MX: x\r\n").is_empty());
    assert_eq!(net.counters.value(Event::SearchWithoutMx), 1);
    assert_eq!(net.counters.value(Event::SsdpMalformed), 1);

    let bytes = search("upnp:rootdevice", "");
    net.hear(&bytes, CLIENT, GATEWAY.into());
    assert_eq!(net.drain().len(), 2);
}

#[test]
fn u_1_searches_from_elsewhere_are_not_answered() {
    let mut net = Net::new();
    for source in [
        "203.0.113.9:5000",
        "192.168.64.1:5000",
        "192.168.64.255:5000",
        "192.168.64.0:5000",
        "192.168.64.20:0",
    ] {
        let bytes = search("ssdp:all", "MX: 1\r\n");
        net.hear(&bytes, source.parse().unwrap(), GROUP.ip());
        net.hear(&bytes, source.parse().unwrap(), GATEWAY.into());
    }
    let broadcast = Ipv4Addr::new(192, 168, 64, 255);
    let bytes = search("ssdp:all", "MX: 1\r\n");
    net.hear(&bytes, CLIENT, broadcast.into());

    assert_eq!(net.counters.value(Event::SearchForeign), 11);
    assert!(net.ssdp.poll_timeout().is_none() && net.drain().is_empty());
}

/// UDA 1.1 annex A: the same on IPv6.
mod v6 {
    use super::*;

    #[test]
    fn u_2_each_scope_hears_of_an_address_of_its_own() {
        let mut net = net();
        net.ssdp.start(net.now);

        let first = net.drain();
        assert_eq!(first.len(), 63);
        assert!(
            first
                .iter()
                .all(|(_, text)| text.contains("NTS: ssdp:byebye"))
        );
        let alive = net.next();
        for (group, location) in [
            ("239.255.255.250:1900", "http://192.168.64.1:5000/"),
            ("[ff02::c]:1900", "http://[fe80::1]:5000/"),
            ("[ff05::c]:1900", "http://[fd00:64::1]:5000/"),
        ] {
            let to: SocketAddr = group.parse().unwrap();
            let heard: Vec<_> = alive.iter().filter(|(at, _)| *at == to).collect();
            assert_eq!(heard.len(), 21, "{group}");
            for (_, text) in heard {
                assert_eq!(header(text, "HOST"), group);
                assert!(header(text, "LOCATION").starts_with(location), "{text}");
            }
        }
    }

    #[test]
    fn s1_3_3_answer_has_an_address_that_the_searcher_can_use() {
        for (source, group, location) in [
            ("[fe80::20%3]:4000", "ff02::c", "http://[fe80::1]:5000/"),
            ("[fe80::20%3]:4000", "ff05::c", "http://[fe80::1]:5000/"),
            ("[fd00:64::20]:4000", "ff05::c", "http://[fd00:64::1]:5000/"),
            (
                "[2001:db8:1::20]:4000",
                "ff05::c",
                "http://[2001:db8:1::1]:5000/",
            ),
        ] {
            let mut net = net();
            let bytes = search("upnp:rootdevice", "MX: 1\r\n");
            let (from, to) = (source.parse().unwrap(), group.parse().unwrap());
            net.hear(&bytes, from, to);
            net.now += Duration::from_secs(1);
            net.ssdp.handle_timeout(net.now);
            let answers = net.drain();
            assert_eq!(answers.len(), 2, "{source}");
            for (to, text) in answers {
                assert_eq!(to, from, "with the link that it came by");
                assert!(header(&text, "LOCATION").starts_with(location), "{text}");
            }
        }
    }

    #[test]
    fn s1_3_3_unicast_search_is_answered_at_once_on_ipv6_too() {
        let mut net = net();
        let bytes = search("upnp:rootdevice", "");
        let from = "[fd00:64::20]:4000".parse().unwrap();
        let own = "fd00:64::1".parse().unwrap();
        net.hear(&bytes, from, own);
        assert_eq!(net.drain().len(), 2);
        let group = "ff02::c".parse().unwrap();
        net.hear(&bytes, from, group);
        assert_eq!(net.counters.value(Event::SearchWithoutMx), 1);
    }

    #[test]
    fn u_1_searches_from_other_networks_are_not_answered() {
        let mut net = net();
        let bytes = search("ssdp:all", "MX: 1\r\n");
        for (source, destination) in [
            ("[2001:db8:2::20]:4000", "ff05::c"),
            ("[::1]:4000", "ff02::c"),
            ("[fe80::1]:4000", "ff02::c"),
            ("[ff02::c]:4000", "ff02::c"),
            ("[fd00:64::20]:0", "ff02::c"),
            ("[fd00:64::20]:4000", "ff02::1"),
            ("[fd00:64::20]:4000", "fd00:64::20"),
        ] {
            let (from, to) = (source.parse().unwrap(), destination.parse().unwrap());
            net.hear(&bytes, from, to);
        }
        assert_eq!(net.counters.value(Event::SearchForeign), 7);
        assert!(net.drain().is_empty() && net.ssdp.poll_timeout().is_none());
    }

    #[test]
    fn s1_2_2_who_hears_of_a_new_address_for_the_first_time_is_told() {
        let mut net = Net::new();
        net.ssdp.handle_lan(lan(), net.now);
        net.ssdp.handle_lan(lan(), net.now);
        assert_eq!(net.next().len(), 63);
        assert!(net.ssdp.poll_timeout().is_none(), "once");
        net.ssdp.handle_lan(Lan::new(site(), 5000), net.now);
        assert!(net.ssdp.poll_timeout().is_none());
    }

    fn net() -> Net {
        let mut net = Net::new();
        net.ssdp.handle_lan(lan(), net.now);
        net.next();
        net
    }

    fn lan() -> Lan {
        let addresses = ["fe80::1", "fd00:64::1", "2001:db8:1::1"];
        let addresses = addresses.map(|addr| OnLink {
            addr: addr.parse().unwrap(),
            prefix_len: 64,
        });
        Lan::new(site(), 5000).with_v6(5000, addresses.to_vec())
    }
}

/// UDA 1.1 §4.
mod eventing {
    use super::*;

    #[test]
    fn s4_1_2_subscription_is_named_and_lasts_at_least_half_an_hour() {
        let mut home = Home::new();
        for (asked, given) in [
            ("TIMEOUT: Second-5\r\n", "Second-1800"),
            ("TIMEOUT: Second-3600\r\n", "Second-3600"),
            ("TIMEOUT: Second-infinite\r\n", "Second-1800"),
            ("TIMEOUT: infinite\r\n", "Second-1800"),
            ("TIMEOUT: Second-4294967295\r\n", "Second-7200"),
            ("", "Second-1800"),
        ] {
            let headers = format!("{SUBSCRIBE}{asked}");
            let (status, headers) = home.ask("SUBSCRIBE", &headers);
            assert_eq!(status, Status::Ok);
            assert!(headers["SID"].starts_with("uuid:"));
            assert_eq!(headers["TIMEOUT"], given, "{asked}");
        }
        assert_eq!(home.gena.len(), 6);
    }

    #[test]
    fn s4_1_2_what_is_no_subscription_is_412_and_a_mixture_400() {
        let mut home = Home::new();
        let mut status = |method: &str, headers: &str| home.ask(method, headers).0;
        let callback = "CALLBACK: <http://192.168.64.20:9/>\r\n";
        let nt = "NT: upnp:event\r\n";

        assert_eq!(status("SUBSCRIBE", ""), Status::PreconditionFailed);
        assert_eq!(status("SUBSCRIBE", callback), Status::PreconditionFailed);
        assert_eq!(status("SUBSCRIBE", nt), Status::PreconditionFailed);
        let other = format!("{callback}NT: upnp:other\r\n");
        assert_eq!(status("SUBSCRIBE", &other), Status::PreconditionFailed);
        let twice = format!("{callback}{callback}{nt}");
        assert_eq!(status("SUBSCRIBE", &twice), Status::PreconditionFailed);
        let sid = "SID: uuid:00000000-0000-0000-0000-000000000000\r\n";
        for method in ["SUBSCRIBE", "UNSUBSCRIBE"] {
            assert_eq!(status(method, sid), Status::PreconditionFailed);
            assert_eq!(status(method, "SID: x\r\n"), Status::PreconditionFailed);
            assert_eq!(status(method, &format!("{sid}{nt}")), Status::BadRequest);
            assert_eq!(
                status(method, &format!("{sid}{callback}")),
                Status::BadRequest
            );
        }
        assert_eq!(status("UNSUBSCRIBE", ""), Status::PreconditionFailed);
        assert!(home.gena.is_empty());
    }

    #[test]
    fn t_3_events_go_to_nobody_but_the_subscriber() {
        let mut home = Home::new();
        for callback in [
            "<http://192.168.64.21:9/>",
            "<http://203.0.113.9/>",
            "<http://192.168.64.1:80/>",
            "<http://127.0.0.1/>",
            "<http://255.255.255.255/>",
            "<http://[::ffff:192.168.64.20]/>",
            "<http://192.168.64.20:9/><http://203.0.113.9/>",
            "<http://203.0.113.9/><http://192.168.64.20:9/>",
            "<http://host.example/>",
            "<https://192.168.64.20/>",
            "<http://192.168.64.20:0/>",
        ] {
            let headers = format!("CALLBACK: {callback}\r\nNT: upnp:event\r\n");
            let status = home.ask("SUBSCRIBE", &headers).0;
            assert_eq!(status, Status::PreconditionFailed, "{callback}");
        }
        assert!(home.gena.is_empty() && home.next().is_none());
        assert_eq!(home.counters.value(Event::SubscriptionForeign), 8);
    }

    #[test]
    fn t_3_sid_of_another_host_is_unknown() {
        let mut home = Home::new();
        let (_, headers) = home.ask("SUBSCRIBE", SUBSCRIBE);
        let sid = format!("SID: {}\r\n", headers["SID"]);
        home.client.addr = Ipv4Addr::new(192, 168, 64, 21).into();

        assert_eq!(home.ask("UNSUBSCRIBE", &sid).0, Status::PreconditionFailed);
        assert_eq!(home.ask("SUBSCRIBE", &sid).0, Status::PreconditionFailed);
        assert_eq!(home.gena.len(), 1);
    }

    #[test]
    fn t_3_one_host_cannot_take_every_subscription() {
        let mut home = Home::new();
        let mut taken = 0;
        for host in 1..=20 {
            let mac = Mac([2, 0, 0, 0, 1, host]);
            let addr = home.join(mac, &format!("host-{host}"));
            home.client = Client {
                addr: addr.into(),
                mac: Some(mac),
            };
            let accepted = home.subscribe_often();
            assert!(accepted == MAX_PER_HOST || taken + accepted == MAX_SUBSCRIPTIONS);
            taken += accepted;
        }
        assert_eq!(home.gena.len(), MAX_SUBSCRIPTIONS);
    }

    /// Whoever makes up MACs and addresses leaves places to hosts, and their events the way.
    #[test]
    fn t_3_strangers_cannot_take_every_subscription_nor_hold_up_every_event() {
        let mut home = Home::new();
        let camera = home.join(CAMERA, "camera");
        let mut taken = 0;
        for host in 100..200 {
            home.client = Client {
                addr: Ipv4Addr::new(192, 168, 64, host).into(),
                mac: Some(Mac([2, 0, 0, 0, 2, host])),
            };
            taken += home.subscribe_often();
        }
        assert_eq!(taken, MAX_STRANGER_SUBSCRIPTIONS);
        home.settle();
        let hang = std::iter::from_fn(|| home.gena.poll_notification()).count();
        let most = taken.div_ceil(MAX_PER_HOST) * MAX_IN_FLIGHT_TO_ONE;
        assert_eq!(hang, most.min(MAX_IN_FLIGHT_TO_STRANGERS));

        home.client = Client {
            addr: camera.into(),
            mac: Some(CAMERA),
        };
        assert_eq!(home.subscribe_often(), MAX_PER_HOST);
        home.now.mono += Duration::from_millis(200);
        home.settle();
        let event = home.gena.poll_notification().unwrap();
        assert_eq!(event.callbacks[0].addr.ip(), home.client.addr);
    }

    #[test]
    fn s4_1_2_first_event_follows_the_answer_and_has_every_variable() {
        for (edition, service, variables) in [
            (Edition::V2, ServiceKind::WanIpConnection, 5),
            (Edition::V1, ServiceKind::WanIpConnection, 4),
            (Edition::V1, ServiceKind::WanCommonInterfaceConfig, 2),
            (Edition::V2, ServiceKind::WanIpv6Firewall, 2),
            (Edition::V1, ServiceKind::Layer3Forwarding, 1),
        ] {
            let mut home = Home::new();
            home.target = (edition, service);
            let (status, _) = home.ask_only("SUBSCRIBE", SUBSCRIBE);
            assert_eq!(status, Status::Ok);
            home.now.mono += Duration::from_secs(1);
            home.settle();
            assert!(
                home.gena.poll_notification().is_none(),
                "not before the answer"
            );

            home.answered();
            let event = home.next().unwrap();
            assert_eq!(header(&event, "SEQ"), "0");
            assert_eq!(header(&event, "NT"), "upnp:event");
            assert_eq!(event.matches("<e:property>").count(), variables, "{event}");
            for name in service.evented(edition.version()) {
                assert!(event.contains(&format!("<{name}>")), "{event}");
            }
        }
    }

    #[test]
    fn u_12_entries_and_update_id_are_told_together() {
        let mut home = Home::subscribed();
        home.map(443, "a");
        let event = home.next().unwrap();
        assert_eq!(header(&event, "SEQ"), "1");
        assert!(event.contains("<PortMappingNumberOfEntries>1<"), "{event}");
        assert!(event.contains("<SystemUpdateID>"), "{event}");
        assert_eq!(event.matches("<e:property>").count(), 2, "{event}");
        home.delivered();

        home.map(443, "b");
        let event = home.next().unwrap();
        assert!(event.contains("<PortMappingNumberOfEntries>1<"), "{event}");
        assert!(event.contains("<SystemUpdateID>"), "{event}");
        home.delivered();
        assert!(home.next().is_none(), "nothing new, nothing told");
    }

    #[test]
    fn u_12_entries_are_those_that_the_subscriber_sees() {
        let mut home = Home::subscribed();
        home.join(NAS, "nas");
        home.map_of(NAS, 443);
        let event = home.next().unwrap();
        assert!(event.contains("<PortMappingNumberOfEntries>0<"), "{event}");
        home.delivered();

        home.request(&Request::Carriers(Carriers {
            ipv4: Some(Ipv4Addr::new(198, 51, 100, 9)),
            pinholes: true,
        }));
        let event = home.next().unwrap();
        assert!(
            event.contains("<ExternalIPAddress>198.51.100.9<"),
            "{event}"
        );
    }

    #[test]
    fn u_12_however_much_changes_one_event_is_on_its_way() {
        let mut home = Home::subscribed();
        for port in 8000..8020 {
            home.map(port, "x");
            home.settle();
        }
        home.now.mono += Duration::from_secs(1);
        home.settle();
        let mut events = Vec::new();
        while let Some(event) = home.gena.poll_notification() {
            events.push(event);
        }
        assert_eq!(events.len(), 1);
        home.deliver(events[0].sid, Delivery::Delivered);
        let last = home.next().unwrap();
        assert!(last.contains("<PortMappingNumberOfEntries>20<"), "{last}");
        home.delivered();
        assert!(home.next().is_none());
    }

    #[test]
    fn s4_1_3_renewal_lasts_and_what_is_not_renewed_ends() {
        let mut home = Home::subscribed();
        let sid = format!("SID: {}\r\n", home.sid.unwrap());
        home.now.mono += Duration::from_secs(1700);
        let (status, headers) = home.ask("SUBSCRIBE", &sid);
        assert_eq!(
            (status, headers["TIMEOUT"].as_str()),
            (Status::Ok, "Second-1800")
        );
        home.now.mono += Duration::from_secs(1700);
        home.settle();
        assert_eq!(home.gena.len(), 1);
        assert!(home.next().is_none(), "a renewal sends no event");
        home.now.mono += Duration::from_secs(100);
        home.settle();
        assert!(home.gena.is_empty());
        assert_eq!(home.ask("SUBSCRIBE", &sid).0, Status::PreconditionFailed);
    }

    #[test]
    fn s4_1_4_who_unsubscribed_hears_nothing_more() {
        let mut home = Home::subscribed();
        home.map(443, "x");
        home.now.mono += Duration::from_secs(1);
        home.settle();
        let sid = format!("SID: {}\r\n", home.sid.unwrap());
        assert_eq!(home.ask("UNSUBSCRIBE", &sid).0, Status::Ok);
        assert!(home.next().is_none());
        assert_eq!(home.ask("UNSUBSCRIBE", &sid).0, Status::PreconditionFailed);
    }

    #[test]
    fn s4_1_3_a_subscription_is_renewed_at_its_own_service_from_any_address_of_its_host() {
        let mut home = Home::subscribed();
        let sid = format!("SID: {}\r\n", home.sid.unwrap());
        let (target, client) = (home.target, home.client);

        home.target = (Edition::V2, ServiceKind::Layer3Forwarding);
        assert_ne!(home.target, target);
        for method in ["SUBSCRIBE", "UNSUBSCRIBE"] {
            assert_eq!(home.ask(method, &sid).0, Status::PreconditionFailed);
        }
        home.target = target;
        // a temporary IPv6 address, known by the MAC
        home.client = Client {
            addr: "fd00:64::77".parse().unwrap(),
            mac: Some(CAMERA),
        };
        assert_eq!(home.ask("SUBSCRIBE", &sid).0, Status::Ok);
        home.client.mac = Some(Mac([2, 9, 9, 9, 9, 9]));
        assert_eq!(home.ask("SUBSCRIBE", &sid).0, Status::PreconditionFailed);
        home.client = client;
        assert_eq!(home.ask("UNSUBSCRIBE", &sid).0, Status::Ok);
    }

    #[test]
    fn t_3_address_of_a_host_that_left_hears_nothing_more() {
        let mut home = Home::subscribed();
        let addr = home.camera;
        home.request(&Request::Release(ReleaseRequest { mac: CAMERA, addr }));
        home.settle();
        assert!(home.next().is_none() && home.gena.is_empty());
    }

    #[test]
    fn s4_3_2_lost_event_shows_in_seq_and_its_variables_come_again() {
        let mut home = Home::subscribed();
        home.map(443, "x");
        let lost = home.next().unwrap();
        home.deliver(home.sid.unwrap(), Delivery::Failed);
        assert!(home.gena.poll_notification().is_none());
        let retry = home.gena.poll_timeout().unwrap();
        assert!(retry - home.now.mono >= Duration::from_secs(5));
        home.now.mono = retry;
        let again = home.next().unwrap();

        assert_eq!(
            (header(&lost, "SEQ"), header(&again, "SEQ")),
            ("1".into(), "2".into())
        );
        assert!(again.contains("<PortMappingNumberOfEntries>1<"), "{again}");
        // ever longer, and never for ever
        for _ in 0..20 {
            home.deliver(home.sid.unwrap(), Delivery::Failed);
            let retry = home.gena.poll_timeout().unwrap();
            assert!(retry - home.now.mono <= Duration::from_secs(320));
            home.now.mono = retry;
            if home.next().is_none() {
                break;
            }
        }
        assert!(home.gena.is_empty(), "its time is over");
    }

    #[test]
    fn s4_3_2_subscriber_that_knows_nothing_of_it_is_forgotten() {
        let mut home = Home::subscribed();
        home.map(443, "x");
        home.next().unwrap();
        home.deliver(home.sid.unwrap(), Delivery::Unknown);
        assert!(home.gena.is_empty() && home.gena.poll_timeout().is_none());
    }

    #[test]
    fn t_3_subscriber_that_hangs_delays_nobody() {
        let mut home = Home::new();
        for _ in 0..10 {
            home.ask("SUBSCRIBE", SUBSCRIBE);
        }
        home.client.addr = Ipv4Addr::new(192, 168, 64, 21).into();
        let other = SUBSCRIBE.replace("64.20", "64.21");
        home.ask("SUBSCRIBE", &other);
        home.settle();

        let on_their_way: Vec<_> = std::iter::from_fn(|| home.gena.poll_notification()).collect();
        assert_eq!(on_their_way.len(), MAX_IN_FLIGHT_TO_ONE + 1);
        let honest = on_their_way
            .iter()
            .filter(|event| event.callbacks[0].addr.ip() == home.client.addr);
        assert_eq!(honest.count(), 1);
    }

    /// A core, the machine behind its HTTP, and a camera that subscribes.
    struct Home {
        core: Core,
        web: Web,
        gena: Gena<StdRng>,
        counters: Counters,
        camera: Ipv4Addr,
        client: Client,
        target: (Edition, ServiceKind),
        sid: Option<Sid>,
        begun: Vec<Sid>,
        now: Now,
    }

    impl Home {
        fn new() -> Self {
            let now = Now {
                mono: Instant::from_nanos(1_000_000_000_000),
                wall: Wall::from_secs(1_800_000_000),
            };
            let core = Core::new(site(), Policy::default(), [7; 16], BootId([1; 16]), now);
            let (identity, counters) = (Identity::new([7; 16]), Counters::new());
            let rng = StdRng::seed_from_u64(1);
            let mut home = Self {
                core,
                web: Web::new(&identity, Counters::new()),
                gena: Gena::new(&identity, counters.clone(), rng, now.mono),
                counters,
                camera: GATEWAY,
                client: Client {
                    addr: CLIENT.ip(),
                    mac: None,
                },
                target: (Edition::V2, ServiceKind::WanIpConnection),
                sid: None,
                begun: Vec::new(),
                now,
            };
            home.request(&Request::Prefix(PrefixRequest {
                delegated: "2001:db8:64::/56".parse().unwrap(),
                nsp: None,
                old_valid: Duration::ZERO,
            }));
            home
        }

        /// With a subscription of the camera that has its first event.
        fn subscribed() -> Self {
            let mut home = Self::new();
            home.camera = home.join(CAMERA, "camera");
            home.client = Client {
                addr: home.camera.into(),
                mac: Some(CAMERA),
            };
            let own = SUBSCRIBE.replace("192.168.64.20", &home.camera.to_string());
            assert_eq!(home.ask("SUBSCRIBE", &own).0, Status::Ok);
            assert_eq!(header(&home.next().unwrap(), "SEQ"), "0");
            home.delivered();
            home
        }

        /// Subscribes until it is refused, and tells how often that went.
        fn subscribe_often(&mut self) -> usize {
            let addr = self.client.addr;
            let headers = format!("CALLBACK: <http://{addr}:9/>\r\nNT: upnp:event\r\n");
            (0..40)
                .take_while(|_| self.ask("SUBSCRIBE", &headers).0 == Status::Ok)
                .count()
        }

        fn join(&mut self, mac: Mac, name: &str) -> Ipv4Addr {
            let addr = self
                .core
                .snapshot()
                .lease_candidate(mac, |_| false)
                .unwrap();
            self.request(&Request::Lease(LeaseRequest {
                mac,
                addr,
                lifetime: Duration::from_secs(10_000_000),
                declared_name: Some(name.to_owned()),
            }));
            addr
        }

        fn request(&mut self, request: &Request) {
            self.core.handle_request(request, self.now);
            self.core.finish(self.now);
            self.gena.handle_change(self.now.mono);
        }

        fn map(&mut self, port: u16, description: &str) {
            self.map_with(CAMERA, port, description);
        }

        fn map_of(&mut self, mac: Mac, port: u16) {
            self.map_with(mac, port, "x");
        }

        fn map_with(&mut self, mac: Mac, port: u16, description: &str) {
            let external = ExternalPort::new(port).unwrap();
            let described = self.core.snapshot().host(mac).unwrap().addr;
            let open = self
                .core
                .snapshot()
                .mapping_by_external(described, Protocol::Tcp, external)
                .is_some();
            if open {
                // a change: closed and opened again under another name
                self.request(&Request::Unmap(UnmapRequest {
                    subject: Subject::Admin(mac),
                    requester: Requester::Dashboard,
                    target: UnmapTarget::External(Protocol::Tcp, external),
                }));
            }
            self.request(&Request::Map(MapRequest {
                subject: Subject::Admin(mac),
                requester: Requester::Dashboard,
                protocol: Protocol::Tcp,
                internal_port: InternalPort::new(port).unwrap(),
                external: External::Exact(external),
                lifetime: None,
                nonce: None,
                via: Via::Both,
                peer: false,
                filters: FilterChange::default(),
                description: Some(description.to_owned()),
                memo: None,
            }));
        }

        /// Asks, and hears the answer.
        fn ask(
            &mut self,
            method: &str,
            headers: &str,
        ) -> (Status, std::collections::BTreeMap<&'static str, String>) {
            let answer = self.ask_only(method, headers);
            self.answered();
            answer
        }

        fn ask_only(
            &mut self,
            method: &str,
            headers: &str,
        ) -> (Status, std::collections::BTreeMap<&'static str, String>) {
            let (edition, service) = self.target;
            let path = Resource::Events(edition, service).path(&Identity::new([7; 16]));
            let text = format!("{method} {path} HTTP/1.1\r\nHost: 192.168.64.1\r\n{headers}\r\n");
            let mut connection = Connection::new(Counters::new(), self.now);
            connection.handle_bytes(text.as_bytes(), self.now.mono);
            let request = connection.poll_request().unwrap();
            let peer = Peer {
                client: self.client,
                scope: 0,
                local: "192.168.64.1:5000".parse().unwrap(),
            };
            let snapshot = self.core.snapshot();
            let step = self.web.handle_request(&request, peer, snapshot, self.now);
            let Step::Subscribe(subscribe) = step else {
                panic!("{step:?}")
            };
            let (response, begun) = self
                .gena
                .handle_request(&subscribe, snapshot, self.now.mono);
            self.sid = begun.or(self.sid);
            self.begun.extend(begun);
            (response.status, response.headers.into_iter().collect())
        }

        fn answered(&mut self) {
            for sid in self.begun.drain(..) {
                self.gena.handle_answered(sid, self.now.mono);
            }
        }

        fn settle(&mut self) {
            let situation = Situation {
                snapshot: self.core.snapshot(),
                link_up: true,
            };
            self.gena.handle_timeout(situation, self.now.mono);
        }

        /// Waits for what is moderated, and returns the next event as it is sent.
        fn next(&mut self) -> Option<String> {
            self.settle();
            self.now.mono += Duration::from_millis(200);
            self.settle();
            let event: Notification = self.gena.poll_notification()?;
            let callback = event.callbacks.first().unwrap();
            Some(String::from_utf8(event.emit(callback)).unwrap())
        }

        fn delivered(&mut self) {
            self.deliver(self.sid.unwrap(), Delivery::Delivered);
        }

        fn deliver(&mut self, sid: Sid, delivery: Delivery) {
            self.gena.handle_delivery(sid, delivery, self.now.mono);
        }
    }

    const SUBSCRIBE: &str = "CALLBACK: <http://192.168.64.20:9/>\r\nNT: upnp:event\r\n";
    const CAMERA: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const NAS: Mac = Mac([2, 0, 0, 0, 0, 2]);
}

/// The machine, its time and its counters.
struct Net {
    core: Core,
    ssdp: Ssdp<StdRng>,
    now: Instant,
    counters: Counters,
}

impl Net {
    fn new() -> Self {
        Self::seeded(1)
    }

    fn seeded(seed: u64) -> Self {
        let now = Instant::from_nanos(1_000_000_000_000);
        let counters = Counters::new();
        let config = SsdpConfig {
            lan: Lan::new(site(), 5000),
            header: Header {
                boot_id: 3,
                config_id: 99,
            },
        };
        let rng = StdRng::seed_from_u64(seed);
        let ssdp = Ssdp::new(config, &Identity::new([7; 16]), counters.clone(), rng, now);
        let wall = Wall::from_secs(1_800_000_000);
        let at = Now { mono: now, wall };
        Self {
            core: Core::new(site(), Policy::default(), [7; 16], BootId([1; 16]), at),
            ssdp,
            now,
            counters,
        }
    }

    fn search(&mut self, target: &str, max_wait: &str) {
        let bytes = search(target, max_wait);
        self.hear(&bytes, CLIENT, GROUP.ip());
    }

    /// A datagram comes in a frame whose MAC nobody knows.
    fn hear(&mut self, bytes: &[u8], source: SocketAddr, destination: IpAddr) {
        let client = Client {
            addr: source.ip(),
            mac: None,
        };
        let searcher = Searcher::new(source, client, self.core.snapshot());
        self.ssdp
            .handle_datagram(bytes, searcher, destination, self.now);
    }

    /// Searches and returns everything that comes within five seconds.
    fn answers(&mut self, target: &str, max_wait: &str) -> Vec<(SocketAddr, String)> {
        self.search(target, max_wait);
        self.now += Duration::from_secs(5);
        self.ssdp.handle_timeout(self.now);
        let answers = self.drain();
        assert!(
            answers
                .iter()
                .all(|(to, text)| *to == CLIENT && text.starts_with("HTTP/1.1 200 OK\r\n"))
        );
        answers
    }

    /// Goes to the next deadline.
    fn next(&mut self) -> Vec<(SocketAddr, String)> {
        let (due, _) = self.ssdp.poll_timeout().unwrap();
        self.now = due;
        self.ssdp.handle_timeout(due);
        self.drain()
    }

    fn drain(&mut self) -> Vec<(SocketAddr, String)> {
        std::iter::from_fn(|| self.ssdp.poll_transmit())
            .map(|transmit| (transmit.to, String::from_utf8(transmit.payload).unwrap()))
            .collect()
    }
}

fn search(target: &str, max_wait: &str) -> Vec<u8> {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\n{max_wait}ST: {target}\r\n\r\n"
    )
    .into_bytes()
}

fn header(text: &str, name: &str) -> String {
    let prefix = format!("{name}: ");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
    value
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .to_owned()
}

const GROUP: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900));
const CLIENT: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 168, 64, 20), 40000));

fn site() -> Site {
    Site::new(GATEWAY, 24, "home.example".to_owned()).unwrap()
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);
