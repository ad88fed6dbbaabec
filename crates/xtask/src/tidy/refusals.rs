//! Rule 5: a room turns every refusal into its own code, one by one.

use super::Finding;
use super::house::room;
use crate::source::{Source, words};

/// A `match` over refusals has no arm for "all others": a new refusal must get its code by hand.
pub fn exhaustive(source: &Source) -> Vec<Finding> {
    if room(&source.path).is_none_or(|room| room == "mapping") {
        return Vec::new();
    }
    source
        .words()
        .filter(|word| word.text == "match" && !source.is_test(word.line))
        .filter(|word| {
            let patterns = patterns(word.after);
            let is_refusal = patterns.iter().any(|p| p.contains("Refusal::"));
            is_refusal && patterns.iter().any(|pattern| is_wildcard(pattern))
        })
        .map(|word| {
            let advice = "write one arm for each refusal, so that a new one asks for its code";
            Finding::new(&source.path, word.line, "refusal", advice)
        })
        .collect()
}

fn is_wildcard(pattern: &str) -> bool {
    let last = words(pattern).last().map(|word| word.text);
    last == Some("_") && pattern.trim_end().ends_with('_')
}

/// The patterns of the match whose scrutinee `code` begins with; what is nested in them is left
/// out.
fn patterns(code: &str) -> Vec<String> {
    let mut patterns = Vec::new();
    let mut pattern = String::new();
    let mut part = Part::Scrutinee;
    let mut depth = 0_usize;
    let mut last = ' ';
    for c in code.chars() {
        match c {
            '{' if part == Part::Scrutinee && depth == 0 => part = Part::Pattern,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                if depth == 0 {
                    break;
                }
                depth -= 1;
                if c == '}' && depth == 0 && part == Part::Value {
                    part = Part::Pattern;
                    pattern.clear();
                }
            }
            '>' if last == '=' && depth == 0 && part == Part::Pattern => {
                pattern.pop();
                patterns.push(std::mem::take(&mut pattern));
                part = Part::Value;
            }
            ',' if depth == 0 && part != Part::Scrutinee => {
                part = Part::Pattern;
                pattern.clear();
            }
            _ if depth == 0 && part == Part::Pattern => pattern.push(c),
            _ => {}
        }
        last = c;
    }
    patterns
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Pattern,
    Scrutinee,
    Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_over_refusals_is_found() {
        let text = "fn code(r: Refusal) -> u8 {\n    match r {\n        Refusal::Quota { used } => 1,\n\
                    Refusal::Denied | Refusal::Gone => { 2 }\n        _ => 3,\n    }\n}\n";

        assert_eq!(
            exhaustive(&Source::new("crates/pcp/src/server.rs", text))[0].line,
            2
        );
    }

    #[test]
    fn exhaustive_matches_and_other_types_pass() {
        let text = "fn code(r: Refusal) -> u8 {\n    match r { Refusal::Quota(_) => 1, \
                    Refusal::Denied => match x { 1 => 2, _ => 3 } }\n}\n\
                    fn other(e: u8) -> Refusal { match e { 1 => Refusal::A, _ => Refusal::B } }\n";

        assert_eq!(
            exhaustive(&Source::new("crates/pcp/src/server.rs", text)),
            []
        );
    }

    #[test]
    fn patterns_are_read_without_their_insides() {
        let found = patterns(" f(x) { A::B(1, _) => { c } D => e(2, 3), _ if g => 4 } _ => 5");

        let found: Vec<_> = found.iter().map(|pattern| pattern.trim()).collect();
        assert_eq!(found, ["A::B", "D", "_ if g"]);
    }
}
