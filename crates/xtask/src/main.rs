//! The project's own commands: `cargo xtask test`, `cargo xtask tidy`, `cargo xtask clients`,
//! `cargo xtask conformance`.
//!
//! **Invariant:** depends on no other crate of the house, so that it builds in seconds and runs
//! while the house does not compile. Start from [`mod@test`] and [`tidy`].

mod clients;
mod conformance;
mod packages;
mod repository;
mod source;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

use crate::repository::Repository;

fn main() -> ExitCode {
    let task = Task::parse();
    match Repository::open().and_then(|repository| task.run(&repository)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Runs every check and every test, the cheapest no first
    Test(test::Arguments),
    /// Checks the rules of the house that no compiler knows, and prints its figures
    Tidy,
    /// Installs the programs and the clients that the end-to-end tests run
    Clients,
    /// Prints the requirements that have a test, and the written departures, as Markdown
    Conformance,
}

impl Task {
    /// Says whether all went well; an error is a task that could not be done at all.
    fn run(self, repository: &Repository) -> anyhow::Result<bool> {
        match self {
            Self::Test(arguments) => test::run(repository, &arguments),
            Self::Tidy => tidy::run(repository),
            Self::Clients => {
                packages::provide()?;
                clients::provide(repository)?;
                Ok(true)
            }
            Self::Conformance => {
                print!("{}", conformance::report(&repository.sources()?));
                Ok(true)
            }
        }
    }
}
