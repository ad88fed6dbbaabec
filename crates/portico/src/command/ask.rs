//! Asks the running daemon and prints the answer.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use dashboard::model::{Approval, NewMapping, NewPrefix, PolicyPatch};
use dashboard::{Client, ClientError};
use serde::Serialize;

use super::{Failure, print, show};
use crate::cli::{HostPolicyArgs, ProtocolPort, Reading};

pub(super) fn status(socket: &Path, reading: Reading) -> Result<(), Failure> {
    let client = Client::new(socket);
    let (status, hosts, upstream) = wait(async {
        let status = client.status().await?;
        let upstream = client.upstream().await?;
        Ok((status, client.hosts().await?, upstream))
    })?;
    give(reading, &status, |status| {
        show::status(status, &hosts, &upstream)
    })
}

pub(super) fn hosts(socket: &Path, reading: Reading) -> Result<(), Failure> {
    let hosts = wait(Client::new(socket).hosts())?;
    give(reading, &hosts, |hosts| show::hosts(hosts))
}

pub(super) fn host(socket: &Path, host: &str, reading: Reading) -> Result<(), Failure> {
    let shown = wait(Client::new(socket).host(host)).map_err(|failure| failure.about(host))?;
    give(reading, &shown, show::host)
}

pub(super) fn rename(socket: &Path, host: &str, name: &str) -> Result<(), Failure> {
    let client = Client::new(socket);
    let renamed = wait(patiently(async || client.rename(host, name).await));
    let host = renamed.map_err(|failure| failure.about(host))?;
    print::text(&format!("{} is now {}\n", host.mac, host.fqdn))
}

pub(super) fn mappings(socket: &Path, reading: Reading) -> Result<(), Failure> {
    let mappings = wait(Client::new(socket).mappings())?;
    give(reading, &mappings, |mappings| show::mappings(mappings))
}

pub(super) fn open(socket: &Path, mapping: &NewMapping) -> Result<(), Failure> {
    let client = Client::new(socket);
    let opened = wait(patiently(async || client.open(mapping).await));
    let mapping = opened.map_err(|failure| failure.about(&mapping.host))?;
    print::text(&show::mappings(&[mapping]))
}

pub(super) fn close(socket: &Path, id: u64) -> Result<(), Failure> {
    wait(Client::new(socket).close(id)).map_err(|failure| failure.about(mapping(id)))?;
    print::text(&format!("mapping {id} is closed\n"))
}

pub(super) fn approve(socket: &Path, id: u64, lasts: Option<Duration>) -> Result<(), Failure> {
    let client = Client::new(socket);
    let approval = Approval {
        for_s: lasts.map(|lasts| lasts.as_secs()),
    };
    let approved = wait(patiently(async || client.approve(id, approval).await));
    let mapping = approved.map_err(|failure| failure.about(mapping(id)))?;
    print::text(&show::mappings(&[mapping]))
}

pub(super) fn deny(socket: &Path, id: u64) -> Result<(), Failure> {
    wait(Client::new(socket).deny(id)).map_err(|failure| failure.about(mapping(id)))?;
    print::text(&format!("{id} is denied\n"))
}

pub(super) fn decisions(socket: &Path, reading: Reading) -> Result<(), Failure> {
    let permissions = wait(Client::new(socket).permissions())?;
    give(reading, &permissions, |it| show::permissions(it))
}

pub(super) fn forget(socket: &Path, host: &str, port: &ProtocolPort) -> Result<(), Failure> {
    let client = Client::new(socket);
    wait(client.forget_permission(host, &port.protocol, port.port))?;
    let ProtocolPort { protocol, port } = port;
    print::text(&format!(
        "{host} {protocol}/{port} is up to the policy again\n"
    ))
}

pub(super) fn set_policy(socket: &Path, args: &HostPolicyArgs) -> Result<(), Failure> {
    let client = Client::new(socket);
    let policy = (args.access != "default").then(|| PolicyPatch {
        access: args.access.clone(),
        ports: args.ports.clone(),
        quota: args.quota,
        for_s: args.until.map(|until| until.as_secs()),
    });
    let set = wait(patiently(async || {
        client.set_policy(&args.host, policy.clone()).await
    }));
    let host = set.map_err(|failure| failure.about(&args.host))?;
    print::text(&format!("{}: {}\n", host.name, show::policy(&host.policy)))
}

pub(super) fn prefixes(socket: &Path, reading: Reading) -> Result<(), Failure> {
    let prefixes = wait(Client::new(socket).prefixes())?;
    give(reading, &prefixes, |prefixes| show::prefixes(prefixes))
}

fn mapping(id: u64) -> String {
    format!("mapping {id}")
}

pub(super) fn set_prefix(socket: &Path, prefix: &NewPrefix) -> Result<(), Failure> {
    let client = Client::new(socket);
    let prefixes = wait(async {
        patiently(async || client.set_prefix(prefix).await).await?;
        client.prefixes().await
    })?;
    print::text(&show::prefixes(&prefixes))
}

pub(super) fn wait<T>(call: impl Future<Output = Result<T, ClientError>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    Ok(runtime.block_on(call)?)
}

/// Asks again while the daemon says "not now", which a slow disk or a busy translator makes it
/// say; what was asked may be done by then, and does no harm twice.
pub(super) async fn patiently<T>(
    mut call: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    for _ in 0..TRIES {
        match call().await {
            Err(ClientError::Problem(problem)) if problem.kind.ends_with(":unavailable") => {
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
    call().await
}

pub(super) fn give<T: Serialize>(
    reading: Reading,
    value: &T,
    human: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if reading.json {
        let json = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
        print::text(&format!("{json}\n"))
    } else {
        print::text(&human(value))
    }
}

/// How often a person's command asks again before it says that it failed.
const TRIES: u32 = 10;

const PAUSE: Duration = Duration::from_millis(300);
