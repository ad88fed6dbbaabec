use mapping::{
    BootId, Core, Grant, Instant, LeaseRequest, Mac, Outcome, Policy, PrefixRequest,
    ReleaseRequest, Request, Wall,
};

use super::*;

#[test]
fn a_leased_host_has_an_aaaa_in_the_preferred_prefix_and_no_public_a() {
    let home = home_with(&["camera"]);
    let addr = addr_of(&home, "camera");

    assert_eq!(
        texts(
            &home,
            View::Public,
            "camera.home.example.",
            RecordType::AAAA
        ),
        [format!("60 {}", nsp(&home).embed(addr))]
    );
    assert!(matches!(
        answer(&home, View::Public, "camera.home.example.", RecordType::A),
        Answer::NoData(_)
    ));
    assert_eq!(
        texts(&home, View::Lan, "camera.home.example.", RecordType::A),
        [format!("60 {addr}")]
    );
}

#[test]
fn a_host_that_left_has_no_name() {
    let mut home = home_with(&["camera"]);
    let (addr, mac) = (addr_of(&home, "camera"), mac(0));
    grant(&mut home, Request::Release(ReleaseRequest { mac, addr }));

    for view in [View::Lan, View::Public] {
        let gone = answer(&home, view, "camera.home.example.", RecordType::AAAA);
        assert!(matches!(gone, Answer::NoName(_)), "{gone:?}");
    }
}

#[test]
fn apex_has_soa_and_ns_and_the_name_server_our_addresses() {
    let home = home_with(&[]);
    let serial = home.snapshot().counters().serial;

    assert_eq!(
        texts(&home, View::Public, "home.example.", RecordType::SOA),
        [format!(
            "60 ns1.home.example. hostmaster.home.example. {serial} 3600 600 1209600 60"
        )]
    );
    let Answer::Found { records, glue } =
        answer(&home, View::Public, "home.example.", RecordType::NS)
    else {
        panic!("no NS");
    };
    assert_eq!(data(&records), ["60 ns1.home.example."]);
    assert_eq!(data(&glue), ["60 2001:db8:0:12::7f"]);
    assert_eq!(
        texts(&home, View::Public, "NS1.home.example.", RecordType::AAAA),
        ["60 2001:db8:0:12::7f"]
    );
    assert!(texts(&home, View::Public, "ns1.home.example.", RecordType::A).is_empty());
    assert_eq!(
        texts(&home, View::Lan, "ns1.home.example.", RecordType::A),
        ["60 192.168.64.1"]
    );
}

#[test]
fn names_outside_and_above_are_elsewhere() {
    let home = home_with(&["camera"]);
    for name in [
        ".",
        "example.",
        "xhome.example.",
        "ip6.arpa.",
        "8.b.d.0.1.0.0.2.ip6.arpa.",
    ] {
        let got = answer(&home, View::Lan, name, RecordType::AAAA);
        assert_eq!(got, Answer::Elsewhere, "{name}");
    }
}

#[test]
fn names_that_do_not_exist_say_so_with_the_soa() {
    let home = home_with(&["camera"]);
    for name in [
        "nas.home.example.",
        "a.camera.home.example.",
        "*.home.example.",
        "a-.home.example.",
    ] {
        let got = answer(&home, View::Public, name, RecordType::AAAA);
        let Answer::NoName(soa) = got else {
            panic!("{name}: {got:?}")
        };
        assert_eq!(
            (soa.name.to_ascii().as_str(), soa.ttl),
            ("home.example.", 60)
        );
    }
}

#[test]
fn reverse_of_the_nsp_leads_back_to_the_name() {
    let home = home_with(&["camera"]);
    let pointer = reverse_v6(nsp(&home).embed(addr_of(&home, "camera")));

    for view in [View::Lan, View::Public] {
        assert_eq!(
            texts(&home, view, &pointer, RecordType::PTR),
            ["60 camera.home.example."]
        );
    }
    let upper = pointer.to_ascii_uppercase();
    assert_eq!(texts(&home, View::Public, &upper, RecordType::PTR).len(), 1);
}

#[test]
fn every_name_between_a_pointer_and_its_zone_is_an_empty_non_terminal() {
    let home = home_with(&["camera"]);
    let pointer = reverse_v6(nsp(&home).embed(addr_of(&home, "camera")));
    for cut in 1..8 {
        let name = pointer.get(2 * cut..).unwrap();
        let got = answer(&home, View::Public, name, RecordType::PTR);
        assert!(matches!(got, Answer::NoData(_)), "{name}: {got:?}");
    }
    let apex = pointer.get(16..).unwrap();
    assert_eq!(
        texts(&home, View::Public, apex, RecordType::NS),
        ["60 ns1.home.example."]
    );
    let above = pointer.get(18..).unwrap();
    assert_eq!(
        answer(&home, View::Public, above, RecordType::PTR),
        Answer::Elsewhere
    );
    for name in [
        format!("x.{apex}"),
        format!("f.f.{apex}"),
        format!("1.{pointer}"),
    ] {
        let got = answer(&home, View::Public, &name, RecordType::PTR);
        assert!(matches!(got, Answer::NoName(_)), "{name}: {got:?}");
    }
}

