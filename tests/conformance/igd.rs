//! UPnP IGD:1 and IGD:2, by the requirement ids of the standards table (U-) and of the threats
//! (T-). The HTTP and XML limits of threats 19 and 20 are tested beside their machines,
//! discovery in `uda.rs`.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use mapping::{
    BootId, Client, Core, External, ExternalPort, Grant, Instant, InternalPort, LeaseRequest, Mac,
    MapRequest, MappingNonce, Now, Outcome, Policy, PrefixRequest, Protocol, Refusal, Request,
    Requester, Site, Snapshot, Subject, UnmapRequest, UnmapTarget, Wall,
};
use upnp::server::{Connection, Continuation, Step, Web, finish};
use upnp::wire::http::{Head, Response};
use upnp::{
    Action, Counters, DeviceKind, Edition, ErrorCode, Event, Identity, Resource, ServiceKind,
};

mod soap {
    use super::*;

    #[test]
    fn u_4_every_built_action_is_listed_and_answered() {
        let mut home = Home::new();
        let arguments = add(8080, 8080);

        for edition in Edition::ALL {
            for service in ServiceKind::ALL {
                let scpd = home.get(&Resource::Scpd(edition, service).path(&home.identity()));
                let version = service.version(edition);
                for action in Action::of(service, version) {
                    assert!(scpd.contains(&format!("<name>{}</name>", action.name())));
                    let answer = home.call(edition, service, version, action.name(), &arguments);
                    let known = answer.contains("Response xmlns") || error(&answer) != Some(401);
                    assert!(known, "{answer}");
                }
            }
        }
    }

    #[test]
    fn u_4_unknown_actions_are_401_and_unbuilt_ones_501() {
        let mut home = Home::new();

        assert_eq!(home.v2("Nonsense", &[]), Err(401));
        assert_eq!(home.v2("ForceTermination", &[]), Err(501));
        assert_eq!(home.v2("GetListOfPortMappings", &[]), Err(501));
        assert_eq!(home.v1("AddAnyPortMapping", &add(80, 80)), Err(401));
        assert_eq!(home.v1("GetListOfPortMappings", &[]), Err(401));
        let answer = home.call(
            Edition::V1,
            ServiceKind::WanIpConnection,
            2,
            "GetStatusInfo",
            &[],
        );
        assert_eq!(error(&answer), Some(401));
        assert_eq!(home.counters.value(Event::ActionUnsupported), 2);
        assert_eq!(home.counters.value(Event::ActionUnknown), 4);
    }

    #[test]
    fn u_5_lease_of_zero_is_a_week_and_time_runs_down() {
        let mut home = Home::new();
        home.v2("AddPortMapping", &add(443, 8080)).unwrap();

        assert_eq!(home.entry(443)["NewLeaseDuration"], "604800");
        home.now.mono += Duration::from_secs(500);
        assert_eq!(home.entry(443)["NewLeaseDuration"], "604300");
        home.now.mono += Duration::from_secs(604_299) + Duration::from_millis(700);
        assert_eq!(home.entry(443)["NewLeaseDuration"], "1");
        home.now.mono += Duration::from_secs(1);
        assert_eq!(
            home.v2("GetSpecificPortMappingEntry", &named(443)),
            Err(714)
        );
    }

    #[test]
    fn u_5_lease_is_at_most_a_week() {
        let mut home = Home::new();

        let lease = |value| with(add(443, 8080), "NewLeaseDuration", value);
        assert_eq!(home.v2("AddPortMapping", &lease("604801")), Err(601));
        assert_eq!(home.v2("AddPortMapping", &lease("4294967295")), Err(601));
        assert!(home.v2("AddPortMapping", &lease("604800")).is_ok());
        assert!(home.v2("AddPortMapping", &lease("1")).is_ok());
        // version 1 knows no longest lease
        assert!(home.v1("AddPortMapping", &lease("604801")).is_ok());
        assert_eq!(home.entry(443)["NewLeaseDuration"], "604800");
    }

    #[test]
    fn u_6_wildcards_are_refused_where_the_standard_says() {
        let mut home = Home::new();
        let mut refused = |name, value| {
            home.v2("AddPortMapping", &with(add(443, 8080), name, value))
                .unwrap_err()
        };

        assert_eq!(refused("NewExternalPort", "0"), 716);
        assert_eq!(refused("NewInternalPort", "0"), 732);
        assert_eq!(refused("NewInternalClient", ""), 715);
        assert_eq!(refused("NewRemoteHost", "203.0.113.7"), 726);
        assert_eq!(refused("NewRemoteHost", "remote.example"), 726);
        assert_eq!(refused("NewEnabled", "0"), 501);
        assert_eq!(home.core.snapshot().mapping_count(), 0);
        assert_eq!(home.counters.value(Event::ActionRemoteHost), 2);
        assert_eq!(home.counters.value(Event::ActionDisabledMapping), 1);
    }

