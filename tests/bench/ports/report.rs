//! Tables of medians with their spread, and the goals.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use crate::dialect::Dialect;
use crate::measures::{Row, Step, What};
use crate::site::MINIUPNPD;

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    /// What the reader must know of the machine and the peers.
    notes: Vec<String>,
    failures: Vec<String>,
    /// In the order in which they were first met: the peer, and how many mappings stand there.
    sites: Vec<(String, usize)>,
    values: BTreeMap<Row, BTreeMap<(String, usize), Vec<f64>>>,
    /// Judge what grows by processor time.
    shared: bool,
}

/// What was wanted, and what came of it.
#[derive(Debug)]
struct Verdict {
    goal: String,
    reached: bool,
    found: String,
}

impl Report {
    pub const fn new(notes: Vec<String>, shared: bool) -> Self {
        Self {
            notes,
            failures: Vec::new(),
            sites: Vec::new(),
            values: BTreeMap::new(),
            shared,
        }
    }

    pub fn add(&mut self, peer: &str, level: usize, row: Row, value: f64) {
        let site = (peer.to_owned(), level);
        if !self.sites.contains(&site) {
            self.sites.push(site.clone());
        }
        let values = self.values.entry(row).or_default();
        values.entry(site).or_default().push(value);
    }

    pub fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    /// A measurement that did not come to an end is told, and the others count.
    pub fn failed(&mut self, line: String) {
        self.failures.push(line);
    }

    /// Whether everything came to an end.
    pub fn check(&self) -> Result<()> {
        let count = self.failures.len();
        ensure!(count == 0, "{count} measurements failed");
        Ok(())
    }

    /// Every value, in the order of the rounds.
    pub fn json(&self) -> Value {
        let rows: Map<_, _> = self
            .values
            .iter()
            .map(|(row, sites)| {
                let sites: Map<_, _> = sites
                    .iter()
                    .map(|((peer, level), values)| {
                        let entry = json!({ "median": median(values), "rounds": values });
                        (format!("{peer}@{level}"), entry)
                    })
                    .collect();
                (row.to_string(), Value::Object(sites))
            })
            .collect();
        let goals: Vec<_> = self
            .verdicts()
            .into_iter()
            .map(|it| json!({ "goal": it.goal, "found": it.found, "reached": it.reached }))
            .collect();
        json!({ "notes": self.notes, "failed": self.failures, "rows": rows, "goals": goals })
    }

    fn own(&self, row: Row, level: usize) -> Option<f64> {
        let values = self.values.get(&row)?.get(&(OWN.to_owned(), level))?;
        (!values.is_empty()).then(|| median(values))
    }

    /// How many mappings stood at our own sites, fewest first.
    fn levels(&self) -> Vec<usize> {
        let mut levels: Vec<_> = self
            .sites
            .iter()
            .filter(|(peer, _)| peer == OWN)
            .map(|(_, level)| *level)
            .collect();
        levels.sort_unstable();
        levels
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        verdicts.extend(self.flat());
        verdicts.extend(self.alone());
        verdicts.extend(self.together());
        verdicts.extend(self.single());
        verdicts
    }

    /// What a request costs where most mappings stand, beside where fewest do.
    fn flat(&self) -> Option<Verdict> {
        let levels = self.levels();
        let (least, most) = (*levels.first()?, *levels.last()?);
        let kinds: &[(What, bool)] = if self.shared {
            &[(What::Cpu, false)]
        } else {
            &[(What::Rate, true), (What::P50, false)]
        };
        let mut ratios = Vec::new();
        for (dialect, step) in scenarios() {
            for (what, falls) in kinds {
                let row = Row::Map(dialect, step, *what);
                let (Some(few), Some(many)) = (self.own(row, least), self.own(row, most)) else {
                    continue;
                };
                let ratio = if *falls { few / many } else { many / few };
                ratios.push((ratio, format!("{row}")));
            }
        }
        let (worst, row) = ratios.into_iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
        (least < most).then(|| Verdict {
            goal: format!("{most} mappings cost at most 1.3 of {least}"),
            reached: worst <= 1.3,
            found: format!("{worst:.2}, worst in {row}"),
        })
    }

    /// One client's p99 over the disk's own.
    fn alone(&self) -> Option<Verdict> {
        let mut all = Vec::new();
        for level in self.levels() {
            for (dialect, step) in scenarios() {
                let of = |what| self.own(Row::Map(dialect, step, what), level);
                if let (Some(p99), Some(disk)) = (of(What::P99), of(What::DiskP99)) {
                    all.push((p99 - disk, p99, disk, dialect, step, level));
                }
            }
        }
        let (over, p99, disk, dialect, step, level) =
            all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some(Verdict {
            goal: "one client: p99 at most 2 ms over the disk's own".to_owned(),
            reached: over <= 2.0,
            found: format!(
                "{over:.2} ms ({p99:.2} over {disk:.2}), worst in {} {step:?} at {level}",
                dialect.name()
            ),
        })
    }

