//! docs/new-integration.md shows what `crates/xtask/heap` has, or an example in
//! the documentation of [`EXAMPLES`]: it cannot say what does not compile.

use std::{fs, path::Path};

use crate::{
    Outcome,
    book::page::{Block, Page},
    cargo, files_below,
};

pub(crate) const GUIDE: &str = "docs/new-integration.md";
const FINISHED: &str = "crates/xtask/heap";

/// Where examples show what Heap has not.
const EXAMPLES: [&str; 2] = [
    "crates/analytics-http/src/request.rs",
    "crates/analytics-http/src/vendor.rs",
];

/// Every block of Rust and JSON in the guide stands so in one of the files.
pub(crate) fn check() -> Outcome {
    let root = cargo::root();
    let guide = Page::read(&root, Path::new(GUIDE))?;
    let files = files_below(&root.join(FINISHED)).map_err(|error| error.to_string())?;
    let mut files: Vec<_> = files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    for file in EXAMPLES {
        let documented = fs::read_to_string(root.join(file)).map_err(|error| error.to_string())?;
        let examples = documented.lines().filter_map(|line| {
            let line = line.trim_start().strip_prefix("///")?;
            Some(line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n")
        });
        files.push(examples.collect());
    }
    let is_code = |block: &&Block| block.is_in("rust") || block.is_in("json");
    let blocks: Vec<_> = guide.blocks.iter().filter(is_code).collect();
    if blocks.is_empty() {
        return Err(format!("{GUIDE} shows no code"));
    }
    match blocks
        .iter()
        .find(|block| !files.iter().any(|file| file.contains(&block.code)))
    {
        Some(block) => Err(format!(
            "{GUIDE} shows what is neither in {FINISHED} nor an example of {}:\n{}",
            EXAMPLES.join(" or "),
            block.code
        )),
        None => Ok(()),
    }
}
