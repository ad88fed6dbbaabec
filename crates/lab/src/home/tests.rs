//! A home without Portico: what the lab itself promises.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::addressing::ETH;
use crate::device::DOWNLOAD_BYTES;
use crate::remote::{self, Download, Port};

#[tokio::test]
async fn the_remote_host_resolves_through_the_provider_and_reaches_the_gateway() {
    let home = Plan::new("/bin/false")
        .residents(["camera"])
        .build()
        .await
        .unwrap();

    let www = home.lookup("www.example", RecordType::A).await.unwrap();
    let none = home.lookup("www.example", RecordType::AAAA).await.unwrap();
    let outside = home.lookup("www.example.org", RecordType::A).await.unwrap();
    let gateway = home.delegation().wan();
    let ping = async move || remote::ping(gateway, PATIENCE).await;
    let rtt = home.net.remote.run(ping).await.unwrap();

    assert_eq!(www.addrs, [IpAddr::from(crate::provider::WWW)]);
    assert_eq!((none.addrs.len(), none.code.as_str()), (0, "No Error"));
    assert_eq!(outside.code, "Non-Existent Domain");
    assert!(rtt.is_some());
}

#[tokio::test]
async fn both_addresses_work_while_renumbering_and_then_only_the_new_one() {
    let home = Plan::new("/bin/false")
        .residents(["camera"])
        .build()
        .await
        .unwrap();
    let (old, new) = (Delegation(0), Delegation(1));
    let ping = |delegation: Delegation, patience| {
        let to = delegation.wan();
        home.net
            .remote
            .run(async move || remote::ping(to, patience).await)
    };

    home.net.delegate(new).await.unwrap();
    home.net
        .deprecate(old, Duration::from_secs(30))
        .await
        .unwrap();
    assert!(ping(old, PATIENCE).await.unwrap().is_some());
    assert!(ping(new, PATIENCE).await.unwrap().is_some());
    home.net.withdraw(old).await.unwrap();

    assert!(ping(new, PATIENCE).await.unwrap().is_some());
    let silence = ping(old, Duration::from_millis(500)).await.unwrap();
    assert_eq!(silence, None);
}

#[tokio::test]
async fn servers_serve_and_a_held_download_goes_on_when_it_is_released() {
    let home = Plan::new("/bin/false").build().await.unwrap();
    let (camera, nas) = (&home.residents[0], &home.residents[1]);
    camera
        .node
        .add_address(ETH, "192.168.64.10/24")
        .await
        .unwrap();
    nas.node.add_address(ETH, "192.168.64.20/24").await.unwrap();
    let web: SocketAddr = "192.168.64.10:80".parse().unwrap();

    let page = nas
        .node
        .run(async move || http::fetch(web, "camera", "/", PATIENCE).await);
    assert_eq!(page.await.unwrap(), camera.device.page());
    let log = nas
        .node
        .run(async move || http::fetch(web, "camera", "/log", PATIENCE).await);
    assert!(log.await.unwrap().contains("http 80 192.168.64.20:"));
    let closed: SocketAddr = "192.168.64.10:81".parse().unwrap();
    let knock = nas
        .node
        .run(async move || Ok(remote::knock(closed, PATIENCE).await));
    assert_eq!(knock.await.unwrap(), Port::Refused);

    let start = async move || Download::start(web, "camera", "/download", PATIENCE).await;
    let download = nas.node.run(start).await.unwrap();
    assert!(download.received() < DOWNLOAD_BYTES);
    camera.device.release_downloads();
    let whole = download.finish(PATIENCE).await.unwrap();
    assert_eq!(whole.bytes, DOWNLOAD_BYTES);
}

#[tokio::test]
async fn a_daemon_that_ends_is_an_error_with_the_end_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("portico");
    std::fs::write(
        &program,
        "#!/bin/sh\necho \"no idea what $1 means\" >&2\nexit 3\n",
    )
    .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();

    let error = Plan::new(&program)
        .residents(["camera"])
        .start()
        .await
        .unwrap_err();

    let text = format!("{error:#}");
    assert!(
        text.contains("exit status: 3") && text.contains("no idea what run means"),
        "{text}"
    );
}

#[tokio::test]
async fn secrets_are_for_their_owner_only() {
    let home = Plan::new("/bin/false")
        .residents(["camera"])
        .build()
        .await
        .unwrap();

    let key = home.folder().join(crate::daemon::KEY).metadata().unwrap();
    let folder = home.folder().metadata().unwrap();

    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}