#[test]
fn reverse_of_the_lan_is_for_the_lan() {
    let home = home_with(&["camera"]);
    let [a, b, c, d] = addr_of(&home, "camera").octets();
    let pointer = format!("{d}.{c}.{b}.{a}.in-addr.arpa.");

    assert_eq!(
        texts(&home, View::Lan, &pointer, RecordType::PTR),
        ["60 camera.home.example."]
    );
    assert_eq!(
        answer(&home, View::Public, &pointer, RecordType::PTR),
        Answer::Elsewhere
    );
    assert_eq!(
        texts(
            &home,
            View::Lan,
            "1.64.168.192.in-addr.arpa.",
            RecordType::PTR
        ),
        ["60 ns1.home.example."]
    );
    assert_eq!(
        texts(
            &home,
            View::Lan,
            "64.168.192.in-addr.arpa.",
            RecordType::SOA
        )
        .len(),
        1
    );
    for (name, expected) in [
        ("250.64.168.192.in-addr.arpa.", true),
        ("001.64.168.192.in-addr.arpa.", true),
        ("x.64.168.192.in-addr.arpa.", true),
        ("1.65.168.192.in-addr.arpa.", false),
        ("168.192.in-addr.arpa.", false),
    ] {
        let got = answer(&home, View::Lan, name, RecordType::PTR);
        assert_eq!(
            matches!(got, Answer::NoName(_)),
            expected,
            "{name}: {got:?}"
        );
        assert_eq!(
            matches!(got, Answer::Elsewhere),
            !expected,
            "{name}: {got:?}"
        );
    }
}

#[test]
fn a_wide_lan_has_the_reverse_zone_of_its_16() {
    let home = home_at("172.16.0.1", 16, &["camera"]);
    let [a, b, c, d] = addr_of(&home, "camera").octets();

    assert_eq!(
        texts(
            &home,
            View::Lan,
            &format!("{d}.{c}.{b}.{a}.in-addr.arpa."),
            RecordType::PTR
        ),
        ["60 camera.home.example."]
    );
    let between = answer(
        &home,
        View::Lan,
        &format!("{c}.{b}.{a}.in-addr.arpa."),
        RecordType::PTR,
    );
    assert!(matches!(between, Answer::NoData(_)), "{between:?}");
    assert_eq!(
        texts(&home, View::Lan, "16.172.in-addr.arpa.", RecordType::NS).len(),
        1
    );
}

#[test]
fn only_the_preferred_generation_is_published() {
    let mut home = home_with(&["camera"]);
    let addr = addr_of(&home, "camera");
    let old = nsp(&home);
    let delegated = "2001:db8:65::/56".parse().unwrap();
    let old_valid = Duration::from_secs(30);
    let prefix = Request::Prefix(PrefixRequest {
        delegated,
        nsp: None,
        old_valid,
    });
    let Grant::Prefixed(new) = grant(&mut home, prefix) else {
        panic!("no generation")
    };

    // valid, not yet preferred: the old one is published, for at most half of its life
    assert_eq!(
        texts(
            &home,
            View::Public,
            "camera.home.example.",
            RecordType::AAAA
        ),
        [format!("15 {}", old.embed(addr))]
    );

    grant(&mut home, Request::Prefer(new.id));

    assert_eq!(
        texts(
            &home,
            View::Public,
            "camera.home.example.",
            RecordType::AAAA
        ),
        [format!("60 {}", new.nsp.embed(addr))]
    );
    let pointer = reverse_v6(old.embed(addr));
    assert_eq!(
        answer(&home, View::Public, &pointer, RecordType::PTR),
        Answer::Elsewhere
    );
}

#[test]
fn without_a_prefix_a_name_exists_and_has_no_address() {
    let mut home = bare("192.168.64.1", 24);
    lease(&mut home, 0, "camera");

    let got = answer(
        &home,
        View::Public,
        "camera.home.example.",
        RecordType::AAAA,
    );
    assert!(matches!(got, Answer::NoData(_)), "{got:?}");
}

#[test]
fn ttl_is_at_least_a_second() {
    let home = home_with(&["camera"]);
    let zone = Zone::new(Duration::ZERO);
    let name = Name::from_ascii("camera.home.example.").unwrap();
    let got = zone.answer(
        home.snapshot(),
        View::Public,
        &name,
        RecordType::AAAA,
        now(),
    );
    let Answer::Found { records, .. } = got else {
        panic!("{got:?}")
    };

    assert_eq!(records.first().unwrap().ttl, 1);
}

