//! Runs in processes of their own.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Outcome,
    measure::Cost,
    sink::{TALLY, Tally},
    subjects::Subject,
};

/// This program again. A proxy of the environment is not part of the
/// comparison.
fn myself() -> Outcome<Command> {
    let mut command = Command::new(env::current_exe()?);
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    Ok(command)
}

/// A sink in a process of its own, which ends with this value.
#[derive(Debug)]
pub struct SinkProcess {
    child: Child,
    /// The sink ends when this does, also if nobody drops the value.
    _alive: Option<ChildStdin>,
    url: String,
}

impl SinkProcess {
    /// Starts a sink, and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start() -> Outcome<Self> {
        let mut child = myself()?
            .args(["sink", "--while-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let alive = child.stdin.take();
        let stdout = child.stdout.take();
        // From here on, it ends also if it does not say where it listens.
        let mut sink = Self {
            child,
            _alive: alive,
            url: String::new(),
        };
        let stdout = stdout.ok_or("a sink without an output")?;
        BufReader::new(stdout).read_line(&mut sink.url)?;
        sink.url.truncate(sink.url.trim_end().len());
        if sink.url.is_empty() {
            return Err("the sink did not start".into());
        }
        Ok(sink)
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it has seen.
    ///
    /// # Errors
    ///
    /// It does not say.
    pub fn tally(&self) -> Outcome<Tally> {
        tally(&self.url)
    }
}

impl Drop for SinkProcess {
    fn drop(&mut self) {
        // If it is gone already, all the better.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a sink has seen.
///
/// # Errors
///
/// It does not say.
pub fn tally(url: &str) -> Outcome<Tally> {
    let address = url.strip_prefix("http://").unwrap_or(url);
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    write!(stream, "GET {TALLY} HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(said) = line.strip_prefix("content-length: ") {
            length = said.parse()?;
        }
    }
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body)?;
    Ok(serde_json::from_str(&body)?)
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Run {
    /// How many events there were.
    pub events: u64,
    /// What the subject says.
    #[serde(flatten)]
    pub cost: Cost,
    /// What the sink says.
    pub sink: Tally,
}

impl Run {
    /// Events in a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        as_f64(self.events) / self.cost.seconds
    }

    /// Processor seconds for a million events, which is the same as
    /// microseconds for one.
    #[must_use]
    pub fn cpu_per_million(&self) -> f64 {
        self.cost.cpu_seconds() / as_f64(self.events) * 1e6
    }

    /// Bytes on the wire for one event.
    #[must_use]
    pub fn wire_per_event(&self) -> f64 {
        as_f64(self.sink.wire_bytes) / as_f64(self.events)
    }
}

/// A number for a ratio.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
pub fn as_f64(number: u64) -> f64 {
    number as f64
}

/// One run of a subject, with a sink of its own.
///
/// # Errors
///
/// The subject failed, or not every event came exactly once.
pub fn run(subject: Subject, events: u64) -> Outcome<Run> {
    let sink = SinkProcess::start()?;
    let name = subject.to_string();
    let number = events.to_string();
    let args = ["run", &name, "--events", &number, "--sink", sink.url()];
    let cost: Cost = ask(&args)?;
    let tally = sink.tally()?;
    check(&tally, events, subject.vendors()).map_err(|problem| format!("{name}: {problem}"))?;
    Ok(Run {
        events,
        cost,
        sink: tally,
    })
}

/// This program's answer in a process of its own.
///
/// # Errors
///
/// It failed.
pub fn ask<T: DeserializeOwned>(args: &[&str]) -> Outcome<T> {
    let output = myself()?
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", args.join(" "), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Whether every event came once for every vendor.
///
/// # Errors
///
/// What is missing, or came too often.
pub fn check(tally: &Tally, events: u64, vendors: u8) -> Result<(), String> {
    let expected = events * u64::from(vendors);
    let is_complete = tally.events == expected
        && tally.distinct == events
        && tally.most_copies == vendors
        && tally.unreadable == 0;
    if is_complete {
        return Ok(());
    }
    Err(format!(
        "of {expected} events, {} came, {} of them different, one of them {} times; \
         {} could not be read",
        tally.events, tally.distinct, tally.most_copies, tally.unreadable
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_or_comes_twice_is_found() {
        let seen = |events, distinct, most_copies| Tally {
            events,
            distinct,
            most_copies,
            ..Tally::default()
        };
        assert_eq!(check(&seen(10, 10, 1), 10, 1), Ok(()));
        assert_eq!(check(&seen(30, 10, 3), 10, 3), Ok(()));
        check(&seen(9, 9, 1), 10, 1).unwrap_err();
        check(&seen(10, 9, 2), 10, 1).unwrap_err();
        check(&seen(11, 10, 2), 10, 1).unwrap_err();
    }
}
