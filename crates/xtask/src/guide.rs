//! docs/new-integration.md shows what `crates/xtask/heap` has: it cannot say
//! what does not compile.

use std::fs;

use crate::{Outcome, cargo, files_below};

const GUIDE: &str = "docs/new-integration.md";
const FINISHED: &str = "crates/xtask/heap";

/// Every block of Rust and JSON in the guide stands so in one of the files.
pub(crate) fn check() -> Outcome {
    let root = cargo::root();
    let guide =
        fs::read_to_string(root.join(GUIDE)).map_err(|error| format!("{GUIDE}: {error}"))?;
    let files = files_below(&root.join(FINISHED)).map_err(|error| error.to_string())?;
    let files: Vec<_> = files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    let blocks = blocks(&guide);
    if blocks.is_empty() {
        return Err(format!("{GUIDE} shows no code"));
    }
    match blocks
        .iter()
        .find(|block| !files.iter().any(|file| file.contains(**block)))
    {
        Some(block) => Err(format!("{GUIDE} shows what is not in {FINISHED}:\n{block}")),
        None => Ok(()),
    }
}

fn blocks(text: &str) -> Vec<&str> {
    let mut blocks = Vec::new();
    for (index, part) in text.split("```").enumerate() {
        // Between a mark and the next one.
        let block = (index % 2 == 1).then(|| part.split_once('\n')).flatten();
        if let Some(("rust" | "json", block)) = block {
            blocks.push(block);
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found() {
        let text = "a\n```rust\none\n```\nb\n```sh\ntwo\n```\n```json\nthree\n```\n";
        assert_eq!(blocks(text), ["one\n", "three\n"]);
    }
}