    #[test]
    fn u_6_wildcard_remote_has_three_spellings() {
        let mut home = Home::new();
        for remote in ["", "*", "0.0.0.0", " "] {
            let said = |arguments| with(arguments, "NewRemoteHost", remote);
            home.v1("AddPortMapping", &said(add(443, 8080))).unwrap();
            home.v1("GetSpecificPortMappingEntry", &said(named(443)))
                .unwrap();
            home.v1("DeletePortMapping", &said(named(443))).unwrap();
        }
        let python = with(add(443, 8080), "NewEnabled", "True");
        assert!(home.v1("AddPortMapping", &python).is_ok());
    }

    #[test]
    fn u_6_values_of_the_wrong_type_are_402() {
        let mut home = Home::new();
        let junk = [
            ("NewExternalPort", "70000"),
            ("NewExternalPort", "-1"),
            ("NewExternalPort", "+443"),
            ("NewExternalPort", "443x"),
            ("NewExternalPort", ""),
            ("NewInternalPort", "0x50"),
            ("NewInternalPort", "65536"),
            ("NewLeaseDuration", "abc"),
            ("NewLeaseDuration", "-1"),
            ("NewLeaseDuration", "4294967296"),
            ("NewEnabled", "2"),
            ("NewEnabled", ""),
        ];

        for (name, value) in junk {
            let answer = home.v2("AddPortMapping", &with(add(443, 8080), name, value));
            assert_eq!(answer, Err(402), "{name} {value}");
        }
        for protocol in ["SCTP", "", "6", "TCP,UDP"] {
            let answer = home.v2(
                "AddPortMapping",
                &with(add(443, 8080), "NewProtocol", protocol),
            );
            assert_eq!(answer, Err(601), "{protocol}");
        }
        assert_eq!(
            home.v2("GetGenericPortMappingEntry", &index("-1")),
            Err(402)
        );
        assert_eq!(
            home.v2("GetGenericPortMappingEntry", &index("65536")),
            Err(402)
        );
    }

    #[test]
    fn u_6_a_device_may_call_itself_by_its_name() {
        let mut home = Home::new();
        home.join(NAS, "nas");
        let mut client = |name: &str| {
            home.v2(
                "AddPortMapping",
                &with(add(443, 8080), "NewInternalClient", name),
            )
        };

        assert!(client("camera").is_ok());
        assert!(client("camera.home.example").is_ok());
        assert_eq!(client("nas"), Err(606));
        assert_eq!(client("camera.elsewhere.example"), Err(606));
        assert_eq!(client("not a name"), Err(606));
    }

    #[test]
    fn u_7_another_servers_port_is_no_conflict_and_an_own_one_is_overwritten() {
        let mut home = Home::new();
        let camera = home.camera;
        let nas = home.join(NAS, "nas");
        home.v2("AddPortMapping", &add(554, 554)).unwrap();

        home.camera = nas;
        home.v2(
            "AddPortMapping",
            &with(add(554, 554), "NewInternalClient", &nas.to_string()),
        )
        .unwrap();
        home.camera = camera;
        home.v2(
            "AddPortMapping",
            &with(add(554, 8554), "NewPortMappingDescription", "new"),
        )
        .unwrap();

        assert_eq!(home.core.snapshot().mapping_count(), 2);
        let entry = home.entry(554);
        assert_eq!(
            (
                entry["NewInternalPort"].as_str(),
                entry["NewPortMappingDescription"].as_str()
            ),
            ("8554", "new")
        );
    }

    #[test]
    fn u_7_port_that_pcp_guards_is_a_conflict() {
        let mut home = Home::new();
        home.open(Requester::Pcp, 554, 554, Some(MappingNonce([1; 12])));

        assert_eq!(home.v2("AddPortMapping", &add(554, 8554)), Err(718));
        assert_eq!(home.v1("AddPortMapping", &add(554, 8554)), Err(718));
        assert_eq!(home.v2("DeletePortMapping", &named(554)), Err(606));
        let any = home.v2("AddAnyPortMapping", &add(554, 8554)).unwrap();
        assert_eq!(any["NewReservedPort"], "8554");
    }

