//! The reading side of the API.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use gateway::{AuditCursor, Observe};
use http::StatusCode;
use mapping::{Host, InternalPort, Mac, MappingId, Protocol, Snapshot};

use super::answer::{Id, Parameters, ProblemAnswer, invalid, problem};
use super::{RoomState, Shared};
use crate::model::{
    AuditView, CounterView, HostView, Lan, MappingView, Page, PermissionView, PrefixView, Room,
    Status, Wan, Zone,
};

pub(super) type Answer<T> = Result<Json<T>, ProblemAnswer>;

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Json<Status> {
    let context = &shared.context;
    let snapshot = context.handle.snapshot();
    let site = snapshot.site();
    let preferred = snapshot.preferred();
    let rooms = context.rooms.all().into_iter().map(|(room, state)| {
        let (state, error) = match state {
            RoomState::Failed(error) => ("failed", Some(error)),
            RoomState::Off => ("off", None),
            RoomState::Serving => ("serving", None),
        };
        Room {
            room: room.to_owned(),
            state: state.to_owned(),
            error,
        }
    });
    let status = Status {
        version: context.version.to_owned(),
        uptime_s: context.handle.now().mono.since(context.started).as_secs(),
        observing: context.lan_interface.is_none(),
        lan: Lan {
            interface: context.lan_interface.clone(),
            subnet: format!("{}/{}", site.network(), site.prefix_len()),
            gateway: site.gateway(),
            pool: context.pool.join(", "),
        },
        wan: Wan {
            interface: context.wan_interface.clone(),
            addresses: snapshot.wan_addresses().to_vec(),
            delegated: preferred.map(|generation| generation.delegated.to_string()),
            nsp: preferred.map(|generation| generation.nsp.to_string()),
        },
        zone: Zone {
            name: site.zone().to_owned(),
            serial: snapshot.counters().serial,
        },
        hosts: snapshot.hosts().filter(|host| host.lease.is_some()).count(),
        mappings: snapshot.mapping_count(),
        waiting: snapshot.waiting().count(),
        revision: snapshot.revision().0,
        rooms: rooms.collect(),
    };
    Json(status)
}

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn hosts(
    State(shared): State<Arc<Shared>>,
    Parameters(query): Parameters,
) -> Answer<Page<HostView>> {
    let (snapshot, now) = shared.context.look();
    let limit = limit(&query)?;
    let after = cursor::<Mac>(&query)?;
    let wanted = query.get("q");
    let views = snapshot
        .hosts()
        .filter(|host| after.is_none_or(|after| host.mac > after))
        .map(|host| HostView::new(host, &snapshot, now))
        .filter(|view| wanted.is_none_or(|text| view.matches(text)));
    let page = page(views, limit, |view| view.mac.clone());
    Ok(Json(page))
}

pub(super) async fn host(
    State(shared): State<Arc<Shared>>,
    Id(id): Id<String>,
) -> Answer<HostView> {
    let (snapshot, now) = shared.context.look();
    let host = find_host(&snapshot, &id).map(|host| HostView::new(host, &snapshot, now));
    host.map(Json)
}

pub(super) async fn mappings(
    State(shared): State<Arc<Shared>>,
    Parameters(query): Parameters,
) -> Answer<Page<MappingView>> {
    let (snapshot, now) = shared.context.look();
    let limit = limit(&query)?;
    let after = cursor::<u64>(&query)?;
    let host = query
        .get("host")
        .map(|id| find_host(&snapshot, id))
        .transpose()?;
    let (open, waiting) = match query.get("state").map(String::as_str) {
        None => (true, true),
        Some("open") => (true, false),
        Some("waiting") => (false, true),
        Some(_) => return Err(invalid("the state is open or waiting")),
    };
    let first = MappingId(after.map_or(0, |after| after.saturating_add(1)));
    let (mut of_host, mut waiting_of) = (Vec::new(), Vec::new());
    if let Some(host) = host {
        // what others hold costs nothing
        of_host.extend(snapshot.mappings_of(host.addr).filter(|it| it.id >= first));
        of_host.sort_unstable_by_key(|it| it.id);
        waiting_of.extend(snapshot.waiting_of(host.mac));
        waiting_of.sort_unstable_by_key(|it| it.id);
    }
    let all = host.is_none();
    let everybodys = all.then(|| snapshot.mappings_from(first)).into_iter();
    let mappings = everybodys
        .flatten()
        .chain(of_host)
        .filter(|_| open)
        .map(|it| MappingView::new(it, &snapshot, now));
    let everybodys = all.then(|| snapshot.waiting()).into_iter();
    let requests = everybodys
        .flatten()
        .chain(waiting_of)
        .filter(|it| waiting && it.id >= first)
        .map(|it| MappingView::waiting(it, &snapshot, now));
    let page = page(by_id(mappings, requests), limit, |view| view.id.to_string());
    Ok(Json(page))
}

/// Merges two lists that rise by id.
fn by_id(
    a: impl Iterator<Item = MappingView>,
    b: impl Iterator<Item = MappingView>,
) -> impl Iterator<Item = MappingView> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(first), Some(second)) if second.id < first.id => b.next(),
        (Some(_), _) => a.next(),
        (None, _) => b.next(),
    })
}

