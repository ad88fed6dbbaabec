//! The provider changes the prefix and the WAN address, with BIND and curl as witnesses.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::device::{DOWNLOAD_BYTES, Device, download};

use crate::bind;
use crate::natpmp::fetch_by_name;
use crate::program::program;
use crate::server::Server;
use crate::stage::{play, until};

#[tokio::test]
async fn names_and_downloads_outlive_a_new_prefix() -> Result<()> {
    play(bind::home_of_bind(["webcam"]), async |home| {
        let _bind = bind::start(home).await?;
        let webcam = Server::join(home, "webcam").await?;
        let page = "0123456789abcdef".repeat(10_000);
        let _nginx = webcam.nginx(80, &page).await?;
        let device = Device::new("webcam", "");
        let serving = Arc::clone(&device);
        webcam
            .node
            .run(async move || serving.serve_http(HELD).await)
            .await?;
        for port in [80, HELD] {
            webcam.open("tcp", port).await?;
        }
        let old = bind::resolve(home, &webcam.fqdn()).await?;
        let received = home.folder().join("received");
        let mut curl = program(&home.net.remote, "curl")?
            .args(["-6", "-sSN", "-f", "-g", "--noproxy", "*", "-o"])
            .arg(&received)
            .arg(format!("http://[{old}]:{HELD}/download"))
            .spawn()
            .await?;
        let so_far = || received.metadata().map_or(0, |file| file.len());
        until(async || {
            ensure!(so_far() > 0, "nothing came");
            Ok(())
        })
        .await?;

        home.renumber(Duration::from_secs(200)).await?;
        let new = bind::resolve(home, &webcam.fqdn()).await?;
        ensure!(
            new == webcam.external(home) && new != old,
            "{old} became {new}"
        );
        let again = fetch_by_name(home, "http://webcam.home.example/").await?;
        ensure!(again == page, "{} of {} bytes", again.len(), page.len());

        let bytes = u64::try_from(DOWNLOAD_BYTES)?;
        ensure!(so_far() < bytes, "the download had ended before");
        device.release_downloads();
        let ended = curl.wait().await?;
        ensure!(ended.success(), "curl ended with {ended}");
        ensure!(so_far() == bytes, "{} of {bytes} bytes", so_far());
        let whole = std::fs::read(&received)? == download(0..DOWNLOAD_BYTES);
        ensure!(whole, "curl received something else");

        home.withdraw_old().await?;
        let third = fetch_by_name(home, "http://webcam.home.example/").await;
        ensure!(
            third.context("after the old prefix went")? == page,
            "another page"
        );
        Ok(())
    })
    .await
}

/// Where the download is served that waits until it is released.
const HELD: u16 = 8080;
