//! Step 7: the dashboard, from where the caller is.

use anyhow::{Context, ensure};
use tokio::time::Instant;

use super::{Facts, list, milliseconds, open_camera};
use crate::home::{Home, PATIENCE};
use crate::http::Api;

/// The page and the lists are there, and an opened port shows as an event.
///
/// # Errors
/// When something is missing or nothing happens.
pub async fn watch(home: &mut Home) -> anyhow::Result<Facts> {
    let mut facts = Facts::default();
    let addr = home
        .daemon
        .dashboard()
        .context("the home has no dashboard")?;
    let api = Api::Tcp(addr);
    let page = api.text("/").await?;
    ensure!(
        page.contains("<html") || page.contains("<!doctype html"),
        "/ is no page: {page:?}"
    );
    let hosts = list(&api, "hosts").await?.len();
    ensure!(
        hosts >= home.residents.len(),
        "the dashboard shows {hosts} hosts only"
    );
    let mappings = list(&api, "mappings").await?.len();
    ensure!(mappings > 0, "the dashboard shows no open ports");
    let sessions = list(&api, "sessions").await?.len();
    ensure!(sessions > 0, "the dashboard shows no sessions");
    facts.add(format_args!(
        "here: GET http://{addr}/ -> the page; {hosts} hosts, {mappings} open ports, \
         {sessions} sessions"
    ));

    let mut events = api.events().await?;
    let start = Instant::now();
    let (opening, _) = open_camera(home, WATCHED_PORT).await?;
    let opened = events.wait("mapping.opened", PATIENCE).await?;
    let document: serde_json::Value = serde_json::from_str(&opened.data)?;
    ensure!(
        document["external_port"] == WATCHED_PORT,
        "an event of another port: {document}"
    );
    let took = milliseconds(start.elapsed());
    opening.close(&home.resident("camera")?.node).await?;
    events.wait("mapping.closed", PATIENCE).await?;
    facts.add(format_args!(
        "camera: PCP MAP TCP {WATCHED_PORT}, then the same with lifetime 0 -> events \
         mapping.opened after {took}, mapping.closed"
    ));
    Ok(facts)
}

const WATCHED_PORT: u16 = 8555;
