//! What `dig` found.

use std::fmt;

use anyhow::{Context as _, Result};
use lab::Node;

use crate::program::{program, say};

/// An answer, taken apart.
#[derive(Debug, Default)]
pub struct Found {
    /// `NOERROR`, `NXDOMAIN`, `REFUSED` and so on.
    pub status: String,
    /// `qr aa rd` and so on.
    pub flags: String,
    pub answer: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
    /// All that dig said.
    pub text: String,
}

/// A line of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub ttl: u32,
    pub kind: String,
    pub data: String,
}

/// Asks the server `server` from `node`.
///
/// # Errors
/// When nobody answers.
pub async fn dig(node: &Node, server: &str, question: &[&str]) -> Result<Found> {
    let dig = program(node, "dig")?
        .arg(format!("@{server}"))
        .args(["-r", "+time=5", "+tries=4", "+nocookie"])
        .args(question);
    let text = say(dig)
        .await?
        .ok()
        .with_context(|| format!("dig {question:?} @{server}"))?;
    Ok(Found::parse(text))
}

impl Found {
    fn parse(text: String) -> Self {
        let mut found = Self::default();
        let mut section = "";
        for line in text.lines() {
            if let Some(header) = line.strip_prefix(";; ->>HEADER<<-") {
                found.status = between(header, "status: ", ",");
            } else if let Some(flags) = line.strip_prefix(";; flags: ") {
                found.flags = flags.split(';').next().unwrap_or_default().to_owned();
            } else if let Some(title) = line.strip_prefix(";; ") {
                section = title.split(' ').next().unwrap_or_default();
            } else if let Some(record) = Record::parse(line) {
                match section {
                    "ANSWER" => found.answer.push(record),
                    "AUTHORITY" => found.authority.push(record),
                    "ADDITIONAL" => found.additional.push(record),
                    _ => {}
                }
            }
        }
        found.text = text;
        found
    }

    /// The data of the answers.
    pub fn data(&self) -> Vec<&str> {
        self.answer
            .iter()
            .map(|record| record.data.as_str())
            .collect()
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.split(' ').any(|it| it == flag)
    }
}

impl Record {
    fn parse(line: &str) -> Option<Self> {
        if line.starts_with(';') {
            return None;
        }
        let mut words = line.split_ascii_whitespace();
        let (name, ttl) = (words.next()?, words.next()?);
        let (_class, kind) = (words.next()?, words.next()?);
        Some(Self {
            name: name.to_owned(),
            ttl: ttl.parse().ok()?,
            kind: kind.to_owned(),
            data: words.collect::<Vec<_>>().join(" "),
        })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim())
    }
}

fn between(text: &str, before: &str, after: &str) -> String {
    let found = text
        .split_once(before)
        .and_then(|(_, rest)| rest.split_once(after));
    found.map(|(found, _)| found).unwrap_or_default().to_owned()
}
