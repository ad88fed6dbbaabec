//! The crate `natpmp`.

use anyhow::{Result, bail};
use clients::{Wish, until_asked_to_close};
use natpmp::{NatpmpAsync, Protocol, Response, new_tokio_natpmp};
use tokio::net::UdpSocket;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (wish, _) = Wish::read()?;
    let mut client = new_tokio_natpmp().await?;

    client.send_public_address_request().await?;
    let Response::Gateway(gateway) = client.read_response_or_retry().await? else {
        bail!("that is no address");
    };
    println!("external {}", gateway.public_address());

    println!("mapped {}", map(&mut client, wish, 600).await?);
    until_asked_to_close().await?;
    map(&mut client, wish, 0).await?;
    println!("unmapped");
    Ok(())
}

async fn map(client: &mut NatpmpAsync<UdpSocket>, wish: Wish, lifetime_s: u32) -> Result<u16> {
    let protocol = if wish.is_tcp {
        Protocol::TCP
    } else {
        Protocol::UDP
    };
    let suggested = if lifetime_s == 0 { 0 } else { wish.port };
    client
        .send_port_mapping_request(protocol, wish.port, suggested, lifetime_s)
        .await?;
    match client.read_response_or_retry().await? {
        Response::TCP(mapping) | Response::UDP(mapping) => Ok(mapping.public_port()),
        Response::Gateway(_) => bail!("that is no mapping"),
    }
}
