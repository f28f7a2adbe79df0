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

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let entries = |folder: &str| {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path())
    };
    let docs = entries("docs").filter(|path| path.extension().is_some_and(|e| e == "md"));
    let pages = entries("integrations").map(|path| path.join("README.md"));
    let mut documents: Vec<_> = docs.chain(pages).collect();
    documents.push(root.join("README.md"));
    documents.sort();
    documents
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
    for path in documents() {
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
