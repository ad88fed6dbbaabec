//! What the two ends of a connection see of each other.

use anyhow::{Result, ensure};
use lab::Home;
use lab::addressing::{ETH, GATEWAY};
use serde_json::Value;

use super::{Sends, Serving, echo, exchange, python, with_offloads_and_without};
use crate::program::{portico, program, say};
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn half_closed_connection_carries_data_the_other_way() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let talk = talk(&webcam).await?;
        let talk = tokio::sync::Mutex::new(talk);

        let test = async || {
            client(home, &webcam, HALF_CLOSE).await?;
            let heard = talk.lock().await.next().await?;
            ensure!(heard == "3000000", "after its own end it heard {heard}");
            Ok(())
        };
        with_offloads_and_without(home, &webcam.node, test).await
    })
    .await
}

#[tokio::test]
async fn reset_of_either_end_is_seen_by_the_other() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let talk = talk(&webcam).await?;
        let talk = tokio::sync::Mutex::new(talk);

        let test = async || {
            client(home, &webcam, RESET).await?;
            let heard = talk.lock().await.next().await?;
            ensure!(heard == "reset", "{heard}");
            Ok(())
        };
        with_offloads_and_without(home, &webcam.node, test).await
    })
    .await
}

#[tokio::test]
async fn idle_connection_goes_on() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _talk = talk(&webcam).await?;

        client(home, &webcam, IDLE).await
    })
    .await
}

#[tokio::test]
async fn source_port_is_used_again_at_once() -> Result<()> {
    play(home(["webcam", "disk"]), async |home| {
        let (webcam, nas) = (
            Server::join(home, "webcam").await?,
            Server::join(home, "disk").await?,
        );
        let _talks = [talk(&webcam).await?, talk(&nas).await?];

        // It says a word when its last connections are open, and ends when it is told to.
        let script = python(&home.net.remote, AGAIN)?
            .arg(webcam.external(home).to_string())
            .arg(nas.external(home).to_string());
        let _client = Serving::start(script).await?;

        let portico = portico(&home.net.gateway, &home.daemon.socket());
        let said = say(portico.args(["session", "list", "--json"])).await?;
        let sessions: Value = serde_json::from_str(&said.ok()?)?;
        let items = sessions.as_array().or(sessions["items"].as_array());
        let states = items.into_iter().flatten();
        let states: Vec<_> = states.map(|it| it["state"].clone()).collect();
        ensure!(
            states == ["established", "established"],
            "one port, two servers: {sessions}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nobody_at_an_open_port_is_told_to_the_remote() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        for protocol in ["tcp", "udp"] {
            webcam.open(protocol, TALK).await?;
        }

        let test = async || client(home, &webcam, REFUSED).await;
        with_offloads_and_without(home, &webcam.node, test).await
    })
    .await
}

#[tokio::test]
async fn host_that_has_gone_is_told_to_the_remote() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        for protocol in ["tcp", "udp"] {
            webcam.open(protocol, TALK).await?;
        }

        home.net.lan.unplug(&webcam.node, ETH).await?;
        let forget = ["neigh", "flush", "all", "nud", "all"];
        say(program(&home.net.gateway, "ip")?.args(forget))
            .await?
            .ok()?;

        client(home, &webcam, GONE).await
    })
    .await
}

#[tokio::test]
async fn server_without_a_default_route_answers_remotes() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let gateway = GATEWAY.to_string();
        let ip = |args: [&str; 3]| anyhow::Ok(program(&webcam.node, "ip")?.arg("-4").args(args));
        say(ip(["route", "del", "default"])?).await?.ok()?;
        let routes = say(ip(["route", "list", "default"])?).await?.ok()?;
        ensure!(routes.is_empty(), "its own link only: {routes}");
        let _talk = talk(&webcam).await?;
        let _echo = echo(&webcam, Sends::Fragments).await?;

        let test = async || {
            client(home, &webcam, HALF_CLOSE).await?;
            exchange(home, &home.net.remote, &webcam, 1, &[0, 1400, 60_000]).await
        };
        with_offloads_and_without(home, &webcam.node, test).await?;
        let neighbours = say(ip(["neigh", "show", "all"])?).await?.ok()?;
        let pool = neighbours.lines().find(|line| !line.starts_with(&gateway));
        ensure!(
            pool.is_some_and(|line| line.contains("lladdr")),
            "the gateway answers for the pool: {neighbours}"
        );
        Ok(())
    })
    .await
}

/// A server that does with each connection what its first letter says.
async fn talk(server: &Server) -> Result<Serving> {
    let talk = Serving::start(python(&server.node, TALK_SERVER)?).await?;
    server.open("tcp", TALK).await?;
    Ok(talk)
}