    /// Sixteen clients; the goals are those of a disk that takes 0.3 ms.
    fn together(&self) -> Vec<Verdict> {
        let disk = self.disk().unwrap_or(DISK);
        let goals = [
            (8000.0, [Dialect::Pcp, Dialect::NatPmp].as_slice()),
            (4000.0, &[Dialect::UpnpKept]),
            (4000.0, &[Dialect::Upnp]),
        ];
        goals
            .into_iter()
            .filter_map(|(wanted, dialects)| {
                let levels = self.levels();
                let (rate, row, level) = levels
                    .iter()
                    .flat_map(|level| scenarios().map(move |it| (*level, it)))
                    .filter(|(_, (dialect, _))| dialects.contains(dialect))
                    .filter_map(|(level, (dialect, step))| {
                        let row = Row::Map(dialect, step, What::Rate);
                        Some((self.own(row, level)?, row, level))
                    })
                    .min_by(|a, b| a.0.total_cmp(&b.0))?;
                let scaled = wanted * DISK / disk;
                Some(Verdict {
                    goal: format!("16 clients: {wanted:.0}/s where the disk takes {DISK} ms"),
                    reached: rate >= scaled,
                    found: format!(
                        "{rate:.0}/s, {:.2} of that, {:.2} of {scaled:.0}/s in proportion to \
                         {disk:.3} ms; slowest in {row} at {level}",
                        rate / wanted,
                        rate / scaled
                    ),
                })
            })
            .collect()
    }

    /// The median of what the disk took in turns with our own requests.
    fn disk(&self) -> Option<f64> {
        let mut all = Vec::new();
        for level in self.levels() {
            for (dialect, step) in scenarios() {
                all.extend(self.own(Row::Map(dialect, step, What::DiskP50), level));
            }
        }
        (!all.is_empty()).then(|| median(&all))
    }

    fn single(&self) -> Vec<Verdict> {
        let goals: [(Row, &str, Reached); 7] = [
            (Row::Memory, "a mapping takes at most 1024 B", |it| {
                it <= 1024.0
            }),
            (Row::Restart, "a restart serves within 1 s", |it| it <= 1.0),
            (
                Row::MillionMib,
                "a million renewals leave less than 64 MiB",
                |it| it < 64.0,
            ),
            (Row::ChurnMib, "churn leaves less than 64 MiB", |it| {
                it < 64.0
            }),
            (
                Row::ChurnGrowth,
                "churn: memory grows by less than 8 MiB",
                |it| it < 8.0,
            ),
            (
                Row::FloodSuccess,
                "flood: at least 99 % are granted",
                |it| it >= 99.0,
            ),
            (Row::FloodP99, "flood: p99 below 50 ms", |it| it < 50.0),
        ];
        let mut verdicts = Vec::new();
        for (row, goal, reached) in goals {
            for level in self.levels() {
                if let Some(value) = self.own(row, level) {
                    verdicts.push(Verdict {
                        goal: goal.to_owned(),
                        reached: reached(value),
                        found: format!("{} at {level}", number(value)),
                    });
                }
            }
        }
        verdicts
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:<28}", "median (least-most)")?;
        for (peer, level) in &self.sites {
            write!(f, " {:>21}", format!("{peer}@{level}"))?;
        }
        writeln!(f)?;
        for (row, values) in &self.values {
            write!(f, "{:<28}", row.to_string())?;
            for site in &self.sites {
                let cell = values.get(site).map(|values| {
                    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
                    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let [median, least, most] = [median(values), least, most].map(number);
                    if values.len() > 1 {
                        format!("{median} ({least}-{most})")
                    } else {
                        median
                    }
                });
                write!(f, " {:>21}", cell.unwrap_or_else(|| "-".to_owned()))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    /// How much faster we are than the peer, where both have as many mappings.
    fn ratios(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rivals: Vec<_> = self
            .sites
            .iter()
            .filter(|(peer, _)| peer == MINIUPNPD)
            .map(|(_, level)| *level)
            .collect();
        if rivals.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nRate of 16 clients: {OWN} to {MINIUPNPD}")?;
        for (dialect, step) in scenarios() {
            let row = Row::Map(dialect, step, What::Rate);
            write!(f, "{:<28}", row.to_string())?;
            for level in &rivals {
                let site = (MINIUPNPD.to_owned(), *level);
                let theirs = self.values.get(&row).and_then(|it| it.get(&site));
                let ratio = self
                    .own(row, *level)
                    .zip(theirs)
                    .map(|(own, theirs)| format!("{:.2} at {level}", own / median(theirs)));
                write!(f, " {:>21}", ratio.unwrap_or_else(|| "-".to_owned()))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.notes {
            writeln!(f, "note: {line}")?;
        }
        for line in &self.failures {
            writeln!(f, "failed: {line}")?;
        }
        self.table(f)?;
        self.ratios(f)?;
        writeln!(f, "\nGoals")?;
        for Verdict {
            goal,
            reached,
            found,
        } in self.verdicts()
        {
            let verdict = if reached { "reached" } else { "MISSED" };
            writeln!(f, "{verdict:<8} {goal}: {found}")?;
        }
        Ok(())
    }
}

fn scenarios() -> impl Iterator<Item = (Dialect, Step)> {
    Dialect::ALL
        .into_iter()
        .flat_map(|dialect| [(dialect, Step::New), (dialect, Step::Renew)])
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |n: usize| sorted.get(n).copied().unwrap_or_default();
    f64::midpoint(at((sorted.len().max(1) - 1) / 2), at(sorted.len() / 2))
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value {
        10_000.0.. => format!("{:.1}k", value / 1000.0),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// What the program calls the build that it belongs to.
pub const OWN: &str = "portico";

/// The disk that the goals speak of: its `fdatasync`, in milliseconds.
const DISK: f64 = 0.3;

type Reached = fn(f64) -> bool;
