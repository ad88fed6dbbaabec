//! The translator through the real program, seen by programs that know nothing of it: with
//! offloads on every card, and without any.

mod datagrams;
mod filter;
mod mtu;
mod peers;
mod streams;
mod trace;

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use lab::addressing::{ETH, LAN, WAN};
use lab::{Command, Home, Node, cable};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::time::{Duration, timeout};

use crate::program::{program, say};
use crate::server::Server;

/// Plays `test` with all offloads, then with none.
async fn with_offloads_and_without(
    home: &Home,
    server: &Node,
    test: impl AsyncFn() -> Result<()>,
) -> Result<()> {
    for on in [true, false] {
        switch_offloads(home, server, on).await?;
        test().await.with_context(|| format!("offloads: {on}"))?;
    }
    Ok(())
}

/// Switches the offloads of the endpoints, the routers and the gateway.
async fn switch_offloads(home: &Home, server: &Node, on: bool) -> Result<()> {
    for (node, ifname) in [
        (&home.net.remote, ETH),
        (&home.net.provider, "net0"),
        (&home.net.provider, "home0"),
        (&home.net.gateway, WAN),
        (&home.net.gateway, LAN),
        (server, ETH),
    ] {
        switch(node, ifname, on).await?;
    }
    Ok(())
}

/// Switches the offloads of a card, and sees that they are switched.
async fn switch(node: &Node, ifname: &'static str, on: bool) -> Result<()> {
    let switch = async move || {
        net::ethtool::set_send_offloads(ifname, on)?;
        Ok(net::ethtool::set_gro(ifname, on)?)
    };
    node.run(switch).await?;
    let said = say(program(node, "ethtool")?.args(["-k", ifname])).await?;
    let said = said.ok()?;
    let state = if on { "on" } else { "off" };
    for offload in [
        "tx-checksumming",
        "tx-tcp-segmentation",
        "tx-tcp6-segmentation",
        "generic-segmentation-offload",
        "generic-receive-offload",
    ] {
        let line = format!("{offload}: {state}");
        ensure!(
            said.lines().any(|it| it.trim() == line),
            "not {line}: {said}"
        );
    }
    Ok(())
}

/// Somebody on the Internet, behind a narrow link of the provider's.
struct Behind {
    client: Node,
    _transit: Node,
}

impl Behind {
    /// A link that carries `narrow` bytes, and a client who believes in `wide`.
    async fn link(home: &Home, narrow: u32, wide: u32) -> Result<Self> {
        let provider = &home.net.provider;
        let (transit, client) = (Node::new("transit")?, Node::new("client")?);
        transit.forward().await?;
        cable(
            provider.end("narrow0").mtu(narrow),
            transit.end("up0").mtu(narrow),
        )
        .await?;
        cable(transit.end("down0").mtu(wide), client.end(ETH).mtu(wide)).await?;
        provider.add_address("narrow0", "2001:db8:88::1/64").await?;
        transit.add_address("up0", "2001:db8:88::2/64").await?;
        transit.add_address("down0", "2001:db8:99::1/64").await?;
        client.add_address(ETH, "2001:db8:99::2/64").await?;
        provider
            .add_route("2001:db8:99::/64", "2001:db8:88::2", None)
            .await?;
        transit.add_route("::/0", "2001:db8:88::1", None).await?;
        client.add_route("::/0", "2001:db8:99::1", None).await?;
        Ok(Self {
            client,
            _transit: transit,
        })
    }
}

/// A program in Python.
fn python(node: &Node, code: &str) -> Result<Command> {
    let code = format!("{IMPORTS}\n{code}");
    Ok(program(node, "python3")?.args(["-c", &code]))
}

/// A server in Python that says a line when it is ready.
struct Serving {
    said: BufReader<ChildStdout>,
    _child: Child,
}

impl Serving {
    async fn start(command: Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().await?;
        let said = BufReader::new(child.stdout.take().context("it has no output")?);
        let mut serving = Self {
            said,
            _child: child,
        };
        let ready = serving.next().await?;
        ensure!(ready == "ready", "{ready}");
        Ok(serving)
    }

    /// The next line that it says.
    async fn next(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.said.read_line(&mut line)).await;
        read.context("the server says nothing")??;
        Ok(line.trim_end().to_owned())
    }
}

/// How a server sends its datagrams.
#[derive(Debug, Clone, Copy)]
enum Sends {
    /// As Linux does by itself: in fragments only what it knows to be too large for the path.
    Usually,
    /// In fragments as large as its own link, and routers may cut them.
    Fragments,
    /// The same, without checksums.
    FragmentsWithoutChecksum,
}

/// Echoes datagrams at UDP port [`ECHO`].
async fn echo(server: &Server, how: Sends) -> Result<Serving> {
    let (discover, no_check) = match how {
        Sends::Usually => (IP_PMTUDISC_WANT, "0"),
        Sends::Fragments => (IP_PMTUDISC_DONT, "0"),
        Sends::FragmentsWithoutChecksum => (IP_PMTUDISC_DONT, "1"),
    };
    let echo = ECHO.to_string();
    let python = python(&server.node, ECHO_SERVER)?.args([&echo, discover, no_check]);
    let echo = Serving::start(python).await?;
    server.open("udp", ECHO).await?;
    Ok(echo)
}

/// Sends datagrams of these sizes from `remote`, each until it comes back, at most so often.
async fn exchange(
    home: &Home,
    remote: &Node,
    server: &Server,
    at_most: u8,
    sizes: &[u16],
) -> Result<()> {
    let python = python(remote, ECHO_CLIENT)?
        .arg(server.external(home).to_string())
        .arg(ECHO.to_string())
        .arg(at_most.to_string())
        .args(sizes.iter().map(ToString::to_string));
    say(python).await?.ok().map(drop)
}

const ECHO: u16 = 7007;

const IP_PMTUDISC_DONT: &str = "0";

const IP_PMTUDISC_WANT: &str = "1";

const IMPORTS: &str = "import errno, os, socket, struct, sys, time";

const ECHO_SERVER: &str = r"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
IP_MTU_DISCOVER, SO_NO_CHECK = 10, 11
s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, int(sys.argv[2]))
s.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, int(sys.argv[3]))
assert s.getsockopt(socket.SOL_SOCKET, SO_NO_CHECK) == int(sys.argv[3])
s.bind(('0.0.0.0', int(sys.argv[1])))
print('ready', flush=True)
while True:
    s.sendto(*s.recvfrom(65535))
";

const ECHO_CLIENT: &str = r"
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.connect((sys.argv[1], int(sys.argv[2])))
at_most = int(sys.argv[3])
def comes_back(sent):
    for turn in range(1, at_most + 1):
        # what is sent again may have been answered before
        s.settimeout(60 if turn == at_most else 1)
        try:
            s.send(sent)
            while s.recv(65535) != sent:
                assert at_most > 1, 'something else comes'
            return True
        except OSError as error:
            assert isinstance(error, TimeoutError) or error.errno == errno.EMSGSIZE, error
for size in map(int, sys.argv[4:]):
    for turn in range(3):
        assert comes_back(os.urandom(size)), (size, turn)
";

/// No line takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
