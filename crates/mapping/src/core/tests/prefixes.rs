//! Delegated prefixes: renumbering, and prefixes that cannot be served.

use super::*;

#[test]
fn renumbering_makes_before_it_breaks() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let (old, serial) = (home.address(camera), home.core.snapshot().counters().serial);

    home.delegate("2001:db8:65::/56", HOUR);
    assert_eq!(home.address(camera), old, "names wait for the translator");
    assert_eq!(home.core.snapshot().generations().count(), 2);
    assert_eq!(home.core.snapshot().counters().serial, serial);
    home.pass(Duration::from_secs(1));
    home.prefer();

    assert_eq!(
        home.address(camera).to_string(),
        "2001:db8:65:1::c0a8:40".to_owned() + &format!("{:02x}", camera.octets()[3])
    );
    assert_eq!(home.core.snapshot().counters().serial, serial + 1);
    assert_eq!(home.core.snapshot().pcp_epoch(home.now), 0);
    assert_ne!(home.core.snapshot().natpmp_epoch(home.now), 0);
    home.pass(HOUR);
    assert_eq!(home.core.snapshot().generations().count(), 1);
}

#[test]
fn same_prefix_again_changes_nothing() {
    let mut home = Home::with_prefix();
    let revision = home.core.snapshot().revision();

    home.delegate("2001:db8:64::/56", Duration::ZERO);

    assert_eq!(home.core.snapshot().revision(), revision);
}

#[test]
fn prefix_that_comes_back_is_preferred_again() {
    let mut home = Home::with_prefix();
    home.delegate("2001:db8:65::/56", HOUR);
    home.prefer();
    home.delegate("2001:db8:64::/56", HOUR);
    home.prefer();

    let preferred = home.core.snapshot().preferred().unwrap();
    assert_eq!(preferred.delegated.to_string(), "2001:db8:64::/56");
    assert_eq!(home.core.snapshot().generations().count(), 2);
    home.pass(HOUR);
    assert_eq!(home.core.snapshot().generations().count(), 1);
}

#[test]
fn prefix_that_remotes_cannot_reach_is_refused() {
    let mut home = Home::new();
    for text in ["fd00:1::/56", "64:ff9b::/96", "2001:db8::/72"] {
        let request = PrefixRequest {
            delegated: text.parse().unwrap(),
            nsp: None,
            old_valid: Duration::ZERO,
        };
        let outcome = home.request(Request::Prefix(request));
        assert!(
            matches!(outcome, Outcome::Refused(Refusal::PrefixInvalid(_))),
            "{text}"
        );
    }
}
