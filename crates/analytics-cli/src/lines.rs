//! Lines of a file, as people name them.

use std::fmt;

use serde::Serialize;

/// Lines in their order: the first and the last of each that follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Lines(Vec<(u64, u64)>);

impl Lines {
    /// Adds a line after all that are there.
    pub(crate) fn push(&mut self, line: u64) {
        match self.0.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(line) => *last = line,
            _ => self.0.push((line, line)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `line 3`, `lines 3-5, 7`.
impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_one = matches!(self.0[..], [(first, last)] if first == last);
        f.write_str(if is_one { "line" } else { "lines" })?;
        for (nth, (first, last)) in self.0.iter().enumerate() {
            f.write_str(if nth == 0 { " " } else { ", " })?;
            if first == last {
                write!(f, "{first}")?;
            } else {
                write!(f, "{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lines: &[u64]) -> String {
        let mut all = Lines::default();
        lines.iter().for_each(|line| all.push(*line));
        all.to_string()
    }

    #[test]
    fn lines_that_follow_each_other_are_one_range() {
        assert_eq!(shown(&[7]), "line 7");
        assert_eq!(shown(&[7, 8]), "lines 7-8");
        assert_eq!(shown(&[3, 4, 5, 7, 9, 10]), "lines 3-5, 7, 9-10");
    }
}
