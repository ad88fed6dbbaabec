//! Sessions as people meet them: listed, chosen, watched, ended, looked up.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use lab::Home;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{Duration, timeout};

use crate::program::{Said, portico, program, say};
use crate::server::Server;
use crate::stage::{home, play};

#[tokio::test]
async fn live_connection_is_found_and_ended_and_the_remote_notices() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _echo = echo(&webcam).await?;
        webcam.open("tcp", PORT).await?;
        let mut stream = connect(home, &webcam).await?;
        speak(&mut stream).await?;
        let mut watch = watch(home).await?;

        let all = sessions(home, &[]).await?;
        let [session] = &all[..] else {
            anyhow::bail!("one connection is there, and listed are {all:?}");
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let id = text(&session["id"]);
        let pool = format!(
            "{}:{}",
            text(&session["pool"]["address"]),
            session["pool"]["port"]
        );
        for (filter, fits) in [
            (["--server", "webcam"], true),
            (["--server", "192.168.64.99"], false),
            (["--remote", "2001:db8:77::/64"], true),
            (["--remote", "2001:db8:78::/64"], false),
            (["--protocol", "tcp"], true),
            (["--protocol", "udp"], false),
            (["--state", "established"], true),
            (["--state", "trans"], false),
            (["--external", "8007"], true),
            (["--external", "8008"], false),
            (["--pool", pool.as_str()], true),
        ] {
            let found = sessions(home, &filter).await?;
            ensure!(found.len() == usize::from(fits), "{filter:?}: {found:?}");
        }
        let who = cli(home, &["session", "who", &pool]).await?.ok()?;
        ensure!(who.contains("[2001:db8:77::2]:"), "{who}");
        ensure!(next(&mut watch).await? == ("live".to_owned(), id.clone()));

        cli(home, &["session", "end", &id]).await?.ok()?;

        ensure!(next(&mut watch).await? == ("ended".to_owned(), id.clone()));
        cli(home, &["session", "end", &id]).await?.ended(1)?;
        cli(home, &["session", "who", &pool])
            .await?
            .ended(1)?
            .says("nobody is behind")?;
        let noticed = speak(&mut stream).await;
        let error = noticed.err().context("the connection goes on")?;
        ensure!(format!("{error:#}").contains("reset by peer"), "{error:#}");
        speak(&mut connect(home, &webcam).await?)
            .await
            .context("the port stays open")
    })
    .await
}

