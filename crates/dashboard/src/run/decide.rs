//! What a person decides about devices and their ports.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use hyper::body::Bytes;
use mapping::{
    Access, DecideRequest, Decision, Grant, HostPolicyRequest, InternalPort, Mac, MappingId,
    PortClass, Request, Requester,
};

use super::Shared;
use super::answer::{Id, ProblemAnswer};
use super::change::{broken, grant, invalid, protocol};
use super::read::{find_host, not_found};
use crate::model::{Approval, MappingView, PolicyPatch};

pub(super) async fn approve(
    State(shared): State<Arc<Shared>>,
    Id(id): Id<u64>,
    body: Bytes,
) -> Result<Json<MappingView>, ProblemAnswer> {
    let lasts = lasts(approval(&body)?.for_s)?;
    let granted = decide(&shared, id, Decision::Allow(lasts)).await?;
    let (snapshot, now) = shared.context.look();
    match granted {
        Grant::Mapped { mapping, .. } => Ok(Json(MappingView::new(&mapping, &snapshot, now))),
        Grant::Pinholed { pinhole, .. } => {
            let view = MappingView::opened(id, &pinhole, &snapshot, now);
            Ok(Json(view))
        }
        Grant::Done
        | Grant::Leased(_)
        | Grant::MappedSet { .. }
        | Grant::Prefixed(_)
        | Grant::Unmapped(_) => Err(broken()),
    }
}

pub(super) async fn deny(
    State(shared): State<Arc<Shared>>,
    Id(id): Id<u64>,
) -> Result<StatusCode, ProblemAnswer> {
    decide(&shared, id, Decision::Deny).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn forget(
    State(shared): State<Arc<Shared>>,
    Id((host, transport, port)): Id<(String, String, u16)>,
) -> Result<StatusCode, ProblemAnswer> {
    let request = Request::ForgetPermission {
        host: find_host(&shared.context.handle.snapshot(), &host)?.mac,
        protocol: protocol(&transport)?,
        internal_port: InternalPort::new(port).ok_or_else(|| not_found("port"))?,
        requester: Requester::Cli,
    };
    grant(&shared, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads a host's new policy, `None` for what the policy says.
pub(super) fn host_policy(
    host: Mac,
    patch: Option<PolicyPatch>,
) -> Result<HostPolicyRequest, ProblemAnswer> {
    let default = HostPolicyRequest {
        host,
        requester: Requester::Cli,
        access: None,
        ports: None,
        quota: None,
        lasts: None,
    };
    let Some(patch) = patch else {
        return Ok(default);
    };
    let access = Access::from_name(&patch.access);
    let ports = patch.ports.as_deref().map(|name| {
        let class = PortClass::from_name(name);
        class.ok_or_else(|| invalid("the class is none, high, web-and-high or all"))
    });
    Ok(HostPolicyRequest {
        access: Some(access.ok_or_else(|| invalid("the access is ask, allow or deny"))?),
        ports: ports.transpose()?,
        quota: patch.quota,
        lasts: lasts(patch.for_s)?,
        ..default
    })
}

async fn decide(shared: &Shared, id: u64, decision: Decision) -> Result<Grant, ProblemAnswer> {
    let request = DecideRequest {
        id: MappingId(id),
        requester: Requester::Cli,
        decision,
    };
    grant(shared, Request::Decide(request)).await
}

/// No body is an approval without an end.
fn approval(body: &[u8]) -> Result<Approval, ProblemAnswer> {
    if body.is_empty() {
        return Ok(Approval::default());
    }
    serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))
}

fn lasts(seconds: Option<u64>) -> Result<Option<Duration>, ProblemAnswer> {
    match seconds {
        Some(0) => Err(invalid("it lasts for at least a second")),
        Some(seconds) if seconds > LONGEST => Err(invalid("it lasts for ten years at the most")),
        Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
        None => Ok(None),
    }
}

/// Ten years: whoever means longer means for ever.
const LONGEST: u64 = 10 * 365 * 86_400;
