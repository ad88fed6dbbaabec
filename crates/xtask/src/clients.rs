//! The clients that the end-to-end tests run from `PyPI`, npm and crates.io: installed below the
//! target folder, in the versions that `tests/clients` lists.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages;
use crate::repository::{Repository, cargo};

/// Installs what is missing or has changed.
///
/// # Errors
/// Says what cannot be installed.
pub fn provide(repository: &Repository) -> Result<()> {
    let from = repository.root.join("tests/clients");
    let to = repository.target.join("clients");
    fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
    python(&from.join("python"), &to.join("python")).context("the clients from PyPI")?;
    node(&from.join("node"), &to.join("node")).context("the clients from npm")?;
    rust(&from.join("rust"), &to.join("rust")).context("the clients from crates.io")
}

fn python(from: &Path, to: &Path) -> Result<()> {
    let wanted = read(&from.join("requirements.txt"))?;
    let python = to.join("bin/python");
    let mut works = Command::new(&python);
    let works = works.arg("--version").output();
    if is_installed(to, &wanted) && works.is_ok_and(|it| it.status.success()) {
        println!("   PyPI: there");
        return Ok(());
    }
    clear(to)?;
    // Debian's: its headers are installed, which some of the packages are compiled with.
    run(Command::new("/usr/bin/python3")
        .args(["-m", "venv"])
        .arg(to))?;
    let pip = || {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]);
        pip
    };
    // The list is whole: nothing comes that it does not name, and nothing is missing.
    let install = ["install", "--no-deps", "--requirement"];
    run(pip().args(install).arg(from.join("requirements.txt")))?;
    run(pip().arg("check"))?;
    set_installed(to, &wanted)
}

fn node(from: &Path, to: &Path) -> Result<()> {
    let wanted = read(&from.join("package-lock.json"))?;
    if is_installed(to, &wanted) && to.join("scripts/wish.mjs").exists() {
        println!("   npm: there");
        return Ok(());
    }
    clear(to)?;
    fs::create_dir(to).with_context(|| format!("cannot make {}", to.display()))?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(from.join(name), to.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    // Node.js looks for packages beside the link through which it reads a script.
    symlink(from, to.join("scripts")).context("cannot link the scripts")?;
    let install = ["ci", "--omit=dev", "--ignore-scripts"];
    let quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
    let mut npm = Command::new("npm");
    npm.args(install).args(quiet).current_dir(to);
    run(npm.env("PATH", packages::search_path()))?;
    set_installed(to, &wanted)
}

fn rust(from: &Path, to: &Path) -> Result<()> {
    let mut build = Command::new(cargo());
    build.args(["build", "--locked", "--quiet", "--manifest-path"]);
    build.arg(from.join("Cargo.toml"));
    run(build.arg("--target-dir").arg(to))?;
    println!("   crates.io: there");
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}

/// The list is kept beside what was installed by it, and written when all of it is there.
fn is_installed(to: &Path, wanted: &str) -> bool {
    fs::read_to_string(to.join(LIST)).is_ok_and(|list| list == wanted)
}

fn set_installed(to: &Path, wanted: &str) -> Result<()> {
    fs::write(to.join(LIST), wanted).with_context(|| format!("cannot write to {}", to.display()))
}

fn clear(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

const LIST: &str = "installed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_installed_by_another_list_is_installed_again() {
        let folder = std::env::temp_dir().join(format!("xtask-clients-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();

        assert!(!is_installed(&folder, "a==1\n"), "nothing was installed");
        set_installed(&folder, "a==1\n").unwrap();
        assert!(is_installed(&folder, "a==1\n"));
        assert!(!is_installed(&folder, "a==2\n"));

        clear(&folder).unwrap();
        assert!(!is_installed(&folder, "a==1\n"));
    }

    #[test]
    fn lists_pin_every_package_and_name_no_registry() {
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients");

        let requirements = read(&clients.join("python/requirements.txt")).unwrap();
        let packages = requirements
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        for package in packages {
            assert!(package.contains("=="), "{package}");
        }
        let lock = read(&clients.join("node/package-lock.json")).unwrap();
        assert!(!lock.contains("\"resolved\""));
        assert!(!requirements.contains("://") && !lock.contains("://"));
    }
}