    #[test]
    fn u_7_quota_is_728_and_501_in_version_1() {
        let mut home = Home::new();
        for port in 0..Policy::default().max_per_device {
            let port = 10_000 + u16::try_from(port).unwrap();
            home.v2("AddPortMapping", &add(port, port)).unwrap();
        }

        assert_eq!(home.v2("AddPortMapping", &add(443, 443)), Err(728));
        assert_eq!(home.v2("AddAnyPortMapping", &add(443, 443)), Err(728));
        assert_eq!(home.v1("AddPortMapping", &add(443, 443)), Err(501));
    }

    #[test]
    fn u_8_any_port_is_another_one_if_the_wanted_one_is_taken() {
        let mut home = Home::new();
        home.v2("AddPortMapping", &add(554, 554)).unwrap();

        let reserved = home.v2("AddAnyPortMapping", &add(554, 8554)).unwrap();
        assert_eq!(reserved["NewReservedPort"], "8554");
        let again = home.v2("AddAnyPortMapping", &add(554, 554)).unwrap();
        assert_eq!(again["NewReservedPort"], "554", "an own mapping is updated");
        assert_eq!(home.core.snapshot().mapping_count(), 2);
    }

    #[test]
    fn u_9_table_lists_every_creators_mappings_without_gaps() {
        let mut home = Home::new();
        home.v2("AddPortMapping", &add(443, 8080)).unwrap();
        home.open(Requester::Pcp, 554, 554, Some(MappingNonce([1; 12])));
        home.open(Requester::NatPmp, 8883, 8883, None);
        home.static_mapping(9000);

        let mut ports = BTreeSet::new();
        for number in 0..4 {
            let entry = home
                .v2("GetGenericPortMappingEntry", &index(&number.to_string()))
                .unwrap();
            assert_eq!(entry["NewInternalClient"], home.camera.to_string());
            assert_eq!(
                (
                    entry["NewRemoteHost"].as_str(),
                    entry["NewEnabled"].as_str()
                ),
                ("", "1")
            );
            ports.insert(entry["NewExternalPort"].clone());
        }
        assert_eq!(
            ports.into_iter().collect::<Vec<_>>(),
            ["443", "554", "8883", "9000"]
        );
        assert_eq!(home.v2("GetGenericPortMappingEntry", &index("4")), Err(713));
        assert_eq!(home.entry(9000)["NewLeaseDuration"], "0");

        home.v2("DeletePortMapping", &named(443)).unwrap();
        assert_eq!(home.v2("GetGenericPortMappingEntry", &index("3")), Err(713));
    }

    #[test]
    fn u_9_table_is_a_view_of_the_asking_device() {
        let mut home = Home::new();
        home.v2("AddPortMapping", &add(443, 8080)).unwrap();
        home.camera = home.join(NAS, "nas");

        assert_eq!(home.v2("GetGenericPortMappingEntry", &index("0")), Err(713));
        assert_eq!(
            home.v2("GetSpecificPortMappingEntry", &named(443)),
            Err(714)
        );
        assert_eq!(home.v2("DeletePortMapping", &named(443)), Err(714));
        assert_eq!(home.core.snapshot().mapping_count(), 1);
    }

    #[test]
    fn u_9_wildcard_remote_matches_only_wildcard() {
        let mut home = Home::new();
        home.v2("AddPortMapping", &add(443, 8080)).unwrap();
        let single = with(named(443), "NewRemoteHost", "203.0.113.7");

        assert_eq!(home.v2("GetSpecificPortMappingEntry", &single), Err(714));
        assert_eq!(home.v2("DeletePortMapping", &single), Err(714));
        assert_eq!(home.v2("GetSpecificPortMappingEntry", &named(0)), Err(714));
        assert_eq!(
            home.v2(
                "GetSpecificPortMappingEntry",
                &with(named(443), "NewProtocol", "UDP")
            ),
            Err(714)
        );
        assert_eq!(
            home.v2(
                "GetSpecificPortMappingEntry",
                &with(named(443), "NewProtocol", "SCTP")
            ),
            Err(601)
        );
        assert!(home.v2("GetSpecificPortMappingEntry", &named(443)).is_ok());
    }

    #[test]
    fn u_11_external_address_is_the_one_with_which_control_points_go_on() {
        let mut home = Home::new();

        let outputs = home.v2("GetExternalIPAddress", &[]).unwrap();

        assert_eq!(outputs["NewExternalIPAddress"], "0.0.0.0");
    }

