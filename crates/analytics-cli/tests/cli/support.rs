//! Running the binary.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// A directory of one test's own, in which the command runs.
pub(crate) struct Dir(PathBuf);

/// How the command ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{count}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A directory with a configuration.
    #[cfg(feature = "segment")]
    pub(crate) fn configured(configuration: &str) -> Self {
        let dir = Self::new();
        dir.write("analytics.toml", configuration);
        dir
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), content).unwrap();
    }

    /// The command, without anything of the environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_analytics"));
        command
            .args(args)
            .current_dir(&self.0)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.command(args).output().unwrap().into()
    }

    pub(crate) fn run_with_stdin(&self, args: &[&str], stdin: &[u8]) -> Run {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        child.wait_with_output().unwrap().into()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    /// Everything that was printed.
    pub(crate) fn all(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    #[track_caller]
    pub(crate) fn ends_with(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "{text:?} is not in {self:#?}");
        self
    }
}

/// The configuration of an integration for a vendor on loopback, with short
/// pauses between attempts.
#[cfg(feature = "segment")]
pub(crate) fn segment(base_url: &str, write_key: &str) -> String {
    format!(
        r#"
        [integrations.segment]
        write_key = "{write_key}"
        base_url = "{base_url}"
        public_api_base_url = "{base_url}"

        [integrations.segment.policies.request.retry_policy]
        initial_interval = "10ms"
        maximum_interval = "20ms"
        maximum_attempts = 4
        "#
    )
}

/// The same for a vendor that is away for longer: it takes some attempts to find
/// that out.
#[cfg(feature = "segment")]
pub(crate) fn patient(base_url: &str, write_key: &str) -> String {
    segment(base_url, write_key).replace("maximum_attempts = 4", "maximum_attempts = 20")
}
