//! How files look: their length, their head, their names, and what must not stand in them.

use std::collections::BTreeMap;

use super::Finding;
use super::house::room;
use crate::conformance;
use crate::repository::TextFile;
use crate::source::{Source, is_test_file, numbered, words};

/// No file is longer than one sitting.
pub fn ceiling(source: &Source) -> Vec<Finding> {
    let lines = source.shipped_lines();
    if lines <= CEILING {
        return Vec::new();
    }
    let advice = format!("{lines} lines without tests: split it, the ceiling is {CEILING}");
    vec![Finding::new(&source.path, CEILING, "ceiling", advice)]
}

/// A module's file has the module's name.
pub fn mod_rs(file: &TextFile) -> Vec<Finding> {
    let Some((folder, "mod.rs")) = file.path.rsplit_once('/') else {
        return Vec::new();
    };
    vec![Finding::new(
        &file.path,
        1,
        "mod-rs",
        format!("rename it to {folder}.rs"),
    )]
}

/// What `ARCHITECTURE.md` sends a reader to is there: `room::module` is a file of that crate.
pub fn architecture(file: &TextFile, paths: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in numbered(&file.text) {
        // every second part stands between two backticks
        for name in line.split('`').skip(1).step_by(2) {
            let Some(module) = module_of(name, paths) else {
                continue;
            };
            if !paths.contains(&module.as_str()) {
                let advice = format!("{name} is not there: no file {module}");
                findings.push(Finding::new(&file.path, number, "architecture", advice));
            }
        }
    }
    findings
}

/// Returns the file that a path such as `dns::zone` or `pcp::run::Listener` leads to; `None` for
/// what is no path into a crate of ours, or one to an item of its root.
fn module_of(name: &str, paths: &[&str]) -> Option<String> {
    let (room, rest) = name.split_once("::")?;
    let folder = format!("crates/{room}/src/");
    if !paths.iter().any(|path| path.starts_with(&folder)) {
        return None;
    }
    let modules: Vec<_> = rest
        .split("::")
        .take_while(|part| part.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect();
    (!modules.is_empty()).then(|| format!("{folder}{}.rs", modules.join("/")))
}

/// A crate opens with one sentence, and with what it must never know.
pub fn crate_head(file: &TextFile) -> Vec<Finding> {
    let first = file.text.lines().next().unwrap_or_default();
    let sentence = first.strip_prefix("//! ").unwrap_or_default();
    let head = file.text.lines().take_while(|line| line.starts_with("//!"));
    if sentence.is_empty() {
        let advice = "open the crate with one sentence that says what it is for";
        return vec![Finding::new(&file.path, 1, "crate-head", advice)];
    }
    if !head.into_iter().any(|line| line.contains("**Invariant:**")) {
        let advice = "say what the crate must never know: `//! **Invariant:** ..`";
        return vec![Finding::new(&file.path, 1, "crate-head", advice)];
    }
    Vec::new()
}

/// What is left undone says so in the one way that can be found.
pub fn todo_in_rust(source: &Source) -> Vec<Finding> {
    todos(&source.path, &source.comments)
}

/// The same for files that are not Rust; prose may speak of what is to be done.
pub fn todo_elsewhere(file: &TextFile) -> Vec<Finding> {
    let is_code = CODE.iter().any(|ending| file.path.ends_with(ending));
    if is_code {
        todos(&file.path, &file.text)
    } else {
        Vec::new()
    }
}

fn todos(path: &str, text: &str) -> Vec<Finding> {
    words(text)
        .filter(|word| TODO.contains(&word.text))
        .filter(|word| word.text != TODO_OPEN || !word.after.starts_with("-correctness:"))
        .map(|word| {
            let advice = "do it now, or write `TODO-correctness:` and what is missing";
            Finding::new(path, word.line, "todo", advice)
        })
        .collect()
}

/// Nothing in the repository depends on one machine, or on where its packages come from.
pub fn places(file: &TextFile) -> Vec<Finding> {
    // Written by cargo, which names the registry in it.
    if file.path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (line, text) in numbered(&file.text) {
        if let Some(host) = REGISTRIES.iter().find(|host| text.contains(&host.concat())) {
            let advice = format!("leave {} to the tools' own settings", host.concat());
            findings.push(Finding::new(&file.path, line, "place", advice));
        }
        if FOLDERS
            .iter()
            .any(|folder| is_in_folder(text, &format!("/{folder}/")))
        {
            let advice = "name no folder of one machine: write the path from the repository's root";
            findings.push(Finding::new(&file.path, line, "place", advice));
        }
    }
    findings
}

/// Whether an absolute path in `text` starts with `folder`.
fn is_in_folder(text: &str, folder: &str) -> bool {
    text.match_indices(folder).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default();
        !before.ends_with(|c: char| c.is_alphanumeric() || "_-./:*$}~<>".contains(c))
    })
}

