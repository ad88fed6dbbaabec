//! What renewals change of mappings, which stands apart from the rest.

use std::collections::BTreeMap;

use super::*;

#[tokio::test]
async fn renewals_go_with_their_mappings() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    for step in 0..40 {
        home.step(step).await;
        let open = home.core.snapshot().mappings();
        let open = open.map(|it| (it.id, it.expires.map(|end| end.at)));
        assert_eq!(stored(folder.path()).await, open.collect(), "step {step}");
    }
}

#[tokio::test]
async fn a_mapping_may_become_static_and_end_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    home.lease(1, "one").await;
    home.map(1, 8080).await;
    let mapping = Arc::clone(home.core.snapshot().mappings().next().unwrap());
    let end = mapping.expires.unwrap();
    let mut delta = home.core.clone().finish_for_sure();
    for expires in [None, Some(end), None] {
        let row = Mapping {
            expires,
            ..Mapping::clone(&mapping)
        };
        delta.mappings.insert(row.id, Some(Arc::new(row)));
        home.store.commit(&delta).await.unwrap();
        let image = home.store.load().await.unwrap().unwrap();
        assert_eq!(image.mappings[0].expires, expires);
    }
    assert_eq!(stored(folder.path()).await, [(mapping.id, None)].into());
}

#[tokio::test]
async fn renewals_among_many_mappings_write_few_pages() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    home.lease(1, "one").await;
    home.map(1, 8080).await;
    let mapping = Arc::clone(home.core.snapshot().mappings().next().unwrap());
    let mut delta = home.core.clone().finish_for_sure();
    for n in 1..=10_000_u16 {
        let row = Mapping {
            id: MappingId(1000 + u64::from(n)),
            external_port: mapping::ExternalPort::new(20_000 + n).unwrap(),
            ..Mapping::clone(&mapping)
        };
        delta.mappings.insert(row.id, Some(Arc::new(row)));
    }
    home.store.commit(&delta).await.unwrap();
    home.store.reopen().await.unwrap();
    let mut renewals = home.core.clone().finish_for_sure();
    let renewed = Mapping {
        expires: Some(Expiry {
            boot: BootNumber(0),
            at: Instant::from_nanos(7),
        }),
        ..Mapping::clone(&mapping)
    };
    // each in a page of its own, if it stood among the rows of the mappings
    renewals.renewals = (1001..=11_000)
        .step_by(50)
        .map(|n| renewal(&renewed, MappingId(n)))
        .collect();

    home.store.commit(&renewals).await.unwrap();

    let pages = wal_len(folder.path()) / 4096;
    assert!((10..60).contains(&pages), "{pages} for 200 renewals");
    let image = home.store.load().await.unwrap().unwrap();
    let moved = image.mappings.iter();
    let moved = moved.filter(|it| it.expires == renewed.expires);
    assert_eq!(moved.count(), 200);
}

#[tokio::test]
async fn a_renewal_from_another_port_keeps_where_updates_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    home.lease(1, "one").await;
    home.map(1, 8080).await;
    let mapping = Arc::clone(home.core.snapshot().mappings().next().unwrap());
    for memo in [Some([7; 32].into()), None] {
        let renewed = Mapping {
            memo,
            ..Mapping::clone(&mapping)
        };
        let mut delta = home.core.clone().finish_for_sure();
        delta.renewals = [renewal(&renewed, mapping.id)].into();

        home.store.commit(&delta).await.unwrap();

        let image = home.store.load().await.unwrap().unwrap();
        assert_eq!(image.mappings[0].memo, renewed.memo);
        assert_eq!(image.mappings[0].expires, mapping.expires);
    }
}

#[tokio::test]
async fn a_mapping_whose_end_is_lost_is_no_static_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    home.lease(1, "one").await;
    home.map(1, 8080).await;
    let options = open::options(folder.path());
    let mut writer = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let lost = sqlx::query("DELETE FROM renewals");
    lost.execute(&mut writer).await.unwrap();

    assert!(home.store.load().await.is_err());
}

#[tokio::test]
async fn people_read_what_is_open_and_until_when() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    home.lease(1, "one").await;
    home.map(1, 8080).await;
    let mapping = Arc::clone(home.core.snapshot().mappings().next().unwrap());
    let renewed = Mapping {
        expires: Some(Expiry {
            boot: BootNumber(0),
            at: at(home.clock + 3600).mono,
        }),
        ..Mapping::clone(&mapping)
    };
    let mut delta = home.core.clone().finish_for_sure();
    delta.meta.anchor.mono = at(home.clock).mono;
    delta.meta.anchor.wall = at(home.clock).wall;
    delta.renewals = [renewal(&renewed, mapping.id)].into();
    let row = Mapping {
        id: MappingId(77),
        external_port: mapping::ExternalPort::new(8081).unwrap(),
        expires: None,
        ..Mapping::clone(&mapping)
    };
    delta.mappings.insert(row.id, Some(Arc::new(row)));
    home.store.commit(&delta).await.unwrap();

    let options = open::options(folder.path()).read_only(true);
    let mut reader = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let rows: Vec<(String, i64, String, Option<String>)> =
        sqlx::query_as("SELECT host, external_port, description, ends FROM open_ports ORDER BY id")
            .fetch_all(&mut reader)
            .await
            .unwrap();

    // 1,800,000,000 is 2027-01-15 08:00:00
    assert_eq!(home.clock, 2);
    let open = |port, ends: Option<&str>| {
        let ends = ends.map(str::to_owned);
        ("one".to_owned(), port, "port 8080".to_owned(), ends)
    };
    let until = Some("2027-01-15 09:00:02");
    assert_eq!(rows, [open(8080, until), open(8081, None)]);
}

fn renewal(renewed: &Mapping, id: MappingId) -> (MappingId, Arc<Mapping>) {
    let renewed = Mapping {
        id,
        ..renewed.clone()
    };
    (id, Arc::new(renewed))
}

async fn stored(folder: &Path) -> BTreeMap<MappingId, Option<Instant>> {
    let options = open::options(folder).read_only(true);
    let mut reader = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let rows: Vec<(i64, Option<i64>)> = sqlx::query_as("SELECT mapping, expires_at FROM renewals")
        .fetch_all(&mut reader)
        .await
        .unwrap();
    reader.close().await.unwrap();
    let number = |it| u64::try_from(it).unwrap();
    rows.into_iter()
        .map(|(id, at)| {
            (
                MappingId(number(id)),
                at.map(number).map(Instant::from_nanos),
            )
        })
        .collect()
}
