//! `cargo xtask test`: every check and every test, the cheapest no first.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::clients;
use crate::packages;
use crate::repository::{Repository, cargo};
use crate::tidy;

/// What the command line said.
#[derive(Debug, Default, clap::Args)]
pub struct Arguments {
    /// Leaves the end-to-end tests out, and with them the programs and clients that they run
    #[arg(long)]
    fast: bool,
    /// Runs only the tests that match, and no other check; options of nextest come after `--`
    filter: Vec<String>,
}

/// Runs the steps up to the first that fails, and prints how long each took.
pub fn run(repository: &Repository, arguments: &Arguments) -> Result<bool> {
    let steps = plan(repository, arguments, has_nextest());
    let mut rows = Vec::new();
    let mut failed = None;
    for step in &steps {
        if failed.is_some() {
            rows.push((step.name, None, "not run"));
            continue;
        }
        println!("== {}: {}", step.name, step.heading());
        let started = now();
        let result = step.run(repository);
        let took = started.elapsed();
        if let Err(error) = &result {
            println!("   {error:#}");
            failed = Some(step);
        }
        println!("== {}: {} s\n", step.name, seconds(took));
        rows.push((
            step.name,
            Some(took),
            if result.is_ok() { "ok" } else { "FAILED" },
        ));
    }
    print!("{}", summary(&rows, &left_out(arguments)));
    if let Some(step) = failed {
        println!("\n{} failed; to repeat it: {}", step.name, step.command());
    }
    Ok(failed.is_none())
}

/// One line of the summary.
#[derive(Debug)]
struct Step {
    name: &'static str,
    action: Action,
}

#[derive(Debug)]
enum Action {
    Cargo {
        arguments: Vec<String>,
        rustdoc_flags: Option<&'static str>,
    },
    Clients,
    Packages,
    Tidy,
}

impl Step {
    fn cargo(name: &'static str, arguments: &str) -> Self {
        let arguments = arguments.split(' ').map(str::to_owned).collect();
        Self {
            name,
            action: Action::Cargo {
                arguments,
                rustdoc_flags: None,
            },
        }
    }

    fn run(&self, repository: &Repository) -> Result<()> {
        match &self.action {
            Action::Clients => clients::provide(repository),
            Action::Packages => packages::provide(),
            Action::Tidy => {
                if !tidy::run(repository)? {
                    bail!("there are findings");
                }
                Ok(())
            }
            Action::Cargo {
                arguments,
                rustdoc_flags,
            } => {
                let mut command = Command::new(cargo());
                command.args(arguments).current_dir(&repository.root);
                command.env("PATH", packages::search_path());
                if let Some(flags) = rustdoc_flags {
                    command.env("RUSTDOCFLAGS", flags);
                }
                let status = command.status().context("cannot start cargo")?;
                if !status.success() {
                    bail!("cargo ended with {status}");
                }
                Ok(())
            }
        }
    }

    fn heading(&self) -> String {
        match self.action {
            Action::Clients => "the clients of the end-to-end tests".to_owned(),
            Action::Packages => "the programs of the end-to-end tests".to_owned(),
            Action::Cargo { .. } | Action::Tidy => self.command(),
        }
    }

    /// What to type to get this step again.
    fn command(&self) -> String {
        match &self.action {
            Action::Clients | Action::Packages => "cargo xtask clients".to_owned(),
            Action::Tidy => "cargo xtask tidy".to_owned(),
            Action::Cargo {
                arguments,
                rustdoc_flags,
            } => {
                let flags = rustdoc_flags.map(|flags| format!("RUSTDOCFLAGS='{flags}' "));
                let mut line = format!("{}cargo", flags.unwrap_or_default());
                for argument in arguments {
                    let is_plain = argument
                        .chars()
                        .all(|c| c.is_alphanumeric() || "-_:=".contains(c));
                    let quote = if is_plain { "" } else { "'" };
                    line.push_str(&format!(" {quote}{argument}{quote}"));
                }
                line
            }
        }
    }
}

