//! The crate `portmapper`, iroh's: it probes all three protocols and prefers PCP.

use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clients::{Wish, until_asked_to_close};
use portmapper::{Client, Config, Protocol};
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (wish, protocols) = Wish::read()?;
    let client = Client::new(Config {
        enable_upnp: protocols.iter().any(|it| it == "upnp"),
        enable_pcp: protocols.iter().any(|it| it == "pcp"),
        enable_nat_pmp: protocols.iter().any(|it| it == "nat-pmp"),
        protocol: if wish.is_tcp {
            Protocol::Tcp
        } else {
            Protocol::Udp
        },
    });
    // it waits for half a second, or for one, and believes for five that nobody is there
    let mut found = client.probe().await??;
    for _ in 0..10 {
        let missing = protocols.iter().any(|it| match it.as_str() {
            "upnp" => !found.upnp,
            "pcp" => !found.pcp,
            _ => !found.nat_pmp,
        });
        if !missing {
            break;
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        found = client.probe().await??;
    }
    println!("found {found}");

    client.update_local_port(NonZeroU16::new(wish.port).context("port 0")?);
    let mut external = client.watch_external_address();
    match timeout(PATIENCE, external.wait_for(Option::is_some)).await {
        Ok(found) => println!("mapped {}", found?.context("nothing")?),
        Err(_) => println!("no external address"),
    }

    until_asked_to_close().await?;
    client.deactivate();
    println!("unmapped");
    // It deletes by itself, and does not say when.
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(())
}

/// A gateway of the LAN answers within milliseconds, the search by SSDP within its own second; a
/// busy one takes longer.
const PATIENCE: Duration = Duration::from_secs(10);
