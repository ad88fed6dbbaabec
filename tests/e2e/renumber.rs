//! The provider changes the prefix and the WAN address, with BIND and curl as witnesses.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::bind;
use crate::natpmp::fetch_by_name;
use crate::program::{program, say};
use crate::server::Server;
use crate::stage::{play, until};

#[tokio::test]
async fn names_and_downloads_outlive_a_new_prefix() -> Result<()> {
    play(bind::home_of_bind(["webcam"]), async |home| {
        let _bind = bind::start(home).await?;
        let webcam = Server::join(home, "webcam").await?;
        let page = "0123456789abcdef".repeat(BYTES / 16);
        let _nginx = webcam.nginx(80, &page).await?;
        webcam.open("tcp", 80).await?;
        let old = bind::resolve(home, &webcam.fqdn()).await?;
        let received = home.folder().join("received");
        let mut download = program(&home.net.remote, "curl")?
            .args(["-6", "-sS", "-f", "-g", "--noproxy", "*", "-o"])
            .arg(&received)
            .arg(format!("http://[{old}]/slow"))
            .spawn()
            .await?;
        let so_far = || received.metadata().map_or(0, |file| file.len());
        until(async || {
            ensure!(so_far() > 0, "nothing came");
            Ok(())
        })
        .await?;

        home.renumber(Duration::from_secs(30)).await?;
        let new = bind::resolve(home, &webcam.fqdn()).await?;
        ensure!(
            new == webcam.external(home) && new != old,
            "{old} became {new}"
        );
        let again = fetch_by_name(home, "http://webcam.home.example/").await?;
        ensure!(again == page, "{} of {} bytes", again.len(), page.len());

        let bytes = u64::try_from(BYTES)?;
        ensure!(so_far() < bytes, "the download had ended before");
        let ended = download.wait().await?;
        ensure!(ended.success(), "curl ended with {ended}");
        ensure!(so_far() == bytes, "{} of {bytes} bytes", so_far());
        let sums = program(&home.net.remote, "sha256sum")?
            .arg(&received)
            .arg(home.folder().join("server-webcam/www/index.html"));
        let sums = say(sums).await?.ok()?;
        let sums: Vec<_> = sums
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        ensure!(sums.len() == 2 && sums.first() == sums.last(), "{sums:?}");

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

/// Some seconds at the slow rate of nginx.
const BYTES: usize = 2 << 20;
