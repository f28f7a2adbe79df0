//! Every command that the documents show is one that the command understands.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use crate::support::Dir;

/// Go on until they are stopped: only their arguments are looked at.
const ENDLESS: [&str; 2] = ["sandbox", "worker"];

/// Nor is a server started here.
const ON_TEMPORAL: [&str; 2] = ["--engine", "temporal"];

/// Every page of the book: `cargo xtask book`.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "_template", "heap"].contains(&name) {
                found.extend(documents(&path));
            }
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
    found
}

/// The arguments of each `analytics` in the shell blocks of a document.
fn commands(text: &str) -> Vec<Vec<&str>> {
    let mut is_shell = false;
    let mut commands = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_shell = line == "```sh";
        }
        let command = line.strip_prefix("analytics ");
        let command = command.or_else(|| line.strip_prefix("cargo run -- "));
        if let Some(command) = command.filter(|_| is_shell) {
            let words = command.split_whitespace();
            commands.push(
                words
                    .take_while(|w| !["#", ">", "&", "|"].contains(w))
                    .collect(),
            );
        }
    }
    commands
}

/// Where they run: with vendors, events, and a directory to keep them in.
struct Place {
    dir: Dir,
    sandbox: std::process::Child,
}

impl Place {
    fn new() -> Self {
        let dir = Dir::new();
        let configuration = File::create(dir.path().join("analytics.toml")).unwrap();
        let mut sandbox = dir
            .command(&["sandbox"])
            .stdout(configuration.try_clone().unwrap())
            .spawn()
            .unwrap();
        let said = BufReader::new(sandbox.stderr.take().unwrap()).lines();
        let is_up = said.map(Result::unwrap).any(|line| line.contains("Ctrl-C"));
        assert!(is_up, "the sandbox did not start");
        write!(&configuration, "\n[engine]\ndata_dir = \"kept\"\n").unwrap();
        let events = include_bytes!("../../events.jsonl");
        dir.write("events.jsonl", events);
        std::fs::create_dir(dir.path().join("examples")).unwrap();
        dir.write("examples/events.jsonl", events);
        Self { dir, sandbox }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.sandbox.kill();
        let _ = self.sandbox.wait();
    }
}

#[test]
fn every_command_of_the_documents_is_understood() {
    let place = Place::new();
    let mut tried = 0;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for path in documents(&root) {
        let text = std::fs::read_to_string(&path).unwrap();
        for mut args in commands(&text) {
            let is_endless = args.first().is_some_and(|first| ENDLESS.contains(first));
            if is_endless || args.windows(2).any(|two| two == ON_TEMPORAL) {
                args.push("--help");
            }
            let run = place.dir.run(&args);
            // 1: something was refused, or is not there. 2: it was not understood.
            assert!(
                matches!(run.code, Some(0 | 1)),
                "{}: {args:?}: {run:#?}",
                path.display()
            );
            tried += 1;
        }
    }
    assert!(tried >= 15, "only {tried} commands were found");
}
