//! Who may use the state folder.

use super::*;

#[tokio::test]
async fn a_second_daemon_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();

    let second = Store::open(folder.path()).await;

    let message = second.unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "another daemon uses the state folder {}",
            folder.path().display()
        )
    );
    drop(store);
    Store::open(folder.path()).await.unwrap();
}

#[tokio::test]
async fn only_the_owner_may_read() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/state");
    let store = Store::open(&folder).await.unwrap();

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(store);
    fs::set_permissions(folder.join("portico.db"), fs::Permissions::from_mode(0o644)).unwrap();
    Store::open(&folder).await.unwrap();
    assert_eq!(mode(&folder.join("portico.db")), 0o600);
}
