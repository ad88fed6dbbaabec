//! `portico lab` itself.

use anyhow::{Result, ensure};
use lab::Node;

use crate::program::say;

/// Both want port 8464 of the same machine for the dashboard; one of them gets it.
#[tokio::test]
async fn two_labs_prove_themselves_at_once() -> Result<()> {
    let machine = Node::new("machine")?;
    let prove = || {
        let portico = machine.command(env!("CARGO_BIN_EXE_portico"));
        say(portico.args(["lab", "--once"]))
    };

    let (one, two) = tokio::try_join!(prove(), prove())?;

    for said in [&one, &two] {
        ensure!(said.code == Some(0), "{said}");
        ensure!(said.out.contains("All seven steps are proved."), "{said}");
        ensure!(said.out.contains("export PORTICO_SOCKET="), "{said}");
    }
    let dashboard = "dashboard  http://127.0.0.1:8464/";
    let holders = [&one, &two]
        .into_iter()
        .filter(|said| said.out.contains(dashboard));
    ensure!(holders.count() == 1, "{one}\n{two}");
    Ok(())
}