#[tokio::test]
async fn sessions_end_by_what_they_have_in_common() -> Result<()> {
    play(home(["webcam", "nas"]), async |home| {
        let mut streams = Vec::new();
        let mut echoes = Vec::new();
        for name in ["webcam", "nas"] {
            let server = Server::join(home, name).await?;
            echoes.push(echo(&server).await?);
            server.open("tcp", PORT).await?;
            let mut stream = connect(home, &server).await?;
            speak(&mut stream).await?;
            streams.push(stream);
        }

        cli(home, &["session", "end"]).await?.ended(2)?;
        cli(home, &["session", "end", "--all", "--server", "nas"])
            .await?
            .ended(2)?;
        cli(home, &["session", "end", "3", "--server", "nas"])
            .await?
            .ended(2)?;
        cli(home, &["session", "end", "--server", "nobody"])
            .await?
            .ended(1)?;
        ensure!(sessions(home, &[]).await?.len() == 2, "none was to end");
        let said = cli(home, &["session", "end", "--server", "nas"]).await?;
        ensure!(said.ok()?.contains("1 session has ended"));

        speak(&mut streams[0])
            .await
            .context("the other device goes on")?;
        let said = cli(home, &["session", "end", "--all"]).await?;
        ensure!(said.ok()?.contains("1 session has ended"));
        ensure!(sessions(home, &[]).await?.is_empty());
        let audit: Value = home.api().get("/api/v1/audit").await?;
        let audit = audit.to_string();
        ensure!(
            audit.contains("session.ended") && audit.contains("server=nas"),
            "{audit}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn session_log_remembers_who_was_there() -> Result<()> {
    play(home(["webcam"]), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _echo = echo(&webcam).await?;
        webcam.open("tcp", PORT).await?;
        let mut stream = connect(home, &webcam).await?;
        speak(&mut stream).await?;
        let session = sessions(home, &[]).await?.pop().context("no session")?;
        let addr = session["pool"]["address"].as_str().context("no address")?;
        let pool = format!("{addr}:{}", session["pool"]["port"]);
        cli(home, &["session", "end", "--all"]).await?.ok()?;
        let api = format!("/api/v1/sessions/log?pool={pool}");
        let log: Value = home.api().get(&api).await?;
        let entry = log["items"].get(0).context("nothing is logged")?;
        ensure!(
            entry["why"] == "requested" && entry["remote"] == session["remote"],
            "{log}"
        );
        let then = format!("@{}", entry["began"]);

        let said = was(home, &pool, &then).await?.ok()?;
        ensure!(
            said.contains("[2001:db8:77::2]:") && said.contains("requested"),
            "{said}"
        );
        let nobody = was(home, &format!("{addr}:1"), &then).await?;
        nobody.ended(1)?.says("nobody was behind")?;
        let began = entry["began"].as_u64().context("it began")?;
        was(home, &pool, &format!("@{}", began + 60))
            .await?
            .ended(1)?
            .says("nearest, tcp [2001:db8:77::2]:")?;
        was(home, &pool, "1d")
            .await?
            .ended(1)?
            .says("goes back to")?;
        was(home, &pool, "yesterday").await?.ended(2)?;

        home.daemon.kill().await?;
        home.daemon.start().await?;
        let said = was(home, &pool, &then).await?.ok()?;
        ensure!(
            said.contains("requested"),
            "the log survives a crash: {said}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn session_log_goes_to_a_collector_that_comes_late() -> Result<()> {
    let config = "[nat64.session_log]\nsyslog = \"127.0.0.1:5514\"\n";
    play(home(["webcam"]).config(config), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _echo = echo(&webcam).await?;
        webcam.open("tcp", PORT).await?;
        let mut stream = connect(home, &webcam).await?;
        speak(&mut stream).await?;
        let session = sessions(home, &[]).await?.pop().context("no session")?;
        let addr = session["pool"]["address"].as_str().context("no address")?;
        let pool = format!("pool={addr}:{} ", session["pool"]["port"]);

        let collector = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                         s.bind(('127.0.0.1', 5514))\nprint('ready', flush=True)\n\
                         while True: print(s.recv(4096).decode(), flush=True)";
        let mut collector = program(&home.net.gateway, "python3")?
            .args(["-c", collector])
            .stdout(Stdio::piped())
            .spawn()
            .await?;
        let mut lines = BufReader::new(collector.stdout.take().context("no output")?).lines();
        let mut next = async || {
            let line = timeout(Duration::from_secs(60), lines.next_line()).await;
            line.context("nothing comes")??.context("it ended")
        };
        ensure!(next().await? == "ready");
        cli(home, &["session", "end", "--all"]).await?.ok()?;

        let ended = loop {
            let line = next().await?;
            if line.contains(" SDEL ") {
                break line;
            }
        };
        for word in [&pool, " portico ", "proto=TCP", "remote=[2001:db8:77::2]:"] {
            ensure!(ended.contains(word), "no {word:?} in {ended}");
        }
        Ok(())
    })
    .await
}

async fn was(home: &Home, pool: &str, at: &str) -> Result<Said> {
    cli(home, &["session", "who", pool, "--at", at]).await
}

#[tokio::test]
async fn pool_of_several_networks_is_used_and_shown() -> Result<()> {
    let pool = "[nat64]\npool = [\"10.64.0.0/30\", \"192.168.64.240/29\"]\n";
    play(home(["webcam"]).config(pool), async |home| {
        let webcam = Server::join(home, "webcam").await?;
        let _echo = echo(&webcam).await?;
        webcam.open("tcp", PORT).await?;
        speak(&mut connect(home, &webcam).await?).await?;

        let status = cli(home, &["status"]).await?.ok()?;
        ensure!(
            status.contains("pool 10.64.0.0/30, 192.168.64.240/29"),
            "{status}"
        );
        let sessions = sessions(home, &[]).await?;
        let pool = sessions
            .first()
            .map(|session| session["pool"]["address"].to_string());
        let pool = pool.unwrap_or_default();
        ensure!(
            pool.contains("10.64.0.") || pool.contains("192.168.64.24"),
            "{sessions:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn output_that_cannot_be_written_is_a_failure() -> Result<()> {
    play(home(["webcam"]), async |home| {
        for verb in [
            &["status"][..],
            &["status", "--json"],
            &["host", "list"],
            &["map", "list"],
            &["session", "list"],
            &["prefix", "list"],
            &["config", "--template"],
            &["--help"],
            &["--version"],
        ] {
            let full = std::fs::File::options().write(true).open("/dev/full")?;
            let portico = portico(&home.net.gateway, &home.daemon.socket());
            let mut portico = portico
                .args(verb)
                .stdout(full)
                .stderr(Stdio::null())
                .spawn()
                .await?;
            let ended = portico.wait().await?;
            ensure!(ended.code() == Some(1), "{verb:?} > /dev/full: {ended}");
        }
        let portico = env!("CARGO_BIN_EXE_portico");
        let pipe = format!("{{ {portico} config --template; echo $? >&2; }} | true");
        let said = say(program(&home.net.gateway, "sh")?.args(["-c", &pipe])).await?;
        ensure!(
            said.err.trim() == "0",
            "a reader that has gone is no failure: {said}"
        );
        Ok(())
    })
    .await
}

/// Echoes what it hears, by python3.
async fn echo(server: &Server) -> Result<Child> {
    let code = format!(
        "import socketserver\n\
         class Echo(socketserver.BaseRequestHandler):\n  def handle(self):\n    \
         while heard := self.request.recv(65536): self.request.sendall(heard)\n\
         socketserver.ThreadingTCPServer(('0.0.0.0', {PORT}), Echo).serve_forever()"
    );
    let python = program(&server.node, "python3")?.args(["-c", &code]);
    let python = python.stderr(Stdio::null()).spawn().await?;
    server.wait_listening(PORT).await?;
    Ok(python)
}

async fn connect(home: &Home, server: &Server) -> Result<TcpStream> {
    let to = (server.external(home), PORT);
    let connect = async move || Ok(TcpStream::connect(to).await?.into_std()?);
    Ok(TcpStream::from_std(home.net.remote.run(connect).await?)?)
}

/// Says something and waits for the echo.
async fn speak(stream: &mut TcpStream) -> Result<()> {
    let exchange = async {
        stream.write_all(b"hello").await?;
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await?;
        ensure!(&heard == b"hello", "{heard:?}");
        Ok(())
    };
    timeout(Duration::from_secs(60), exchange)
        .await
        .context("no echo")?
}

type Lines = (
    Child,
    tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
);

async fn watch(home: &Home) -> Result<Lines> {
    let portico = portico(&home.net.gateway, &home.daemon.socket());
    let portico = portico
        .args(["session", "watch", "--json"])
        .stdout(Stdio::piped());
    let mut portico = portico.spawn().await?;
    let lines = BufReader::new(portico.stdout.take().context("no output")?).lines();
    Ok((portico, lines))
}

/// What happened to which session.
async fn next((_, lines): &mut Lines) -> Result<(String, String)> {
    let line = timeout(Duration::from_secs(60), lines.next_line()).await;
    let line = line.context("nothing is seen")??.context("it ended")?;
    let event: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
    let text = |pointer| {
        let value = event.pointer(pointer).and_then(Value::as_str);
        value.map(str::to_owned).context(line.clone())
    };
    Ok((text("/event")?, text("/session/id")?))
}

async fn sessions(home: &Home, filter: &[&str]) -> Result<Vec<Value>> {
    let said = cli(home, &[&["session", "list", "--json"], filter].concat())
        .await?
        .ok()?;
    serde_json::from_str(&said).with_context(|| said.clone())
}

async fn cli(home: &Home, args: &[&str]) -> Result<Said> {
    say(portico(&home.net.gateway, &home.daemon.socket()).args(args)).await
}

const PORT: u16 = 8007;
