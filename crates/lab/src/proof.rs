//! The proof: seven steps, each a function that can be called, or replaced, on its own.

mod join;
mod open;
mod reach;
mod renumber;
mod resolve;
mod restart;
mod watch;

use std::fmt::Display;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use crate::home::Home;

pub use join::join;
pub use open::{open, open_camera, open_heat_pump, open_nas};
pub use reach::reach;
pub use renumber::renumber;
pub use resolve::resolve;
pub use restart::restart;
pub use watch::watch;

/// What a step found, in lines for people: what was sent and what came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts(pub Vec<String>);

impl Facts {
    /// Adds a line.
    pub fn add(&mut self, fact: impl Display) {
        self.0.push(fact.to_string());
    }
}

impl From<Vec<String>> for Facts {
    fn from(facts: Vec<String>) -> Self {
        Self(facts)
    }
}

/// Takes all the steps, and tells of each.
///
/// # Errors
/// Names the step that failed, and why; shows the end of the daemon's log.
pub async fn prove(home: &mut Home, mut tell: impl FnMut(&str)) -> anyhow::Result<()> {
    let begin = Instant::now();
    for (number, (title, step)) in (1..).zip(STEPS) {
        let start = Instant::now();
        match run(home, step).await {
            Ok(facts) => {
                let took = milliseconds(start.elapsed());
                let lines: String = facts.0.iter().map(|fact| format!("    {fact}\n")).collect();
                tell(&format!("{number}. {title}  [{took}]\n{lines}"));
            }
            Err(error) => {
                return Err(error.context(format!("step {number} failed: {title}")));
            }
        }
    }
    home.daemon.check_log()?;
    tell(&format!(
        "All seven steps are proved.  [{}]",
        milliseconds(begin.elapsed())
    ));
    Ok(())
}

/// Takes a step, unless it takes too long.
async fn run(home: &mut Home, step: Step) -> anyhow::Result<Facts> {
    let result = tokio::time::timeout(STEP_PATIENCE, step(home)).await;
    let result = result.unwrap_or_else(|_| anyhow::bail!("it takes more than {STEP_PATIENCE:?}"));
    // The reason first, then what may explain it.
    result.map_err(|error| match home.daemon.check() {
        Err(ended) => anyhow::anyhow!("{error:#}; {ended:#}"),
        Ok(()) => anyhow::anyhow!("{error:#}; portico still runs{}", home.daemon.tail()),
    })
}

type Step = for<'a> fn(&'a mut Home) -> Pin<Box<dyn Future<Output = anyhow::Result<Facts>> + 'a>>;

const STEPS: [(&str, Step); 7] = [
    (
        "Servers join and get addresses that depend on their MACs",
        |home| Box::pin(join(home)),
    ),
    (
        "Servers open their ports by PCP, NAT-PMP and UPnP",
        |home| Box::pin(open(home)),
    ),
    ("Names resolve, outside and on the LAN", |home| {
        Box::pin(resolve(home))
    }),
    ("The Internet reaches what is open, and only that", |home| {
        Box::pin(reach(home))
    }),
    ("The provider renumbers, and nothing is lost", |home| {
        Box::pin(renumber(home))
    }),
    (
        "Portico is killed and started again, and nothing is lost",
        |home| Box::pin(restart(home)),
    ),
    ("The dashboard shows it live", |home| Box::pin(watch(home))),
];

/// Reads the elements of a list of the API.
pub(crate) async fn list(
    api: &crate::http::Api,
    what: &str,
) -> anyhow::Result<Vec<serde_json::Value>> {
    let page: serde_json::Value = api.get(&format!("/api/v1/{what}")).await?;
    let items = page["items"].as_array().cloned();
    items.with_context(|| format!("/api/v1/{what} has no items: {page}"))
}

/// A duration as people read it.
pub(crate) fn milliseconds(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds => format!("{:.1} ms", seconds * 1000.0),
    }
}

/// How long a step may take.
const STEP_PATIENCE: Duration = Duration::from_secs(150);
