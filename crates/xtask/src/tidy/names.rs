//! Which crates the sources name, and where `unsafe` may stand.

use super::Finding;
use super::house::{foreign, is_protocol_room, matches, part, room};
use crate::source::{Source, Word};

/// Rule 4: only its owner names a crate.
pub fn owned(source: &Source) -> Vec<Finding> {
    let Some(room) = room(&source.path) else {
        return Vec::new();
    };
    shipped_names(source)
        .filter_map(|word| {
            let owners = foreign(room, word.text)?;
            let advice = format!("only {owners} may name {}", word.text);
            Some(Finding::new(&source.path, word.line, "owner", advice))
        })
        .collect()
}

/// Rule 3: inside a room only its shell names the runtime; the heart never does.
pub fn runtime(source: &Source) -> Vec<Finding> {
    let Some(room) = room(&source.path) else {
        return Vec::new();
    };
    let is_heart = room == "mapping";
    if !is_heart && (!is_protocol_room(room) || is_shell(&source.path)) {
        return Vec::new();
    }
    let advice = if is_heart {
        "mapping knows no runtime"
    } else {
        "only run.rs and run/ may name tokio: move the shell's part there"
    };
    shipped_names(source)
        .filter(|word| RUNTIME.iter().any(|runtime| matches(runtime, word.text)))
        .map(|word| Finding::new(&source.path, word.line, "runtime", advice))
        .collect()
}

/// Rule 2: some rooms know only one module of their neighbour.
pub fn neighbours(source: &Source) -> Vec<Finding> {
    let Some(room) = room(&source.path) else {
        return Vec::new();
    };
    shipped_names(source)
        .filter_map(|word| {
            let only = part(room, word.text)?;
            let path = word.after.trim_start().strip_prefix("::")?.trim_start();
            let module = path
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next();
            let advice = format!("{room} knows only {}::{only}", word.text);
            (module != Some(only)).then(|| Finding::new(&source.path, word.line, "house", advice))
        })
        .collect()
}

/// Rule 3: `unsafe` is for `net`; tests are no exception.
pub fn unsafe_code(source: &Source) -> Vec<Finding> {
    if UNSAFE.iter().any(|place| source.path.starts_with(place)) {
        return Vec::new();
    }
    source
        .words()
        .filter(|word| word.text == "unsafe")
        .map(|word| {
            let advice = "only net has unsafe code: give net a safe function for it";
            Finding::new(&source.path, word.line, "unsafe", advice)
        })
        .collect()
}

/// The words that name a crate: the first of a path, or what `use` or `extern crate` takes whole.
fn shipped_names(source: &Source) -> impl Iterator<Item = Word<'_>> {
    source
        .words()
        .filter(|word| !source.is_test(word.line) && is_crate_name(word))
}

fn is_crate_name(word: &Word<'_>) -> bool {
    let before = word.before.trim_end();
    if before.ends_with('.') {
        return false;
    }
    if let Some(parent) = before.strip_suffix("::") {
        // `::tokio::x` is a crate, `crate::tokio::x` is not.
        return !parent.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '>');
    }
    let statement = before
        .rsplit(|c: char| !c.is_alphanumeric() && c != '_')
        .next();
    word.after.trim_start().starts_with("::") || matches!(statement, Some("use" | "crate"))
}

fn is_shell(path: &str) -> bool {
    path.ends_with("/src/run.rs") || path.contains("/src/run/")
}

const RUNTIME: &[&str] = &["tokio", "tokio-"];

const UNSAFE: &[&str] = &["crates/net/"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_an_owner_is_found_in_use_lines_and_paths() {
        let text = "use sqlx::Row;\nfn a() {\n    ::hickory_proto::rr::b();\n    nix::c();\n}\n\
                    use anyhow;\n";

        let findings = owned(&Source::new("crates/pcp/src/server.rs", text));

        assert_eq!(lines(&findings), [1, 3, 4, 6]);
        assert_eq!(findings[0].advice, "only store may name sqlx");
    }

    #[test]
    fn modules_fields_comments_and_owners_are_left_alone() {
        let text =
            "use crate::axum::A; // sqlx::Row\nfn a() { self.nix; super::clap::b(); \"nix::\"; }\n";

        assert_eq!(owned(&Source::new("crates/pcp/src/server.rs", text)), []);
        assert_eq!(
            owned(&Source::new("crates/store/src/a.rs", "use sqlx::Row;\n")),
            []
        );
        assert_eq!(
            owned(&Source::new(
                "crates/lab/src/a.rs",
                "use hickory_proto::rr;\n"
            )),
            []
        );
    }

    #[test]
    fn tests_may_name_what_they_compare_with() {
        let text = "#[cfg(test)]\nmod tests {\n    use hickory_proto::rr;\n}\n";

        assert_eq!(owned(&Source::new("crates/dhcp/src/wire.rs", text)), []);
    }

    #[test]
    fn only_the_shell_of_a_room_names_tokio() {
        let text = "use std::net;\nuse tokio::net::UdpSocket;\nuse tokio_util::sync;\n";

        assert_eq!(
            lines(&runtime(&Source::new("crates/pcp/src/server.rs", text))),
            [2, 3]
        );
        for shell in [
            "crates/pcp/src/run.rs",
            "crates/pcp/src/run/udp.rs",
            "crates/net/src/a.rs",
        ] {
            assert_eq!(runtime(&Source::new(shell, text)), [], "{shell}");
        }
    }

    #[test]
    fn the_heart_has_no_shell() {
        let text = "use tokio::time;\n";

        assert_eq!(
            lines(&runtime(&Source::new("crates/mapping/src/run.rs", text))),
            [1]
        );
    }

    #[test]
    fn upstream_reads_its_neighbours_bytes_only() {
        let text = "use pcp::wire::Map;\nuse pcp::server::Server;\nuse natpmp::run;\n";

        assert_eq!(
            lines(&neighbours(&Source::new(
                "crates/upstream/src/client.rs",
                text
            ))),
            [2, 3]
        );
        assert_eq!(
            neighbours(&Source::new("crates/portico/src/run.rs", text)),
            []
        );
    }

    #[test]
    fn unsafe_is_for_net() {
        let text = "#![deny(unsafe_code)]\n// unsafe\nfn a() { unsafe { b() } }\n";

        assert_eq!(
            lines(&unsafe_code(&Source::new(
                "crates/dhcp/src/server.rs",
                text
            ))),
            [3]
        );
        assert_eq!(
            lines(&unsafe_code(&Source::new("tests/e2e/main.rs", text))),
            [3]
        );
        assert_eq!(unsafe_code(&Source::new("crates/net/src/tun.rs", text)), []);
    }

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }
}
