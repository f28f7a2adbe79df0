//! `analytics integrations`

use analytics_kit::{Kind, VENDORS, spec::integration::Support};
use clap::Args;

use crate::{
    exit::{Exit, Failure},
    output::Out,
    table,
};

/// Show the vendors, and which events each of them supports
#[derive(Debug, Args)]
pub(crate) struct Integrations {
    /// As a Markdown table
    #[arg(long)]
    markdown: bool,
}

impl Integrations {
    pub(crate) fn run(&self) -> Result<Exit, Failure> {
        let header = ["vendor"].into_iter().chain(Kind::ALL.map(Kind::as_str));
        let mut table = if self.markdown {
            table::markdown(header)
        } else {
            table::new(header)
        };
        let mut notes = Notes::default();
        for vendor in VENDORS {
            let mut row = vec![vendor.name.to_owned()];
            for kind in Kind::ALL {
                row.push(match vendor.support(kind) {
                    Ok(Support::Yes) => "✓".to_owned(),
                    Ok(Support::When(condition)) => {
                        format!("✓{}", notes.mark(format!("if {condition}")))
                    }
                    Ok(Support::No) => "–".to_owned(),
                    Err(_) => notes.mark("not compiled in".to_owned()),
                });
            }
            table.add_row(row);
        }
        let mut out = Out::new();
        out.line(table::show(&table))?;
        if !notes.0.is_empty() {
            out.line("")?;
        }
        let line_break = if self.markdown { "  " } else { "" };
        for (index, note) in notes.0.iter().enumerate() {
            let mark = mark(index);
            let end = if index + 1 < notes.0.len() {
                line_break
            } else {
                ""
            };
            out.line(format_args!("{mark} {note}{end}"))?;
        }
        out.flush()?;
        Ok(Exit::Success)
    }
}

/// The footnotes, each once.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn mark(&mut self, note: String) -> String {
        let known = self.0.iter().position(|known| *known == note);
        mark(known.unwrap_or_else(|| {
            self.0.push(note);
            self.0.len() - 1
        }))
    }
}

/// The mark of a footnote: its number, from 1, raised.
fn mark(index: usize) -> String {
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let digits = (index + 1).to_string();
    let digits = digits.bytes().map(|digit| usize::from(digit - b'0'));
    digits.filter_map(|digit| RAISED.get(digit)).collect()
}
