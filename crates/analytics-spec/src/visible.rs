//! Somebody else's text, for a terminal or a log.

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

fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