#[test]
fn any_is_answered_with_one_rrset() {
    let home = home_with(&["camera"]);
    for name in ["camera.home.example.", "home.example.", "ns1.home.example."] {
        assert_eq!(
            texts(&home, View::Lan, name, RecordType::ANY).len(),
            1,
            "{name}"
        );
    }
}

#[test]
fn a_source_outside_the_lan_sees_what_everybody_sees() {
    let home = bare("192.168.64.1", 24);
    let view =
        |listener: View, source: &str| listener.of(source.parse().unwrap(), home.snapshot().site());

    assert_eq!(view(View::Lan, "192.168.64.20"), View::Lan);
    assert_eq!(view(View::Lan, "127.0.0.1"), View::Lan);
    assert_eq!(view(View::Lan, "192.168.65.20"), View::Public);
    assert_eq!(view(View::Lan, "2001:db8::1"), View::Public);
    assert_eq!(view(View::Public, "192.168.64.20"), View::Public);
}

/// A home with a prefix, an address on the WAN and these hosts.
pub(crate) fn home_with(names: &[&str]) -> Core {
    home_at("192.168.64.1", 24, names)
}

pub(crate) fn now() -> Now {
    Now {
        mono: Instant::from_nanos(1_000_000_000),
        wall: Wall::from_secs(1_800_000_000),
    }
}

pub(crate) fn grant(core: &mut Core, request: Request) -> Grant {
    let (outcome, _) = core.handle_request(&request, now());
    core.finish(now());
    match outcome {
        Outcome::Granted(grant) => grant,
        Outcome::Refused(refusal) => panic!("{request:?}: {refusal}"),
    }
}

pub(crate) fn addr_of(core: &Core, name: &str) -> Ipv4Addr {
    core.snapshot()
        .host_by_name(&name.parse().unwrap())
        .unwrap()
        .addr
}

pub(crate) fn nsp(core: &Core) -> mapping::Nsp {
    core.snapshot().preferred().unwrap().nsp
}

pub(crate) fn reverse_v6(addr: Ipv6Addr) -> String {
    let digits: Vec<_> = format!("{:032x}", u128::from(addr)).chars().rev().collect();
    digits
        .iter()
        .map(|digit| format!("{digit}."))
        .collect::<String>()
        + "ip6.arpa."
}

fn home_at(gateway: &str, len: u8, names: &[&str]) -> Core {
    let mut core = bare(gateway, len);
    let delegated = "2001:db8:64::/56".parse().unwrap();
    let prefix = PrefixRequest {
        delegated,
        nsp: None,
        old_valid: Duration::ZERO,
    };
    let Grant::Prefixed(generation) = grant(&mut core, Request::Prefix(prefix)) else {
        panic!("no generation");
    };
    grant(&mut core, Request::Prefer(generation.id));
    let wan = vec!["2001:db8:0:12::7f".parse().unwrap()];
    grant(&mut core, Request::WanAddresses(wan));
    for (index, name) in names.iter().enumerate() {
        lease(&mut core, u8::try_from(index).unwrap(), name);
    }
    core
}

fn bare(gateway: &str, len: u8) -> Core {
    let site = Site::new(gateway.parse().unwrap(), len, "home.example".to_owned()).unwrap();
    Core::new(site, Policy::default(), [7; 16], BootId([1; 16]), now())
}

fn lease(core: &mut Core, index: u8, name: &str) {
    let mac = mac(index);
    let addr = core.snapshot().lease_candidate(mac, |_| false).unwrap();
    let declared_name = Some(name.to_owned());
    let lifetime = Duration::from_secs(3600);
    grant(
        core,
        Request::Lease(LeaseRequest {
            mac,
            addr,
            lifetime,
            declared_name,
        }),
    );
}

fn mac(index: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, index])
}

fn answer(core: &Core, view: View, name: &str, kind: RecordType) -> Answer {
    let name = Name::from_ascii(name).unwrap();
    Zone::new(Duration::from_secs(60)).answer(core.snapshot(), view, &name, kind, now())
}

fn texts(core: &Core, view: View, name: &str, kind: RecordType) -> Vec<String> {
    match answer(core, view, name, kind) {
        Answer::Found { records, .. } => {
            let asked = Name::from_ascii(name).unwrap();
            assert!(records.iter().all(|record| record.name.eq_case(&asked)));
            data(&records)
        }
        _ => Vec::new(),
    }
}

fn data(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| format!("{} {}", record.ttl, record.data))
        .collect()
}
