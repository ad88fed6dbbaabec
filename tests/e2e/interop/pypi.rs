//! Clients from `PyPI`.

use anyhow::{Result, ensure};

use super::client::{Client, pypi};
use super::{Wish, opens_and_closes};
use crate::dhcp::items;
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn miniupnpc_of_pypi_maps_lists_and_unmaps() -> Result<()> {
    opens_and_closes(
        Wish::tcp("upnp", 8101),
        async |server| pypi(&server.node, "pypi_miniupnpc.py"),
        &[],
        &[
            "devices 1\n",
            "status Connected IP_Routed external 0.0.0.0\n",
            "added True\n",
            "entry ADDR 8101 miniupnpc of PyPI True\n",
            "first 8101 TCP ('ADDR', 8101) miniupnpc of PyPI\n",
            "deleted True\n",
            "again NoSuchEntryInArray\n",
        ],
    )
    .await
}

#[tokio::test]
async fn async_upnp_client_maps_as_igd2_and_unmaps() -> Result<()> {
    opens_and_closes(
        Wish::tcp("upnp", 8102),
        async |server| pypi(&server.node, "pypi_async_upnp_client.py"),
        &[],
        &[
            "found 1 2\n",
            "status Connected external 0.0.0.0\n",
            "entry ADDR 8102 async\n",
        ],
    )
    .await
}

/// Home Assistant's way: it believes what it is notified of.
#[tokio::test]
async fn async_upnp_client_is_notified_of_its_mapping() -> Result<()> {
    opens_and_closes(
        Wish::udp("upnp", 8106),
        async |server| pypi(&server.node, "pypi_async_upnp_client.py"),
        &["events"],
        &[
            ":WANIPConnection:2 PossibleConnectionTypes=IP_Routed ConnectionStatus=Connected \
             ExternalIPAddress=0.0.0.0 PortMappingNumberOfEntries=0 SystemUpdateID=",
            ":WANIPConnection:2 PortMappingNumberOfEntries=1 SystemUpdateID=",
            ":WANIPConnection:2 PortMappingNumberOfEntries=0 SystemUpdateID=",
            ":Layer3Forwarding:1 DefaultConnectionService=uuid:",
            ":WANCommonInterfaceConfig:1 PhysicalLinkStatus=Up",
            ":WANIPv6FirewallControl:1 FirewallEnabled=True InboundPinholeAllowed=False\n",
        ],
    )
    .await
}

/// Nothing carries native pinholes yet: the gateway says so, and refuses them.
#[tokio::test]
async fn upnpclient_is_refused_a_pinhole() -> Result<()> {
    play(home(["console"]), async |home| {
        let server = Server::join(home, "console").await?;
        let args = Wish::tcp("upnp", 8107).args(&server);
        let upnpclient = pypi(&server.node, "pypi_upnpclient_pinholes.py")?.args(args);
        let mut client = Client::start(home, upnpclient.arg("2001:db8:64:1::5")).await?;
        client.hear("asked").await?;
        client.says(&["enabled True allowed False\n", "refused 703 "])?;
        let open = items(home, "mappings").await?;
        ensure!(open.is_empty(), "{open:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn upnpclient_maps_by_the_description_of_igd1() -> Result<()> {
    upnpclient("1", Wish::tcp("upnp", 8103), &[]).await
}

#[tokio::test]
async fn upnpclient_maps_lists_and_unmaps_a_range_by_the_description_of_igd2() -> Result<()> {
    let entry = [
        "list <p:PortMappingList xmlns:p=\"urn:schemas-upnp-org:gw:WANIPConnection\"",
        "<p:NewExternalPort>8104</p:NewExternalPort><p:NewProtocol>UDP</p:NewProtocol>",
        "<p:NewDescription>&lt;upnpclient&gt;</p:NewDescription>",
    ];
    upnpclient("2", Wish::udp("upnp", 8104), &entry).await
}

async fn upnpclient(version: &str, wish: Wish, list: &[&str]) -> Result<()> {
    let entry = format!("entry ADDR {} <upnpclient>\n", wish.port);
    let words = [
        "found Portico with ",
        " WANIPConn1",
        "status Connected\n",
        "external 0.0.0.0\n",
        &entry,
        "then 714 NoSuchEntryInArray\n",
    ];
    opens_and_closes(
        wish,
        async |server| pypi(&server.node, "pypi_upnpclient.py"),
        &[version],
        &[&words[..], list].concat(),
    )
    .await
}

#[tokio::test]
async fn nat_pmp_of_pypi_maps_and_unmaps() -> Result<()> {
    opens_and_closes(
        Wish::udp("nat-pmp", 8105),
        async |server| pypi(&server.node, "pypi_nat_pmp.py"),
        &[],
        &[
            "gateway 192.168.64.1 external 0.0.0.0\n",
            "granted 8105 for 600\n",
            "closed with 0\n",
        ],
    )
    .await
}
