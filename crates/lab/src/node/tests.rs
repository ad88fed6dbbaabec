use std::net::SocketAddr;

use mapping::Mac;
use net::packet::{Hears, PacketSocket};
use net::udp::{Options, Socket};

use super::*;
use crate::{Switch, cable};

#[tokio::test]
async fn same_names_and_addresses_live_side_by_side_one() {
    ask_over_a_cable().await.unwrap();
}

#[tokio::test]
async fn same_names_and_addresses_live_side_by_side_two() {
    ask_over_a_cable().await.unwrap();
}

#[tokio::test]
async fn same_names_and_addresses_live_side_by_side_three() {
    ask_over_a_cable().await.unwrap();
}

#[tokio::test]
async fn same_names_and_addresses_live_side_by_side_in_one_process() {
    let all = tokio::join!(ask_over_a_cable(), ask_over_a_cable(), ask_over_a_cable());

    for result in [all.0, all.1, all.2] {
        result.unwrap();
    }
}

#[tokio::test]
async fn packets_cross_a_router_and_a_switch() {
    let (camera, gateway, provider) = (node("camera"), node("gateway"), node("provider"));
    let lan = Switch::new("switch").await.unwrap();
    let mac = Mac([2, 0, 0, 0, 0, 9]);
    lan.plug(gateway.end("lan0")).await.unwrap();
    lan.plug(camera.end("eth0").mac(mac)).await.unwrap();
    cable(gateway.end("wan0").gro(), provider.end("home0"))
        .await
        .unwrap();
    gateway.forward().await.unwrap();
    gateway.add_address("lan0", "192.0.2.1/24").await.unwrap();
    gateway
        .add_address("lan0", "2001:db8:1::1/64")
        .await
        .unwrap();
    gateway
        .add_address("wan0", "198.51.100.2/24")
        .await
        .unwrap();
    gateway
        .add_address("wan0", "2001:db8:2::2/64")
        .await
        .unwrap();
    camera.add_address("eth0", "192.0.2.9/24").await.unwrap();
    camera
        .add_address("eth0", "2001:db8:1::9/64")
        .await
        .unwrap();
    camera
        .add_route("0.0.0.0/0", "192.0.2.1", None)
        .await
        .unwrap();
    camera
        .add_route("::/0", "2001:db8:1::1", None)
        .await
        .unwrap();
    provider
        .add_address("home0", "198.51.100.1/24")
        .await
        .unwrap();
    provider
        .add_address("home0", "2001:db8:2::1/64")
        .await
        .unwrap();
    provider
        .add_route("192.0.2.0/24", "198.51.100.2", None)
        .await
        .unwrap();
    provider
        .add_route("2001:db8:1::/64", "2001:db8:2::2", Some("home0"))
        .await
        .unwrap();

    let echo = echo(&provider, "0.0.0.0:7").await;
    let echo6 = self::echo(&provider, "[::]:7").await;

    assert_eq!(ask(&camera, "198.51.100.1:7").await.unwrap(), "192.0.2.9");
    assert_eq!(
        ask(&camera, "[2001:db8:2::1]:7").await.unwrap(),
        "2001:db8:1::9"
    );
    let seen = camera
        .run(async || Ok(PacketSocket::open("eth0", Hears::Nothing)?.mac()))
        .await;
    assert_eq!(seen.unwrap(), mac);
    echo.stop().await;
    echo6.stop().await;
    provider.check().unwrap();
    lan.unplug(&camera, "eth0").await.unwrap();
    assert_eq!(camera.netlink().link("eth0").await.unwrap(), None);
}

#[tokio::test]
async fn a_stopped_task_has_freed_its_port() {
    let node = node("server");
    for _ in 0..3 {
        let task = echo(&node, "127.0.0.1:7").await;
        assert_eq!(ask(&node, "127.0.0.1:7").await.unwrap(), "127.0.0.1");
        task.stop().await;
    }
}

#[tokio::test]
async fn errors_and_panics_name_the_node_and_leave_it_alive() {
    let node = node("camera");

    let error = node
        .run(async || -> Result<()> { Err(anyhow!("no picture")) })
        .await
        .unwrap_err();
    assert_eq!(format!("{error:#}"), "node camera: no picture");
    let panic = node
        .run(async || -> Result<()> { panic!("broken") })
        .await
        .unwrap_err();
    assert!(
        format!("{panic:#}").starts_with("node camera: "),
        "{panic:#}"
    );
    let error = node.add_address("eth7", "192.0.2.1/24").await.unwrap_err();
    assert!(
        format!("{error:#}").contains("node camera: eth7 192.0.2.1/24: "),
        "{error:#}"
    );
    let error = node.add_address("eth7", "192.0.2.1").await.unwrap_err();
    assert!(
        format!("{error:#}").contains("\"192.0.2.1\" is no address"),
        "{error:#}"
    );

    assert_eq!(node.run(async || Ok(7)).await.unwrap(), 7);
    node.check().unwrap();
    drop(node.spawn("web server", async || Err(anyhow!("no page"))));
    let error = node.failed().await;
    assert_eq!(error.to_string(), "node camera: web server: no page");
    node.check().unwrap_err();
}

#[test]
fn a_caller_without_a_runtime_can_use_a_node() {
    let node = node("camera");

    assert_eq!(node.run_blocking(async || Ok(7)).unwrap(), 7);
    node.stop();
    let error = node.run_blocking(async || Ok(7)).unwrap_err();
    assert_eq!(format!("{error:#}"), "node camera: the node has stopped");
}

