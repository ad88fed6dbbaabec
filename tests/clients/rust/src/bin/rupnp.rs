//! The crate `rupnp`.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clients::{Wish, until_asked_to_close};
use futures_util::TryStreamExt as _;
use rupnp::ssdp::{SearchTarget, URN};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (Wish { addr, is_tcp, port }, args) = Wish::read()?;
    let version = args.first().context("which version")?.parse()?;
    let connection = URN::service("schemas-upnp-org", "WANIPConnection", version);
    let device = {
        let target = SearchTarget::URN(URN::device(
            "schemas-upnp-org",
            "InternetGatewayDevice",
            version,
        ));
        let devices = rupnp::discover(&target, Duration::from_secs(20), None).await?;
        pin!(devices)
            .try_next()
            .await?
            .context("no gateway answers")?
    };
    let service = device.find_service(&connection).context("no connection")?;
    println!("found {}", device.friendly_name());

    let run =
        async |action: &str, payload: &str| service.action(device.url(), action, payload).await;
    let external = run("GetExternalIPAddress", "").await?;
    println!("external {}", external["NewExternalIPAddress"]);

    let protocol = if is_tcp { "TCP" } else { "UDP" };
    let which = format!(
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>{port}</NewExternalPort>\
         <NewProtocol>{protocol}</NewProtocol>"
    );
    let mapping = format!(
        "{which}<NewInternalPort>{port}</NewInternalPort><NewInternalClient>{addr}</NewInternalClient>\
         <NewEnabled>1</NewEnabled><NewPortMappingDescription>rupnp &amp; test</NewPortMappingDescription>\
         <NewLeaseDuration>600</NewLeaseDuration>"
    );
    run("AddPortMapping", &mapping).await?;
    let entry = run("GetSpecificPortMappingEntry", &which).await?;
    let (client, words) = (
        &entry["NewInternalClient"],
        &entry["NewPortMappingDescription"],
    );
    println!("entry {client} {words}");
    println!("mapped {port}");

    until_asked_to_close().await?;
    run("DeletePortMapping", &which).await?;
    println!("unmapped");
    Ok(())
}
