//! Connections outlive the daemon.

use std::io::ErrorKind;
use std::net::Ipv6Addr;
use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow, ensure};
use lab::Home;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep, timeout};

use crate::dhcp::items;
use crate::program::{program, say};
use crate::server::Server;
use crate::stage::{home, play, until};

#[tokio::test]
async fn connection_goes_on_over_sigterm_and_start() -> Result<()> {
    play(home(["nas"]), async |home| {
        let nas = Server::join(home, "nas").await?;
        let _echo = serve(&nas, PORT, ECHO).await?;
        nas.open("tcp", PORT).await?;
        let mut flow = Flow::start(home, &nas, PORT).await?;
        flow.goes_on().await?;
        for _ in 0..2 {
            let took = home.daemon.stop().await?;
            ensure!(took < Duration::from_secs(5), "it takes {took:?} to end");

            home.daemon.start().await?;

            flow.goes_on().await?;
        }
        let restored = counter(home, "restored").await?;
        ensure!(restored == 1, "{restored} were restored");
        flow.end()
    })
    .await
}

#[tokio::test]
async fn connection_of_some_seconds_goes_on_over_sigkill_and_start() -> Result<()> {
    play(home(["nas"]), async |home| {
        let nas = Server::join(home, "nas").await?;
        let _echo = serve(&nas, PORT, ECHO).await?;
        nas.open("tcp", PORT).await?;
        // the first file comes with the start, and holds no session
        let none = until(async || saved(home)).await?;
        let mut flow = Flow::start(home, &nas, PORT).await?;
        flow.goes_on().await?;
        for _ in 0..2 {
            until(async || {
                let saved = saved(home)?;
                ensure!(saved > none, "{saved} bytes are saved");
                Ok(())
            })
            .await?;
            home.daemon.kill().await?;
            home.daemon.start().await?;
            flow.goes_on().await?;
        }
        flow.end()
    })
    .await
}

#[tokio::test]
async fn both_ends_notice_at_once_when_the_sessions_are_lost() -> Result<()> {
    play(home(["nas"]), async |home| {
        let nas = Server::join(home, "nas").await?;
        let _echo = serve(&nas, PORT, ECHO).await?;
        let speaker = serve(&nas, PORT + 1, SPEAKER).await?;
        for port in [PORT, PORT + 1] {
            nas.open("tcp", port).await?;
        }
        let mut flow = Flow::start(home, &nas, PORT).await?;
        flow.goes_on().await?;
        let mut silent = connect(home, nas.external(home), PORT + 1).await?;
        silent.read_exact(&mut [0; 4]).await?;
        home.daemon.kill().await?;
        std::fs::remove_file(home.folder().join("state/sessions"))?;

        home.daemon.start().await?;

        let error = timeout(PATIENCE, flow.task)
            .await
            .context("the remote waits")??
            .err()
            .context("the connection goes on")?;
        ensure!(
            error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == ErrorKind::ConnectionReset),
            "{error:#}"
        );
        let ended = timeout(PATIENCE, speaker.wait_with_output())
            .await
            .context("the server waits")??;
        let said = String::from_utf8_lossy(&ended.stdout);
        ensure!(said.contains("ConnectionResetError"), "{said}");
        Ok(())
    })
    .await
}

/// How long the file of sessions is: a place for each.
fn saved(home: &Home) -> Result<u64> {
    Ok(home.folder().join("state/sessions").metadata()?.len())
}

/// A remote that says one thing after the other, and a server that says them back.
struct Flow {
    heard: watch::Receiver<u64>,
    task: JoinHandle<Result<()>>,
}

impl Flow {
    async fn start(home: &Home, server: &Server, port: u16) -> Result<Self> {
        let stream = connect(home, server.external(home), port).await?;
        let (hear, heard) = watch::channel(0);
        let task = tokio::spawn(async move {
            let (mut reader, mut writer) = stream.into_split();
            let say = async {
                for number in 1_u64.. {
                    writer.write_all(&number.to_be_bytes()).await?;
                    sleep(Duration::from_millis(5)).await;
                }
                Ok(())
            };
            let listen = async {
                for number in 1_u64.. {
                    let said = reader.read_u64().await?;
                    ensure!(said == number, "{said} is heard instead of {number}");
                    hear.send_replace(number);
                }
                Ok(())
            };
            tokio::try_join!(say, listen).map(drop)
        });
        Ok(Self { heard, task })
    }

    /// Waits until more is heard than was on the way.
    async fn goes_on(&mut self) -> Result<()> {
        let wanted = *self.heard.borrow() + 500;
        let goes_on = self.heard.wait_for(|heard| *heard >= wanted);
        if let Ok(Ok(_)) = timeout(PATIENCE, goes_on).await {
            return Ok(());
        }
        let heard = *self.heard.borrow();
        let why = if self.task.is_finished() {
            (&mut self.task).await?.err()
        } else {
            None
        };
        let why = why.unwrap_or_else(|| anyhow!("the connection waits"));
        Err(why.context(format!("{heard} of {wanted} were heard")))
    }

    fn end(self) -> Result<()> {
        ensure!(!self.task.is_finished(), "the connection ended by itself");
        self.task.abort();
        Ok(())
    }
}

async fn connect(home: &Home, to: Ipv6Addr, port: u16) -> Result<TcpStream> {
    let connect = async move || Ok(TcpStream::connect((to, port)).await?.into_std()?);
    Ok(TcpStream::from_std(home.net.remote.run(connect).await?)?)
}

/// Runs a server that is written in Python.
async fn serve(server: &Server, port: u16, code: &str) -> Result<Child> {
    let python = program(&server.node, "python3")?.args(["-c", code, &port.to_string()]);
    let python = python.stdout(Stdio::piped()).spawn().await?;
    until(async || {
        let listeners = program(&server.node, "ss")?.args(["-Hltn", &format!("sport = :{port}")]);
        let said = say(listeners).await?.ok()?;
        ensure!(!said.trim().is_empty(), "nobody listens at {port}");
        Ok(())
    })
    .await?;
    Ok(python)
}

async fn counter(home: &Home, reason: &str) -> Result<u64> {
    let counters = items(home, "counters").await?;
    let counter = counters.iter().find(|counter| {
        counter["room"] == "translator"
            && counter["name"] == "sessions_restored_total"
            && counter["reason"] == reason
    });
    let value = counter.and_then(|counter| counter["value"].as_u64());
    value.with_context(|| format!("{counters:?}"))
}

/// Says back what it hears.
const ECHO: &str = "\
import socket, sys
listener = socket.create_server(('0.0.0.0', int(sys.argv[1])))
while True:
    peer, _ = listener.accept()
    while heard := peer.recv(65536): peer.sendall(heard)
";

/// Speaks all the time to whom it first hears of, and says why it ends.
const SPEAKER: &str = "\
import socket, sys, time
peer, _ = socket.create_server(('0.0.0.0', int(sys.argv[1]))).accept()
try:
    while True:
        peer.sendall(b'tick')
        time.sleep(0.02)
except OSError as error:
    print(type(error).__name__)
";

const PORT: u16 = 8010;

/// Longer than a retransmission takes that comes after some seconds of silence.
const PATIENCE: Duration = Duration::from_secs(60);