#[tokio::test]
async fn a_cancelled_wait_cancels_the_job() {
    let node = node("camera");
    let (alive, mut gone) = oneshot::channel::<()>();
    let wait = node.run(async move || {
        let _alive = alive;
        std::future::pending::<Result<()>>().await
    });

    tokio::time::timeout(Duration::from_millis(20), wait)
        .await
        .unwrap_err();

    tokio::time::timeout(PATIENCE, &mut gone)
        .await
        .unwrap()
        .unwrap_err();
}

#[tokio::test]
async fn a_program_sees_the_namespace_of_its_node() {
    let (here, there) = (node("here"), node("there"));
    cable(here.end("v0"), there.end("v1")).await.unwrap();

    let links = here
        .command("cat")
        .arg("/proc/self/net/dev")
        .text()
        .await
        .unwrap();

    assert!(links.contains("v0:") && !links.contains("v1:"), "{links}");
    let error = here
        .command("cat")
        .arg("/no/such/file")
        .text()
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("node here: cat: exit status: 1: "),
        "{error}"
    );
    let error = here.command("/no/such/program").spawn().await.unwrap_err();
    assert!(format!("{error:#}").starts_with("node here: cannot run /no/such/program"));
}

#[tokio::test]
async fn a_program_dies_with_its_node() {
    use std::os::unix::process::ExitStatusExt;

    let node = node("gateway");
    let mut child = node.command("sleep").arg("60").spawn().await.unwrap();
    assert!(child.try_wait().unwrap().is_none());

    node.stop();

    // The runtime that would wait for the child is gone with the node.
    let ended = async {
        loop {
            match child.try_wait().unwrap() {
                Some(status) => return status,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(status.signal(), Some(9));
}

#[tokio::test]
async fn a_listener_of_ours_serves_inside_a_node() {
    let (caller, node) = (node("caller"), node("gateway"));
    let listener = caller
        .run(async || Ok(std::net::TcpListener::bind("127.0.0.1:0")?))
        .await
        .unwrap();
    let addr = listener.local_addr().unwrap();
    let program = std::env::current_exe().unwrap();
    let program = node
        .command(program)
        .args(["--exact", "node::tests::child", "--ignored"]);
    let program = program.listeners(vec![listener.into()]).unwrap();
    let mut child = program
        .stdout(std::process::Stdio::null())
        .spawn()
        .await
        .unwrap();

    let said = caller
        .run(async move || {
            let mut said = String::new();
            let mut stream = tokio::net::TcpStream::connect(addr).await?;
            tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut said).await?;
            Ok(said)
        })
        .await
        .unwrap();

    assert_eq!(said, "hello from the gateway");
    assert!(child.wait().await.unwrap().success());
}

#[test]
#[ignore = "the child of a_listener_of_ours_serves_inside_a_node"]
fn child() {
    use std::io::Write;

    let listeners = net::listen::inherited().unwrap();
    let [net::listen::Listener::Tcp(listener)] = listeners.as_slice() else {
        panic!("expected one TCP listener, got {listeners:?}");
    };
    listener.set_nonblocking(false).unwrap();
    listener
        .accept()
        .unwrap()
        .0
        .write_all(b"hello from the gateway")
        .unwrap();
}

#[tokio::test]
async fn a_namespace_vanishes_with_its_node() {
    let (here, there) = (node("here"), node("there"));
    cable(here.end("v0"), there.end("v0")).await.unwrap();
    let mut watch = here
        .run(async || Ok(net::netlink::Watch::open()?))
        .await
        .unwrap();

    drop(there);

    // With the last holder of the namespace its end of the cable goes, and so does ours.
    let gone = async {
        while here.netlink().link("v0").await.unwrap().is_some() {
            watch.next().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

async fn ask_over_a_cable() -> Result<()> {
    let (client, server) = (Node::new("client")?, Node::new("server")?);
    cable(client.end("v0"), server.end("v0")).await?;
    for (addr, other) in [
        ("192.0.2.1/24", "192.0.2.2/24"),
        ("2001:db8::1/64", "2001:db8::2/64"),
    ] {
        client.add_address("v0", addr).await?;
        server.add_address("v0", other).await?;
    }
    let _v4 = echo(&server, "0.0.0.0:7").await;
    let _v6 = echo(&server, "[::]:7").await;
    assert_eq!(ask(&client, "192.0.2.2:7").await?, "192.0.2.1");
    assert_eq!(ask(&client, "[2001:db8::2]:7").await?, "2001:db8::1");
    server.check()
}

/// A server that answers with the address that it saw; it listens when this returns.
async fn echo(node: &Node, addr: &str) -> Task {
    let addr: SocketAddr = addr.parse().unwrap();
    let (ready, listening) = oneshot::channel();
    let task = node.spawn("echo", async move || {
        let socket = Socket::bind(addr, &Options::new())?;
        ready.send(()).unwrap();
        let mut buf = [0; 100];
        loop {
            let asked = socket.recv(&mut buf).await?;
            let answer = asked.source.ip().to_string();
            socket
                .send_to(answer.as_bytes(), asked.source, Some(asked.reply_from()))
                .await?;
        }
    });
    listening.await.unwrap();
    task
}

async fn ask(node: &Node, addr: &str) -> Result<String> {
    let to: SocketAddr = addr.parse()?;
    node.run(async move || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = Socket::bind(any.parse()?, &Options::new())?;
        socket.send_to(b"who am I?", to, None).await?;
        let mut buf = [0; 100];
        let answer = tokio::time::timeout(PATIENCE, socket.recv(&mut buf)).await??;
        assert_eq!(answer.source, to);
        Ok(String::from_utf8_lossy(&buf[..answer.len]).into_owned())
    })
    .await
}

#[track_caller]
fn node(name: &str) -> Node {
    match Node::new(name) {
        Ok(node) => node,
        Err(error) => panic!("{error:#}"),
    }
}
