//! Files of events: one JSON envelope a line, of any length in all.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use analytics_kit::{AnyInput, Code, Violation};

use crate::exit::Failure;

/// The most bytes of one line. Nothing that a vendor takes is near it.
const MAX_LINE_BYTES: usize = 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where events come from.
pub(crate) struct Source {
    /// What it is called in messages.
    pub(crate) name: String,
    /// How many bytes there are, where that is known.
    pub(crate) bytes: Option<u64>,
    reader: Box<dyn BufRead + Send>,
}

impl Source {
    /// A file; `-` is standard input.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Ok(Self {
                name: "stdin".to_owned(),
                bytes: None,
                reader: Box::new(BufReader::new(io::stdin())),
            });
        }
        let name = path.display().to_string();
        let cannot = |why: &dyn std::fmt::Display| Failure::usage(format!("{name}: {why}"));
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => cannot(&"there is no such file"),
            _ => cannot(&error),
        })?;
        let metadata = file.metadata().map_err(|error| cannot(&error))?;
        if metadata.is_dir() {
            return Err(cannot(&"is a directory: give a file of events"));
        }
        Ok(Self {
            bytes: metadata.is_file().then_some(metadata.len()),
            reader: Box::new(BufReader::with_capacity(64 * 1024, file)),
            name,
        })
    }

    /// A text that is at hand.
    pub(crate) fn text(name: &str, text: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            bytes: u64::try_from(text.len()).ok(),
            reader: Box::new(text.as_bytes()),
        }
    }

    /// Its lines, without those that are empty.
    pub(crate) fn lines(self) -> Lines {
        Lines {
            reader: self.reader,
            buffer: Vec::new(),
            number: 0,
            bytes: 0,
        }
    }
}

/// A line of a file of events.
#[derive(Debug)]
pub(crate) struct Line {
    /// Its number, from 1; empty lines count.
    pub(crate) number: u64,
    /// How many bytes of the file end with it.
    pub(crate) bytes: u64,
    /// What it holds, or everything that is wrong with it.
    pub(crate) input: Result<AnyInput, Vec<Violation>>,
}

/// Reads lines. No more than one is in memory.
pub(crate) struct Lines {
    reader: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    number: u64,
    bytes: u64,
}

impl Iterator for Lines {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let fits = match self.fill() {
                Ok(Some(fits)) => fits,
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            };
            self.number += 1;
            let input = if fits {
                let mut line = self.buffer.as_slice();
                if self.number == 1 {
                    line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
                }
                let line = line.trim_ascii();
                if line.is_empty() {
                    continue;
                }
                read(line)
            } else {
                Err(vec![Violation::new(
                    "$",
                    Code::TooLarge,
                    format!("the line has more than {MAX_LINE_BYTES} bytes"),
                )])
            };
            return Some(Ok(Line {
                number: self.number,
                bytes: self.bytes,
                input,
            }));
        }
    }
}

impl Lines {
    /// Reads up to the line's end into the buffer: whether it fits, or `None`
    /// at the end of the file.
    fn fill(&mut self) -> io::Result<Option<bool>> {
        self.buffer.clear();
        let mut fits = true;
        let mut is_end_of_file = true;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                return Ok((!is_end_of_file).then_some(fits));
            }
            is_end_of_file = false;
            let part = available.split(|byte| *byte == b'\n').next();
            let part = part.unwrap_or_default();
            fits = fits && self.buffer.len() + part.len() <= MAX_LINE_BYTES;
            if fits {
                self.buffer.extend_from_slice(part);
            }
            let is_end_of_line = part.len() < available.len();
            let read = part.len() + usize::from(is_end_of_line);
            self.reader.consume(read);
            self.bytes += u64::try_from(read).unwrap_or_default();
            if is_end_of_line {
                return Ok(Some(fits));
            }
        }
    }
}

fn read(line: &[u8]) -> Result<AnyInput, Vec<Violation>> {
    if let Err(error) = std::str::from_utf8(line) {
        return Err(vec![Violation::new(
            "$",
            Code::Malformed,
            format!("is not UTF-8 from byte {} on", error.valid_up_to() + 1),
        )]);
    }
    AnyInput::from_json(line).map_err(|error| {
        let mut violations = error.into_violations();
        for violation in &mut violations {
            // Within a line, every place is on line 1.
            violation.message = violation
                .message
                .replace(" at line 1 column ", " at column ");
        }
        violations
    })
}
