//! BIND as the provider: the parent zone `example`, which takes signed updates, and the
//! recursive resolver, which is all that the remote host knows.

use anyhow::{Context as _, Result};
use lab::{Home, Plan, addressing};
use std::net::Ipv6Addr;
use tokio::process::Child;

use crate::dig::dig;
use crate::program::program;
use crate::stage::{home, until, write};

/// The plan of a home whose provider will be BIND.
pub fn home_of_bind<const N: usize>(servers: [&str; N]) -> Plan {
    home(servers).foreign_provider()
}

/// Starts BIND on the provider's node, and waits until it answers. It ends when dropped.
///
/// # Errors
/// When it does not start.
pub async fn start(home: &Home) -> Result<Child> {
    let folder = home.folder().join("named");
    std::fs::create_dir_all(&folder)?;
    let (here, parent, resolver) = (folder.display(), addressing::PARENT, addressing::RESOLVER);
    write(home, "named/example.zone", &zone())?;
    let key = home.folder().join("parent.key");
    let conf = format!(
        r#"
        include "{}";
        options {{
            directory "{here}";
            pid-file none;
            lock-file none;
            session-keyfile "{here}/session.key";
            listen-on {{ none; }};
            listen-on-v6 {{ {parent}; {resolver}; }};
            recursion yes;
            allow-query {{ any; }};
            allow-query-cache {{ any; }};
            allow-recursion {{ any; }};
            dnssec-validation no;
            empty-zones-enable no;
            notify no;
        }};
        controls {{ }};
        zone "{zone}" {{
            type primary;
            file "example.zone";
            update-policy {{ grant portico-lab zonesub ANY; }};
        }};
        "#,
        key.display(),
        zone = addressing::PARENT_ZONE,
    );
    let conf = write(home, "named/named.conf", &conf)?;
    let named = program(&home.net.provider, "named")?
        .args(["-f", "-n", "1", "-U", "1", "-c"])
        .arg(conf)
        .arg("-L")
        .arg(folder.join("named.log"))
        .spawn()
        .await?;
    let soa = async || {
        let found = dig(
            &home.net.remote,
            &addressing::RESOLVER.to_string(),
            &["example", "SOA"],
        )
        .await?;
        found
            .answer
            .first()
            .map(|_| ())
            .context("BIND does not know its zone")
    };
    until(soa).await.with_context(|| {
        let log = std::fs::read_to_string(folder.join("named.log")).unwrap_or_default();
        format!("BIND does not start: {log}")
    })?;
    Ok(named)
}

/// Waits until the provider's resolver says that `name` is at an address of the present prefix.
///
/// # Errors
/// Shows what it says instead.
pub async fn resolve(home: &Home, name: &str) -> Result<Ipv6Addr> {
    let zero = home.delegation().embed([0, 0, 0, 0].into());
    let nsp = zero.segments();
    until(async || {
        let resolver = addressing::RESOLVER.to_string();
        let found = dig(&home.net.remote, &resolver, &[name, "AAAA"]).await?;
        let [record] = found.answer.as_slice() else {
            anyhow::bail!("expected one AAAA of {name}: {found}");
        };
        let addr: Ipv6Addr = record.data.parse()?;
        anyhow::ensure!(
            addr.segments().get(..6) == nsp.get(..6),
            "not in {zero}/96: {found}"
        );
        Ok(addr)
    })
    .await
}

fn zone() -> String {
    let parent = addressing::PARENT;
    format!(
        "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 1\n  NS ns\nns AAAA {parent}\n\
         www A 192.0.2.80\n"
    )
}
