//! Much, both ways, with and without offloads: every byte arrives.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use lab::{Home, addressing};

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

/// Downloads and uploads a file of `bytes` random bytes, and compares the sums.
async fn transfer(home: &Home, bytes: usize) -> Result<()> {
    let disk = Server::join(home, "disk").await?;
    let data = home.folder().join("data");
    let python = program(&disk.node, "python3")?
        .args(["-c", SERVER])
        .arg(&data)
        .arg(bytes.to_string());
    let _python = python.spawn().await?;
    disk.wait_listening(8080).await?;
    disk.open("tcp", 8080).await?;
    let url = format!("http://[{}]:8080/", disk.external(home));
    let sum = sh(home, "sha256sum < \"$1\"", &url, &data).await?;

    let down = sh(
        home,
        "curl -6gsSf --noproxy '*' \"$0\" | sha256sum",
        &url,
        &data,
    )
    .await?;
    ensure!(down == sum, "sent {sum}, received {down}");
    let up = "curl -6gsSf --noproxy '*' -H Expect: -T \"$1\" \"$0\"";
    let up = sh(home, up, &url, &data).await?;
    ensure!(up == sum, "sent {sum}, the disk received {up}");
    Ok(())
}

/// Runs a line of shell at the remote host, and returns the first word that it says.
async fn sh(home: &Home, line: &str, url: &str, data: &Path) -> Result<String> {
    program(&home.net.remote, "curl")?;
    let sh = program(&home.net.remote, "sh")?
        .args(["-c", line, url])
        .arg(data);
    let said = say(sh).await?.ok().with_context(|| line.to_owned())?;
    Ok(said
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// Serves a file of random bytes, and tells the sum of what is put.
const SERVER: &str = r#"
import hashlib, http.server, os, shutil, sys
path, size = sys.argv[1], int(sys.argv[2])
with open(path, "wb") as f:
    for _ in range(size >> 20):
        f.write(os.urandom(1 << 20))
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def head(self, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
    def do_GET(self):
        self.head(size)
        with open(path, "rb") as f:
            shutil.copyfileobj(f, self.wfile, 1 << 18)
    def do_PUT(self):
        sum, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left:
            some = self.rfile.read(min(left, 1 << 18))
            if not some: return
            sum.update(some)
            left -= len(some)
        self.head(64)
        self.wfile.write(sum.hexdigest().encode())
http.server.HTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"#;
