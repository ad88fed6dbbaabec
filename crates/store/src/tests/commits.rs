//! Commits: durable, bounded, and over before the store is read again.

use super::*;

#[tokio::test]
async fn reopening_keeps_everything_and_empties_the_wal() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    home.step(0).await;
    home.step(1).await;

    home.store.reopen().await.unwrap();

    assert_eq!(
        fs::metadata(folder.path().join("portico.db-wal"))
            .unwrap()
            .len(),
        0
    );
    assert_eq!(home.store.load().await.unwrap(), Some(home.image()));
    home.step(2).await;
    home.store.checkpoint().await.unwrap();
    assert_eq!(home.store.load().await.unwrap(), Some(home.image()));
}

#[tokio::test]
async fn a_commit_that_was_given_up_is_over_before_the_store_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    home.lease(1, "one").await;
    let (mut other, _) = open::connect(folder.path()).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .unwrap();
    let mut delta = home.core.clone().finish_for_sure();
    delta.meta.next_mapping = MappingId(77);

    let soon = Duration::from_millis(20);
    assert!(
        tokio::time::timeout(soon, home.store.commit(&delta))
            .await
            .is_err()
    );
    assert!(
        tokio::time::timeout(soon, home.store.reopen())
            .await
            .is_err()
    );
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    home.store.reopen().await.unwrap();

    let image = home.store.load().await.unwrap().unwrap();
    assert_eq!(image.meta.next_mapping, MappingId(77));
}

#[tokio::test]
async fn initialising_twice_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    let expected = home.store.load().await.unwrap();
    let delta = home.core.clone().finish_for_sure();

    assert!(
        home.store
            .initialise([9; 16], &Policy::default(), &delta)
            .await
            .is_err()
    );

    home.store.reopen().await.unwrap();
    assert_eq!(home.store.load().await.unwrap(), expected);
}

#[tokio::test]
async fn commits_are_synchronous_and_the_wal_stays_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    let (mut connection, _) = open::connect(folder.path()).await.unwrap();
    for (pragma, expected) in [
        ("PRAGMA synchronous", 2),
        ("PRAGMA foreign_keys", 1),
        ("PRAGMA wal_autocheckpoint", 4000),
    ] {
        let row = sqlx::query(pragma)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(row.get::<i64, _>(0), expected, "{pragma}");
    }
    connection.close().await.unwrap();
    let mut delta = home.core.clone().finish_for_sure();
    let entry = AuditEntry {
        at: Wall::from_secs(1),
        requester: Requester::Upnp,
        action: AuditAction::MappingOpened,
        target: "a long line ".repeat(300),
    };
    delta.audit = vec![entry; 500];
    let mut largest = 0;
    for _ in 0..40 {
        home.store.commit(&delta).await.unwrap();
        largest = largest.max(wal_len(folder.path()));
    }

    // 500 pages and more at once
    assert!((15 << 20..20 << 20).contains(&largest), "{largest}");
}
