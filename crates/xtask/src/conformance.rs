//! The conformance table: which requirement has a test, and where we depart from a text.

use crate::source::{Source, numbered, words};

/// A test of `tests/conformance`, by what its name says.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    /// `M-2`, or `§3.2.1`.
    pub requirement: String,
    pub sentence: String,
}

/// Prints both tables as Markdown.
pub fn report(sources: &[Source]) -> String {
    let mut out = String::new();
    out.push_str("## Requirements with a test\n\n| text | requirement | test |\n|---|---|---|\n");
    let mut claims = 0;
    for source in sources
        .iter()
        .filter(|source| source.path.starts_with(FOLDER))
    {
        let text = document(&source.path);
        let mut rows: Vec<_> = tests(source)
            .iter()
            .filter_map(|(_, name)| claim(name))
            .collect();
        rows.sort_by_cached_key(|row| in_order(&row.requirement));
        claims += rows.len();
        for Claim {
            requirement,
            sentence,
        } in rows
        {
            out.push_str(&format!("| {text} | {requirement} | {sentence} |\n"));
        }
    }
    out.push_str("\n## Departures\n\n| text | what and why | where |\n|---|---|---|\n");
    let mut departures = 0;
    for source in sources {
        for (line, text) in deviations(source) {
            let (place, what) = text.split_once(": ").unwrap_or((text.as_str(), ""));
            out.push_str(&format!("| {place} | {what} | {}:{line} |\n", source.path));
            departures += 1;
        }
    }
    out.push_str(&format!("\n{claims} tests, {departures} departures.\n"));
    out
}

/// The tests of a file, with their lines.
pub fn tests(source: &Source) -> Vec<(usize, String)> {
    let mut tests = Vec::new();
    let mut is_test = false;
    for word in source.words() {
        match word.text {
            "test" if word.after.trim_start().starts_with([']', '(']) => {
                let attribute = word.before.rsplit("#[").next().unwrap_or_default();
                is_test |= attribute
                    .chars()
                    .all(|c| c.is_alphanumeric() || ":_ ".contains(c));
            }
            "fn" if is_test => {
                is_test = false;
                let name = words(word.after).next().map(|name| name.text.to_owned());
                tests.push((word.line, name.unwrap_or_default()));
            }
            _ => {}
        }
    }
    tests
}

