//! Somebody else's text, for a terminal or a log.

use std::fmt::Write as _;

/// A text in which everything that a terminal takes for a command, breaks
/// lines or turns the direction of text is escaped, as Rust does it.
///
/// ```
/// use analytics_spec::visible;
///
/// assert_eq!(visible("x\u{1b}[31mred"), r"x\u{1b}[31mred");
/// assert_eq!(visible("Zoë"), "Zoë");
/// ```
#[must_use]
pub fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if is_command(c) {
            visible.extend(c.escape_default());
        } else {
            visible.push(c);
        }
    }
    visible
}

/// The same for a text that is JSON, and is still JSON then, of the same value.
///
/// ```
/// use analytics_spec::visible_json;
///
/// assert_eq!(visible_json("{\"a\":\"x\u{202e}y\"}"), r#"{"a":"x\u202ey"}"#);
/// ```
#[must_use]
pub fn visible_json(json: &str) -> String {
    let mut visible = String::with_capacity(json.len());
    for c in json.chars() {
        // White space stands between values; in a text, JSON has no other. None
        // of the rest is beyond what one `\u` can name.
        if is_command(c) && !matches!(c, '\n' | '\r' | '\t') {
            // Writing to a String cannot fail.
            let _ = write!(visible, "\\u{:04x}", u32::from(c));
        } else {
            visible.push(c);
        }
    }
    visible
}

fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
