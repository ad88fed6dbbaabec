//! Clients from `PyPI`.

use anyhow::Result;

use super::client::pypi;
use super::{Wish, opens_and_closes};

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

#[tokio::test]
async fn upnpclient_maps_by_the_description_of_igd1() -> Result<()> {
    upnpclient("1", Wish::tcp("upnp", 8103)).await
}

#[tokio::test]
async fn upnpclient_maps_by_the_description_of_igd2() -> Result<()> {
    upnpclient("2", Wish::udp("upnp", 8104)).await
}

async fn upnpclient(version: &str, wish: Wish) -> Result<()> {
    opens_and_closes(
        wish,
        async |server| pypi(&server.node, "pypi_upnpclient.py"),
        &[version],
        &[
            "found Portico with ",
            " WANIPConn1",
            "status Connected\n",
            "external 0.0.0.0\n",
            &format!("entry ADDR {} <upnpclient>\n", wish.port),
            "714",
        ],
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
