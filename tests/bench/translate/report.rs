//! Tables of medians with their spread, ratios, and the goals.

use std::fmt;

use anyhow::Result;
use serde_json::{Value, json};

use crate::measures::Column;
use crate::site::{FORWARDING, Offloads, TAYGA, TAYGA_MAIN, TUNDRA};
use crate::support::{OWN, Table};

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    absent: Vec<String>,
    /// By peer.
    table: Table<(Offloads, Column), String>,
}

impl Report {
    /// With a line for each peer that cannot take part.
    pub const fn new(absent: Vec<String>) -> Self {
        Self {
            absent,
            table: Table::new(),
        }
    }

    pub fn add(&mut self, offloads: Offloads, peer: &str, column: Column, value: f64) {
        self.table.add((offloads, column), peer.to_owned(), value);
    }

    pub fn failed(&mut self, line: String) {
        self.table.failed(line);
    }

    pub fn check(&self) -> Result<()> {
        self.table.check()
    }

    /// Every value, in the order of the rounds.
    pub fn json(&self) -> Value {
        let table = |offloads| -> Value {
            let columns = self.columns(offloads);
            let entry = |column: Column| {
                let peers = self.table.json((offloads, column), String::clone);
                (column.key().to_owned(), peers)
            };
            columns.map(entry).collect()
        };
        let goals: Vec<_> = self
            .goals()
            .into_iter()
            .map(|(goal, ratio)| {
                let met = goal.wanted.is_met(ratio);
                json!({ "goal": goal.to_string(), "ratio": ratio, "reached": met })
            })
            .collect();
        json!({
            "absent": self.absent,
            "failed": self.table.failures(),
            "host_offloads_on": table(Offloads::On),
            "host_offloads_off": table(Offloads::Off),
            "goals": goals,
        })
    }

    fn columns(&self, offloads: Offloads) -> impl Iterator<Item = Column> {
        let rows = self.table.rows().filter(move |(of, _)| *of == offloads);
        rows.map(|(_, column)| column)
    }

    fn median(&self, offloads: Offloads, column: Column, peer: &str) -> Option<f64> {
        self.table.median((offloads, column), &peer.to_owned())
    }

    fn write_table(&self, f: &mut fmt::Formatter<'_>, offloads: Offloads) -> fmt::Result {
        let columns: Vec<_> = self.columns(offloads).collect();
        if columns.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nHost offloads {offloads}: median (least-most)")?;
        self.rows(f, &columns, |column, peer| {
            self.table.cell((offloads, column), &peer.to_owned())
        })?;
        for base in [FORWARDING, TAYGA] {
            if !self.table.sites().iter().any(|it| it == base) {
                continue;
            }
            writeln!(f, "\nHost offloads {offloads}: ratio to {base}")?;
            self.rows(f, &columns, |column, peer| {
                let value = self.median(offloads, column, peer)?;
                let base = self.median(offloads, column, base)?;
                Some(format!("{:.2}", value / base))
            })?;
        }
        Ok(())
    }

    /// A row a column, a column a peer: that fits a screen.
    fn rows(
        &self,
        f: &mut fmt::Formatter<'_>,
        columns: &[Column],
        cell: impl Fn(Column, &str) -> Option<String>,
    ) -> fmt::Result {
        write!(f, "{:<22}", "")?;
        for peer in self.table.sites() {
            write!(f, " {peer:>21}")?;
        }
        writeln!(f)?;
        for column in columns {
            let (title, unit) = column.title();
            write!(f, "{:<22}", format!("{title}, {unit}"))?;
            for peer in self.table.sites() {
                let cell = cell(*column, peer).unwrap_or_else(|| "-".to_owned());
                write!(f, " {cell:>21}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    /// The goals that can be judged by what was measured, with the ratio that was reached.
    fn goals(&self) -> Vec<(&'static Goal, f64)> {
        GOALS
            .iter()
            .filter_map(|goal| {
                let of = |peer: &str| self.median(Offloads::On, goal.column, peer);
                let own = of(OWN)?;
                let base = match goal.base {
                    Base::Peer(peer) => of(peer)?,
                    Base::BestTun => {
                        let rivals = [TAYGA, TAYGA_MAIN, TUNDRA].into_iter().filter_map(of);
                        match goal.wanted {
                            Wanted::AtLeast(_) => rivals.reduce(f64::max)?,
                            Wanted::AtMost(_) => rivals.reduce(f64::min)?,
                        }
                    }
                };
                Some((goal, own / base))
            })
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.absent {
            writeln!(f, "absent: {line}")?;
        }
        for line in self.table.failures() {
            writeln!(f, "failed: {line}")?;
        }
        self.write_table(f, Offloads::On)?;
        self.write_table(f, Offloads::Off)?;
        let goals = self.goals();
        if !goals.is_empty() {
            writeln!(f, "\nGoals, host offloads on")?;
        }
        for (goal, ratio) in goals {
            let verdict = if goal.wanted.is_met(ratio) {
                "reached"
            } else {
                "MISSED"
            };
            writeln!(f, "{:<60} {ratio:>6.2}  {verdict}", goal.to_string())?;
        }
        Ok(())
    }
}

/// What Portico wants to be, beside a peer.
#[derive(Debug)]
struct Goal {
    column: Column,
    base: Base,
    wanted: Wanted,
}

#[derive(Debug, Clone, Copy)]
enum Base {
    Peer(&'static str),
    /// The best of those that use a TUN device.
    BestTun,
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

impl Wanted {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, _) = self.column.title();
        let base = match self.base {
            Base::Peer(peer) => peer,
            Base::BestTun => "the best TUN peer",
        };
        match self.wanted {
            Wanted::AtLeast(least) => write!(f, "{title}: at least {least} of {base}"),
            Wanted::AtMost(most) => write!(f, "{title}: at most {most} of {base}"),
        }
    }
}

const fn at_least(column: Column, least: f64, base: Base) -> Goal {
    Goal {
        column,
        base,
        wanted: Wanted::AtLeast(least),
    }
}

const fn at_most(column: Column, most: f64, base: Base) -> Goal {
    Goal {
        column,
        base,
        wanted: Wanted::AtMost(most),
    }
}

const KERNEL: Base = Base::Peer(FORWARDING);
const DEBIAN: Base = Base::Peer(TAYGA);

const GOALS: &[Goal] = &[
    at_least(Column::TcpUp, 0.55, KERNEL),
    at_least(Column::TcpDown, 0.55, KERNEL),
    at_least(Column::TcpUp, 3.0, DEBIAN),
    at_least(Column::TcpDown, 3.0, DEBIAN),
    at_least(Column::Tcp4Up, 4.5, DEBIAN),
    at_least(Column::Tcp4Down, 4.5, DEBIAN),
    at_most(Column::TcpUpCpu, 0.45, DEBIAN),
    at_most(Column::TcpDownCpu, 0.45, DEBIAN),
    at_most(Column::CpuUp, 0.45, DEBIAN),
    at_most(Column::CpuDown, 0.45, DEBIAN),
    at_most(Column::UdpCpu, 1.0, Base::BestTun),
    at_most(Column::UdpPacedCpu, 1.0, Base::BestTun),
    at_least(Column::Ndr, 0.8, Base::BestTun),
    at_least(Column::Conn, 1.0, DEBIAN),
    at_most(Column::RrSameP50, 1.1, DEBIAN),
    at_most(Column::RrOtherP50, 1.1, DEBIAN),
];