    #[test]
    fn u_13_ports_that_the_policy_denies_are_606_and_718_in_version_1() {
        let mut home = Home::new();

        for port in [21, 22, 3389, 5351] {
            assert_eq!(
                home.v2("AddPortMapping", &add(8080, port)),
                Err(606),
                "{port}"
            );
            assert_eq!(
                home.v1("AddPortMapping", &add(8080, port)),
                Err(718),
                "{port}"
            );
        }
        assert!(home.v2("AddPortMapping", &add(443, 443)).is_ok());
    }

    #[test]
    fn u_4_status_tells_the_truth() {
        let mut home = Home::new();
        home.now.mono += Duration::from_secs(60);
        let status = home.v1("GetStatusInfo", &[]).unwrap();
        assert_eq!(
            (
                status["NewConnectionStatus"].as_str(),
                status["NewUptime"].as_str()
            ),
            ("Connected", "60")
        );
        assert_eq!(
            home.v2("GetNATRSIPStatus", &[]).unwrap()["NewRSIPAvailable"],
            "0"
        );
        assert_eq!(home.link()["NewPhysicalLinkStatus"], "Up");

        let mut offline = Home::without_prefix();
        let status = offline.v1("GetStatusInfo", &[]).unwrap();
        assert_eq!(
            (
                status["NewConnectionStatus"].as_str(),
                status["NewUptime"].as_str()
            ),
            ("Disconnected", "0")
        );
        assert_eq!(offline.link()["NewPhysicalLinkStatus"], "Down");
        assert_eq!(offline.v2("AddPortMapping", &add(443, 443)), Err(501));
    }

    #[test]
    fn t_2_every_argument_may_be_missing_or_doubled() {
        let mut home = Home::new();
        let all = [add(443, 8080), index("0")].concat();

        for action in Action::of(ServiceKind::WanIpConnection, 2) {
            for argument in action.inputs() {
                let without: Vec<_> = all
                    .iter()
                    .filter(|(name, _)| *name != argument.name)
                    .cloned()
                    .collect();
                assert_eq!(
                    home.v2(action.name(), &without),
                    Err(402),
                    "{action:?} {argument:?}"
                );
                let extra = all
                    .iter()
                    .find(|(name, _)| *name == argument.name)
                    .unwrap()
                    .clone();
                let doubled = [all.clone(), vec![extra]].concat();
                assert_eq!(
                    home.v2(action.name(), &doubled),
                    Err(402),
                    "{action:?} {argument:?}"
                );
            }
        }
        assert_eq!(home.core.snapshot().mapping_count(), 0);
    }

    #[test]
    fn t_4_nobody_opens_a_port_of_another_host_or_of_the_gateway() {
        let mut home = Home::new();
        let nas = home.join(NAS, "nas");
        let others = [
            nas.to_string(),
            GATEWAY.to_string(),
            "127.0.0.1".to_owned(),
            "8.8.8.8".to_owned(),
            "255.255.255.255".to_owned(),
            "0.0.0.0".to_owned(),
            "::1".to_owned(),
        ];

        for other in &others {
            for action in ["AddPortMapping", "AddAnyPortMapping"] {
                let arguments = with(add(443, 8080), "NewInternalClient", other);
                assert_eq!(home.v2(action, &arguments), Err(606), "{other}");
            }
        }
        assert_eq!(home.counters.value(Event::ActionForeignClient), 14);
        // a host without a lease has no port to open
        home.camera = Ipv4Addr::new(192, 168, 64, 77);
        let own = with(add(443, 8080), "NewInternalClient", "192.168.64.77");
        assert_eq!(home.v2("AddPortMapping", &own), Err(606));
        assert_eq!(home.core.snapshot().mapping_count(), 0);
    }

    #[test]
    fn t_18_description_comes_back_escaped() {
        let mut home = Home::new();
        let evil = "<script>alert(1)</script>&\"'";
        home.v2(
            "AddPortMapping",
            &with(add(443, 8080), "NewPortMappingDescription", evil),
        )
        .unwrap();

        let path = Resource::Control(Edition::V2, ServiceKind::WanIpConnection);
        let (service, name) = (ServiceKind::WanIpConnection, "GetSpecificPortMappingEntry");
        let answer = home.call(Edition::V2, service, 2, name, &named(443));

        assert!(!answer.contains("<script>"), "{path:?} {answer}");
        assert_eq!(home.entry(443)["NewPortMappingDescription"], evil);
    }

