//! The program: command line, configuration, wiring.
//!
//! **Invariant:** decides nothing; it starts the rooms, joins them and ends them in order, or
//! asks a running daemon and prints what it said.
//!
//! Start from [`cli::Cli`]; the daemon is [`daemon::run`].

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::command::Failure;

mod cli;
mod command;
mod config;
mod daemon;
mod log;
#[cfg(test)]
mod words;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own way to say help, version and usage
            let printed = error.print();
            if error.use_stderr() {
                return ExitCode::from(Failure::USAGE);
            }
            return match command::print::written(printed) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => failure.report(),
            };
        }
    };
    match command::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
