//! Files that something else has written to.

use super::*;

#[tokio::test]
async fn a_damaged_database_is_refused_and_left_alone() {
    for damage in [0..64, 4096..8192, 8192..20_000] {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Home::in_folder(folder.path()).await;
        for step in 0..20 {
            home.step(step).await;
        }
        home.store.close().await.unwrap();
        let path = folder.path().join("portico.db");
        let mut bytes = fs::read(&path).unwrap();
        bytes[damage].fill(0xa5);
        fs::write(&path, &bytes).unwrap();

        let error = opened(folder.path()).await.unwrap_err();

        let message = error.to_string();
        assert!(matches!(error, OpenStoreError::Damaged { .. }), "{error:?}");
        assert!(
            message.contains("portico.db is damaged; move it away"),
            "{message}"
        );
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[tokio::test]
async fn nothing_is_stored_where_a_check_finds_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    for step in 0..20 {
        home.step(step).await;
    }
    home.store.close().await.unwrap();
    let path = folder.path().join("portico.db");
    // a page that opening does not read
    let page = "SELECT rootpage FROM sqlite_schema WHERE name = 'audit'";
    let (mut connection, _) = open::connect(folder.path()).await.unwrap();
    let page: u32 = sqlx::query_scalar(page)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let end = usize::try_from(page).unwrap() * 4096;
    bytes[end - 4096..end].fill(0xa5);
    fs::write(&path, &bytes).unwrap();

    let mut store = Store::open(folder.path()).await.unwrap();
    let delta = home.core.clone().finish_for_sure();
    let error = store.commit(&delta).await.unwrap_err();

    assert!(matches!(error, CommitError::Damaged(_)), "{error:?}");
    assert!(store.commit(&delta).await.is_err());
    drop(store);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

async fn opened(folder: &Path) -> Result<Store, OpenStoreError> {
    let mut store = Store::open(folder).await?;
    store.checked().await?;
    Ok(store)
}

#[tokio::test]
async fn a_row_that_was_never_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    home.lease(1, "one").await;
    home.store.close().await.unwrap();
    let (mut connection, _) = open::connect(folder.path()).await.unwrap();
    sqlx::query("UPDATE hosts SET mac = 'no mac'")
        .execute(&mut connection)
        .await
        .unwrap();
    drop(connection);

    let mut store = Store::open(folder.path()).await.unwrap();

    let error = store.load().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the store is damaged: hosts holds an invalid mac"
    );
}

#[tokio::test]
async fn the_store_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).await.unwrap());
    let (mut connection, _) = open::connect(folder.path()).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', true, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    drop(connection);

    let error = Store::open(folder.path()).await.unwrap_err();

    assert!(matches!(error, OpenStoreError::Newer { .. }), "{error:?}");
}

/// Every prefix of the WAL, cut or overwritten at many offsets, holds all whole commits before.
#[tokio::test]
async fn a_torn_wal_holds_everything_up_to_its_last_whole_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Home::in_folder(folder.path()).await;
    for step in 0..6 {
        home.step(step).await;
    }
    let commits = home.commits;
    let database = fs::read(folder.path().join("portico.db")).unwrap();
    let wal = fs::read(folder.path().join("portico.db-wal")).unwrap();
    assert_eq!(commits.last().unwrap().0, wal.len());

    let step = 1 + wal.len() / 150;
    for (offset, torn) in (0..wal.len())
        .step_by(step)
        .flat_map(|n| [(n, false), (n, true)])
    {
        let copy = tempfile::tempdir().unwrap();
        let mut bytes = wal.clone();
        if torn {
            // the page in which the power went: some of its bytes are old
            let end = wal.len().min(offset + 512);
            bytes[offset..end].iter_mut().for_each(|byte| *byte ^= 0xff);
        } else {
            bytes.truncate(offset);
        }
        fs::write(copy.path().join("portico.db"), &database).unwrap();
        fs::write(copy.path().join("portico.db-wal"), &bytes).unwrap();

        let mut store = Store::open(copy.path()).await.unwrap();
        store.check().await.unwrap();
        let image = store.load().await.unwrap();

        let whole = commits.iter().rev().find(|(len, _)| *len <= offset);
        assert_eq!(
            image.as_ref(),
            whole.map(|(_, image)| image),
            "{offset} {torn}"
        );
    }
}