    /// Every refusal has its code, in both versions; the table is what a reader looks at.
    #[test]
    fn u_7_every_refusal_has_the_code_of_rfc_6970() {
        let refusals = [
            Refusal::AddressNotFree,
            Refusal::ExternalPortTaken,
            Refusal::ForeignMapping { remaining: None },
            Refusal::NameNotFree,
            Refusal::NoLease,
            Refusal::NoPrefix,
            Refusal::NotFound,
            Refusal::PortDenied,
            Refusal::PrefixInvalid(mapping::InvalidPrefix::Text),
            Refusal::QuotaExceeded,
            Refusal::StaticMapping,
            Refusal::Unavailable,
        ];
        let code = |refusal, action, version| {
            let continuation = Continuation { action, version };
            finish(continuation, &Outcome::Refused(refusal))
                .unwrap_err()
                .code()
                .to_string()
        };

        let table: Vec<String> = refusals
            .into_iter()
            .map(|refusal| {
                let columns = [
                    code(refusal, Action::AddPortMapping, 1),
                    code(refusal, Action::AddPortMapping, 2),
                    code(refusal, Action::AddAnyPortMapping, 2),
                    code(refusal, Action::DeletePortMapping, 1),
                    code(refusal, Action::DeletePortMapping, 2),
                ];
                format!("{} {refusal}", columns.join(" "))
            })
            .collect();

        assert_eq!(
            table,
            [
                "501 501 501 501 501 the address is not free for this client",
                "718 718 728 718 718 the external port is taken",
                "718 718 718 606 606 the mapping belongs to another client",
                "501 501 501 501 501 the name is taken or reserved",
                "606 606 606 606 606 the client has no lease",
                "501 501 501 501 501 no prefix is delegated",
                "714 714 714 714 714 there is no such thing",
                "718 606 606 606 606 the policy does not open this port",
                "501 501 501 501 501 the prefix cannot be used: not an IPv6 prefix such as 2001:db8:64::/56",
                "501 728 728 501 728 the host has as many mappings as it may",
                "606 606 606 606 606 the mapping is static",
                "501 501 501 501 501 not now; ask again",
            ]
        );
    }
}

mod http {
    use super::*;

    #[test]
    fn u_3_each_root_describes_its_own_version() {
        let home = Home::new();

        for edition in Edition::ALL {
            let text = home.get(&Resource::Description(edition).path(&home.identity()));
            for device in DeviceKind::ALL {
                assert!(
                    text.contains(&format!("<deviceType>{}</deviceType>", device.urn(edition)))
                );
                assert!(text.contains(&format!(
                    "<UDN>{}</UDN>",
                    home.identity().uuid(edition, device)
                )));
            }
            let service = ServiceKind::WanIpConnection.urn(edition.version());
            assert!(text.contains(&format!("<serviceType>{service}</serviceType>")));
            let control = Resource::Control(edition, ServiceKind::WanIpConnection);
            assert!(text.contains(&control.path(&home.identity())));
        }
    }

    #[test]
    fn t_8_other_hosts_and_web_pages_are_refused() {
        let home = Home::new();
        let path = Resource::Description(Edition::V1).path(&home.identity());
        let status = |headers: &str| home.status(&format!("GET {path} HTTP/1.1\r\n{headers}\r\n"));

        assert_eq!(status("Host: 192.168.64.1:5000\r\n"), 200);
        assert_eq!(status("Host: 192.168.64.1\r\n"), 200);
        for host in [
            "evil.example",
            "192.168.64.1:80",
            "192.168.64.2:5000",
            "192.168.64.1.",
            "[::1]:5000",
            "",
        ] {
            assert_eq!(status(&format!("Host: {host}\r\n")), 403, "{host}");
        }
        assert_eq!(status(""), 400);
        assert_eq!(status("Host: 192.168.64.1\r\nHost: evil.example\r\n"), 400);
        assert_eq!(
            status("Host: 192.168.64.1:5000\r\nOrigin: http://192.168.64.1:5000\r\n"),
            403
        );
        assert_eq!(status("Host: 192.168.64.1:5000\r\nOrigin: null\r\n"), 403);
        assert_eq!(home.status(&format!("GET {path} HTTP/1.0\r\n\r\n")), 200);
        let absolute = |host: &str| {
            home.status(&format!(
                "GET http://{host}{path} HTTP/1.1\r\nHost: 192.168.64.1:5000\r\n\r\n"
            ))
        };
        assert_eq!(
            (absolute("192.168.64.1:5000"), absolute("evil.example")),
            (200, 403)
        );
        assert_eq!(home.counters.value(Event::HttpOrigin), 2);
        assert_eq!(home.counters.value(Event::HttpForeignHost), 9);
    }

