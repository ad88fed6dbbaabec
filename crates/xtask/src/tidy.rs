//! The rules of the house that no compiler knows, and its figures.
//!
//! Each rule is a function from a file (or a crate) to its findings. `ARCHITECTURE.md` says why.

mod documents;
mod figures;
mod house;
mod names;
mod refusals;

use std::fmt;

use anyhow::Result;

use crate::repository::{self, Repository};

/// Prints the findings and the figures; says whether there was nothing to find.
pub fn run(repository: &Repository) -> Result<bool> {
    let files = repository.files()?;
    let sources = repository::sources(&files);
    let mut findings = Vec::new();

    let house: Vec<_> = repository
        .crates
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    for member in &repository.crates {
        let manifest = files.iter().find(|file| file.path == member.manifest);
        let manifest = manifest.map_or("", |file| file.text.as_str());
        findings.extend(house::knows(member, &house, manifest));
        findings.extend(house::owns(member, manifest));
        let root_file = files.iter().find(|file| file.path == member.root_file);
        if let Some(root_file) = root_file {
            findings.extend(documents::crate_head(root_file));
        }
    }
    for source in &sources {
        for rule in SOURCE_RULES {
            findings.extend(rule(source));
        }
    }
    for file in &files {
        for rule in FILE_RULES {
            findings.extend(rule(file));
        }
    }
    let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
    findings.extend(documents::migration_names(&paths));
    if let Some(architecture) = files
        .iter()
        .find(|file| file.path == documents::ARCHITECTURE)
    {
        findings.extend(documents::architecture(architecture, &paths));
    }
    if let Some(released) = files.iter().find(|file| file.path == documents::RELEASED) {
        findings.extend(documents::released_migrations(released, &paths, |path| {
            repository.hash(path).ok()
        }));
    }

    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    findings.dedup();
    for finding in &findings {
        println!("{finding}");
    }
    println!("{} files, {} findings\n", files.len(), findings.len());
    print!("{}", figures::table(&sources));
    Ok(findings.is_empty())
}

/// Something to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    pub rule: &'static str,
    /// What to do.
    pub advice: String,
}

impl Finding {
    fn new(path: &str, line: usize, rule: &'static str, advice: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            rule,
            advice: advice.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            rule,
            advice,
        } = self;
        write!(f, "{path}:{line}: {rule}: {advice}")
    }
}

type SourceRule = fn(&crate::source::Source) -> Vec<Finding>;
type FileRule = fn(&repository::TextFile) -> Vec<Finding>;

const SOURCE_RULES: &[SourceRule] = &[
    documents::ceiling,
    documents::conformance_names,
    documents::todo_in_rust,
    house::sql,
    names::neighbours,
    names::owned,
    names::runtime,
    names::unsafe_code,
    refusals::exhaustive,
];

const FILE_RULES: &[FileRule] = &[
    documents::mod_rs,
    documents::places,
    documents::sql_files,
    documents::todo_elsewhere,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_where_which_rule_and_what_to_do() {
        let finding = Finding::new("crates/a/src/mod.rs", 1, "mod-rs", "rename it to a.rs");

        assert_eq!(
            finding.to_string(),
            "crates/a/src/mod.rs:1: mod-rs: rename it to a.rs"
        );
    }
}
