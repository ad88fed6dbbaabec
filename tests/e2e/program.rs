//! Foreign programs: where they are, which package brings them, and what they said.

use std::env;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::{Command, Node};
use tokio::time::timeout;

/// A foreign program, to be run on a node.
///
/// # Errors
/// Names the Debian package that brings it.
pub fn program(node: &Node, name: &str) -> Result<Command> {
    let path = search_path();
    let mut found = env::split_paths(&path).map(|folder| folder.join(name));
    let runs = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let Some(program) = found.find(runs) else {
        let package = PACKAGES.iter().find(|(program, _)| *program == name);
        let (_, package) = package.with_context(|| format!("which package brings {name}?"))?;
        bail!("cannot find {name}: install the Debian package {package}");
    };
    Ok(node.command(program).env("PATH", path))
}

/// A foreign program that resolves names by the resolver at `resolver`, as it would anywhere:
/// by its C library.
///
/// # Errors
/// Names the Debian package that brings it.
pub fn resolving(node: &Node, folder: &Path, resolver: &str, name: &str) -> Result<Command> {
    let conf = folder.join(format!("resolv.{resolver}.conf"));
    let text = format!("nameserver {resolver}\noptions timeout:5 attempts:5\n");
    std::fs::write(&conf, text).with_context(|| format!("cannot write {}", conf.display()))?;
    program(node, name)?; // found here, so that the error is ours
    let shell = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    Ok(program(node, "unshare")?
        .args(["--mount", "sh", "-c", shell])
        .arg(conf)
        .arg(name))
}

/// Portico's own command line, asking the daemon at `socket`.
pub fn portico(node: &Node, socket: &Path) -> Command {
    node.command(env!("CARGO_BIN_EXE_portico"))
        .env("PORTICO_SOCKET", socket)
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a program to its end.
///
/// # Errors
/// When it does not start, or does not end in time.
pub async fn say(command: Command) -> Result<Said> {
    let what = format!("{command:?}");
    let output = timeout(PATIENCE, command.output()).await;
    let output = output.with_context(|| format!("it does not end: {what}"))??;
    Ok(Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Said {
    /// What it said, if it ended well.
    ///
    /// # Errors
    /// Shows what it said.
    pub fn ok(self) -> Result<String> {
        if self.code == Some(0) {
            Ok(self.out)
        } else {
            bail!("{self}")
        }
    }

    /// Checks the exit code.
    ///
    /// # Errors
    /// Shows what it said.
    pub fn ended(self, code: i32) -> Result<Self> {
        if self.code == Some(code) {
            Ok(self)
        } else {
            bail!("expected exit code {code}: {self}")
        }
    }

    /// Checks that it said `words`, on either stream.
    ///
    /// # Errors
    /// Shows what it said instead.
    pub fn says(self, words: &str) -> Result<Self> {
        if self.out.contains(words) || self.err.contains(words) {
            Ok(self)
        } else {
            bail!("expected {words:?}: {self}")
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, out, err } = self;
        write!(f, "exit code {code:?}\n{}\n{}", out.trim(), err.trim())
    }
}

fn search_path() -> String {
    let path = env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}

const PACKAGES: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("dhclient", "isc-dhcp-client"),
    ("dhcpcd", "dhcpcd-base"),
    ("dig", "bind9-dnsutils"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("miniupnpd", "miniupnpd-nftables"),
    ("named", "bind9"),
    ("natpmpc", "natpmpc"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("nmap", "nmap"),
    ("node", "nodejs"),
    ("nsupdate", "bind9-dnsutils"),
    ("ping", "iputils-ping"),
    ("python3", "python3"),
    ("sh", "dash"),
    ("sha256sum", "coreutils"),
    ("ss", "iproute2"),
    ("tcpdump", "tcpdump"),
    ("tracepath", "iputils-tracepath"),
    ("traceroute", "traceroute"),
    ("transmission-daemon", "transmission-daemon"),
    ("udhcpc", "udhcpc"),
    ("unshare", "util-linux"),
    ("upnpc", "miniupnpc"),
];

/// No program here takes longer.
const PATIENCE: Duration = Duration::from_secs(200);
