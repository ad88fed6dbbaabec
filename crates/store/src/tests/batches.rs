//! What a batch writes is what is read again.

use super::*;

#[tokio::test]
async fn batches_come_back_as_they_were_decided() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    for step in 0..40 {
        home.step(step).await;
        assert_eq!(home.store.load().await.unwrap().unwrap(), home.image());
    }

    let expected = home.image();
    home.store.check().await.unwrap();
    home.store.close().await.unwrap();
    let mut again = Store::open(folder.path()).await.unwrap();
    assert_eq!(again.load().await.unwrap(), Some(expected));
}

#[tokio::test]
async fn two_hosts_may_swap_their_names_in_one_batch() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    home.lease(1, "one").await;
    home.lease(2, "two").await;
    let rename = |n, name: &str| Request::Rename {
        host: mac(n),
        name: name.parse().unwrap(),
    };

    let requests = [rename(1, "three"), rename(2, "one"), rename(1, "two")];
    home.commit(&requests).await;

    assert_eq!(home.store.load().await.unwrap(), Some(home.image()));
    assert_eq!(
        home.core.snapshot().host(mac(1)).unwrap().name.as_str(),
        "two"
    );
}

#[tokio::test]
async fn an_end_that_never_comes_is_stored_as_the_last_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    let request = |prefix: &str| {
        let delegated = prefix.parse().unwrap();
        Request::Prefix(PrefixRequest {
            delegated,
            nsp: None,
            old_valid: Duration::MAX,
        })
    };

    home.commit(&[request("2001:db8:66::/56"), request("2001:db8:67::/56")])
        .await;

    let image = home.store.load().await.unwrap().unwrap();
    let ends = image
        .generations
        .iter()
        .filter_map(|generation| generation.valid_until);
    let never = Instant::from_nanos(u64::try_from(i64::MAX).unwrap());
    assert!(ends.clone().count() > 0 && ends.into_iter().all(|end| end.at == never));
}

#[test]
fn every_text_of_a_client_comes_back() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut home = runtime.block_on(Home::in_folder(folder.path()));
    runtime.block_on(home.lease(1, "one"));
    runtime.block_on(home.map(1, 8080));
    let mapping = Arc::clone(home.core.snapshot().mappings().next().unwrap());
    let host = Arc::clone(home.core.snapshot().host(mac(1)).unwrap());
    let empty = home.core.clone().finish_for_sure();
    let store = RefCell::new(home.store);

    proptest!(ProptestConfig::with_cases(64), |(
        description in any::<String>(),
        declared_name in any::<Option<String>>(),
        nonce in any::<Option<[u8; 12]>>(),
        nanos in any::<i64>().prop_map(i64::unsigned_abs),
    )| {
        let expires = Some(Expiry { boot: BootNumber(0), at: Instant::from_nanos(nanos >> 1) });
        let nonce = nonce.map(MappingNonce);
        let changed = Mapping { description, nonce, expires, ..Mapping::clone(&mapping) };
        let host = Host { declared_name, ..Host::clone(&host) };
        let mut delta = empty.clone();
        delta.mappings.insert(changed.id, Some(Arc::new(changed.clone())));
        delta.hosts.insert(host.mac, Some(Arc::new(host.clone())));

        runtime.block_on(store.borrow_mut().commit(&delta)).unwrap();

        let image = runtime.block_on(store.borrow_mut().load()).unwrap().unwrap();
        prop_assert_eq!(&image.mappings, &[Mapping { changed_in: Revision(0), ..changed }]);
        prop_assert_eq!(&image.hosts, &[Host { changed_in: Revision(0), ..host }]);
    });
}
