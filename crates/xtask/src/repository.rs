//! What is in the repository: its files as git lists them, its crates as cargo lists them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::source::Source;

/// The working copy that the command was started in.
#[derive(Debug)]
pub struct Repository {
    pub root: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
    pub crates: Vec<Crate>,
}

/// A member of the workspace.
#[derive(Debug, Clone, Default)]
pub struct Crate {
    pub name: String,
    /// Relative to the root, as all paths here.
    pub manifest: String,
    /// The file that opens it: `lib.rs`, or `main.rs` where there is no library.
    pub root_file: String,
    pub dependencies: Vec<Dependency>,
    /// Integration tests: name and path.
    pub tests: Vec<(String, String)>,
}

/// What a crate declares to need.
#[derive(Debug, Clone)]
pub struct Dependency {
    pub name: String,
    /// Only for tests, examples and benchmarks.
    pub dev: bool,
}

/// A file that is tracked, or would be with the next `git add`.
#[derive(Debug)]
pub struct TextFile {
    pub path: String,
    pub text: String,
}

impl Repository {
    /// Asks cargo for the workspace around the current folder.
    pub fn open() -> Result<Self> {
        let mut cargo = Command::new(cargo());
        cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
        let metadata: Value = serde_json::from_slice(&output(&mut cargo)?)
            .context("cannot read what cargo metadata printed")?;
        Self::from_metadata(&metadata).context("cargo metadata lacks a field that we need")
    }

    fn from_metadata(metadata: &Value) -> Option<Self> {
        let root = PathBuf::from(metadata.get("workspace_root")?.as_str()?);
        let mut crates = metadata
            .get("packages")?
            .as_array()?
            .iter()
            .map(|package| Crate::from_metadata(&root, package))
            .collect::<Option<Vec<_>>>()?;
        crates.sort_by(|a, b| a.name.cmp(&b.name));
        let target = PathBuf::from(metadata.get("target_directory")?.as_str()?);
        Some(Self {
            root,
            target,
            crates,
        })
    }

    /// Reads every text file.
    pub fn files(&self) -> Result<Vec<TextFile>> {
        let mut git = Command::new("git");
        // Whoever owns the checkout, it is the one that we were asked to read.
        git.args(["-c", "safe.directory=*", "ls-files", "-z"])
            .args(["--cached", "--others", "--exclude-standard"])
            .current_dir(&self.root);
        let listed = String::from_utf8(output(&mut git)?).context("a file name is not UTF-8")?;
        let mut files = Vec::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            match fs::read(self.root.join(path)) {
                Ok(bytes) => {
                    // What is not UTF-8 is a picture or a capture: nothing to read for us.
                    if let Ok(text) = String::from_utf8(bytes) {
                        files.push(TextFile {
                            path: path.to_owned(),
                            text,
                        });
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).context(format!("cannot read {path}")),
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Ok(files)
    }

    /// Reads every Rust file.
    pub fn sources(&self) -> Result<Vec<Source>> {
        Ok(sources(&self.files()?))
    }

    /// Asks git for the content hash of a file.
    pub fn hash(&self, path: &str) -> Result<String> {
        let mut git = Command::new("git");
        git.args(["hash-object", "--no-filters", "--", path])
            .current_dir(&self.root);
        Ok(String::from_utf8_lossy(&output(&mut git)?)
            .trim()
            .to_owned())
    }
}

impl Crate {
    fn from_metadata(root: &Path, package: &Value) -> Option<Self> {
        let relative = |value: &Value| {
            let path = Path::new(value.as_str()?);
            Some(path.strip_prefix(root).unwrap_or(path).to_str()?.to_owned())
        };
        let mut member = Self {
            name: package.get("name")?.as_str()?.to_owned(),
            manifest: relative(package.get("manifest_path")?)?,
            ..Self::default()
        };
        for target in package.get("targets")?.as_array()? {
            let kinds = target.get("kind")?.as_array()?;
            let is = |kind: &str| kinds.iter().any(|k| k == kind);
            let path = relative(target.get("src_path")?)?;
            if is("lib") || (is("bin") && member.root_file.is_empty()) {
                member.root_file = path;
            } else if is("test") {
                member
                    .tests
                    .push((target.get("name")?.as_str()?.to_owned(), path));
            }
        }
        for dependency in package.get("dependencies")?.as_array()? {
            member.dependencies.push(Dependency {
                name: dependency.get("name")?.as_str()?.to_owned(),
                dev: dependency.get("kind")? == "dev",
            });
        }
        Some(member)
    }
}

/// The Rust files among `files`.
pub fn sources(files: &[TextFile]) -> Vec<Source> {
    files
        .iter()
        .filter(|file| file.path.ends_with(".rs"))
        .map(|file| Source::new(&file.path, &file.text))
        .collect()
}

/// The cargo that started us.
pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {}", output.status, said.trim());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_becomes_crates_with_paths_relative_to_the_root() {
        let metadata: Value = serde_json::from_str(
            r#"{ "workspace_root": "/house", "target_directory": "/house/target", "packages": [ { "name": "pcp",
                "manifest_path": "/house/crates/pcp/Cargo.toml",
                "targets": [
                  { "kind": ["lib"], "name": "pcp", "src_path": "/house/crates/pcp/src/lib.rs" },
                  { "kind": ["test"], "name": "rfc6887",
                    "src_path": "/house/tests/conformance/rfc6887.rs" } ],
                "dependencies": [ { "name": "natpmp", "kind": null },
                                  { "name": "proptest", "kind": "dev" } ] } ] }"#,
        )
        .unwrap();

        let house = Repository::from_metadata(&metadata).unwrap();

        let pcp = &house.crates[0];
        assert_eq!(pcp.manifest, "crates/pcp/Cargo.toml");
        assert_eq!(pcp.root_file, "crates/pcp/src/lib.rs");
        let test = (
            "rfc6887".to_owned(),
            "tests/conformance/rfc6887.rs".to_owned(),
        );
        assert_eq!(pcp.tests, [test]);
        assert_eq!(
            pcp.dependencies.iter().map(|d| d.dev).collect::<Vec<_>>(),
            [false, true]
        );
    }

    #[test]
    fn a_command_that_fails_is_named_with_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo no >&2; exit 3"])).unwrap_err();

        assert!(error.to_string().contains("no"), "{error}");
    }
}