    #[test]
    fn t_8_paths_cannot_be_guessed() {
        let home = Home::new();
        let status = |path: &str| home.status(&format!("GET {path} HTTP/1.0\r\n\r\n"));

        for path in [
            "/",
            "/rootDesc.xml",
            "/v1/device.xml",
            "/ctl/IPConn",
            "http:",
            "*",
        ] {
            assert_eq!(status(path), 404, "{path}");
        }
        let own = Resource::Description(Edition::V1).path(&home.identity());
        let other = Resource::Description(Edition::V1).path(&Identity::new([8; 16]));
        assert_eq!((status(&own), status(&other)), (200, 404));
        assert!(own.len() > 32);
    }

    #[test]
    fn t_8_forms_of_web_pages_are_refused() {
        let home = Home::new();
        let post = |headers: &str, body: &str| {
            let path =
                Resource::Control(Edition::V2, ServiceKind::WanIpConnection).path(&home.identity());
            home.status(&format!(
                "POST {path} HTTP/1.1\r\nHost: 192.168.64.1:5000\r\nContent-Length: {}\r\n{headers}\r\n{body}",
                body.len()
            ))
        };
        let body = envelope(
            "urn:schemas-upnp-org:service:WANIPConnection:2",
            "GetStatusInfo",
            &[],
        );
        let action =
            "SOAPAction: \"urn:schemas-upnp-org:service:WANIPConnection:2#GetStatusInfo\"\r\n";
        let xml = "Content-Type: text/xml; charset=\"utf-8\"\r\n";

        assert_eq!(post(&format!("{xml}{action}"), &body), 200);
        assert_eq!(
            post(&format!("{xml}{}", action.replace('"', "")), &body),
            200
        );
        assert_eq!(post(action, &body), 415);
        assert_eq!(
            post(&format!("Content-Type: text/plain\r\n{action}"), &body),
            415
        );
        assert_eq!(post(xml, &body), 400);
        assert_eq!(post(&format!("{xml}SOAPAction: \"#\"\r\n"), &body), 400);
        assert_eq!(post(&format!("{xml}{action}{action}"), &body), 400);
        assert_eq!(post(&format!("{xml}{action}"), "a=b"), 500);
        assert_eq!(home.counters.value(Event::SoapMalformed), 1);
        let mismatch = action.replace("GetStatusInfo", "GetNATRSIPStatus");
        assert_eq!(post(&format!("{xml}{mismatch}"), &body), 500);
        assert_eq!(home.counters.value(Event::SoapActionMismatch), 1);
        assert_eq!(home.counters.value(Event::SoapActionMissing), 3);
    }

    #[test]
    fn t_8_methods_that_do_not_fit_are_refused() {
        let home = Home::new();
        let document = Resource::Description(Edition::V1).path(&home.identity());
        let control =
            Resource::Control(Edition::V1, ServiceKind::WanIpConnection).path(&home.identity());
        let status =
            |method: &str, path: &str| home.status(&format!("{method} {path} HTTP/1.0\r\n\r\n"));

        assert_eq!(status("HEAD", &document), 200);
        assert_eq!(status("POST", &document), 405);
        assert_eq!(status("GET", &control), 405);
        assert_eq!(status("DELETE", &control), 405);
        assert_eq!(status("SUBSCRIBE", &control), 501);
        assert_eq!(home.counters.value(Event::HttpSubscribe), 1);
    }
}

/// A core behind the machines, and a camera that speaks HTTP to them.
struct Home {
    core: Core,
    web: Web,
    counters: Counters,
    camera: Ipv4Addr,
    now: Now,
}

