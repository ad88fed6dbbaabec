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
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use mapping::{
    BootId, Carriers, Client, Core, DecideRequest, Decision, External, ExternalPort, FilterChange,
    Grant, Instant, InternalPort, LeaseRequest, Mac, MapRequest, MappingNonce, Now, Outcome,
    Policy, PrefixRequest, Protocol, Refusal, Request, Requester, Site, Snapshot, Subject,
    UnmapRequest, UnmapTarget, Via, Wall,
};
use upnp::server::{Connection, Continuation, Peer, Step, Traffic, Web, finish};
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
            for service in ServiceKind::of(edition) {
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
    fn u_4_actions_that_a_version_does_not_have_are_401() {
        let mut home = Home::new();

        assert_eq!(home.v2("Nonsense", &[]), Err(401));
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
        assert_eq!(home.v1("DeletePortMappingRange", &[]), Err(401));
        assert_eq!(home.counters.value(Event::ActionUnknown), 5);
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
    fn u_6_wildcard_remote_has_the_spellings_of_control_points() {
        let mut home = Home::new();
        for remote in ["", "*", "0.0.0.0", " ", "undefined"] {
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
        home.open(Requester::Pcp, 554, 554, Some(MappingNonce([1; 12])));

        let reserved = home.v2("AddAnyPortMapping", &add(554, 8554)).unwrap();
        assert_eq!(reserved["NewReservedPort"], "8554");
        let again = home.v2("AddAnyPortMapping", &add(8554, 8554)).unwrap();
        assert_eq!(again["NewReservedPort"], "8554");
        assert_eq!(home.core.snapshot().mapping_count(), 2);
    }

    #[test]
    fn u_8_any_port_updates_the_clients_own_mapping_whatever_its_internal_port() {
        let mut home = Home::new();
        home.v2("AddPortMapping", &add(554, 554)).unwrap();

        let updated = home.v2("AddAnyPortMapping", &add(554, 8554)).unwrap();
        assert_eq!(updated["NewReservedPort"], "554");
        assert_eq!(home.entry(554)["NewInternalPort"], "8554");
        assert_eq!(home.core.snapshot().mapping_count(), 1);
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

        for port in [21, 23, 3389, 5351] {
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
    fn u_13_port_that_a_person_is_asked_about_is_606_until_it_opens() {
        let mut home = Home::new();

        assert_eq!(home.v1("AddPortMapping", &add(22, 22)), Err(606));
        assert_eq!(home.v2("AddPortMapping", &add(22, 22)), Err(606));
        assert_eq!(home.v2("AddAnyPortMapping", &add(22, 22)), Err(606));
        let snapshot = home.core.snapshot().clone();
        let waiting: Vec<_> = snapshot.waiting().collect();
        assert_eq!(waiting.len(), 1, "one question");

        home.request(&Request::Decide(DecideRequest {
            id: waiting.first().unwrap().id,
            requester: Requester::Dashboard,
            decision: Decision::Allow(None),
        }));
        assert_eq!(home.entry(22)["NewInternalPort"], "22", "open at once");
        assert!(home.v2("AddPortMapping", &add(22, 22)).is_ok());
        assert_eq!(home.core.snapshot().mapping_count(), 1, "adopted");
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
        offline.traffic = Some(Traffic::default());
        assert_eq!(offline.link()["NewPhysicalLinkStatus"], "Down");
        assert_eq!(offline.v2("AddPortMapping", &add(443, 443)), Err(501));
    }

    #[test]
    fn t_2_every_argument_may_be_missing_or_doubled() {
        let mut home = Home::new();
        let all: Vec<_> = Action::ALL
            .iter()
            .flat_map(|action| action.inputs())
            .map(|argument| (argument.name, "1".to_owned()))
            .collect::<std::collections::BTreeMap<_, _>>()
            .into_iter()
            .collect();

        for action in Action::ALL {
            for argument in action.inputs() {
                let service = action.service();
                let version = service.version(Edition::V2);
                let mut code = |arguments: &Arguments| {
                    error(&home.call(Edition::V2, service, version, action.name(), arguments))
                };
                let without: Vec<_> = all
                    .iter()
                    .filter(|(name, _)| *name != argument.name)
                    .cloned()
                    .collect();
                assert_eq!(code(&without), Some(402), "{action:?} {argument:?}");
                let extra = all
                    .iter()
                    .find(|(name, _)| *name == argument.name)
                    .unwrap()
                    .clone();
                let doubled = [all.clone(), vec![extra]].concat();
                assert_eq!(code(&doubled), Some(402), "{action:?} {argument:?}");
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
            Refusal::ExternalPortDenied,
            Refusal::ExternalPortTaken,
            Refusal::ForeignMapping { remaining: None },
            Refusal::NameNotFree,
            Refusal::NoLease,
            Refusal::NoPrefix,
            Refusal::NotCarried,
            Refusal::NotFound,
            Refusal::OutboundMapping,
            Refusal::PortDenied,
            Refusal::PrefixInvalid(mapping::InvalidPrefix::Text),
            Refusal::QuotaExceeded,
            Refusal::StaticMapping,
            Refusal::TooManyFilters,
            Refusal::Unavailable,
            Refusal::Waiting,
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
                    code(refusal, Action::DeletePortMappingRange, 2),
                    code(refusal, Action::AddPinhole, 1),
                    code(refusal, Action::DeletePinhole, 1),
                ];
                format!("{} {refusal}", columns.join(" "))
            })
            .collect();

        assert_eq!(
            table,
            [
                "501 501 501 501 501 501 501 501 the address is not free for this client",
                "718 606 606 606 606 606 606 606 the policy does not open this external port",
                "718 718 728 718 718 718 701 701 the external port is taken",
                "718 718 718 606 606 606 606 606 the mapping belongs to another client",
                "501 501 501 501 501 501 501 501 the name is taken or reserved",
                "606 606 606 606 606 606 606 606 the host has no lease",
                "501 501 501 501 501 501 501 501 no prefix is delegated",
                "501 501 501 501 501 501 703 703 this gateway carries no such packets: an IPv4 forward, or a pinhole to an IPv6 host",
                "714 714 714 714 714 730 704 704 not found",
                "606 606 606 606 606 606 606 606 the mapping is for what the server sends, and ends by itself",
                "718 606 606 606 606 606 606 606 the policy does not open this port",
                "501 501 501 501 501 501 501 501 the prefix cannot be used: not an IPv6 prefix such as 2001:db8:64::/56",
                "501 728 728 501 728 728 701 701 the host has as many mappings as it may",
                "606 606 606 606 606 606 606 606 the mapping is static: only an admin may change it",
                "501 501 501 501 501 501 501 501 the mapping cannot have these filters",
                "501 501 501 501 501 501 501 501 unavailable at the moment; try again",
                "606 606 606 606 606 606 606 606 it waits for a person to approve it",
            ]
        );
    }
}

/// What a connection is, the link under it, and which one is used by default.
mod connection {
    use super::*;

    #[test]
    fn u_16_connection_type_cannot_be_set() {
        let mut home = Home::new();
        let wanted = |value: &str| vec![("NewConnectionType", value.to_owned())];

        assert_eq!(
            home.v2("SetConnectionType", &wanted("IP_Bridged")),
            Err(731)
        );
        assert_eq!(home.v2("SetConnectionType", &wanted("PPPoE")), Err(601));
        assert_eq!(home.v1("SetConnectionType", &wanted("IP_Routed")), Err(703));
        let mut offline = Home::without_prefix();
        assert_eq!(
            offline.v1("SetConnectionType", &wanted("IP_Routed")),
            Err(501)
        );
    }

    #[test]
    fn u_4_nobody_takes_the_connection_down_for_the_others() {
        let mut home = Home::new();
        assert!(home.v1("RequestConnection", &[]).is_ok());
        assert_eq!(home.v1("ForceTermination", &[]), Err(606));
        assert_eq!(home.v2("RequestTermination", &[]), Err(606));
        for (what, unit) in [("Auto", "Time"), ("Idle", "Time"), ("Warn", "Delay")] {
            let argument: &'static str = match what {
                "Auto" => "NewAutoDisconnectTime",
                "Idle" => "NewIdleDisconnectTime",
                _ => "NewWarnDisconnectDelay",
            };
            let value = |value: &str| vec![(argument, value.to_owned())];
            let set = format!("Set{what}Disconnect{unit}");
            assert_eq!(home.v2(&set, &value("60")), Err(606));
            assert_eq!(home.v2(&set, &value("soon")), Err(402));
            assert!(home.v2(&set, &value("0")).is_ok());
            let get = home.v2(&format!("Get{what}Disconnect{unit}"), &[]).unwrap();
            assert_eq!(get[argument], "0");
        }
        let enabled = |value: &str| vec![("NewEnabledForInternet", value.to_owned())];
        assert_eq!(home.wan("SetEnabledForInternet", &enabled("0")), Err(606));
        assert!(home.wan("SetEnabledForInternet", &enabled("1")).is_ok());
        let is_enabled = home.wan("GetEnabledForInternet", &[]).unwrap();
        assert_eq!(is_enabled["NewEnabledForInternet"], "1");

        let mut offline = Home::without_prefix();
        assert_eq!(offline.v2("RequestConnection", &[]), Err(704));
        assert_eq!(offline.v2("RequestTermination", &[]), Err(711));
        assert_eq!(offline.v2("ForceTermination", &[]), Err(711));
    }

    #[test]
    fn u_4_counters_are_those_of_the_wan_interface_and_run_over() {
        let mut home = Home::new();
        for (action, argument, value) in [
            ("GetTotalBytesReceived", "NewTotalBytesReceived", "7"),
            ("GetTotalBytesSent", "NewTotalBytesSent", "8"),
            ("GetTotalPacketsReceived", "NewTotalPacketsReceived", "9"),
            ("GetTotalPacketsSent", "NewTotalPacketsSent", "10"),
        ] {
            assert_eq!(home.wan(action, &[]).unwrap()[argument], value);
        }
        home.traffic = None;
        assert_eq!(home.wan("GetTotalBytesSent", &[]), Err(501));
        assert_eq!(home.wan("GetCommonLinkProperties", &[]), Err(501));
    }

    #[test]
    fn u_4_the_one_connection_is_found_everywhere() {
        let mut home = Home::new();
        let number = |value: &str| vec![("NewActiveConnectionIndex", value.to_owned())];

        let most = home.wan("GetMaximumActiveConnections", &[]).unwrap();
        assert_eq!(most["NewMaximumActiveConnections"], "1");
        let active = home.wan("GetActiveConnection", &number("0")).unwrap();
        let default = home.layer3("GetDefaultConnectionService", &[]).unwrap();
        let default = default["NewDefaultConnectionService"].clone();
        assert_eq!(
            default,
            format!(
                "{},{}",
                active["NewActiveConnDeviceContainer"], active["NewActiveConnectionServiceID"]
            )
        );
        let uuid = home.identity().uuid(Edition::V2, DeviceKind::WanConnection);
        let expected = format!("{uuid}:WANConnectionDevice:2,urn:upnp-org:serviceId:WANIPConn1");
        assert_eq!(default, expected);
        assert_eq!(home.wan("GetActiveConnection", &number("1")), Err(713));
        let provider = home.wan("GetWANAccessProvider", &[]).unwrap();
        assert_eq!(provider["NewWANAccessProvider"], "");

        let mut set = |value: &str| {
            let argument = vec![("NewDefaultConnectionService", value.to_owned())];
            home.layer3("SetDefaultConnectionService", &argument)
        };
        assert!(set(&default).is_ok());
        assert_eq!(set("nothing"), Err(723));
        assert_eq!(set(&default.replace(&uuid, "uuid:other")), Err(720));
        assert_eq!(set(&default.replace("WANIPConn1", "WANPPPConn1")), Err(721));
    }
}

/// Lists and ranges.
mod ranges {
    use super::*;

    #[test]
    fn u_10_list_has_the_own_entries_of_a_range() {
        let mut home = Home::new();
        let nas = home.join(NAS, "nas");
        for port in [8080, 443, 9000] {
            home.v2("AddPortMapping", &add(port, port)).unwrap();
        }
        home.open(Requester::Pcp, 8081, 8081, Some(MappingNonce([1; 12])));
        let camera = std::mem::replace(&mut home.camera, nas);
        home.v2("AddPortMapping", &add(8082, 8082)).unwrap();
        home.camera = camera;

        assert_eq!(
            ports(&mut home, "1", "65535", "0"),
            ["443", "8080", "8081", "9000"]
        );
        assert_eq!(ports(&mut home, "0", "8081", "0"), ["443", "8080", "8081"]);
        assert_eq!(ports(&mut home, "444", "65535", "2"), ["8080", "8081"]);
        let mut code = |start, end, protocol| {
            let arguments = with(list(start, end, "0"), "NewProtocol", protocol);
            home.v2("GetListOfPortMappings", &arguments).unwrap_err()
        };
        assert_eq!(code("1", "80", "TCP"), 730);
        assert_eq!(code("1", "65535", "UDP"), 730);
        assert_eq!(code("0", "0", "TCP"), 730);
        assert_eq!(code("2", "1", "TCP"), 733);
        assert_eq!(code("1", "70000", "TCP"), 402);
        assert_eq!(code("1", "2", "SCTP"), 601);
    }

    #[test]
    fn u_10_list_escapes_what_devices_say() {
        let mut home = Home::new();
        let evil = "</p:NewDescription><x>\"&";
        let arguments = with(add(443, 443), "NewPortMappingDescription", evil);
        home.v2("AddPortMapping", &arguments).unwrap();

        let listing = home
            .v2("GetListOfPortMappings", &list("1", "65535", "0"))
            .unwrap();
        let listing = &listing["NewPortListing"];

        assert!(!listing.contains("<x>"), "{listing}");
        let expected =
            "<p:NewDescription>&lt;/p:NewDescription&gt;&lt;x&gt;&quot;&amp;</p:NewDescription>";
        assert!(listing.contains(expected), "{listing}");
        assert!(listing.contains("<p:NewLeaseTime>604800</p:NewLeaseTime>"));
    }

    #[test]
    fn u_10_range_is_deleted_whole_and_only_the_own_part() {
        let mut home = Home::new();
        let nas = home.join(NAS, "nas");
        let camera = std::mem::replace(&mut home.camera, nas);
        home.v2("AddPortMapping", &add(8081, 8081)).unwrap();
        home.camera = camera;
        for port in [8080, 8082, 9000] {
            home.v2("AddPortMapping", &add(port, port)).unwrap();
        }
        let before = home.core.snapshot().counters().system_update_id;

        let everything = with(range("8000", "8999"), "NewManage", "1");
        home.v2("DeletePortMappingRange", &everything).unwrap();

        assert_eq!(ports(&mut home, "1", "65535", "0"), ["9000"]);
        assert_eq!(
            home.core.snapshot().mapping_count(),
            2,
            "that of the NAS stays"
        );
        let after = home.core.snapshot().counters().system_update_id;
        assert_eq!(after, before + 1, "U-12: one change event");
        assert_eq!(home.v2("DeletePortMappingRange", &everything), Err(730));
        assert_eq!(
            home.v2("DeletePortMappingRange", &range("2", "1")),
            Err(733)
        );
        let missing = with(range("1", "2"), "NewManage", "maybe");
        assert_eq!(home.v2("DeletePortMappingRange", &missing), Err(402));
    }

    /// WANIPConnection:2 §2.5.19.2: it is skipped, and only where nothing else is there it is 730.
    #[test]
    fn u_10_range_passes_over_what_it_may_not_delete() {
        let mut home = Home::new();
        home.v2("AddPortMapping", &add(8080, 8080)).unwrap();
        home.open(Requester::Pcp, 8081, 8081, Some(MappingNonce([1; 12])));

        home.v2("DeletePortMappingRange", &range("8000", "8999"))
            .unwrap();
        assert_eq!(ports(&mut home, "1", "65535", "0"), ["8081"]);
        let again = home.v2("DeletePortMappingRange", &range("8000", "8999"));
        assert_eq!(again, Err(730));
        assert_eq!(home.core.snapshot().mapping_count(), 1);
    }

    fn ports(home: &mut Home, start: &str, end: &str, most: &str) -> Vec<String> {
        let listing = home
            .v2("GetListOfPortMappings", &list(start, end, most))
            .unwrap();
        let parts = listing
            .get("NewPortListing")
            .unwrap()
            .split("<p:NewExternalPort>")
            .skip(1);
        parts
            .map(|part| part.split('<').next().unwrap().to_owned())
            .collect()
    }

    fn range(start: &str, end: &str) -> Vec<(&'static str, String)> {
        list(start, end, "0").into_iter().take(4).collect()
    }

    fn list(start: &str, end: &str, most: &str) -> Vec<(&'static str, String)> {
        vec![
            ("NewStartPort", start.to_owned()),
            ("NewEndPort", end.to_owned()),
            ("NewProtocol", "TCP".to_owned()),
            ("NewManage", "0".to_owned()),
            ("NewNumberOfPorts", most.to_owned()),
        ]
    }
}

/// Where servers share the WAN's IPv4 address.
mod shared {
    use super::*;

    #[test]
    fn u_7_port_of_another_client_is_a_conflict() {
        let (mut home, camera, nas) = two();
        home.v2("AddPortMapping", &add(554, 554)).unwrap();

        home.camera = nas;
        assert_eq!(home.v2("AddPortMapping", &add(554, 554)), Err(718));
        let any = home.v2("AddAnyPortMapping", &add(554, 554)).unwrap();
        assert_ne!(any["NewReservedPort"], "554");
        assert_eq!(home.v2("DeletePortMapping", &named(554)), Err(606));
        home.camera = camera;
        let new = with(add(554, 8554), "NewPortMappingDescription", "new");
        home.v2("AddPortMapping", &new).unwrap();
        assert_eq!(home.entry(554)["NewInternalPort"], "8554");
    }

    #[test]
    fn u_9_table_is_everybodys() {
        let (mut home, camera, nas) = two();
        home.v2("AddPortMapping", &add(554, 554)).unwrap();
        home.camera = nas;
        home.v2("AddPortMapping", &add(443, 443)).unwrap();

        let clients: BTreeSet<_> = ["0", "1"]
            .into_iter()
            .map(|number| {
                home.v2("GetGenericPortMappingEntry", &index(number))
                    .unwrap()
            })
            .map(|entry| entry["NewInternalClient"].clone())
            .collect();

        assert_eq!(clients, [camera, nas].map(|addr| addr.to_string()).into());
        assert_eq!(home.v2("GetGenericPortMappingEntry", &index("2")), Err(713));
        assert_eq!(home.entry(554)["NewInternalClient"], camera.to_string());
    }

    #[test]
    fn u_6_single_remote_host_is_a_filter() {
        let (mut home, ..) = two();
        let single = |arguments| with(arguments, "NewRemoteHost", "203.0.113.7");
        home.v2("AddPortMapping", &single(add(554, 554))).unwrap();

        let snapshot = home.core.snapshot().clone();
        let mapping = snapshot.mappings().next().unwrap();
        assert_eq!(mapping.via, Via::Ipv4);
        let shown: Vec<_> = mapping.filters.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["::ffff:203.0.113.7/128"]);
        let entry = home.v2("GetGenericPortMappingEntry", &index("0")).unwrap();
        assert_eq!(entry["NewRemoteHost"], "203.0.113.7");
        assert_eq!(
            home.v2("GetSpecificPortMappingEntry", &named(554)),
            Err(714)
        );
        assert_eq!(home.v2("DeletePortMapping", &named(554)), Err(714));
        assert!(
            home.v2("GetSpecificPortMappingEntry", &single(named(554)))
                .is_ok()
        );
        let name = with(add(80, 80), "NewRemoteHost", "remote.example");
        assert_eq!(home.v2("AddPortMapping", &name), Err(726));
        assert!(home.v2("DeletePortMapping", &single(named(554))).is_ok());
    }

    #[test]
    fn u_11_external_address_is_the_shared_one() {
        let (mut home, ..) = two();
        let outputs = home.v1("GetExternalIPAddress", &[]).unwrap();
        assert_eq!(outputs["NewExternalIPAddress"], "198.51.100.9");
    }

    fn two() -> (Home, Ipv4Addr, Ipv4Addr) {
        let mut home = Home::new();
        home.carry(Carriers {
            ipv4: Some(Ipv4Addr::new(198, 51, 100, 9)),
            pinholes: false,
        });
        let nas = home.join(NAS, "nas");
        let camera = home.camera;
        (home, camera, nas)
    }
}

/// A device that speaks from an IPv6 address.
mod own_addresses {
    use super::*;

    #[test]
    fn u_13_every_address_of_a_device_is_its_own_by_its_mac() {
        for from in ["fd00:64::20", "2001:db8:1::a:b", "fe80::20"] {
            let mut home = Home::new();
            home.speak_from(from, Some(CAMERA));

            home.v2("AddPortMapping", &add(443, 8080)).unwrap();
            let itself = with(add(8444, 8081), "NewInternalClient", from);
            home.v2("AddPortMapping", &itself).unwrap();
            let by_name = with(add(444, 8082), "NewInternalClient", "camera");
            assert_eq!(
                home.v2("AddPortMapping", &by_name),
                Err(606),
                "a port that waits"
            );
            let by_name = with(add(8445, 8082), "NewInternalClient", "camera");
            home.v2("AddPortMapping", &by_name).unwrap();

            let servers: BTreeSet<_> = home
                .core
                .snapshot()
                .mappings()
                .map(|mapping| mapping.server)
                .collect();
            assert_eq!(servers, BTreeSet::from([home.camera]), "{from}");
            assert_eq!(
                home.entry(443)["NewInternalClient"],
                home.camera.to_string()
            );
            home.v2("DeletePortMapping", &named(443)).unwrap();
        }
    }

    #[test]
    fn t_21_address_of_a_device_in_frames_of_another_opens_nothing() {
        let mut home = Home::new();
        let nas = home.join(NAS, "nas");
        home.mac = Some(NAS);
        assert_eq!(home.v2("AddPortMapping", &add(443, 8080)), Err(606));
        home.speak_from("fd00:64::20", Some(NAS));
        assert_eq!(home.v2("AddPortMapping", &add(443, 8080)), Err(606));
        let own = with(add(443, 8080), "NewInternalClient", &nas.to_string());
        assert!(home.v2("AddPortMapping", &own).is_ok(), "it is the NAS");
        home.speak_from("fd00:64::20", None);
        let itself = with(add(444, 8080), "NewInternalClient", "fd00:64::20");
        assert_eq!(home.v2("AddPortMapping", &itself), Err(606));
        assert_eq!(home.core.snapshot().mapping_count(), 1);
    }
}

/// WANIPv6FirewallControl:1.
mod pinholes {
    use super::*;

    #[test]
    fn u_4_shipped_program_says_that_it_carries_none() {
        let mut home = Home::new();
        home.speak_from(HOST, Some(CAMERA));

        let status = home.firewall("GetFirewallStatus", &[]).unwrap();
        assert_eq!(
            (
                status["FirewallEnabled"].as_str(),
                status["InboundPinholeAllowed"].as_str()
            ),
            ("1", "0")
        );
        assert_eq!(home.firewall("AddPinhole", &pinhole()), Err(703));
        let over_ipv4 = with(pinhole(), "InternalClient", "192.168.64.20");
        assert_eq!(home.firewall("AddPinhole", &over_ipv4), Err(703));
        let missing = &pinhole()[1..];
        assert_eq!(home.firewall("AddPinhole", missing), Err(402));
        assert_eq!(home.firewall("DeletePinhole", &id("1")), Err(703));
        assert_eq!(home.firewall("GetPinholePackets", &id("1")), Err(703));
        assert_eq!(home.firewall("CheckPinholeWorking", &id("1")), Err(703));
        let update = [id("1"), vec![("NewLeaseTime", "60".to_owned())]].concat();
        assert_eq!(home.firewall("UpdatePinhole", &update), Err(703));
        // whatever the types forbid is told first
        for action in ["DeletePinhole", "GetPinholePackets", "CheckPinholeWorking"] {
            assert_eq!(home.firewall(action, &id("x")), Err(402), "{action}");
        }
        let flow: Vec<_> = pinhole().into_iter().take(5).collect();
        assert_eq!(home.firewall("GetOutboundPinholeTimeout", &flow), Err(501));
    }

    #[test]
    fn u_4_pinhole_is_one_for_each_five_tuple() {
        let mut home = carried();
        let first = home.firewall("AddPinhole", &pinhole()).unwrap();
        let again = with(pinhole(), "LeaseTime", "7200");
        let again = home.firewall("AddPinhole", &again).unwrap();
        let other = with(pinhole(), "RemoteHost", "2001:db8:9::1");
        let other = home.firewall("AddPinhole", &other).unwrap();

        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(home.core.snapshot().pinholes().count(), 2);
        let first = first["UniqueID"].clone();
        let update = [id(&first), vec![("NewLeaseTime", "60".to_owned())]].concat();
        home.firewall("UpdatePinhole", &update).unwrap();
        home.firewall("DeletePinhole", &id(&first)).unwrap();
        assert_eq!(home.firewall("DeletePinhole", &id(&first)), Err(704));
        let status = home.firewall("GetFirewallStatus", &[]).unwrap();
        assert_eq!(status["InboundPinholeAllowed"], "1");
        let flow: Vec<_> = pinhole().into_iter().take(5).collect();
        let timeout = home.firewall("GetOutboundPinholeTimeout", &flow).unwrap();
        assert_eq!(timeout["OutboundPinholeTimeout"], "7440");
    }

    #[test]
    fn u_4_packets_of_a_pinhole_are_those_that_its_carrier_counts() {
        let mut home = carried();
        let made = home.firewall("AddPinhole", &pinhole()).unwrap();
        let id = id(&made["UniqueID"]);
        let ask = |home: &mut Home, packets| {
            home.packets = packets;
            let packets = home.firewall("GetPinholePackets", &id);
            let works = home.firewall("CheckPinholeWorking", &id);
            (
                packets.map(|it| it["PinholePackets"].clone()),
                works.map(|it| it["IsWorking"].clone()),
            )
        };
        let said = |packets: &str| (Ok(packets.to_owned()), Ok("1".to_owned()));

        assert_eq!(ask(&mut home, None), (Err(501), Err(501)));
        assert_eq!(ask(&mut home, Some(0)), (Ok("0".to_owned()), Err(709)));
        assert_eq!(ask(&mut home, Some(7)), said("7"));
        assert_eq!(ask(&mut home, Some((1 << 32) + 3)), said("3"));
        for action in ["GetPinholePackets", "CheckPinholeWorking"] {
            let unknown = vec![("UniqueID", "999".to_owned())];
            assert_eq!(home.firewall(action, &unknown), Err(704), "{action}");
        }
    }

    #[test]
    fn u_4_pinhole_can_be_closed_when_nothing_carries_it_any_more() {
        let mut home = carried();
        let made = home.firewall("AddPinhole", &pinhole()).unwrap();
        home.carry(Carriers::default());

        let id = id(&made["UniqueID"]);
        let update = [id.clone(), vec![("NewLeaseTime", "60".to_owned())]].concat();
        assert_eq!(home.firewall("UpdatePinhole", &update), Err(703));
        assert_eq!(home.firewall("GetPinholePackets", &id), Err(703));
        home.firewall("DeletePinhole", &id).unwrap();
        assert_eq!(home.core.snapshot().pinholes().count(), 0);
    }

    #[test]
    fn u_4_wildcard_remote_of_a_pinhole_has_the_spellings_of_control_points() {
        let mut home = carried();
        let first = home.firewall("AddPinhole", &pinhole()).unwrap();
        for remote in ["::/0", "::"] {
            let same = with(pinhole(), "RemoteHost", remote);
            assert_eq!(
                home.firewall("AddPinhole", &same).unwrap(),
                first,
                "{remote}"
            );
        }
        for remote in ["2001:db8::/32", "*"] {
            let other = with(pinhole(), "RemoteHost", remote);
            assert_eq!(home.firewall("AddPinhole", &other), Err(402), "{remote}");
        }
        assert_eq!(home.core.snapshot().pinholes().count(), 1);
    }

    #[test]
    fn u_4_what_a_pinhole_cannot_be_has_its_code() {
        let mut home = carried();
        for (name, value, code) in [
            ("RemoteHost", "192.0.2.1", 402),
            ("RemotePort", "70000", 402),
            ("InternalClient", "", 708),
            ("InternalClient", "nonsense", 402),
            ("InternalClient", "2001:db8:1::99", 606),
            ("InternalClient", "fd00:64::1", 606),
            ("InternalPort", "0", 706),
            ("InternalPort", "-1", 402),
            ("Protocol", "65535", 707),
            ("Protocol", "132", 705),
            ("Protocol", "TCP", 402),
            ("LeaseTime", "0", 601),
            ("LeaseTime", "86401", 601),
            ("LeaseTime", "abc", 402),
        ] {
            let answer = home.firewall("AddPinhole", &with(pinhole(), name, value));
            assert_eq!(answer, Err(code), "{name} {value}");
        }
        assert_eq!(home.core.snapshot().pinholes().count(), 0);
    }

    #[test]
    fn t_4_pinhole_of_another_host_is_not_for_sale() {
        let mut home = carried();
        let made = home.firewall("AddPinhole", &pinhole()).unwrap();
        home.join(NAS, "nas");
        home.speak_from("2001:db8:1::30", Some(NAS));

        assert_eq!(
            home.firewall("DeletePinhole", &id(&made["UniqueID"])),
            Err(606)
        );
        let update = [
            id(&made["UniqueID"]),
            vec![("NewLeaseTime", "60".to_owned())],
        ]
        .concat();
        assert_eq!(home.firewall("UpdatePinhole", &update), Err(606));
        assert_eq!(
            home.firewall("GetPinholePackets", &id(&made["UniqueID"])),
            Err(606)
        );
        assert_eq!(home.core.snapshot().pinholes().count(), 1);
    }

    fn carried() -> Home {
        let mut home = Home::new();
        home.carry(Carriers {
            ipv4: None,
            pinholes: true,
        });
        home.speak_from(HOST, Some(CAMERA));
        home
    }

    fn pinhole() -> Vec<(&'static str, String)> {
        let arguments = [
            ("RemoteHost", ""),
            ("RemotePort", "0"),
            ("InternalClient", HOST),
            ("InternalPort", "8443"),
            ("Protocol", "6"),
            ("LeaseTime", "3600"),
        ];
        arguments
            .map(|(name, value)| (name, value.to_owned()))
            .to_vec()
    }

    fn id(value: &str) -> Vec<(&'static str, String)> {
        vec![("UniqueID", value.to_owned())]
    }

    const HOST: &str = "2001:db8:1::20";
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
    fn s2_11_who_names_languages_hears_in_which_one_a_description_is() {
        let home = Home::new();
        let path = Resource::Description(Edition::V2).path(&home.identity());
        for (header, expected) in [
            ("", Vec::new()),
            (
                "Accept-Language: de\r\n",
                vec![("Content-Language", "en".to_owned())],
            ),
        ] {
            let text = format!("GET {path} HTTP/1.1\r\nHost: 192.168.64.1\r\n{header}\r\n");
            let Step::Answer(answer) = home.raw(text.as_bytes()) else {
                panic!("no answer");
            };
            assert_eq!(answer.headers, expected);
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
        let shouted =
            format!("GET HTTP://192.168.64.1{path} HTTP/1.1\r\nHost: 192.168.64.1\r\n\r\n");
        assert_eq!(home.status(&shouted), 200);
        assert_eq!(home.counters.value(Event::HttpOrigin), 2);
        assert_eq!(home.counters.value(Event::HttpForeignHost), 9);
    }

    #[test]
    fn t_8_host_on_ipv6_is_the_literal_address_too() {
        let mut home = Home::new();
        home.local = "[fe80::1]:5000".parse().unwrap();
        let path = Resource::Description(Edition::V2).path(&home.identity());
        let status =
            |host: &str| home.status(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));

        for host in [
            "[fe80::1]:5000",
            "[fe80::1]",
            "[FE80:0::1]:5000",
            "[fe80::1%25eth0]:5000",
        ] {
            assert_eq!(status(host), 200, "{host}");
        }
        for host in [
            "fe80::1",
            "[fe80::2]:5000",
            "192.168.64.1:5000",
            "[fe80::1]:80",
            "[fe80::1",
        ] {
            assert_eq!(status(host), 403, "{host}");
        }
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
        assert_eq!(status("SUBSCRIBE", &control), 405);
        assert_eq!(status("SUBSCRIBE", &document), 405);
        let events =
            Resource::Events(Edition::V1, ServiceKind::WanIpConnection).path(&home.identity());
        assert_eq!(status("GET", &events), 405);
        assert_eq!(status("POST", &events), 405);
        for (path, allowed) in [
            (&document, "GET, HEAD"),
            (&control, "POST"),
            (&events, "SUBSCRIBE, UNSUBSCRIBE"),
        ] {
            let Step::Answer(answer) = home.raw(format!("PUT {path} HTTP/1.0\r\n\r\n").as_bytes())
            else {
                panic!("{path} takes PUT");
            };
            assert_eq!(answer.headers, [("Allow", allowed.to_owned())]);
        }
    }
}

/// A core behind the machines, and a camera that speaks HTTP to them.
struct Home {
    core: Core,
    web: Web,
    counters: Counters,
    camera: Ipv4Addr,
    /// Another address of the device that asks.
    speaks_from: Option<IpAddr>,
    mac: Option<Mac>,
    /// Our end of its connections.
    local: SocketAddr,
    traffic: Option<Traffic>,
    packets: Option<u64>,
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
        let web = Web::new(&Identity::new([7; 16]), counters.clone());
        let mut home = Self {
            core,
            web,
            counters,
            camera: Ipv4Addr::UNSPECIFIED,
            speaks_from: None,
            mac: None,
            local: ENDPOINT.into(),
            traffic: Some(TRAFFIC),
            packets: None,
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
            via: Via::Both,
            peer: false,
            filters: FilterChange::default(),
            description: None,
            memo: None,
        }));
        assert!(
            matches!(outcome, Outcome::Granted(Grant::Mapped { .. })),
            "{outcome:?}"
        );
    }

    fn client(&self) -> Client {
        Client {
            addr: self.speaks_from.unwrap_or(self.camera.into()),
            mac: self.mac,
        }
    }

    fn peer(&self) -> Peer {
        Peer {
            client: self.client(),
            scope: 0,
            local: self.local,
        }
    }

    /// Sends raw bytes through a connection of its own and returns the answer.
    fn raw(&self, bytes: &[u8]) -> Step {
        let mut connection = Connection::new(Counters::new(), self.now);
        connection.handle_bytes(bytes, self.now.mono);
        let request = connection.poll_request().expect("a whole request");
        let snapshot: &Snapshot = self.core.snapshot();
        self.web
            .handle_request(&request, self.peer(), snapshot, self.now)
    }

    fn status(&self, text: &str) -> u16 {
        match self.raw(text.as_bytes()) {
            Step::Answer(response) => status(&response),
            other => panic!("{other:?}"),
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
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/xml\r\n\
             SOAPAction: \"{urn}#{action}\"\r\nContent-Length: {}\r\n\r\n{body}",
            self.local,
            body.len()
        );
        let response = match self.raw(request.as_bytes()) {
            Step::Answer(response) => response,
            Step::Ask(request, pending) => {
                let outcome = self.request(&request);
                self.web.handle_outcome(&pending, &outcome)
            }
            Step::Count(_, pending) => self.web.handle_packets(&pending, self.packets),
            Step::Measure(pending) => self.web.handle_traffic(&pending, self.traffic),
            Step::Subscribe(_) => panic!("no action"),
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
        self.wan("GetCommonLinkProperties", &[]).unwrap()
    }

    fn wan(&mut self, action: &str, arguments: &Arguments) -> Result<Outputs, u16> {
        let service = ServiceKind::WanCommonInterfaceConfig;
        outputs(&self.call(Edition::V2, service, 1, action, arguments))
    }

    fn layer3(&mut self, action: &str, arguments: &Arguments) -> Result<Outputs, u16> {
        let service = ServiceKind::Layer3Forwarding;
        outputs(&self.call(Edition::V2, service, 1, action, arguments))
    }

    fn firewall(&mut self, action: &str, arguments: &Arguments) -> Result<Outputs, u16> {
        let service = ServiceKind::WanIpv6Firewall;
        outputs(&self.call(Edition::V2, service, 1, action, arguments))
    }

    /// What a firewall would carry: it is decided here, whoever carries it one day.
    fn carry(&mut self, carriers: Carriers) {
        let outcome = self.request(&Request::Carriers(carriers));
        assert_eq!(outcome, Outcome::Granted(Grant::Done));
    }

    /// The device asks from an IPv6 address, in frames of its own.
    fn speak_from(&mut self, addr: &str, mac: Option<Mac>) {
        self.speaks_from = Some(addr.parse().unwrap());
        self.mac = mac;
        self.local = "[fd00:64::1]:5000".parse().unwrap();
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
    let bytes = response.emit(0, false, true);
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

const TRAFFIC: Traffic = Traffic {
    up: true,
    bytes_received: 5 << 32 | 7,
    bytes_sent: 8,
    packets_received: 9,
    packets_sent: 10,
};
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 1);
const ENDPOINT: SocketAddrV4 = SocketAddrV4::new(GATEWAY, 5000);
const CAMERA: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NAS: Mac = Mac([2, 0, 0, 0, 0, 2]);
