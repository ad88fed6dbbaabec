//! The programs and Python modules that the end-to-end tests run beside ours, and the Debian
//! packages they come in.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Sees to it that every program is there: installs from Debian what is missing, where it may.
///
/// # Errors
///
/// Names every program that is still missing, with its package.
pub fn provide() -> Result<()> {
    let path = search_path();
    let missing = all_missing(&path);
    if missing.is_empty() {
        let (programs, modules) = (PROGRAMS.len(), MODULES.len());
        println!("   all {programs} programs and {modules} modules are there");
        return Ok(());
    }
    if !is_root() || !find(&path, "apt-get") {
        bail!("{}", plea(&missing));
    }
    let packages: Vec<_> = packages(&missing).into_iter().collect();
    println!("   missing: {}", list(&missing));
    println!(
        "   apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    );
    let status = Command::new("sh")
        .args(["-c", INSTALL, "install"])
        .args(&packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("cannot start sh")?;
    if !status.success() {
        bail!("apt-get ended with {status}; {}", plea(&missing));
    }
    let missing = all_missing(&path);
    if !missing.is_empty() {
        bail!("apt-get succeeded, and yet: {}", plea(&missing));
    }
    Ok(())
}

/// `PATH` with the folders of system programs, which a user's own often lacks.
pub fn search_path() -> OsString {
    let own = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&own).collect();
    for folder in SYSTEM_FOLDERS.iter().map(PathBuf::from) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    env::join_paths(folders).unwrap_or(own)
}

/// A program and the package it comes in.
type Program = (&'static str, &'static str);

fn all_missing(path: &OsString) -> Vec<Program> {
    let mut all = missing(PROGRAMS, |program| find(path, program));
    // In this order: without Python all modules are missing.
    all.extend(missing(MODULES, runs));
    all
}

/// Whether Debian's Python can do it. Another Python may come first on the path, and it does not
/// know Debian's modules.
fn runs(statement: &str) -> bool {
    let mut python = Command::new("/usr/bin/python3");
    let output = python.args(["-c", statement]).output();
    output.is_ok_and(|output| output.status.success())
}

fn missing(programs: &[Program], is_there: impl Fn(&str) -> bool) -> Vec<Program> {
    programs
        .iter()
        .copied()
        .filter(|(program, _)| !is_there(program))
        .collect()
}

fn packages(programs: &[Program]) -> BTreeSet<&'static str> {
    programs.iter().map(|(_, package)| *package).collect()
}

fn list(programs: &[Program]) -> String {
    let named: Vec<_> = programs
        .iter()
        .map(|(program, package)| format!("{program} ({package})"))
        .collect();
    named.join(", ")
}

fn plea(missing: &[Program]) -> String {
    let packages: Vec<_> = packages(missing).into_iter().collect();
    format!(
        "missing {}; as root: apt-get install --no-install-recommends {}; \
         or leave the end-to-end tests out: cargo xtask test --fast",
        list(missing),
        packages.join(" "),
    )
}

/// What `command -v` says.
fn find(path: &OsString, program: &str) -> bool {
    env::split_paths(path).any(|folder| {
        folder
            .join(program)
            .metadata()
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

fn is_root() -> bool {
    Path::new("/proc/self")
        .metadata()
        .is_ok_and(|process| process.uid() == 0)
}

const PROGRAMS: &[Program] = &[
    ("amuled", "amule-daemon"),
    ("curl", "curl"),
    // Not the package `dhcpcd`, which also runs it on the interfaces of this machine.
    ("dhcpcd", "dhcpcd-base"),
    ("dhclient", "isc-dhcp-client"),
    ("dig", "bind9-dnsutils"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("mdig", "bind9-dnsutils"),
    ("miniupnpd", "miniupnpd-nftables"),
    ("named", "bind9"),
    ("natpmpc", "natpmpc"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("nmap", "nmap"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("nsupdate", "bind9-dnsutils"),
    ("ping", "iputils-ping"),
    ("python3", "python3"),
    ("strace", "strace"),
    ("syncthing", "syncthing"),
    ("tcpdump", "tcpdump"),
    ("tracepath", "iputils-tracepath"),
    ("traceroute", "traceroute"),
    ("transmission-daemon", "transmission-daemon"),
    ("udhcpc", "udhcpc"),
    ("upnpc", "miniupnpc"),
];

/// What Debian's Python must be able to do, and the package that it takes.
const MODULES: &[Program] = &[
    ("import ensurepip", "python3-venv"),
    ("import gi", "python3-gi"),
    (
        "import gi; gi.require_version('GUPnPIgd', '1.0')",
        "gir1.2-gupnpigd-1.0",
    ),
    ("import libtorrent", "python3-libtorrent"),
    // What netifaces is compiled with.
    (
        "import os, sysconfig; os.stat(sysconfig.get_path('include') + '/Python.h')",
        "python3-dev",
    ),
];

const SYSTEM_FOLDERS: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Installs without starting a service: we want the programs of nginx and BIND, not a web server
/// and a resolver on this machine. The policy is taken away again however the shell ends.
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy" || exit 1
fi
apt-get -o DPkg::Lock::Timeout=300 update -qq &&
apt-get -o DPkg::Lock::Timeout=300 install -qq -y --no-install-recommends "$@"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package_and_the_way_out() {
        let missing = missing(PROGRAMS, |program| {
            !matches!(program, "dig" | "nsupdate" | "nmap")
        });

        let plea = plea(&missing);

        assert!(plea.contains("dig (bind9-dnsutils), nmap (nmap), nsupdate (bind9-dnsutils)"));
        assert!(
            plea.contains("--no-install-recommends bind9-dnsutils nmap;"),
            "{plea}"
        );
        assert!(!plea.contains('\n'));
    }

    #[test]
    fn a_program_is_found_only_where_it_can_be_run() {
        let path = OsString::from("/etc:/bin");

        assert!(find(&path, "sh"));
        assert!(!find(&path, "passwd.not"));
        assert!(!find(&OsString::from("/etc"), "passwd"), "not executable");
    }

    #[test]
    fn system_folders_are_searched_too() {
        let folders: Vec<_> = env::split_paths(&search_path()).collect();

        assert!(folders.contains(&PathBuf::from("/usr/sbin")));
    }

    #[test]
    fn no_program_is_listed_twice() {
        let programs: BTreeSet<_> = PROGRAMS.iter().map(|(program, _)| program).collect();

        assert_eq!(programs.len(), PROGRAMS.len());
    }
}