/// Reads the requirement from a test's name: `m_2_..`, `n6_13_..`, `d_u1_..` or `s3_2_1_..`; one of
/// another text than the file's begins with that: `rfc_5722_..`, `rfc_8200_s4_5_..`.
pub fn claim(name: &str) -> Option<Claim> {
    if let Some((number, rest)) = name
        .strip_prefix("rfc_")
        .and_then(|rest| rest.split_once('_'))
    {
        let other = |requirement: &str| format!("RFC {number} {requirement}").trim_end().to_owned();
        return is_number(number).then(|| {
            let claim = claim(rest).unwrap_or_else(|| Claim {
                requirement: String::new(),
                sentence: rest.replace('_', " "),
            });
            Claim {
                requirement: other(&claim.requirement),
                ..claim
            }
        });
    }
    let (first, rest) = name.split_once('_')?;
    let section = first.strip_prefix('s').filter(|number| is_number(number));
    let (requirement, words) = if let Some(number) = section {
        let mut parts = vec![number];
        let mut rest = rest;
        while let Some((part, after)) = rest.split_once('_').filter(|(part, _)| is_number(part)) {
            parts.push(part);
            rest = after;
        }
        (format!("§{}", parts.join(".")), rest)
    } else {
        let (number, rest) = rest.split_once('_')?;
        let digits = number
            .strip_prefix(|c: char| c.is_ascii_lowercase())
            .unwrap_or(number);
        if !AREAS.contains(&first) || !is_number(digits) {
            return None;
        }
        (
            format!("{}-{}", first.to_uppercase(), number.to_uppercase()),
            rest,
        )
    };
    (!words.is_empty() && !is_number(words)).then(|| Claim {
        requirement,
        sentence: words.replace('_', " "),
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

/// `tests/conformance/rfc6887.rs` and `rfc6887_filter.rs` are about RFC 6887.
fn document(path: &str) -> String {
    let name = path.strip_prefix(FOLDER).unwrap_or(path);
    let name = name.split(['/', '.', '_']).next().unwrap_or(name);
    name.strip_prefix("rfc")
        .map_or_else(|| name.to_owned(), |number| format!("RFC {number}"))
}

/// Sorts `M-10` behind `M-2`.
fn in_order(requirement: &str) -> Vec<(String, u32)> {
    requirement
        .split(['-', '.', '§'])
        .map(|part| {
            let letters: String = part.chars().take_while(|c| !c.is_ascii_digit()).collect();
            let number = part
                .strip_prefix(letters.as_str())
                .and_then(|n| n.parse().ok());
            (letters, number.unwrap_or_default())
        })
        .collect()
}

/// The `DEVIATION` comments of a file, each joined into one line.
fn deviations(source: &Source) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (line, comment) in numbered(&source.comments) {
        let text = comment.trim_start_matches([' ', '/', '!', '*']).trim();
        let code = source.code.lines().nth(line - 1).unwrap_or_default();
        if let Some(text) = text.strip_prefix(MARK) {
            found.push((line, text.trim().to_owned()));
            open = true;
        } else if text.is_empty() || !code.trim().is_empty() {
            open = false;
        } else if let Some((_, whole)) = found.last_mut().filter(|_| open) {
            whole.push(' ');
            whole.push_str(text);
        }
    }
    found
}

const FOLDER: &str = "tests/conformance/";

const MARK: &str = "DEVIATION ";

/// The areas that the requirement ids begin with.
const AREAS: &[&str] = &[
    "a", "c", "d", "e", "g", "h", "l", "m", "n6", "np", "o", "p", "rec", "req", "s", "sec", "src",
    "t", "u", "ula", "w", "waa", "wll", "wpd", "x",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_requirements_and_sections() {
        for (name, requirement) in [
            ("m_2_nonce_mismatch_is_not_authorized", "M-2"),
            ("t_8_paths_cannot_be_guessed", "T-8"),
            ("n6_13_a_packet_to_the_pool_is_dropped", "N6-13"),
            ("d_u1_update_is_answered", "D-U1"),
            ("x_a1_bits_64_to_71_are_zero", "X-A1"),
            ("s3_2_1_series_is_ten_long", "§3.2.1"),
            ("s5_hop_limit", "§5"),
            ("rfc_8200_s4_5_duplicates_are_ignored", "RFC 8200 §4.5"),
            ("rfc_5722_overlap_drops_the_datagram", "RFC 5722"),
        ] {
            assert_eq!(
                claim(name).map(|claim| claim.requirement).as_deref(),
                Some(requirement)
            );
        }
    }

    #[test]
    fn names_without_a_requirement_make_no_claim() {
        for name in [
            "renewal_is_granted",
            "m_nonce_2_is_kept",
            "zz_2_is_kept",
            "m_2",
            "s_is",
        ] {
            assert_eq!(claim(name), None, "{name}");
        }
    }

    #[test]
    fn file_is_named_after_its_document() {
        for (path, text) in [
            ("tests/conformance/rfc6887.rs", "RFC 6887"),
            ("tests/conformance/rfc6887_filter.rs", "RFC 6887"),
            ("tests/conformance/igd.rs", "igd"),
        ] {
            assert_eq!(document(path), text);
        }
    }

    #[test]
    fn tests_are_found_by_their_attribute() {
        let source = Source::new(
            "tests/conformance/rfc6887.rs",
            "#[test]\nfn m_2_a() {}\nfn helper() {}\n#[tokio::test(start_paused = true)]\n\
             async fn m_3_b() {}\nproptest! {\n    #[test]\n    fn m_4_c(x in 0..1) {}\n}\n",
        );

        let names: Vec<_> = tests(&source).into_iter().map(|(_, name)| name).collect();

        assert_eq!(names, ["m_2_a", "m_3_b", "m_4_c"]);
    }

    #[test]
    fn report_sorts_by_number_and_joins_the_lines_of_a_departure() {
        let conformance = Source::new(
            "tests/conformance/rfc6887.rs",
            "#[test]\nfn m_10_late() {}\n#[test]\nfn m_2_early_bird() {}\n",
        );
        let room = Source::new(
            "crates/pcp/src/server.rs",
            "// DEVIATION RFC 6887 §11.3: the port stays closed\n// because the house is asleep.\n\
             fn a() {}\n// unrelated\n",
        );

        let report = report(&[conformance, room]);

        let expected = "| RFC 6887 | M-2 | early bird |\n| RFC 6887 | M-10 | late |\n";
        assert!(report.contains(expected), "{report}");
        assert!(report.contains(
            "| RFC 6887 §11.3 | the port stays closed because the house is asleep. \
             | crates/pcp/src/server.rs:1 |"
        ));
        assert!(report.ends_with("2 tests, 1 departures.\n"));
    }
}
