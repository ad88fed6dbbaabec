//! Lists, watches and ends sessions, and says who is behind a pool address.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use dashboard::Client;
use dashboard::model::{LoggedView, SessionChoice, SessionView};
use net::Clock;
use serde_json::json;

use super::ask::{give, patiently, wait};
use super::{Failure, print, show};
use crate::cli::Reading;
use crate::cli::session::{End, Moment, SessionVerb};

pub(super) fn run(socket: &Path, verb: SessionVerb) -> Result<(), Failure> {
    let client = Client::new(socket);
    match verb {
        SessionVerb::List { choice, reading } => list(&client, &choice.into_model(), reading),
        SessionVerb::Watch { choice, json } => watch(&client, &choice.into_model(), json),
        SessionVerb::End(which) => end(&client, which),
        SessionVerb::Who {
            pool,
            at,
            protocol,
            reading,
        } => {
            let choice = SessionChoice {
                pool: Some(pool),
                protocol,
                ..SessionChoice::default()
            };
            match at {
                None => who_is(&client, &choice, reading),
                Some(at) => who_was(&client, &choice, at, reading),
            }
        }
    }
}

fn list(client: &Client, choice: &SessionChoice, reading: Reading) -> Result<(), Failure> {
    let sessions = wait(patiently(async || client.sessions(choice).await))?;
    give(reading, &sessions, |sessions| show::sessions(sessions))
}

fn end(client: &Client, which: End) -> Result<(), Failure> {
    let choice = which.choice.into_model();
    let by_filter = choice != SessionChoice::default();
    let ways = [!which.ids.is_empty(), by_filter, which.all];
    if ways.into_iter().filter(|way| *way).count() != 1 {
        return Err(Failure {
            code: Failure::USAGE,
            message: "say which sessions: by their ids, by filters such as --server, or --all"
                .to_owned(),
        });
    }
    for id in &which.ids {
        wait(patiently(async || client.end_session(id).await))?;
        print::text(&format!("session {id} has ended\n"))?;
    }
    if !which.ids.is_empty() {
        return Ok(());
    }
    let end = async || client.end_sessions(&choice, which.all).await;
    let ended = wait(patiently(end))?.ended;
    print::text(&match ended {
        0 => "no session fits\n".to_owned(),
        1 => "1 session has ended\n".to_owned(),
        many => format!("{many} sessions have ended\n"),
    })
}

fn who_is(client: &Client, choice: &SessionChoice, reading: Reading) -> Result<(), Failure> {
    let sessions = wait(patiently(async || client.sessions(choice).await))?;
    if sessions.is_empty() {
        return Err(nobody("is", choice, " now; --at asks the session log"));
    }
    give(reading, &sessions, |sessions| show::sessions(sessions))
}

fn who_was(
    client: &Client,
    choice: &SessionChoice,
    at: Moment,
    reading: Reading,
) -> Result<(), Failure> {
    let at = at.before(Clock::new().now().wall).as_secs();
    let log = wait(patiently(async || client.sessions_at(choice, at).await))?;
    if log.items.is_empty() {
        let since = match log.since {
            None => "; no session log is kept".to_owned(),
            Some(since) if since > at => {
                format!("; the session log goes back to {}", show::date(since))
            }
            Some(_) => nearest(client, choice, at)?,
        };
        let at = format!(" at {}{since}", show::date(at));
        return Err(nobody("was", choice, &at));
    }
    give(reading, &log.items, |items| show::logged(items))
}

/// Says who was there a little before or after: clocks differ.
fn nearest(client: &Client, choice: &SessionChoice, at: u64) -> Result<String, Failure> {
    let (from, until) = (at.saturating_sub(AROUND), at.saturating_add(AROUND));
    let around = async || client.sessions_between(choice, from, until).await;
    let log = wait(patiently(around))?;
    let distance = |it: &&LoggedView| {
        let ended = it.ended.unwrap_or(u64::MAX);
        it.began.saturating_sub(at).max(at.saturating_sub(ended))
    };
    Ok(match log.items.iter().min_by_key(distance) {
        None => String::new(),
        Some(it) => format!("; nearest, {}", show::whose(it)),
    })
}

fn nobody(verb: &str, choice: &SessionChoice, when: &str) -> Failure {
    let pool = choice.pool.as_deref().unwrap_or_default();
    Failure {
        code: Failure::FAILED,
        message: format!("nobody {verb} behind {pool}{when}"),
    }
}

/// Compares the sessions of one moment with those of the next; a session lives for minutes after
/// its last packet, so that few escape.
fn watch(client: &Client, choice: &SessionChoice, json: bool) -> Result<(), Failure> {
    let clock = Clock::new();
    let mut known: Option<BTreeMap<String, SessionView>> = None;
    loop {
        let sessions = wait(async {
            if known.is_some() {
                tokio::time::sleep(GLANCE).await;
            }
            patiently(async || client.sessions(choice).await).await
        })?;
        let now = clock.now().wall.as_secs();
        let new: BTreeMap<_, _> = sessions.into_iter().map(|it| (it.id.clone(), it)).collect();
        let began = if known.is_some() { "began" } else { "live" };
        let old = known.unwrap_or_default();
        let mut lines = String::new();
        let ended = old.iter().filter(|(id, _)| !new.contains_key(*id));
        let begun = new.iter().filter(|(id, _)| !old.contains_key(*id));
        let ended = ended.map(|(_, session)| ("ended", session));
        let begun = begun.map(|(_, session)| (began, session));
        for (what, session) in ended.chain(begun) {
            lines += &if json {
                format!(
                    "{}\n",
                    json!({ "at": now, "event": what, "session": session })
                )
            } else {
                show::watched(now, what, session)
            };
        }
        print::text(&lines)?;
        known = Some(new);
    }
}

const GLANCE: Duration = Duration::from_secs(1);

/// Seconds by which the clock of a device that nobody sets is likely to be wrong.
const AROUND: u64 = 600;
