//! The writing side of the API: requests to the writer, in its own words.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use http::StatusCode;
use mapping::{
    External, ExternalPort, FilterChange, Grant, InternalPort, Mac, MapRequest, MappingId, Outcome,
    PrefixRequest, Protocol, Request, Requester, ServerName, Subject, UnmapRequest, UnmapTarget,
    Via,
};

use super::answer::{Id, ProblemAnswer, problem};
use super::read::find_host;
use super::{Shared, decide};
use crate::model::{HostPatch, HostView, MappingView, NewMapping, NewPrefix, PrefixView};

pub(super) type Body<T> = Result<Json<T>, JsonRejection>;

pub(super) async fn host(
    State(shared): State<Arc<Shared>>,
    Id(id): Id<String>,
    body: Body<HostPatch>,
) -> Result<Json<HostView>, ProblemAnswer> {
    let patch = read(body)?;
    if patch == HostPatch::default() {
        return Err(invalid("there is nothing to change"));
    }
    let name = patch.name.map(|name| name.parse::<ServerName>());
    let name = name
        .transpose()
        .map_err(|error| invalid(error.to_string()))?;
    let mac = find_host(&shared.context.handle.snapshot(), &id)?.mac;
    let policy = patch.policy.map(|policy| decide::host_policy(mac, policy));
    let policy = policy.transpose()?;
    if let Some(name) = name {
        grant(&shared, Request::Rename { host: mac, name }).await?;
    }
    if let Some(policy) = policy {
        grant(&shared, Request::HostPolicy(policy)).await?;
    }
    let (snapshot, now) = shared.context.look();
    let host = find_host(&snapshot, &mac.to_string())?;
    Ok(Json(HostView::new(host, &snapshot, now)))
}

pub(super) async fn open(
    State(shared): State<Arc<Shared>>,
    body: Body<NewMapping>,
) -> Result<(StatusCode, Json<MappingView>), ProblemAnswer> {
    let wish = read(body)?;
    let host = find_host(&shared.context.handle.snapshot(), &wish.host)?.mac;
    let request = map_request(host, wish)?;
    match grant(&shared, Request::Map(request)).await? {
        Grant::Mapped { mapping, .. } => {
            let (snapshot, now) = shared.context.look();
            let view = MappingView::new(&mapping, &snapshot, now);
            Ok((StatusCode::CREATED, Json(view)))
        }
        Grant::Done
        | Grant::Leased(_)
        | Grant::MappedSet { .. }
        | Grant::Pinholed { .. }
        | Grant::Prefixed(_)
        | Grant::Unmapped(_) => Err(broken()),
    }
}

pub(super) async fn close(
    State(shared): State<Arc<Shared>>,
    Id(id): Id<u64>,
) -> Result<StatusCode, ProblemAnswer> {
    let id = MappingId(id);
    let snapshot = shared.context.handle.snapshot();
    let host = snapshot
        .mapping(id)
        .map_or(Mac([0; 6]), |mapping| mapping.host);
    let request = UnmapRequest {
        subject: Subject::Admin(host),
        requester: Requester::Cli,
        target: UnmapTarget::Id(id),
    };
    grant(&shared, Request::Unmap(request)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn prefix(
    State(shared): State<Arc<Shared>>,
    body: Body<NewPrefix>,
) -> Result<(StatusCode, Json<PrefixView>), ProblemAnswer> {
    let wish = read(body)?;
    let delegated = wish
        .delegated
        .parse()
        .map_err(|error: mapping::InvalidPrefix| invalid(error.to_string()))?;
    let old_valid = Duration::from_secs(wish.old_valid_s);
    let request = PrefixRequest {
        delegated,
        nsp: None,
        old_valid,
    };
    match grant(&shared, Request::Prefix(request)).await? {
        Grant::Prefixed(generation) => {
            let (snapshot, now) = shared.context.look();
            // the names followed since the generation was granted
            let newest = snapshot
                .generations()
                .find(|it| it.id == generation.id)
                .copied();
            let view = PrefixView::new(&newest.unwrap_or(generation), &snapshot, now);
            Ok((StatusCode::CREATED, Json(view)))
        }
        Grant::Done
        | Grant::Leased(_)
        | Grant::Mapped { .. }
        | Grant::MappedSet { .. }
        | Grant::Pinholed { .. }
        | Grant::Unmapped(_) => Err(broken()),
    }
}

fn map_request(host: Mac, wish: NewMapping) -> Result<MapRequest, ProblemAnswer> {
    let protocol = protocol(&wish.protocol)?;
    let no_port = || invalid("a port is a number from 1 to 65535");
    let external = wish.external_port.unwrap_or(wish.internal_port);
    if wish.for_s == Some(0) {
        return Err(invalid("a port is opened for at least a second"));
    }
    Ok(MapRequest {
        subject: Subject::Admin(host),
        requester: Requester::Cli,
        protocol,
        internal_port: InternalPort::new(wish.internal_port).ok_or_else(no_port)?,
        external: External::Exact(ExternalPort::new(external).ok_or_else(no_port)?),
        lifetime: wish.for_s.map(Duration::from_secs),
        nonce: None,
        via: Via::Both,
        peer: false,
        filters: FilterChange::default(),
        description: Some(wish.description),
        memo: None,
    })
}

pub(super) async fn grant(shared: &Shared, request: Request) -> Result<Grant, ProblemAnswer> {
    match shared.context.handle.request(request).await {
        Outcome::Granted(grant) => Ok(grant),
        Outcome::Refused(refusal) => Err(refusal.into()),
    }
}

pub(super) fn read<T>(body: Body<T>) -> Result<T, ProblemAnswer> {
    body.map(|Json(body)| body)
        .map_err(|rejection| problem(rejection.status(), "body-invalid", rejection.body_text()))
}

pub(super) fn invalid(detail: impl Into<String>) -> ProblemAnswer {
    problem(StatusCode::UNPROCESSABLE_ENTITY, "body-invalid", detail)
}

pub(super) fn protocol(name: &str) -> Result<Protocol, ProblemAnswer> {
    Protocol::from_name(name).ok_or_else(|| invalid("the protocol is tcp or udp"))
}

/// The writer granted something else than was asked.
pub(super) fn broken() -> ProblemAnswer {
    problem(
        StatusCode::INTERNAL_SERVER_ERROR,
        "broken",
        "the writer gave an unexpected answer",
    )
}
