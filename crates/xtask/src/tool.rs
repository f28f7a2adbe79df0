//! Commands that checks need, from crates.io, in one version for everybody.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::cargo;

/// A command that `cargo install` makes.
pub(crate) struct Tool {
    /// The package, and its command.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// Further arguments of `cargo install`.
    pub(crate) args: &'static [&'static str],
}

impl Tool {
    /// The one on the path, if it is of this version; else one that is
    /// installed into `target/tools`, once. It is not optimised: that would take
    /// longer than it saves.
    pub(crate) fn path(&self) -> Result<PathBuf, String> {
        let on_path = PathBuf::from(self.name);
        let folder = cargo::root().join("target/tools").join(self.name);
        let installed = folder.join("bin").join(self.name);
        for found in [on_path, installed.clone()] {
            if self.is(&found) {
                return Ok(found);
            }
        }
        let package = format!("{}@{}", self.name, self.version);
        let folder = folder.display().to_string();
        let mut install = vec!["install", "--quiet", "--locked", "--debug", &package];
        install.extend(["--root", &folder]);
        install.extend(self.args);
        cargo::run_with(&install, &[("CARGO_PROFILE_DEV_DEBUG", "none")])?;
        if self.is(&installed) {
            Ok(installed)
        } else {
            Err(format!("{package} was installed, and says another version"))
        }
    }

    /// Whether it is there, in this version: `mdbook v0.5.4`.
    fn is(&self, path: &Path) -> bool {
        let mut command = Command::new(path);
        let output = command.arg("--version").stdin(Stdio::null()).output();
        output.is_ok_and(|output| {
            let said = String::from_utf8_lossy(&output.stdout);
            let mut versions = said.split_whitespace().skip(1);
            versions.any(|word| word.trim_start_matches('v') == self.version)
        })
    }
}