/// A test of a standard begins with what it proves.
pub fn conformance_names(source: &Source) -> Vec<Finding> {
    if !source.path.starts_with("tests/conformance/") {
        return Vec::new();
    }
    conformance::tests(source)
        .into_iter()
        .filter(|(_, name)| conformance::claim(name).is_none())
        .map(|(line, name)| {
            let advice = format!(
                "begin {name} with a requirement id or a section, then a sentence: \
                 m_2_nonce_mismatch_is_not_authorized, s3_2_1_series_is_ten_long"
            );
            Finding::new(&source.path, line, "conformance", advice)
        })
        .collect()
}

/// SQL files are migrations.
pub fn sql_files(file: &TextFile) -> Vec<Finding> {
    let is_at_home = file.path.starts_with("migrations/")
        || room(&file.path) == Some("store")
        || is_test_file(&file.path);
    if !file.path.ends_with(".sql") || is_at_home {
        return Vec::new();
    }
    vec![Finding::new(
        &file.path,
        1,
        "sql",
        "move it to migrations/ or into the store",
    )]
}

/// Migrations are called `NNNN_verb_noun.sql`, each with a number of its own.
pub fn migration_names(paths: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for path in migrations(paths) {
        let name = path
            .trim_start_matches("migrations/")
            .trim_end_matches(".sql");
        let parts: Vec<_> = name.split('_').collect();
        let is_number = |part: &str| part.len() == 4 && part.chars().all(|c| c.is_ascii_digit());
        let is_word = |part: &&str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        match parts.split_first() {
            Some((number, words)) if is_number(number) && words.len() >= 2 => {
                if !words.iter().all(is_word) {
                    findings.push(Finding::new(path, 1, "migration", NAME_ADVICE));
                }
                if let Some(other) = taken.insert(number, path) {
                    let advice = format!("{other} has this number: take the next one");
                    findings.push(Finding::new(path, 1, "migration", advice));
                }
            }
            _ => findings.push(Finding::new(path, 1, "migration", NAME_ADVICE)),
        }
    }
    findings
}

/// What has been released is never edited: each line of the list is a file's git hash and path.
pub fn released_migrations(
    list: &TextFile,
    paths: &[&str],
    hash: impl Fn(&str) -> Option<String>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut last = "";
    for (line, text) in numbered(&list.text).filter(|(_, text)| !text.trim().is_empty()) {
        let Some((expected, path)) = text.split_once(' ') else {
            let advice = "write `<hash> <path>`, with the hash of `git hash-object`";
            findings.push(Finding::new(&list.path, line, "migration", advice));
            continue;
        };
        last = last.max(path.trim());
        if hash(path.trim()).as_deref() != Some(expected) {
            let advice = format!("{path} is released: restore it, and mend it by a new migration");
            findings.push(Finding::new(&list.path, line, "migration", advice));
        }
    }
    for path in migrations(paths).filter(|path| *path < last && !list.text.contains(*path)) {
        let advice = format!("it comes before {last}, which is released: take a higher number");
        findings.push(Finding::new(path, 1, "migration", advice));
    }
    findings
}

fn migrations<'a>(paths: &[&'a str]) -> impl Iterator<Item = &'a str> {
    paths
        .iter()
        .copied()
        .filter(|path| path.starts_with("migrations/") && path.ends_with(".sql"))
}

/// The document that says where everything is.
pub const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// The list of released migrations; there is none before the first release.
pub const RELEASED: &str = "migrations/HASHES";

const NAME_ADVICE: &str = "call it NNNN_verb_noun.sql";

const CEILING: usize = 600;

const TODO_OPEN: &str = "TODO";

const TODO: &[&str] = &[TODO_OPEN, "FIXME", "XXX"];

const CODE: &[&str] = &[
    ".css", ".html", ".js", ".mjs", ".sh", ".sql", ".toml", ".ts", ".ci/run",
];

/// In pieces, so that this file passes its own rule.
const REGISTRIES: &[[&str; 2]] = &[
    ["crates", ".io-index"],
    ["index.crates", ".io"],
    ["static.crates", ".io"],
    ["deb.debian", ".org"],
    ["security.debian", ".org"],
    ["files.pythonhosted", ".org"],
    ["pypi", ".org"],
    ["proxy.golang", ".org"],
    ["registry.npmjs", ".org"],
    ["registry.yarnpkg", ".com"],
];

const FOLDERS: &[&str] = &["Users", "home", "root", "work", "workspace"];

#[cfg(test)]
mod tests;
