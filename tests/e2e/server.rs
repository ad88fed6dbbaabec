//! Residential servers, with foreign software: udhcpc, nginx, python3, natpmpc.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use lab::{Command, Home, Node, addressing};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::program::{Said, program, say};
use crate::stage::{until, write};

/// A server on the LAN that has an address.
#[derive(Debug, Clone)]
pub struct Server {
    pub name: String,
    pub node: Node,
    pub addr: Ipv4Addr,
    /// The variables that udhcpc gave its script.
    pub lease: HashMap<String, String>,
    folder: PathBuf,
}

impl Server {
    /// Gets an address by udhcpc, which remembers nothing.
    ///
    /// # Errors
    /// When nobody gives one.
    pub async fn join(home: &Home, name: &str) -> Result<Self> {
        let resident = home.resident(name)?;
        let folder = home.folder().join(format!("server-{name}"));
        std::fs::create_dir_all(&folder)?;
        let lease = folder.join("lease");
        let udhcpc = udhcpc(home, &resident.node, &lease)?
            .args(["-q", "-n", "-x"])
            .arg(format!("hostname:{name}"));
        say(udhcpc).await?.ok().context("udhcpc")?;
        let lease = read_lease(&lease)?;
        let addr = lease
            .get("ip")
            .context("udhcpc tells no address")?
            .parse()?;
        Ok(Self {
            name: name.to_owned(),
            node: resident.node.clone(),
            addr,
            lease,
            folder,
        })
    }

    /// Its name in DNS.
    pub fn fqdn(&self) -> String {
        lab::home::fqdn(&self.name)
    }

    /// Where it appears on the Internet.
    pub fn external(&self, home: &Home) -> Ipv6Addr {
        home.delegation().embed(self.addr)
    }

    /// Serves `page` by nginx at TCP port `port`; its access log is at [`Self::access_log`].
    ///
    /// # Errors
    /// When it does not listen in time.
    pub async fn nginx(&self, port: u16, page: &str) -> Result<Child> {
        let here = self.folder.display();
        std::fs::create_dir_all(self.folder.join("www"))?;
        std::fs::write(self.folder.join("www/index.html"), page)?;
        let conf = format!(
            "user root; daemon off; master_process off; pid {here}/nginx.pid; error_log {here}/error.log;\n\
             events {{ worker_connections 100; }}\n\
             http {{ access_log {here}/access.log; client_body_temp_path {here}/body;\n\
             proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;\n\
             uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;\n\
             server {{ listen 0.0.0.0:{port}; root {here}/www; }} }}\n"
        );
        let path = self.folder.join("nginx.conf");
        std::fs::write(&path, conf)?;
        let nginx = program(&self.node, "nginx")?
            .arg("-e")
            .arg(self.folder.join("error.log"))
            .arg("-p")
            .arg(&self.folder)
            .arg("-c")
            .arg(path)
            .spawn()
            .await?;
        self.wait_listening(port).await?;
        Ok(nginx)
    }

    /// What nginx logged.
    pub fn access_log(&self) -> String {
        std::fs::read_to_string(self.folder.join("access.log")).unwrap_or_default()
    }

    /// Serves a folder with `page` as its index by `python3 -m http.server`.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub async fn python(&self, port: u16, page: &str) -> Result<Child> {
        let www = self.folder.join("www");
        std::fs::create_dir_all(&www)?;
        std::fs::write(www.join("index.html"), page)?;
        let python = program(&self.node, "python3")?
            .args(["-m", "http.server", &port.to_string(), "--directory"])
            .arg(&www)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .await?;
        self.wait_listening(port).await?;
        Ok(python)
    }

    /// Echoes UDP datagrams at `port`, by python3.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn echo_udp(&self, port: u16) -> Result<Child> {
        let code = format!(
            "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
             s.bind(('0.0.0.0', {port}))\nwhile True:\n  s.sendto(*s.recvfrom(65536))"
        );
        let python = program(&self.node, "python3")?.args(["-c", &code]);
        python.spawn().await
    }

    /// Waits until a TCP port of its own takes connections.
    ///
    /// # Errors
    /// When none does in time.
    pub async fn wait_listening(&self, port: u16) -> Result<()> {
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        until(async || {
            let knock = async move || Ok(TcpStream::connect(to).await.map(drop)?);
            self.node.run(knock).await
        })
        .await
        .with_context(|| format!("nobody listens at TCP {port}"))
    }

    /// Asks for a mapping by natpmpc.
    ///
    /// # Errors
    /// When natpmpc does not run.
    pub async fn natpmpc(&self, protocol: &str, port: u16, lifetime_s: u32) -> Result<Said> {
        let natpmpc = program(&self.node, "natpmpc")?
            .args(["-g", &addressing::GATEWAY.to_string(), "-a"])
            .args([port.to_string(), port.to_string(), protocol.to_owned()])
            .arg(lifetime_s.to_string());
        say(natpmpc).await
    }

    /// Opens a port by natpmpc.
    ///
    /// # Errors
    /// Shows what natpmpc says.
    pub async fn open(&self, protocol: &str, port: u16) -> Result<String> {
        let said = self.natpmpc(protocol, port, 3600).await?.ok()?;
        ensure!(
            said.contains(&format!("Mapped public port {port}")),
            "natpmpc: {said}"
        );
        Ok(said)
    }
}

/// udhcpc on a server's interface; its script writes the lease to `lease`.
///
/// # Errors
/// When udhcpc is missing.
pub fn udhcpc(home: &Home, node: &Node, lease: &Path) -> Result<Command> {
    let script = write(home, "udhcpc.sh", SCRIPT)?;
    set_executable(&script)?;
    Ok(program(node, "udhcpc")?
        .args(["-f", "-i", addressing::ETH, "-t", "60", "-T", "1", "-s"])
        .arg(script)
        .env("LEASE", lease))
}

/// What the script of udhcpc has written.
///
/// # Errors
/// When it has not.
pub fn read_lease(path: &Path) -> Result<HashMap<String, String>> {
    let text = std::fs::read_to_string(path).context("udhcpc was not given a lease")?;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

/// Lets everybody run a script.
///
/// # Errors
/// When it is not ours.
pub fn set_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

const SCRIPT: &str = r#"#!/bin/sh
case "$1" in
deconfig) ip -4 addr flush dev "$interface" ;;
bound | renew)
    ip -4 addr flush dev "$interface"
    ip addr add "$ip/$mask" dev "$interface"
    ip route replace default via "$router"
    env > "$LEASE.new" && mv "$LEASE.new" "$LEASE"
    ;;
esac
"#;
