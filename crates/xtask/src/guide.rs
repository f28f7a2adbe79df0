//! docs/new-integration.md shows what `crates/xtask/heap` has: it cannot say
//! what does not compile.

use std::{fs, path::Path};

use crate::{
    Outcome,
    book::page::{Block, Page},
    cargo, files_below,
};

pub(crate) const GUIDE: &str = "docs/new-integration.md";
const FINISHED: &str = "crates/xtask/heap";

/// Every block of Rust and JSON in the guide stands so in one of the files.
pub(crate) fn check() -> Outcome {
    let root = cargo::root();
    let guide = Page::read(&root, Path::new(GUIDE))?;
    let files = files_below(&root.join(FINISHED)).map_err(|error| error.to_string())?;
    let files: Vec<_> = files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
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
            "{GUIDE} shows what is not in {FINISHED}:\n{}",
            block.code
        )),
        None => Ok(()),
    }
}
