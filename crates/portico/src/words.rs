//! Holds the words of the page together with the names that the rooms use.

use gateway::SessionState;
use translator::{AnswerKind, DropReason, EndReason};

#[test]
fn every_name_has_words() {
    let names = DropReason::ALL.map(DropReason::as_str).into_iter();
    said("DROPS", names.collect());
    said("ANSWERS", AnswerKind::ALL.map(AnswerKind::as_str).to_vec());
    let classes = ["none", "high", "web-and-high", "all"];
    assert!(
        classes
            .iter()
            .all(|name| mapping::PortClass::from_name(name).is_some())
    );
    said("PORT_CLASSES", classes.to_vec());
    said("ENDS", EndReason::ALL.map(EndReason::as_str).to_vec());
    said(
        "STATES",
        SessionState::ALL.map(SessionState::as_str).to_vec(),
    );
}

/// Checks that these names have words, and no others.
#[track_caller]
fn said(table: &str, mut names: Vec<&str>) {
    let start = format!("export const {table} = {{");
    let (_, rest) = WORDS.split_once(&start).unwrap();
    let (rows, _) = rest.split_once("};").unwrap();
    let rows = rows.lines().filter_map(|row| row.trim().strip_prefix('"'));
    let said: Vec<_> = rows
        .filter_map(|row| row.split_once("\": \""))
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    assert_eq!(said, names, "{table} of web/words.js");
}

const WORDS: &str = include_str!("../../../web/words.js");
