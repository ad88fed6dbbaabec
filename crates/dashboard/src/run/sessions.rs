//! Live sessions and the session log: list, choose, end.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use gateway::{
    Busy, LogCursor, LogPage, LogQuery, Observe, SessionCursor, SessionFilter, SessionId,
    SessionPage,
};
use http::StatusCode;
use mapping::{InvalidPrefix, Prefix6, Request, Requester, Wall};

use super::Shared;
use super::answer::{Id, Parameters, ProblemAnswer, invalid, problem};
use super::read::{Answer, cursor, find_host, limit, not_found};
use crate::model::{EndedView, LogView, Page, SessionView};

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Parameters(query): Parameters,
) -> Answer<Page<SessionView>> {
    known(&query, &[FILTERS, &["limit", "cursor"]])?;
    let filter = filter(&shared, &query)?;
    let limit = limit(&query)?;
    let first = SessionCursor(cursor::<u64>(&query)?.unwrap_or_default());
    let mut busy = false;
    for observer in &shared.context.observers {
        match gather(&**observer, filter, first, limit).await {
            Ok(page) if page == SessionPage::default() => {}
            Ok(page) => {
                let items = page.sessions.iter().map(SessionView::new).collect();
                let next = page.next.map(|cursor| cursor.0.to_string());
                return Ok(Json(Page { items, next }));
            }
            Err(Busy) => busy = true,
        }
    }
    if busy {
        return Err(not_now());
    }
    let (items, next) = (Vec::new(), None);
    Ok(Json(Page { items, next }))
}

/// Reads on until there is enough for a page; gives up after a bounded number of looks, since
/// sessions that fit may stand far apart.
async fn gather(
    observer: &dyn Observe,
    filter: SessionFilter,
    first: SessionCursor,
    limit: usize,
) -> Result<SessionPage, Busy> {
    let mut page = SessionPage {
        next: Some(first),
        ..SessionPage::default()
    };
    for _ in 0..LOOKS_MAX {
        let Some(cursor) = page.next else {
            break;
        };
        let part = observer.sessions(filter, cursor).await?;
        page.sessions.extend(part.sessions);
        page.next = part.next;
        if let Some(beyond) = page.sessions.get(limit) {
            page.next = Some(SessionCursor(beyond.id.number.into()));
            page.sessions.truncate(limit);
            break;
        }
    }
    Ok(page)
}

/// Ends one session; whoever speaks in it notices at the next packet.
pub(super) async fn end(
    State(shared): State<Arc<Shared>>,
    Id(id): Id<String>,
) -> Result<StatusCode, ProblemAnswer> {
    let id = id
        .parse::<SessionId>()
        .map_err(|error| problem(StatusCode::BAD_REQUEST, "path-invalid", error.to_string()))?;
    let filter = SessionFilter {
        id: Some(id),
        ..SessionFilter::default()
    };
    let who = named(&shared, filter).await?;
    match end_all(&shared, filter).await? {
        0 => Err(not_found("session")),
        _ => {
            record(&shared, who).await;
            Ok(StatusCode::NO_CONTENT)
        }
    }
}

/// Ends every session that fits; to end all of them takes `all=true`, so that nobody does it by
/// leaving something out.
pub(super) async fn end_fitting(
    State(shared): State<Arc<Shared>>,
    Parameters(query): Parameters,
) -> Answer<EndedView> {
    known(&query, &[FILTERS, &["all"]])?;
    let filter = filter(&shared, &query)?;
    let all = match query.get("all").map(String::as_str) {
        None => false,
        Some("true") => true,
        Some(_) => return Err(invalid("the parameter all is true or absent")),
    };
    if all != (filter == SessionFilter::default()) {
        return Err(invalid(
            "say which sessions by at least one filter, or all=true alone",
        ));
    }
    let ended = end_all(&shared, filter).await?;
    if ended > 0 {
        let which: Vec<_> = query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        record(&shared, format!("{ended} sessions: {}", which.join(" "))).await;
    }
    Ok(Json(EndedView { ended }))
}

pub(super) async fn log(
    State(shared): State<Arc<Shared>>,
    Parameters(query): Parameters,
) -> Answer<LogView> {
    known(
        &query,
        &[FILTERS, &["at", "from", "until", "limit", "cursor"]],
    )?;
    let filter = filter(&shared, &query)?;
    if filter.state.is_some() {
        return Err(invalid("the log knows no states"));
    }
    let limit = limit(&query)?;
    let (from, until) = span(&query, shared.context.handle.now().wall)?;
    let mut wanted = LogQuery {
        filter,
        from,
        until,
        limit,
        cursor: LogCursor(cursor::<u64>(&query)?.unwrap_or_default()),
    };
    let mut busy = false;
    for observer in &shared.context.observers {
        match read_log(&**observer, &mut wanted).await {
            Ok(page) if page == LogPage::default() => {}
            Ok(page) => return Ok(Json(page.into())),
            Err(Busy) => busy = true,
        }
    }
    if busy {
        return Err(not_now());
    }
    Ok(Json(LogPage::default().into()))
}

/// Reads on until something fits; gives up after a bounded number of looks.
async fn read_log(observer: &dyn Observe, wanted: &mut LogQuery) -> Result<LogPage, Busy> {
    let mut page = observer.log(*wanted).await?;
    for _ in 1..LOOKS_MAX {
        let (true, Some(next)) = (page.entries.is_empty(), page.next) else {
            break;
        };
        wanted.cursor = next;
        page = observer.log(*wanted).await?;
    }
    Ok(page)
}