pub(super) async fn permissions(
    State(shared): State<Arc<Shared>>,
    Parameters(query): Parameters,
) -> Answer<Page<PermissionView>> {
    let (snapshot, now) = shared.context.look();
    let limit = limit(&query)?;
    let after = cursor::<Decided>(&query)?;
    let host = query
        .get("host")
        .map(|id| find_host(&snapshot, id))
        .transpose()?;
    let views = snapshot
        .permissions()
        .filter(|it| after.is_none_or(|Decided(after)| it.key() > after))
        .filter(|it| host.is_none_or(|host| host.mac == it.host))
        .map(|it| PermissionView::new(it, &snapshot, now));
    let page = page(views, limit, |view| {
        format!("{}/{}/{}", view.host, view.protocol, view.internal_port)
    });
    Ok(Json(page))
}

/// The port about which somebody decided, as `/permissions/{host}/{protocol}/{port}` names it.
#[derive(Debug, Clone, Copy)]
struct Decided((Mac, Protocol, InternalPort));

impl FromStr for Decided {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('/');
        let mut part = || parts.next().ok_or(());
        let host = part()?.parse().map_err(drop)?;
        let protocol = Protocol::from_name(part()?).ok_or(())?;
        let port = part()?.parse().ok().and_then(InternalPort::new).ok_or(())?;
        Ok(Self((host, protocol, port)))
    }
}

pub(super) async fn mapping(
    State(shared): State<Arc<Shared>>,
    Id(id): Id<u64>,
) -> Answer<MappingView> {
    let (snapshot, now) = shared.context.look();
    let id = MappingId(id);
    let open = snapshot.mapping(id);
    let open = open.map(|it| MappingView::new(it, &snapshot, now));
    let waiting = || {
        let waiting = snapshot.waiting_request(id);
        waiting.map(|it| MappingView::waiting(it, &snapshot, now))
    };
    let view = open.or_else(waiting).ok_or_else(|| not_found("mapping"));
    view.map(Json)
}

pub(super) async fn prefixes(State(shared): State<Arc<Shared>>) -> Json<Page<PrefixView>> {
    let (snapshot, now) = shared.context.look();
    let items = snapshot
        .generations()
        .map(|it| PrefixView::new(it, &snapshot, now))
        .collect();
    Json(Page { items, next: None })
}

pub(super) async fn counters(State(shared): State<Arc<Shared>>) -> Json<Page<CounterView>> {
    let mut items = Vec::new();
    let own: &dyn Observe = &*shared;
    let others = shared.context.observers.iter().map(|observer| &**observer);
    for observer in others.chain([own]) {
        let counts = observer.counters().await;
        items.extend(
            counts
                .into_iter()
                .map(|count| CounterView::new(observer.room(), count)),
        );
    }
    Json(Page { items, next: None })
}

pub(super) async fn audit(
    State(shared): State<Arc<Shared>>,
    Parameters(query): Parameters,
) -> Answer<Page<AuditView>> {
    let limit = limit(&query)?;
    let cursor = cursor::<u64>(&query)?;
    let rows = u16::try_from(limit).unwrap_or(u16::MAX);
    let page = shared
        .context
        .handle
        .audit(cursor.map(AuditCursor), rows)
        .await;
    let page = page.map_err(|error| {
        tracing::debug!(%error, "cannot read the audit log");
        problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            error.to_string(),
        )
    })?;
    Ok(Json(page.into()))
}

/// Finds a host by MAC, label or full name.
pub(super) fn find_host<'a>(
    snapshot: &'a Snapshot,
    id: &str,
) -> Result<&'a Arc<Host>, ProblemAnswer> {
    let by_mac = id.parse::<Mac>().ok().and_then(|mac| snapshot.host(mac));
    by_mac
        .or_else(|| snapshot.host_named(id))
        .ok_or_else(|| not_found("host"))
}

pub(super) fn not_found(what: &str) -> ProblemAnswer {
    problem(
        StatusCode::NOT_FOUND,
        "not-found",
        format!("there is no such {what}"),
    )
}

/// Cuts a page off a list; the next one begins after the id of its last element.
fn page<T>(mut views: impl Iterator<Item = T>, limit: usize, id: impl Fn(&T) -> String) -> Page<T> {
    let items: Vec<_> = views.by_ref().take(limit).collect();
    let more = views.next().is_some();
    let next = items.last().filter(|_| more).map(id);
    Page { items, next }
}

pub(super) fn cursor<T: FromStr>(
    query: &BTreeMap<String, String>,
) -> Result<Option<T>, ProblemAnswer> {
    let text = query.get("cursor");
    text.map(|text| parse(text, "cursor")).transpose()
}

pub(super) fn limit(query: &BTreeMap<String, String>) -> Result<usize, ProblemAnswer> {
    let limit = query
        .get("limit")
        .map(|text| parse::<usize>(text, "limit"))
        .transpose()?;
    Ok(limit.unwrap_or(PAGE).clamp(1, PAGE_MAX))
}

pub(super) fn parse<T: FromStr>(text: &str, name: &str) -> Result<T, ProblemAnswer> {
    text.parse()
        .map_err(|_| invalid(format!("the parameter {name} does not fit")))
}

/// What a page holds if nothing is said.
const PAGE: usize = 100;

/// What a page holds at the most.
const PAGE_MAX: usize = 1000;
