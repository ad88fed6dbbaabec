//! Links that carry less, and more, than 1500 bytes.

use anyhow::{Context as _, Result, ensure};
use lab::addressing::ETH;
use lab::{Home, Node};

use super::{Behind, ECHO, Sends, Serving, echo, exchange, python, switch, switch_offloads};
use crate::bulk::Files;
use crate::program::say;
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn everything_passes_a_wan_of_1280_bytes() -> Result<()> {
    everything_passes(1500, 1280, None).await
}

#[tokio::test]
async fn everything_passes_a_jumbo_lan() -> Result<()> {
    everything_passes(9000, 1500, None).await
}

#[tokio::test]
async fn everything_passes_a_jumbo_wan() -> Result<()> {
    everything_passes(1500, 9000, None).await
}

#[tokio::test]
async fn everything_passes_where_all_is_jumbo() -> Result<()> {
    everything_passes(9000, 9000, None).await
}

#[tokio::test]
async fn everything_passes_a_narrow_hop_of_the_provider() -> Result<()> {
    everything_passes(1500, 1500, Some(1400)).await
}

#[tokio::test]
async fn everything_passes_a_usual_hop_between_jumbo_links() -> Result<()> {
    everything_passes(9000, 9000, Some(1500)).await
}

#[tokio::test]
async fn server_that_forbids_fragments_learns_the_path_mtu() -> Result<()> {
    for (wan, narrow, learnt) in [
        (1500, None, 1480),
        (1500, Some(1400), 1380),
        (9000, Some(1500), 1480),
    ] {
        let discover = async |home: &Home, remote: &Node| {
            let nas = Server::join(home, "disk").await?;
            let mut server = Serving::start(python(&nas.node, DISCOVERING_SERVER)?).await?;
            nas.open("udp", DISCOVER).await?;

            let client = python(remote, ASKING_CLIENT)?.arg(nas.external(home).to_string());
            let got = say(client).await?.ok()?;
            let mtu = server.next().await?;
            let received = (learnt - 28).to_string();
            ensure!(
                mtu == learnt.to_string() && got.trim() == received,
                "it has learnt {mtu}, not {learnt}; received {got}"
            );
            Ok(())
        };
        with_links(9000, wan, narrow, discover).await?;
    }
    Ok(())
}

#[tokio::test]
async fn remote_that_forbids_fragments_learns_the_path_mtu() -> Result<()> {
    for (lan, wan, learnt) in [(1500, 9000, "1520"), (1400, 1500, "1420")] {
        let discover = async |home: &Home, remote: &Node| {
            let nas = Server::join(home, "disk").await?;
            let _echo = echo(&nas, Sends::Usually).await?;

            let client = python(remote, DISCOVERING_CLIENT)?
                .arg(nas.external(home).to_string())
                .arg(ECHO.to_string());
            let mtu = say(client).await?.ok()?;
            ensure!(mtu.trim() == learnt, "it has learnt {mtu}, not {learnt}");
            Ok(())
        };
        with_links(lan, wan, None, discover).await?;
    }
    Ok(())
}

/// Files both ways, datagrams and their fragments.
async fn everything_passes(lan: u32, wan: u32, narrow: Option<u32>) -> Result<()> {
    let pass = async |home: &Home, remote: &Node| {
        let nas = Server::join(home, "disk").await?;
        let _echo = echo(&nas, Sends::Usually).await?;
        let sizes = [100, 1200, 1500, 3000, 8900, 60_000];
        exchange(home, remote, &nas, DISCOVERED, &sizes).await?;
        let files = Files::serve(home, &nas, 20 << 20).await?;
        files.there_and_back(remote).await
    };
    with_links(lan, wan, narrow, pass).await
}

/// Plays `test` for a server and a remote host, who is behind a `narrow` link of the provider's,
/// if there is one; in two homes, so that nobody has learnt anything before.
async fn with_links(
    lan: u32,
    wan: u32,
    narrow: Option<u32>,
    test: impl AsyncFn(&Home, &Node) -> Result<()>,
) -> Result<()> {
    for on in [true, false] {
        let played = play(home(["disk"]).mtu(lan, wan), async |home| {
            switch_offloads(home, &home.resident("disk")?.node, on).await?;
            let Some(narrow) = narrow else {
                return test(home, &home.net.remote).await;
            };
            let behind = Behind::link(home, narrow, wan).await?;
            switch(&behind.client, ETH, on).await?;
            test(home, &behind.client).await
        });
        played.await.with_context(|| {
            format!("LAN {lan}, WAN {wan}, a hop of {narrow:?}, offloads: {on}")
        })?;
    }
    Ok(())
}

/// Path MTU discovery loses a datagram each time that it learns: at most once each way.
const DISCOVERED: u8 = 3;

const DISCOVER: u16 = 4821;

/// Sends what its path is said to carry to whoever asks, until that arrives.
const DISCOVERING_SERVER: &str = r"
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
s.bind(('0.0.0.0', 4821))
print('ready', flush=True)
s.connect(s.recvfrom(65535)[1])
s.settimeout(1)
for turn in range(40):
    mtu = s.getsockopt(socket.IPPROTO_IP, IP_MTU)
    try:
        s.send(os.urandom(mtu - 28))
        if s.recv(65535) == b'%d' % (mtu - 28):
            print(mtu, flush=True)
            break
    except OSError as error:
        assert isinstance(error, TimeoutError) or error.errno == errno.EMSGSIZE, error
";

const ASKING_CLIENT: &str = r"
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.settimeout(60)
s.connect((sys.argv[1], 4821))
s.send(b'please')
got = s.recv(65535)
s.send(b'%d' % len(got))
print(len(got))
";

/// Asks for an echo of what its path is said to carry, until that comes.
const DISCOVERING_CLIENT: &str = r"
IPV6_MTU_DISCOVER, IP_PMTUDISC_DO, IPV6_MTU, IPV6_DONTFRAG = 23, 2, 24, 62
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO)
s.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)
s.connect((sys.argv[1], int(sys.argv[2])))
s.settimeout(1)
for turn in range(40):
    mtu = s.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
    sent = os.urandom(mtu - 48)
    try:
        s.send(sent)
        if s.recv(65535) == sent:
            print(mtu)
            break
    except OSError as error:
        assert isinstance(error, TimeoutError) or error.errno == errno.EMSGSIZE, error
";