async fn end_all(shared: &Shared, filter: SessionFilter) -> Result<u64, ProblemAnswer> {
    let mut count = 0_u64;
    for observer in &shared.context.observers {
        let ended = observer.end_sessions(filter).await;
        count = count.saturating_add(ended.map_err(|Busy| not_now())?.count);
    }
    Ok(count)
}

/// Says between whom the only session that fits is, for the audit log.
async fn named(shared: &Shared, filter: SessionFilter) -> Result<String, ProblemAnswer> {
    for observer in &shared.context.observers {
        let page = observer.sessions(filter, SessionCursor(0)).await;
        let page = page.map_err(|Busy| not_now())?;
        if let Some(session) = page.sessions.first() {
            let ends = &session.ends;
            return Ok(format!(
                "{} [{}]:{} to {}:{}, seen as {}:{}",
                ends.protocol.as_str(),
                ends.remote.0,
                ends.remote.1,
                ends.server.0,
                ends.server.1,
                ends.pool.0,
                ends.pool.1,
            ));
        }
    }
    Err(not_found("session"))
}

/// The sessions are gone whether or not this can be written.
async fn record(shared: &Shared, target: String) {
    let requester = Requester::Cli;
    let request = Request::SessionsEnded { requester, target };
    let outcome = shared.context.handle.request(request).await;
    tracing::debug!(?outcome, "ended sessions are audited");
}

/// Refuses parameters that mean nothing here: one that is misspelt must not choose more.
fn known(query: &BTreeMap<String, String>, names: &[&[&str]]) -> Result<(), ProblemAnswer> {
    let mut unknown = query
        .keys()
        .filter(|it| !names.concat().contains(&it.as_str()));
    match unknown.next() {
        Some(name) => Err(invalid(format!("there is no parameter {name} here"))),
        None => Ok(()),
    }
}

fn filter(
    shared: &Shared,
    query: &BTreeMap<String, String>,
) -> Result<SessionFilter, ProblemAnswer> {
    let text = |name: &str| query.get(name).map(String::as_str);
    let (pool, pool_port) = text("pool").map(pool).transpose()?.unzip();
    Ok(SessionFilter {
        id: None,
        protocol: text("protocol")
            .map(|text| text.parse().map_err(|error| wrong("protocol", error)))
            .transpose()?,
        remote: text("remote").map(remote).transpose()?,
        external_port: text("external_port")
            .map(|text| port(text, "external_port"))
            .transpose()?,
        pool,
        pool_port: pool_port.flatten(),
        server: text("server").map(|id| server(shared, id)).transpose()?,
        state: text("state")
            .map(|text| text.parse().map_err(|error| wrong("state", error)))
            .transpose()?,
    })
}

fn server(shared: &Shared, id: &str) -> Result<Ipv4Addr, ProblemAnswer> {
    match id.parse::<Ipv4Addr>() {
        Ok(addr) => Ok(addr),
        Err(_) => Ok(find_host(&shared.context.handle.snapshot(), id)?.addr),
    }
}

/// An address is the prefix that holds it alone.
fn remote(text: &str) -> Result<Prefix6, ProblemAnswer> {
    let prefix = match text.parse::<Ipv6Addr>() {
        Ok(addr) => Prefix6::new(addr, 128),
        Err(_) => text.parse::<Prefix6>(),
    };
    prefix.map_err(|error| match error {
        InvalidPrefix::Text => wrong("remote", "expected an IPv6 address or a prefix"),
        other => wrong("remote", other),
    })
}

/// A pool address, with or without a port.
fn pool(text: &str) -> Result<(Ipv4Addr, Option<u16>), ProblemAnswer> {
    let (addr, number) = match text.split_once(':') {
        Some((addr, number)) => (addr, Some(port(number, "pool")?)),
        None => (text, None),
    };
    let addr = addr
        .parse()
        .map_err(|_| wrong("pool", "expected an address such as 192.168.64.193:4000"))?;
    Ok((addr, number))
}

/// A port or an identifier, which may be zero.
fn port(text: &str, name: &str) -> Result<u16, ProblemAnswer> {
    text.parse()
        .map_err(|_| wrong(name, "a port is a number from 0 to 65535"))
}

/// Returns the first and the last moment that are meant; times are whole seconds.
fn span(query: &BTreeMap<String, String>, now: Wall) -> Result<(Wall, Wall), ProblemAnswer> {
    let second = |name: &str| {
        let time = query.get(name).map(|text| text.parse::<u64>());
        time.transpose()
            .map_err(|_| wrong(name, "a time is in seconds since 1970"))
    };
    let (at, from, until) = (second("at")?, second("from")?, second("until")?);
    if at.is_some() && (from.is_some() || until.is_some()) {
        return Err(invalid("say at, or from and until"));
    }
    let first = at.or(from).unwrap_or_default();
    let last = at.or(until).map_or(now, |last| {
        Wall::from_nanos(
            Wall::from_secs(last)
                .as_nanos()
                .saturating_add(WHOLE_SECOND),
        )
    });
    Ok((Wall::from_secs(first), last))
}

fn wrong(name: &str, why: impl std::fmt::Display) -> ProblemAnswer {
    invalid(format!("the parameter {name} does not fit: {why}"))
}

pub(super) fn not_now() -> ProblemAnswer {
    problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        Busy.to_string(),
    )
}

/// The parameters that choose sessions.
const FILTERS: &[&str] = &[
    "external_port",
    "pool",
    "protocol",
    "remote",
    "server",
    "state",
];

/// Parts of a table or a log that are looked at for one page.
const LOOKS_MAX: usize = 64;

/// From the first to the last nanosecond of a second.
const WHOLE_SECOND: u64 = 999_999_999;