fn plan(repository: &Repository, arguments: &Arguments, nextest: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if !arguments.fast {
        steps.push(Step {
            name: "packages",
            action: Action::Packages,
        });
        steps.push(Step {
            name: "clients",
            action: Action::Clients,
        });
    }
    if arguments.filter.is_empty() {
        steps.push(Step::cargo("fmt", "fmt --all --check"));
        let clippy = "clippy --workspace --all-targets --locked -- -D warnings";
        steps.push(Step::cargo("clippy", clippy));
        let doc = "doc --workspace --no-deps --document-private-items --locked";
        let mut doc = Step::cargo("doc", doc);
        if let Action::Cargo { rustdoc_flags, .. } = &mut doc.action {
            *rustdoc_flags = Some("-D warnings");
        }
        steps.push(doc);
        steps.push(Step {
            name: "tidy",
            action: Action::Tidy,
        });
    }
    let tests = if nextest {
        nextest_step
    } else {
        cargo_test_step
    };
    steps.push(tests(repository, arguments));
    if arguments.filter.is_empty() {
        steps.push(Step::cargo("doctests", "test --doc --workspace --locked"));
    }
    steps
}

fn nextest_step(repository: &Repository, arguments: &Arguments) -> Step {
    let mut step = Step::cargo("tests", "nextest run --workspace --locked");
    if let Action::Cargo {
        arguments: line, ..
    } = &mut step.action
    {
        let end_to_end = end_to_end(repository);
        if arguments.fast && !end_to_end.is_empty() {
            let named: Vec<_> = end_to_end
                .iter()
                .map(|(member, test)| format!("package({member}) & binary({test})"))
                .collect();
            line.push("-E".to_owned());
            line.push(format!("not ({})", named.join(" | ")));
        }
        line.extend(arguments.filter.iter().cloned());
    }
    step
}

/// Without nextest cargo runs one test program after the other; it is slower, and it waits for a
/// test that hangs.
fn cargo_test_step(repository: &Repository, arguments: &Arguments) -> Step {
    let mut step = Step::cargo("tests", "test --workspace --locked --no-fail-fast");
    if let Action::Cargo {
        arguments: line, ..
    } = &mut step.action
    {
        line.extend(["--lib", "--bins"].map(str::to_owned));
        let left_out = end_to_end(repository);
        let members = repository.crates.iter();
        for (member, test) in
            members.flat_map(|m| m.tests.iter().map(move |(test, _)| (&m.name, test)))
        {
            if !arguments.fast || !left_out.contains(&(member.as_str(), test.as_str())) {
                line.extend(["--test".to_owned(), test.clone()]);
            }
        }
        if !arguments.filter.is_empty() {
            line.push("--".to_owned());
            line.extend(arguments.filter.iter().cloned());
        }
    }
    step
}

/// The test programs under `tests/e2e`: crate and name.
fn end_to_end(repository: &Repository) -> Vec<(&str, &str)> {
    let members = repository.crates.iter();
    members
        .flat_map(|member| {
            member
                .tests
                .iter()
                .map(move |(test, path)| (member, test, path))
        })
        .filter(|(_, _, path)| path.starts_with("tests/e2e/"))
        .map(|(member, test, _)| (member.name.as_str(), test.as_str()))
        .collect()
}

fn left_out(arguments: &Arguments) -> Vec<&'static str> {
    let mut left_out = Vec::new();
    if arguments.fast {
        left_out.push("the end-to-end tests (--fast)");
    }
    if !arguments.filter.is_empty() {
        left_out
            .push("fmt, clippy, doc, tidy, doctests and all tests that do not match (a filter)");
    }
    left_out
}

