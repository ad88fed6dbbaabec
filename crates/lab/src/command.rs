//! Programs that run on a simulated machine.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, bail};
use command_fds::{CommandFdExt as _, FdMapping};
use tokio::process::Child;

use crate::Node;

/// A program to be run on a node: in its namespace, and no longer than it.
///
/// It is killed when its [`Child`] is dropped, and when the node or the whole lab ends, even by
/// SIGKILL.
#[derive(Debug)]
pub struct Command {
    node: Node,
    program: String,
    inner: tokio::process::Command,
}

impl Node {
    /// A program to be run on this node.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let program = program.as_ref();
        let mut inner = tokio::process::Command::new(program);
        inner.kill_on_drop(true).stdin(Stdio::null());
        Command {
            node: self.clone(),
            program: program.display().to_string(),
            inner,
        }
    }
}

impl Command {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.inner.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(key, value);
        self
    }

    /// Removes an environment variable.
    #[must_use]
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.inner.env_remove(key);
        self
    }

    /// Sets the folder in which the program starts.
    #[must_use]
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.inner.current_dir(folder);
        self
    }

    /// Sets its input; without, it reads nothing.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.inner.stdin(stdin);
        self
    }

    /// Sets its output.
    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.inner.stdout(stdout);
        self
    }

    /// Sets where its errors go.
    #[must_use]
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.inner.stderr(stderr);
        self
    }

    /// Hands listeners over, by the `LISTEN_FDS` protocol without `LISTEN_PID`.
    ///
    /// # Errors
    ///
    /// Names the program.
    pub fn listeners(mut self, listeners: Vec<OwnedFd>) -> Result<Self> {
        self.inner
            .env("LISTEN_FDS", listeners.len().to_string())
            .env_remove("LISTEN_PID");
        let mappings = (3..)
            .zip(listeners)
            .map(|(child_fd, parent_fd)| FdMapping {
                parent_fd,
                child_fd,
            })
            .collect();
        self.inner
            .as_std_mut()
            .fd_mappings(mappings)
            .with_context(|| format!("cannot hand listeners to {}", self.program))?;
        Ok(self)
    }

    /// Starts the program.
    ///
    /// # Errors
    ///
    /// Names the node and the program.
    pub async fn spawn(self) -> Result<Child> {
        let Self {
            node,
            program,
            mut inner,
        } = self;
        node.run(async move || {
            net::process::die_with_parent(inner.as_std_mut());
            inner
                .spawn()
                .with_context(|| format!("cannot run {program}"))
        })
        .await
    }

    /// Runs the program to its end and collects what it printed.
    ///
    /// # Errors
    ///
    /// Names the node and the program; its failure is no error here.
    pub async fn output(self) -> Result<Output> {
        let Self {
            node,
            program,
            mut inner,
        } = self;
        node.run(async move || {
            net::process::die_with_parent(inner.as_std_mut());
            inner
                .output()
                .await
                .with_context(|| format!("cannot run {program}"))
        })
        .await
    }

    /// Runs the program to its end and returns what it printed.
    ///
    /// # Errors
    ///
    /// Names the node and the program; a failure shows what it printed as error.
    pub async fn text(self) -> Result<String> {
        let (node, program) = (self.node.clone(), self.program.clone());
        let output = self.output().await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "node {}: {program}: {}: {}",
                node.name(),
                output.status,
                said.trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
