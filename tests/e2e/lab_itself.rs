//! `portico lab` itself.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;
use tokio::time::timeout;

#[tokio::test]
async fn two_labs_prove_themselves_at_once() -> Result<()> {
    let (one, two) = tokio::try_join!(prove(), prove())?;

    for output in [one, two] {
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(0),
            "{}\n{said}\n{errors}",
            output.status
        );
        ensure!(said.contains("All seven steps are proved."), "{said}");
        ensure!(said.contains("export PORTICO_SOCKET="), "{said}");
    }
    Ok(())
}

async fn prove() -> Result<Output> {
    let lab = Command::new(env!("CARGO_BIN_EXE_portico"))
        .args(["lab", "--once"])
        .kill_on_drop(true)
        .output();
    Ok(timeout(Duration::from_secs(60), lab)
        .await
        .context("it takes more than a minute")??)
}