fn summary(rows: &[(&str, Option<Duration>, &str)], left_out: &[&str]) -> String {
    let mut out = format!("{:<10} {:>8}  result\n", "step", "seconds");
    for (name, took, result) in rows {
        let took = took.map_or_else(|| "-".to_owned(), seconds);
        out.push_str(&format!("{name:<10} {took:>8}  {result}\n"));
    }
    let total = rows.iter().filter_map(|(_, took, _)| *took).sum();
    out.push_str(&format!("{:<10} {:>8}\n", "together", seconds(total)));
    for what in left_out {
        out.push_str(&format!("left out: {what}\n"));
    }
    out
}

fn seconds(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn has_nextest() -> bool {
    let mut nextest = Command::new(cargo());
    nextest
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    nextest.status().is_ok_and(|status| status.success())
}

#[expect(
    clippy::disallowed_methods,
    reason = "times the steps of a tool; net::Clock would make every task wait for the house"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::repository::Crate;

    #[test]
    fn the_cheapest_no_comes_first() {
        let names: Vec<_> = plan(&house(), &Arguments::default(), true)
            .iter()
            .map(|step| step.name)
            .collect();

        assert_eq!(
            names,
            [
                "packages", "clients", "fmt", "clippy", "doc", "tidy", "tests", "doctests"
            ]
        );
    }

    #[test]
    fn fast_leaves_the_end_to_end_tests_out_and_says_so() {
        let fast = Arguments {
            fast: true,
            filter: Vec::new(),
        };

        let steps = plan(&house(), &fast, true);

        assert!(
            steps
                .iter()
                .all(|step| !["packages", "clients"].contains(&step.name))
        );
        assert_eq!(
            tests_of(&steps),
            "cargo nextest run --workspace --locked -E 'not (package(portico) & binary(e2e))'"
        );
        let steps = plan(&house(), &fast, false);
        let line = "cargo test --workspace --locked --no-fail-fast --lib --bins --test rfc6887";
        assert_eq!(tests_of(&steps), line);
        assert!(summary(&[], &left_out(&fast)).contains("left out: the end-to-end tests"));
    }

    #[test]
    fn a_filter_runs_what_matches_and_says_what_it_leaves_out() {
        let filtered = Arguments {
            fast: false,
            filter: vec!["nonce".to_owned()],
        };

        let steps = plan(&house(), &filtered, true);

        assert_eq!(steps.len(), 3);
        assert_eq!(
            tests_of(&steps),
            "cargo nextest run --workspace --locked nonce"
        );
        assert_eq!(left_out(&filtered).len(), 1);
    }

    #[test]
    fn documentation_is_as_strict_as_code() {
        let steps = plan(&house(), &Arguments::default(), true);

        let doc = steps.iter().find(|step| step.name == "doc").unwrap();
        assert!(
            doc.command()
                .starts_with("RUSTDOCFLAGS='-D warnings' cargo doc ")
        );
    }

    #[test]
    fn the_summary_tells_what_was_not_run() {
        let took = Some(Duration::from_millis(1_250));

        let summary = summary(&[("fmt", took, "FAILED"), ("clippy", None, "not run")], &[]);

        assert!(
            summary.contains("fmt             1.2  FAILED\n"),
            "{summary}"
        );
        assert!(
            summary.contains("clippy            -  not run\n"),
            "{summary}"
        );
    }

    fn tests_of(steps: &[Step]) -> String {
        steps
            .iter()
            .find(|step| step.name == "tests")
            .unwrap()
            .command()
    }

    fn house() -> Repository {
        let test = |name: &str, path: &str| (name.to_owned(), path.to_owned());
        let member = |name: &str, tests| Crate {
            name: name.to_owned(),
            tests,
            ..Crate::default()
        };
        Repository {
            root: PathBuf::new(),
            target: PathBuf::new(),
            crates: vec![
                member("pcp", vec![test("rfc6887", "tests/conformance/rfc6887.rs")]),
                member("portico", vec![test("e2e", "tests/e2e/main.rs")]),
            ],
        }
    }
}
