//! Much, both ways, with and without offloads: every byte arrives.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use lab::{Home, Node, addressing};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::program::{program, say};
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn everything_arrives_with_offloads() -> Result<()> {
    play(home(["disk"]), async |home| transfer(home, 200 << 20).await).await
}

#[tokio::test]
async fn everything_arrives_without_offloads() -> Result<()> {
    play(home(["disk"]), async |home| {
        for (node, ifname) in [
            (&home.net.remote, addressing::ETH),
            (&home.net.provider, "net0"),
            (&home.net.provider, "home0"),
            (&home.net.gateway, addressing::WAN),
            (&home.net.gateway, addressing::LAN),
            (&home.resident("disk")?.node, addressing::ETH),
        ] {
            let switch = ["gro", "off", "gso", "off", "tso", "off", "tx", "off"];
            let ethtool = program(node, "ethtool")?.args(["-K", ifname]).args(switch);
            say(ethtool)
                .await?
                .ok()
                .with_context(|| format!("{} {ifname}", node.name()))?;
        }
        transfer(home, 50 << 20).await
    })
    .await
}

async fn transfer(home: &Home, bytes: usize) -> Result<()> {
    let disk = Server::join(home, "disk").await?;
    let files = Files::serve(home, &disk, bytes).await?;
    files.there_and_back(&home.net.remote).await
}

/// A server of many random bytes, which are on no disk, that takes files too.
pub struct Files {
    url: String,
    data: PathBuf,
    sum: String,
    _python: Child,
}

impl Files {
    /// Serves so many bytes.
    ///
    /// # Errors
    /// When the server does not start, or its port is not opened.
    pub async fn serve(home: &Home, disk: &Server, bytes: usize) -> Result<Self> {
        let mut python = program(&disk.node, "python3")?
            .args(["-c", SERVER, &bytes.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .await?;
        let mut said = BufReader::new(python.stdout.take().context("no output")?).lines();
        let sum = said.next_line().await?.context("the server ended")?;
        disk.open("tcp", 8080).await?;
        Ok(Self {
            url: format!("http://[{}]:8080/", disk.external(home)),
            data: home.folder().join("data"),
            sum,
            _python: python,
        })
    }

    /// Downloads and uploads a file at `remote`, and compares the sums.
    ///
    /// # Errors
    /// When they differ, or curl fails.
    pub async fn there_and_back(&self, remote: &Node) -> Result<()> {
        program(remote, "curl")?;
        let sum = &self.sum;
        let down = "curl -6gsSf --noproxy '*' -o \"$1\" \"$0\" && sha256sum < \"$1\"";
        let down = self.sh(remote, down).await?;
        ensure!(down == *sum, "sent {sum}, received {down}");
        let up = "curl -6gsSf --noproxy '*' -H Expect: -T \"$1\" \"$0\"";
        let up = self.sh(remote, up).await?;
        ensure!(up == *sum, "sent {sum}, the disk received {up}");
        Ok(())
    }

    /// Downloads all at `remote` without keeping it, and compares the sums.
    ///
    /// # Errors
    /// When they differ, or curl fails.
    pub async fn there(&self, remote: &Node) -> Result<()> {
        program(remote, "curl")?;
        let sum = &self.sum;
        let down = "curl -6gsSf --noproxy '*' \"$0\" | sha256sum";
        let down = self.sh(remote, down).await?;
        ensure!(down == *sum, "sent {sum}, received {down}");
        Ok(())
    }

    /// Runs a line of shell, and returns the first word that it says.
    async fn sh(&self, node: &Node, line: &str) -> Result<String> {
        let sh = program(node, "sh")?
            .args(["-c", line, &self.url])
            .arg(&self.data);
        let said = say(sh).await?.ok().with_context(|| line.to_owned())?;
        let word = said.split_whitespace().next();
        Ok(word.unwrap_or_default().to_owned())
    }
}

/// Serves random bytes and says their sum, and tells the sum of what is put.
const SERVER: &str = r#"
import hashlib, http.server, os, sys
size, block = int(sys.argv[1]), os.urandom(1 << 20)
def blocks():
    for turn in range(size >> 20): # no two are the same
        yield block[turn:] + block[:turn]
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def head(self, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
    def do_GET(self):
        self.head(size)
        for some in blocks(): self.wfile.write(some)
    def do_PUT(self):
        sum, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left:
            some = self.rfile.read(min(left, 1 << 18))
            if not some: return
            sum.update(some)
            left -= len(some)
        self.head(64)
        self.wfile.write(sum.hexdigest().encode())
server, sum = http.server.HTTPServer(("0.0.0.0", 8080), Handler), hashlib.sha256()
for some in blocks(): sum.update(some)
print(sum.hexdigest(), flush=True)
server.serve_forever()
"#;
