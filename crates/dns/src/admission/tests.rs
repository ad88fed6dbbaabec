use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[test]
fn a_source_has_its_share_and_gets_it_back() {
    let mut admission = Admission::default();
    let places: Vec<_> = (0..MOST_OF_SOURCE)
        .map(|_| admission.admit(v4(1), at(0)).unwrap().place)
        .collect();

    assert_eq!(admission.admit(v4(1), at(1)), Err(NotAdmitted::Source));
    assert!(admission.admit(v4(2), at(1)).is_ok());
    admission.release(places[3]);
    assert!(admission.admit(v4(1), at(2)).is_ok());
    assert_eq!(admission.admit(v4(1), at(2)), Err(NotAdmitted::Source));
}

#[test]
fn a_64_is_one_source() {
    let mut admission = Admission::default();
    for host in 0..MOST_OF_SOURCE {
        let from = format!("2001:db8:1:2:{host:x}::{host:x}");
        admission.admit(from.parse().unwrap(), at(0)).unwrap();
    }

    let next =
        |admission: &mut Admission, from: &str| admission.admit(from.parse().unwrap(), at(1));
    assert_eq!(
        next(&mut admission, "2001:db8:1:2:ffff::1"),
        Err(NotAdmitted::Source)
    );
    assert!(next(&mut admission, "2001:db8:1:3::1").is_ok());
    assert!(next(&mut admission, "::ffff:192.0.2.1").is_ok());
}

#[test]
fn the_longest_idle_gives_way_and_nobody_who_is_busy() {
    let mut admission = Admission::default();
    let places: Vec<_> = (0..MOST)
        .map(|host| admission.admit(v4(host), at(5)).unwrap().place)
        .collect();
    for place in &places {
        admission.update(*place, None);
    }
    assert_eq!(admission.admit(v4(300), at(9)), Err(NotAdmitted::Full));

    admission.update(places[7], Some(at(8)));
    admission.update(places[9], Some(at(6)));
    let admitted = admission.admit(v4(300), at(9)).unwrap();
    assert_eq!(admitted.evicted, Some(places[9]));
    // what the evicted one says on its way out changes nothing
    admission.update(places[9], Some(at(1)));
    admission.release(places[9]);
    assert_eq!(admission.held(), MOST);
    assert_eq!(
        admission.admit(v4(301), at(9)).unwrap().evicted,
        Some(places[7])
    );
}

proptest! {
    #[test]
    fn no_caps_are_ever_exceeded(
        steps in proptest::collection::vec((0..12_usize, 0..8_u8), 0..400),
    ) {
        let mut admission = Admission::default();
        let mut places: Vec<Place> = Vec::new();
        for (index, (host, step)) in steps.into_iter().enumerate() {
            let now = at(index.try_into().unwrap());
            match (step, places.get(host * 7)) {
                (0, Some(place)) => admission.release(*place),
                (1, Some(place)) => admission.update(*place, (host % 2 == 0).then_some(now)),
                _ => {
                    let admitted = admission.admit(v4(host), now);
                    places.extend(admitted.map(|admitted| admitted.place));
                    let same = |held: &&Held| held.source == v4(host);
                    prop_assert!(admission.held.values().filter(same).count() <= MOST_OF_SOURCE);
                    prop_assert!(admission.held() <= MOST);
                }
            }
        }
    }
}

fn v4(host: usize) -> IpAddr {
    let [.., high, low] = host.to_be_bytes();
    IpAddr::from([192, 168, high, low])
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(0) + Duration::from_millis(millis)
}