type Outputs = std::collections::BTreeMap<String, String>;
type Arguments = [(&'static str, String)];

impl Home {
    fn new() -> Self {
        let mut home = Self::without_prefix();
        let prefix = PrefixRequest {
            delegated: "2001:db8:64::/56".parse().unwrap(),
            nsp: None,
            old_valid: Duration::ZERO,
        };
        home.request(&Request::Prefix(prefix));
        let id = home.core.snapshot().to_prefer().unwrap().id;
        home.request(&Request::Prefer(id));
        home
    }

    fn without_prefix() -> Self {
        let now = Now {
            mono: Instant::from_nanos(1_000_000_000_000),
            wall: Wall::from_secs(1_800_000_000),
        };
        let core = Core::new(site(), Policy::default(), [7; 16], BootId([1; 16]), now);
        let counters = Counters::new();
        let web = Web::new(ENDPOINT, &Identity::new([7; 16]), counters.clone());
        let mut home = Self {
            core,
            web,
            counters,
            camera: Ipv4Addr::UNSPECIFIED,
            now,
        };
        home.camera = home.join(CAMERA, "camera");
        home
    }

    fn identity(&self) -> Identity {
        Identity::new([7; 16])
    }

    fn request(&mut self, request: &Request) -> Outcome {
        self.core.handle_timeout(self.now);
        let (outcome, _) = self.core.handle_request(request, self.now);
        self.core.finish(self.now);
        outcome
    }

    fn join(&mut self, mac: Mac, name: &str) -> Ipv4Addr {
        let addr = self
            .core
            .snapshot()
            .lease_candidate(mac, |_| false)
            .unwrap();
        let lease = LeaseRequest {
            mac,
            addr,
            lifetime: Duration::from_secs(10_000_000),
            declared_name: Some(name.to_owned()),
        };
        let outcome = self.request(&Request::Lease(lease));
        assert!(
            matches!(outcome, Outcome::Granted(Grant::Leased(_))),
            "{outcome:?}"
        );
        addr
    }

    fn open(
        &mut self,
        requester: Requester,
        external: u16,
        internal: u16,
        nonce: Option<MappingNonce>,
    ) {
        self.map(
            Subject::Client(self.client()),
            requester,
            external,
            internal,
            nonce,
        );
    }

    fn static_mapping(&mut self, port: u16) {
        self.map(
            Subject::Admin(CAMERA),
            Requester::Dashboard,
            port,
            port,
            None,
        );
    }

    fn map(
        &mut self,
        subject: Subject,
        requester: Requester,
        external: u16,
        internal: u16,
        nonce: Option<MappingNonce>,
    ) {
        let admin = matches!(subject, Subject::Admin(_));
        let outcome = self.request(&Request::Map(MapRequest {
            subject,
            requester,
            protocol: Protocol::Tcp,
            internal_port: InternalPort::new(internal).unwrap(),
            external: External::Suggested(ExternalPort::new(external)),
            lifetime: (!admin).then_some(Duration::from_secs(3600)),
            nonce,
            via: mapping::Via::Both,
            peer: false,
            filters: mapping::FilterChange::default(),
            description: String::new(),
        }));
        assert!(
            matches!(outcome, Outcome::Granted(Grant::Mapped { .. })),
            "{outcome:?}"
        );
    }

    fn client(&self) -> Client {
        Client {
            addr: self.camera.into(),
            mac: None,
        }
    }

    /// Sends raw bytes through a connection of its own and returns the answer.
    fn raw(&self, bytes: &[u8]) -> Step {
        let mut connection = Connection::new(Counters::new(), self.now.mono);
        connection.handle_bytes(bytes, self.now.mono);
        let request = connection.poll_request().expect("a whole request");
        let snapshot: &Snapshot = self.core.snapshot();
        self.web
            .handle_request(&request, self.client(), snapshot, self.now)
    }

    fn status(&self, text: &str) -> u16 {
        match self.raw(text.as_bytes()) {
            Step::Answer(response) => status(&response),
            Step::Ask(..) => panic!("a question to the core"),
        }
    }

    fn get(&self, path: &str) -> String {
        match self.raw(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()) {
            Step::Answer(response) if status(&response) == 200 => {
                String::from_utf8(response.body).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    fn call(
        &mut self,
        edition: Edition,
        service: ServiceKind,
        version: u8,
        action: &str,
        arguments: &Arguments,
    ) -> String {
        self.core.handle_timeout(self.now);
        self.core.finish(self.now);
        let arguments: Vec<_> = arguments
            .iter()
            .map(|(name, value)| match *name {
                "NewInternalClient" if value == "@" => (*name, self.camera.to_string()),
                _ => (*name, value.clone()),
            })
            .collect();
        let urn = service.urn(version);
        let body = envelope(&urn, action, &arguments);
        let path = Resource::Control(edition, service).path(&self.identity());
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: 192.168.64.1:5000\r\nContent-Type: text/xml\r\n\
             SOAPAction: \"{urn}#{action}\"\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let response = match self.raw(request.as_bytes()) {
            Step::Answer(response) => response,
            Step::Ask(request, pending) => {
                let outcome = self.request(&request);
                self.web.handle_outcome(&pending, &outcome)
            }
        };
        let text = String::from_utf8(response.body.clone()).unwrap();
        let expected = if error(&text).is_some() { 500 } else { 200 };
        assert_eq!(status(&response), expected, "{text}");
        text
    }

    fn v1(&mut self, action: &str, arguments: &Arguments) -> Result<Outputs, u16> {
        outputs(&self.call(
            Edition::V1,
            ServiceKind::WanIpConnection,
            1,
            action,
            arguments,
        ))
    }

    fn v2(&mut self, action: &str, arguments: &Arguments) -> Result<Outputs, u16> {
        outputs(&self.call(
            Edition::V2,
            ServiceKind::WanIpConnection,
            2,
            action,
            arguments,
        ))
    }

    fn link(&mut self) -> Outputs {
        let service = ServiceKind::WanCommonInterfaceConfig;
        outputs(&self.call(Edition::V2, service, 1, "GetCommonLinkProperties", &[])).unwrap()
    }

    #[track_caller]
    fn entry(&mut self, port: u16) -> Outputs {
        self.v2("GetSpecificPortMappingEntry", &named(port))
            .unwrap()
    }
}

#[test]
fn u_7_error_codes_have_the_names_of_the_standard() {
    let all = [
        ErrorCode::ConflictInMappingEntry,
        ErrorCode::NoSuchEntryInArray,
        ErrorCode::InvalidArgs,
    ];

    let named = all.map(|error| format!("{} {}", error.code(), error.description()));

    assert_eq!(
        named,
        [
            "718 ConflictInMappingEntry",
            "714 NoSuchEntryInArray",
            "402 Invalid Args"
        ]
    );
}

#[test]
fn u_4_deleted_mapping_is_gone_for_the_core_too() {
    let mut home = Home::new();
    home.v1("AddPortMapping", &add(443, 8080)).unwrap();
    home.v1("DeletePortMapping", &named(443)).unwrap();

    let again = home.request(&Request::Unmap(UnmapRequest {
        subject: Subject::Client(home.client()),
        requester: Requester::Upnp,
        target: UnmapTarget::External(Protocol::Tcp, ExternalPort::new(443).unwrap()),
    }));

    assert_eq!(again, Outcome::Refused(Refusal::NotFound));
    assert_eq!(home.v1("DeletePortMapping", &named(443)), Err(714));
}

fn add(external: u16, internal: u16) -> Vec<(&'static str, String)> {
    vec![
        ("NewRemoteHost", String::new()),
        ("NewExternalPort", external.to_string()),
        ("NewProtocol", "TCP".to_owned()),
        ("NewInternalPort", internal.to_string()),
        ("NewInternalClient", "@".to_owned()),
        ("NewEnabled", "1".to_owned()),
        ("NewPortMappingDescription", "test".to_owned()),
        ("NewLeaseDuration", "0".to_owned()),
    ]
}

fn named(external: u16) -> Vec<(&'static str, String)> {
    add(external, 1).into_iter().take(3).collect()
}

fn index(value: &str) -> Vec<(&'static str, String)> {
    vec![("NewPortMappingIndex", value.to_owned())]
}

fn with(
    mut arguments: Vec<(&'static str, String)>,
    name: &str,
    value: &str,
) -> Vec<(&'static str, String)> {
    for argument in arguments.iter_mut().filter(|argument| argument.0 == name) {
        value.clone_into(&mut argument.1);
    }
    arguments
}

fn envelope(service: &str, action: &str, arguments: &Arguments) -> String {
    let arguments: String = arguments
        .iter()
        .map(|(name, value)| format!("<{name}>{}</{name}>", escape(value)))
        .collect();
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
         <u:{action} xmlns:u=\"{service}\">{arguments}</u:{action}></s:Body></s:Envelope>"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn error(answer: &str) -> Option<u16> {
    let (_, rest) = answer.split_once("<errorCode>")?;
    rest.split('<').next()?.parse().ok()
}

fn outputs(answer: &str) -> Result<Outputs, u16> {
    if let Some(code) = error(answer) {
        return Err(code);
    }
    let call = upnp::wire::soap::parse(answer.as_bytes()).unwrap();
    Ok(call.arguments.into_iter().collect())
}

fn status(response: &Response) -> u16 {
    let bytes = response.emit(false, true);
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        Head::parse(text.as_bytes()).is_err(),
        "an answer is no request"
    );
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

fn site() -> Site {
    Site::new(GATEWAY, 24, "home.example".to_owned()).unwrap()
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);
const ENDPOINT: SocketAddrV4 = SocketAddrV4::new(GATEWAY, 5000);
const CAMERA: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NAS: Mac = Mac([2, 0, 0, 0, 0, 2]);
