//! Datagrams of every size, in one piece and in many.

use anyhow::Result;

use super::{Sends, echo, exchange, with_offloads_and_without};
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn datagrams_up_to_60_kb_are_echoed_whole() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _echo = echo(&webcam, Sends::Fragments).await?;

        let exchange = async || exchange(home, &home.net.remote, &webcam, 1, &SIZES).await;
        with_offloads_and_without(home, &webcam.node, exchange).await
    })
    .await
}

#[tokio::test]
async fn datagrams_without_a_checksum_get_one() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _echo = echo(&webcam, Sends::FragmentsWithoutChecksum).await?;

        let exchange = async || exchange(home, &home.net.remote, &webcam, 1, &SIZES).await;
        with_offloads_and_without(home, &webcam.node, exchange).await
    })
    .await
}

/// Around the places where a packet becomes two, in either family, and far beyond.
const SIZES: [u16; 15] = [
    0, 1, 100, 1231, 1232, 1233, 1451, 1452, 1453, 1472, 1473, 3000, 9001, 30_000, 60_000,
];
