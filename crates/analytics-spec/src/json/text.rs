//! Texts, of which eight bytes at once are asked whether they have to be escaped.

use serde_json::Error;

/// Writes a text, and before and after it its quotes and what stands there.
#[inline]
pub(super) fn write<const BEFORE: usize, const AFTER: usize>(
    json: &mut Vec<u8>,
    before: &[u8; BEFORE],
    text: &str,
    after: &[u8; AFTER],
) -> Result<(), Error> {
    json.extend_from_slice(before);
    if is_plain(text.as_bytes()) {
        json.extend_from_slice(text.as_bytes());
    } else {
        escape(json, text)?;
    }
    json.extend_from_slice(after);
    Ok(())
}

/// What `serde_json` writes of a text, between the quotes.
#[cold]
fn escape(json: &mut Vec<u8>, text: &str) -> Result<(), Error> {
    let quoted = serde_json::to_vec(text)?;
    let between = quoted.get(1..quoted.len() - 1).unwrap_or_default();
    json.extend_from_slice(between);
    Ok(())
}

/// Whether a text stands in JSON as it is: it has neither a quote nor a
/// backslash nor what is below a space.
pub(super) fn is_plain(text: &[u8]) -> bool {
    // What does not fill a number is asked together with what stands before it,
    // once more.
    if let Some(last) = text.last_chunk() {
        let (eights, _) = text.as_chunks();
        let mut found = suspects(u64::from_le_bytes(*last));
        for eight in eights {
            found |= suspects(u64::from_le_bytes(*eight));
        }
        return found == 0;
    }
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        let [first, last] = [first, last].map(|four| u64::from(u32::from_le_bytes(*four)));
        return suspects(first | last << 32) == 0;
    }
    let is_plain = |byte: &u8| !matches!(byte, 0..=0x1f | b'"' | b'\\');
    text.iter().all(is_plain)
}

/// Which of eight bytes are to be escaped, by their highest bits: what is
/// subtracted from a byte borrows from it if the byte was smaller. Others may
/// be suspected because of one below them, but never without such a one.
fn suspects(eight: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let below = |bytes: u64, limit: u64| bytes.wrapping_sub(ONES * limit) & !bytes;
    let quote = below(eight ^ (ONES * u64::from(b'"')), 1);
    let backslash = below(eight ^ (ONES * u64::from(b'\\')), 1);
    (below(eight, 0x20) | quote | backslash) & (ONES * 0x80)
}
