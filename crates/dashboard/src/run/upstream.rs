//! The gateways in front of us, and the ports there.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use gateway::{UpstreamCursor, UpstreamPage};

use super::Shared;
use super::answer::{Parameters, ProblemAnswer};
use super::read::{Answer, cursor, limit};
use super::sessions::not_now;
use crate::model::{Page, UpstreamGatewayView, UpstreamPortView, UpstreamView};

pub(super) async fn chain(State(shared): State<Arc<Shared>>) -> Answer<UpstreamView> {
    let page = ask(&shared, UpstreamCursor::default(), 0).await?;
    let (mode, gateways) = page.map_or(("off", Vec::new()), |page| (page.mode, page.gateways));
    Ok(Json(UpstreamView {
        mode: mode.to_owned(),
        gateways: gateways.iter().map(UpstreamGatewayView::new).collect(),
    }))
}

pub(super) async fn ports(
    State(shared): State<Arc<Shared>>,
    Parameters(query): Parameters,
) -> Answer<Page<UpstreamPortView>> {
    let limit = limit(&query)?;
    let first = UpstreamCursor(cursor::<u64>(&query)?.unwrap_or_default());
    let page = ask(&shared, first, limit).await?.unwrap_or_default();
    Ok(Json(Page {
        items: page.ports.iter().map(UpstreamPortView::new).collect(),
        next: page.next.map(|cursor| cursor.0.to_string()),
    }))
}

/// Only one room has an answer, and while it is switched off none has.
async fn ask(
    shared: &Shared,
    cursor: UpstreamCursor,
    limit: usize,
) -> Result<Option<UpstreamPage>, ProblemAnswer> {
    for observer in &shared.context.observers {
        let page = observer.upstream(cursor, limit).await;
        if let Some(page) = page.map_err(|_| not_now())? {
            return Ok(Some(page));
        }
    }
    Ok(None)
}