/// Runs a script of the remote host.
async fn client(home: &Home, server: &Server, script: &str) -> Result<()> {
    let python = python(&home.net.remote, script)?.arg(server.external(home).to_string());
    say(python).await?.ok().map(drop)
}

const TALK: u16 = 4711;

const TALK_SERVER: &str = r"
import threading
def count(c):
    heard = 0
    while got := c.recv(65536):
        heard += len(got)
    return heard
def talk(c):
    verb = c.recv(1)
    if verb == b'a': # answers after the end
        c.sendall(b'x' * count(c))
    elif verb == b'b': # begins with the end
        c.sendall(b'bye')
        c.shutdown(socket.SHUT_WR)
        print(count(c), flush=True)
    elif verb == b'r': # resets
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    elif verb == b'w': # waits for a reset
        try:
            print('heard', c.recv(1), flush=True)
        except ConnectionResetError:
            print('reset', flush=True)
    elif verb == b'e': # echoes
        while got := c.recv(65536):
            c.sendall(got)
    c.close()
s = socket.create_server(('0.0.0.0', 4711), backlog=100)
print('ready', flush=True)
while True:
    threading.Thread(target=talk, args=[s.accept()[0]], daemon=True).start()
";

const HALF_CLOSE: &str = r"
def read(c):
    heard = b''
    while got := c.recv(65536):
        heard += got
    return heard
c = socket.create_connection((sys.argv[1], 4711), 60)
c.sendall(b'a' + b'y' * 3000000)
c.shutdown(socket.SHUT_WR)
assert read(c) == b'x' * 3000000
c = socket.create_connection((sys.argv[1], 4711), 60)
c.sendall(b'b')
assert read(c) == b'bye'
c.sendall(b'z' * 3000000)
c.close()
";

const RESET: &str = r"
c = socket.create_connection((sys.argv[1], 4711), 60)
c.sendall(b'r')
try:
    raise SystemExit(f'heard {c.recv(1)}')
except ConnectionResetError:
    pass
c = socket.create_connection((sys.argv[1], 4711), 60)
c.sendall(b'w')
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
c.close()
";

const IDLE: &str = r"
c = socket.create_connection((sys.argv[1], 4711), 60)
c.sendall(b'e')
for pause in [0, 1, 5]:
    time.sleep(pause)
    c.sendall(b'still here')
    assert c.recv(10, socket.MSG_WAITALL) == b'still here'
";

/// Ends a connection in every way, and opens the next from the same port.
const AGAIN: &str = r"
webcam, nas = sys.argv[1:]
def connect(to):
    c = socket.socket(socket.AF_INET6)
    c.settimeout(60)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    c.bind(('::', 40000))
    for wait in range(6000): # for the last acknowledgement of the one before
        try:
            c.connect((to, 4711))
            return c
        except OSError as error:
            assert error.errno == errno.EADDRNOTAVAIL, error
            time.sleep(0.01)
    raise SystemExit('the last connection does not end')
for turn in range(5):
    c = connect(webcam) # both ends end, the server first: it waits, and not we
    c.sendall(b'b')
    assert c.recv(3, socket.MSG_WAITALL) == b'bye' and c.recv(1) == b''
    c.close()
    c = connect(webcam) # the server resets
    c.sendall(b'r')
    try:
        raise SystemExit(f'heard {c.recv(1)}')
    except ConnectionResetError:
        c.close()
    c = connect(webcam) # we reset
    c.sendall(b'e?')
    assert c.recv(1) == b'?'
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    c.close()
c = connect(webcam)
c.sendall(b'b')
assert c.recv(3, socket.MSG_WAITALL) == b'bye' and c.recv(1) == b''
c.close()
both = [connect(webcam), connect(nas)]
for c in both:
    c.sendall(b'e?')
    assert c.recv(1) == b'?'
print('ready', flush=True)
time.sleep(60)
";

const REFUSED: &str = r"
try:
    socket.create_connection((sys.argv[1], 4711), 60)
    raise SystemExit('it is open')
except ConnectionRefusedError:
    pass
c = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
c.settimeout(60)
c.connect((sys.argv[1], 4711))
for size in [0, 100, 1400]:
    c.send(os.urandom(size))
    try:
        raise SystemExit(f'heard {c.recv(1)}')
    except ConnectionRefusedError:
        pass
";

/// RFC 7915 §4.2 makes 'no route' of the gateway's 'host unreachable'.
const GONE: &str = r"
try:
    socket.create_connection((sys.argv[1], 4711), 60)
    raise SystemExit('it is open')
except OSError as error:
    assert error.errno == errno.ENETUNREACH, error
c = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
IPV6_RECVERR = 25
c.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
c.settimeout(60)
c.connect((sys.argv[1], 4711))
c.send(b'hello')
try:
    raise SystemExit(f'heard {c.recv(1)}')
except OSError as error:
    assert error.errno == errno.ENETUNREACH, error
";
