//! FILTER of PCP (RFC 6887 §13.3), as packets of remotes inside and outside meet it.

use std::net::Ipv6Addr;

use anyhow::{Context as _, Result, ensure};
use lab::Home;
use lab::addressing::{ETH, REMOTE};

use super::{ECHO, Serving, python};
use crate::program::{program, say};
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn filter_decides_who_connects() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _web = webcam.python(WEB, "page").await?;
        appear_twice(home).await?;
        for (filters, both, what) in [
            (vec![only(REMOTE)], [true, false], "the first one only"),
            (vec![only(OTHER)], [true, true], "filters add up"),
            (
                vec![EVERYBODY.to_owned(), only(OTHER)],
                [false, true],
                "the second one only",
            ),
            (
                vec![EVERYBODY.to_owned()],
                [true, true],
                "no filter is left",
            ),
        ] {
            map(&webcam, TCP, WEB, &filters).await?;
            for (from, connects) in [REMOTE, OTHER].into_iter().zip(both) {
                let seconds = if connects { "60" } else { "2" };
                let connected = self::connects(home, &webcam, from, seconds).await?;
                ensure!(connected == connects, "{what}: {from}");
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn filter_decides_on_datagrams_by_address_and_port_and_on_ping() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _echo = echo(&webcam).await?;
        appear_twice(home).await?;
        map(&webcam, UDP, ECHO, &[format!("{REMOTE}/128/4000")]).await?;

        for (from, port, answered) in [
            (REMOTE, 4000, true),
            (REMOTE, 4001, false),
            (OTHER, 4000, false),
        ] {
            let said = ask(home, &webcam, from, port, answered).await?;
            ensure!(
                (said == "hello") == answered,
                "[{from}]:{port} hears {said:?}"
            );
        }
        for (from, answered) in [(REMOTE, true), (OTHER, false)] {
            let ping = program(&home.net.remote, "ping")?
                .args(["-6", "-n", "-c", "1", "-W"])
                .args([if answered { "30" } else { "1" }, "-I"])
                .arg(from.to_string())
                .arg(webcam.external(home).to_string());
            let code = say(ping).await?.code;
            ensure!((code == Some(0)) == answered, "ping from {from}: {code:?}");
        }
        Ok(())
    })
    .await
}

/// Gives the remote host another address on its link.
async fn appear_twice(home: &Home) -> Result<()> {
    home.net
        .remote
        .add_address(ETH, &format!("{OTHER}/64"))
        .await
}

/// Asks for a port by PCP, with filters such as `2001:db8::/32/0`: prefix, length and port.
async fn map(server: &Server, protocol: u8, port: u16, filters: &[String]) -> Result<()> {
    let python = python(&server.node, MAP)?
        .args([server.addr.to_string(), protocol.to_string()])
        .arg(port.to_string())
        .args(filters);
    say(python).await?.ok().context("PCP MAP").map(drop)
}

async fn connects(home: &Home, server: &Server, from: Ipv6Addr, seconds: &str) -> Result<bool> {
    let url = format!("http://[{}]:{WEB}/", server.external(home));
    let curl = program(&home.net.remote, "curl")?
        .args(["-6gsSf", "--noproxy", "*", "--max-time", seconds])
        .args(["--interface".to_owned(), from.to_string(), url]);
    let said = say(curl).await?;
    // 28: it took too long
    ensure!(matches!(said.code, Some(0 | 28)), "curl: {said}");
    ensure!(said.code != Some(0) || said.out == "page", "curl: {said}");
    Ok(said.code == Some(0))
}

/// Echoes datagrams.
async fn echo(server: &Server) -> Result<Serving> {
    let code = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                s.bind(('0.0.0.0', int(sys.argv[1])))\nprint('ready', flush=True)\n\
                while True: s.sendto(*s.recvfrom(65535))";
    Serving::start(python(&server.node, code)?.arg(ECHO.to_string())).await
}

/// What the server echoes to this address and port of the remote host.
async fn ask(
    home: &Home,
    server: &Server,
    from: Ipv6Addr,
    port: u16,
    answered: bool,
) -> Result<String> {
    let python = python(&home.net.remote, ASK)?
        .args([from.to_string(), port.to_string()])
        .args([server.external(home).to_string(), ECHO.to_string()])
        .arg(if answered { "120" } else { "4" });
    say(python).await?.ok()
}

fn only(addr: Ipv6Addr) -> String {
    format!("{addr}/128/0")
}

const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 3);

/// RFC 6887 §13.3: a prefix length of zero takes all filters away.
const EVERYBODY: &str = "::/0/0";

const TCP: u8 = 6;

const UDP: u8 = 17;

const WEB: u16 = 8080;

const MAP: &str = r"
pton = lambda addr: socket.inet_pton(socket.AF_INET6, addr)
me, protocol, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ask = struct.pack('!BBHI16s', 2, 1, 0, 3600, pton('::ffff:' + me))
ask += struct.pack('!12sB3xHH16s', b'nonce of me.', protocol, port, port, pton('::'))
for filter in sys.argv[4:]:
    prefix, length, remote_port = filter.split('/')
    ask += struct.pack('!BBHBBH16s', 3, 0, 20, 0, int(length), int(remote_port), pton(prefix))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.connect(('192.168.64.1', 5351))
for turn in range(60):
    s.send(ask)
    try:
        answer = s.recv(1100)
    except TimeoutError:
        continue
    assert answer[1] == 0x81 and answer[3] == 0, answer
    break
else:
    raise SystemExit('no answer')
";

/// A datagram may be lost; who hears nothing says nothing.
const ASK: &str = r"
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
s.connect((sys.argv[3], int(sys.argv[4])))
s.settimeout(0.5)
for turn in range(int(sys.argv[5])):
    s.send(b'hello')
    try:
        print(s.recv(100).decode(), end='')
        break
    except TimeoutError:
        pass
";
