//! Every Rust block of the README and of `docs/` is a test: it compiles against
//! the crates as they are.

macro_rules! documents {
    ($($name:ident: $path:literal),* $(,)?) => {
        $(#[cfg(doctest)] #[doc = include_str!($path)] mod $name {})*

        #[cfg(test)]
        const DOCUMENTS: &[&str] = &[$($path),*];
    };
}

documents! {
    command: "../docs/command.md",
    concepts: "../docs/concepts.md",
    configuration: "../docs/configuration.md",
    engine: "../docs/engine.md",
    errors_and_retries: "../docs/errors-and-retries.md",
    go: "../docs/go.md",
    performance: "../docs/performance.md",
    readme: "../README.md",
}

/// Its blocks link Temporal's SDK: `cargo xtask test-temporal`.
#[cfg(all(doctest, feature = "temporal"))]
#[doc = include_str!("../docs/temporal.md")]
mod temporal {}

#[cfg(test)]
const TEMPORAL: &str = "temporal.md";

/// Its blocks are parts of files that are built: `cargo xtask check guide`.
#[cfg(test)]
const GUIDE: &str = "new-integration.md";

#[cfg(test)]
#[test]
fn no_document_is_left_out() {
    let docs = std::fs::read_dir("../docs").expect("docs/ stands beside examples/");
    for entry in docs {
        let name = entry.expect("it can be read").file_name();
        let name = name.to_string_lossy();
        let path = format!("../docs/{name}");
        assert!(
            !name.ends_with(".md")
                || name == GUIDE
                || name == TEMPORAL
                || DOCUMENTS.contains(&path.as_str()),
            "{path} is not among the documents of examples/documents.rs"
        );
    }
}
