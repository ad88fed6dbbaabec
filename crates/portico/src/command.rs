//! What each verb does, and how it ends.

use std::path::PathBuf;
use std::process::ExitCode;

use dashboard::ClientError;

use crate::cli::{Cli, HostVerb, LabArgs, LabVerb, MapVerb, PrefixVerb, Verb};
use crate::config::{Config, Problem, TEMPLATE};
use crate::daemon;

mod ask;
pub(crate) mod print;
mod session;
mod show;
pub(crate) mod translate;

/// Runs a verb to its end.
///
/// # Errors
/// Says what failed and with which exit code.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let flag = cli.socket.clone();
    let socket = cli.socket.unwrap_or_else(default_socket);
    match cli.verb {
        Verb::Run(file) => {
            let mut config = Config::load(file.config.as_deref())?;
            if let Some(socket) = flag {
                config.socket = socket;
            }
            crate::log::start();
            Ok(daemon::run(config)?)
        }
        Verb::Lab(args) => run_lab(args),
        Verb::Translate(args) => translate::run(&args),
        Verb::Check(file) => {
            let config = Config::load(file.config.as_deref())?;
            print::text(&show::checked(&config))
        }
        Verb::Config { .. } => print::text(TEMPLATE),
        Verb::Status(reading) => ask::status(&socket, reading),
        Verb::Host(HostVerb::List(reading)) => ask::hosts(&socket, reading),
        Verb::Host(HostVerb::Show { host, reading }) => ask::host(&socket, &host, reading),
        Verb::Host(HostVerb::Name { host, name }) => ask::rename(&socket, &host, &name),
        Verb::Host(HostVerb::Policy(args)) => ask::set_policy(&socket, &args),
        Verb::Map(MapVerb::List(reading)) => ask::mappings(&socket, reading),
        Verb::Map(MapVerb::Approve { id, lasts }) => ask::approve(&socket, id, lasts),
        Verb::Map(MapVerb::Deny { id }) => ask::deny(&socket, id),
        Verb::Map(MapVerb::Decisions(reading)) => ask::decisions(&socket, reading),
        Verb::Map(MapVerb::Forget { host, port }) => ask::forget(&socket, &host, &port),
        Verb::Map(MapVerb::Open {
            host,
            port,
            external,
            lifetime,
            description,
        }) => {
            let mapping = dashboard::model::NewMapping {
                host,
                protocol: port.protocol,
                internal_port: port.port,
                external_port: external,
                for_s: lifetime.map(|lifetime| lifetime.as_secs()),
                description,
            };
            ask::open(&socket, &mapping)
        }
        Verb::Map(MapVerb::Close { id }) => ask::close(&socket, id),
        Verb::Session(verb) => session::run(&socket, verb),
        Verb::Prefix(PrefixVerb::List(reading)) => ask::prefixes(&socket, reading),
        Verb::Prefix(PrefixVerb::Set { prefix, old_valid }) => {
            let prefix = dashboard::model::NewPrefix {
                delegated: prefix,
                old_valid_s: old_valid.as_secs(),
            };
            ask::set_prefix(&socket, &prefix)
        }
    }
}

/// Why the program ends with another status than 0.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Something went wrong.
    pub const FAILED: u8 = 1;
    /// The command line or the configuration is wrong.
    pub const USAGE: u8 = 2;
    /// No daemon answers.
    pub const UNREACHABLE: u8 = 3;
    /// This user may not do it.
    pub const NOT_PERMITTED: u8 = 4;

    /// Nothing went wrong, but there is nobody left to print for.
    const fn seen_enough() -> Self {
        Self {
            code: 0,
            message: String::new(),
        }
    }

    /// Says what it was about, unless the daemon was not reached at all.
    fn about(self, what: impl std::fmt::Display) -> Self {
        let message = match self.code {
            Self::FAILED => format!("{what}: {}", self.message),
            _ => self.message,
        };
        Self { message, ..self }
    }

    /// Prints what went wrong and gives the exit code.
    pub fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            print::error(&self.message);
        }
        ExitCode::from(self.code)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            code: Self::USAGE,
            message: problem.to_string(),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            code: Self::FAILED,
            message: format!("{error:#}"),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Unreachable { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => Self::NOT_PERMITTED,
                _ => Self::UNREACHABLE,
            },
            ClientError::Problem(problem) if problem.kind.ends_with(":not-allowed") => {
                Self::NOT_PERMITTED
            }
            ClientError::Answer(_)
            | ClientError::Http(_)
            | ClientError::Problem(_)
            | ClientError::Request(_)
            | ClientError::Status(_)
            | ClientError::Truncated => Self::FAILED,
        };
        Self {
            code,
            message: format!("{:#}", anyhow::Error::from(error)),
        }
    }
}

fn default_socket() -> PathBuf {
    crate::config::environment("PORTICO_SOCKET").unwrap_or_else(|| "/run/portico/api.sock".into())
}

fn run_lab(args: LabArgs) -> Result<(), Failure> {
    let Some(verb) = args.verb else {
        lab::prepare()?;
        let proven = lab::run(&lab::Options { once: args.once })?;
        return if proven {
            Ok(())
        } else {
            Err(Failure {
                code: Failure::FAILED,
                message: "the proof failed".to_owned(),
            })
        };
    };
    let verb = match verb {
        LabVerb::Renumber => lab::Verb::Renumber,
        LabVerb::Fetch { name } => lab::Verb::Fetch(name),
        LabVerb::Ping { name } => lab::Verb::Ping(name),
        LabVerb::Restart => lab::Verb::Restart,
        LabVerb::Status => lab::Verb::Status,
        LabVerb::Prove => lab::Verb::Prove,
    };
    Ok(lab::verb(verb)?)
}
