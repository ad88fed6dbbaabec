//! Foreign libraries: where the test command put them, and how a test speaks with them.
//!
//! A small script drives each. Its arguments say what to open, `ADDR tcp|udp PORT`; it says
//! `mapped [ADDR:]PORT` when it believes that the port is open; the end of its input asks it to
//! close the port, and it says `unmapped` when it believes that it is closed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::{Command, Home, Node};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

/// A client under way.
#[derive(Debug)]
pub struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    said: String,
    errors: PathBuf,
}

impl Client {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(home: &Home, command: Command) -> Result<Self> {
        let errors = home.folder().join("client.errors");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()
            .await?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("no output")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output).lines(),
            said: String::new(),
            errors,
        })
    }

    /// Waits for a line that begins with `words`, and returns the rest of it.
    ///
    /// # Errors
    /// When it ends or hesitates before; shows what it said.
    pub async fn hear(&mut self, words: &str) -> Result<String> {
        let rest = |line: &str| line.strip_prefix(words).map(|it| it.trim().to_owned());
        self.hear_what(rest)
            .await
            .with_context(|| format!("it does not say {words:?}"))
    }

    /// Waits for a line that holds `words`.
    ///
    /// # Errors
    /// When it ends or hesitates before; shows what it said.
    pub async fn hear_of(&mut self, words: &str) -> Result<()> {
        self.hear_of_all(&[words]).await
    }

    /// Waits until it has said each of these, in any order.
    ///
    /// # Errors
    /// When it ends or hesitates before; shows what it said.
    pub async fn hear_of_all(&mut self, words: &[&str]) -> Result<()> {
        let mut missing: Vec<_> = words.to_vec();
        let last = |line: &str| {
            missing.retain(|words| !line.contains(words));
            missing.is_empty().then_some(())
        };
        self.hear_what(last)
            .await
            .with_context(|| format!("it does not tell of {words:?}"))
    }

    async fn hear_what<T>(&mut self, mut wanted: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let heard = timeout(PATIENCE, async {
            while let Some(line) = self.output.next_line().await? {
                self.said.push_str(&line);
                self.said.push('\n');
                if let Some(found) = wanted(&line) {
                    return Ok(found);
                }
            }
            bail!("the client ended")
        });
        let heard = heard
            .await
            .unwrap_or_else(|_| bail!("the client hesitates"));
        heard.with_context(|| format!("it said:\n{}", self.all()))
    }

    /// Asks it to end by SIGTERM, and waits until it has.
    ///
    /// # Errors
    /// When it does not.
    pub async fn terminate(&mut self) -> Result<Option<i32>> {
        net::process::terminate(self.child.id().context("the client has ended")?)?;
        self.end().await
    }

    /// What it said so far.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Checks that it said each of these.
    ///
    /// # Errors
    /// Shows what it said instead.
    pub fn says<S: AsRef<str>>(&self, words: &[S]) -> Result<()> {
        for words in words.iter().map(AsRef::as_ref) {
            ensure!(self.said.contains(words), "no {words:?}: {}", self.all());
        }
        Ok(())
    }

    /// Asks it to close what it opened, and waits until it has ended well.
    ///
    /// # Errors
    /// When it does not; shows what it said.
    pub async fn close(&mut self) -> Result<()> {
        self.input = None;
        self.hear("unmapped").await?;
        ensure!(
            self.end().await? == Some(0),
            "it ends badly: {}",
            self.all()
        );
        Ok(())
    }

    /// Waits until it has ended, and returns its exit code.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(&mut self) -> Result<Option<i32>> {
        self.input = None;
        let ended = timeout(PATIENCE, self.child.wait()).await;
        Ok(ended.context("the client does not end")??.code())
    }

    /// What it said on both streams.
    pub fn all(&self) -> String {
        let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
        format!("{}{errors}", self.said)
    }
}

/// A script of ours over a package of `PyPI`.
///
/// # Errors
/// When the package was not installed.
pub fn pypi(node: &Node, script: &str) -> Result<Command> {
    let python = installed("python/bin/python")?;
    Ok(python_script(node.command(python), script))
}

/// A script of ours over a module of Debian's Python.
pub fn debian_python(node: &Node, script: &str) -> Command {
    // Debian's own, for which Debian's modules are built; another may come first on the path.
    python_script(node.command("/usr/bin/python3"), script)
}

fn python_script(command: Command, script: &str) -> Command {
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(Path::new(SOURCES).join("python").join(script))
}

/// A script of ours over a package of npm.
///
/// # Errors
/// When the package was not installed.
pub fn npm(node: &Node, script: &str) -> Result<Command> {
    // The scripts are linked beside the packages, and Node.js looks for these beside the link.
    let script = installed("node/scripts")?.join(script);
    Ok(crate::program::program(node, "node")?
        .args(["--preserve-symlinks", "--preserve-symlinks-main"])
        .arg(script))
}

/// A program of ours over a crate.
///
/// # Errors
/// When it was not built.
pub fn crates(node: &Node, name: &str) -> Result<Command> {
    Ok(node.command(installed("rust/debug")?.join(name)))
}

fn installed(what: &str) -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = target.parent().unwrap_or(target).join("clients").join(what);
    ensure!(
        path.exists(),
        "{} is missing: `cargo xtask clients` installs it, as does `cargo xtask test`",
        path.display()
    );
    Ok(path)
}

/// The scripts and the lists of packages.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients");

/// Searches by SSDP take up to three seconds, Transmission eight.
const PATIENCE: Duration = Duration::from_secs(100);
