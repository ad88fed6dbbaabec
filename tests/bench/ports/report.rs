//! Tables of medians with their spread, and the goals.

use std::fmt;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::dialect::Dialect;
use crate::flood::Forger;
use crate::measures::{Row, Step, What};
use crate::site::MINIUPNPD;
use crate::support::{OWN, Table, median, number};

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    /// What the reader must know of the machine and the peers.
    notes: Vec<String>,
    /// By the peer, and how many mappings stand there.
    table: Table<Row, (String, usize)>,
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
            table: Table::new(),
            shared,
        }
    }

    pub fn add(&mut self, peer: &str, level: usize, row: Row, value: f64) {
        self.table.add(row, (peer.to_owned(), level), value);
    }

    pub fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    pub fn failed(&mut self, line: String) {
        self.table.failed(line);
    }

    pub fn check(&self) -> Result<()> {
        self.table.check()
    }

    /// Every value, in the order of the rounds.
    pub fn json(&self) -> Value {
        let name = |(peer, level): &(String, usize)| format!("{peer}@{level}");
        let rows: Map<_, _> = self
            .table
            .rows()
            .map(|row| (row.to_string(), self.table.json(row, name)))
            .collect();
        let goals: Vec<_> = self
            .verdicts()
            .into_iter()
            .map(|it| json!({ "goal": it.goal, "found": it.found, "reached": it.reached }))
            .collect();
        let failed = self.table.failures();
        json!({ "notes": self.notes, "failed": failed, "rows": rows, "goals": goals })
    }

    fn own(&self, row: Row, level: usize) -> Option<f64> {
        self.table.median(row, &(OWN.to_owned(), level))
    }

    /// How many mappings stood at our own sites, fewest first.
    fn levels(&self) -> Vec<usize> {
        let mut levels: Vec<_> = self
            .table
            .sites()
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
        let goals: [(Row, &str, Reached); 9] = [
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
                Row::FloodSuccess(Forger::Addresses),
                "flood: at least 99 % are granted",
                |it| it >= 99.0,
            ),
            (
                Row::FloodP99(Forger::Addresses),
                "flood: p99 below 50 ms",
                |it| it < 50.0,
            ),
            (
                Row::FloodSuccess(Forger::Macs),
                "flood of MACs: at least 99 % are granted",
                |it| it >= 99.0,
            ),
            (
                Row::FloodP99(Forger::Macs),
                "flood of MACs: p99 below 50 ms",
                |it| it < 50.0,
            ),
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

    fn write_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:<28}", "median (least-most)")?;
        for (peer, level) in self.table.sites() {
            write!(f, " {:>21}", format!("{peer}@{level}"))?;
        }
        writeln!(f)?;
        for row in self.table.rows() {
            write!(f, "{:<28}", row.to_string())?;
            for site in self.table.sites() {
                let cell = self.table.cell(row, site);
                write!(f, " {:>21}", cell.unwrap_or_else(|| "-".to_owned()))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    /// How much faster we are than the peer, where both have as many mappings.
    fn ratios(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rivals: Vec<_> = self
            .table
            .sites()
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
                let ratio = self
                    .own(row, *level)
                    .zip(self.table.median(row, &site))
                    .map(|(own, theirs)| format!("{:.2} at {level}", own / theirs));
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
        for line in self.table.failures() {
            writeln!(f, "failed: {line}")?;
        }
        self.write_table(f)?;
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

/// The disk that the goals speak of: its `fdatasync`, in milliseconds.
const DISK: f64 = 0.3;

type Reached = fn(f64) -> bool;
