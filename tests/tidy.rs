//! The source keeps its own rules: floors, file length, forbidden words, documents in step.
//!
//! Every finding names a file and a line. A floor that is missing fails, so that the rules cannot pass
//! by looking at nothing.

use std::fs;
use std::path::{Path, PathBuf};

use lollmsd::protocol::command::Command;
use lollmsd::protocol::event::Event;
use lollmsd::protocol::line;

/// Each floor and the floors that it may import; lowest first.
const FLOORS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("protocol", &[]),
    ("config", &["domain"]),
    ("registry", &["domain"]),
    ("engine", &["domain"]),
    ("binding", &["domain", "protocol"]),
    ("worker", &["engine", "protocol", "domain"]),
    ("app", &["config", "registry", "binding", "domain"]),
    ("wire", &["app", "domain"]),
    (
        "cli",
        &["wire", "app", "worker", "binding", "engine", "registry", "config", "protocol", "domain"],
    ),
];

/// Longest source file, in lines.
const MOST_LINES: usize = 500;

/// Folders whose Rust files are held to the rules of form.
const RUST_FOLDERS: &[&str] = &["src", "tests", "tools", "benches"];

/// The only folder with unsafe code.
const UNSAFE_FOLDER: &str = "src/engine/llama";

struct Source {
    /// Relative to the repository.
    path: String,
    text: String,
}

impl Source {
    /// Lines of code with their numbers, whole-line comments left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().enumerate().map(|(idx, line)| (idx + 1, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The floor of a file beneath `src`; root files have none.
    fn floor(&self) -> Option<&str> {
        self.path.strip_prefix("src/")?.split_once('/').map(|(floor, _)| floor)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<Source> {
    let mut found = vec![];
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(current) = folders.pop() {
        let Ok(entries) = fs::read_dir(&current) else { continue };
        for entry in entries {
            let path = entry.expect("a folder of the repository can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                let path = path.strip_prefix(root()).expect("it was found there");
                found.push(Source { path: path.to_string_lossy().into_owned(), text });
            }
        }
    }
    found
}

fn all_sources() -> Vec<Source> {
    RUST_FOLDERS.iter().flat_map(|folder| sources(folder)).collect()
}

#[track_caller]
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// Names of floors that a line of code reaches by `crate::…`.
fn floors_named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn every_floor_exists_and_every_folder_is_a_floor() {
    let mut findings = vec![];
    for (floor, _) in FLOORS {
        let empty = !root().join("src").join(floor).join("mod.rs").is_file();
        if empty {
            findings.push(format!("src/{floor}/mod.rs is missing"));
        }
    }
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = FLOORS.iter().any(|(floor, _)| *floor == name);
        if entry.path().is_dir() && !known {
            findings.push(format!("src/{name} is no floor: add it to tests/tidy.rs or move it"));
        }
        if entry.path().is_file() && !["main.rs", "lib.rs"].contains(&name.as_str()) {
            findings.push(format!("src/{name} stands outside the floors"));
        }
    }
    none(&findings);
}

#[test]
fn imports_point_down_only() {
    let mut findings = vec![];
    for source in sources("src") {
        let Some(floor) = source.floor() else { continue };
        let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == floor) else { continue };
        for (number, line) in source.code() {
            for named in floors_named(line) {
                let is_floor = FLOORS.iter().any(|(name, _)| *name == named);
                if is_floor && named != floor && !allowed.contains(&named) {
                    let place = format!("{}:{number}", source.path);
                    findings.push(format!("{place}: `{floor}` must not import `{named}`"));
                }
            }
        }
    }
    none(&findings);
}

#[test]
fn paths_are_plain() {
    // Written in two parts, so that this file does not find itself.
    let forbidden = [
        concat!("crate::", "{"),
        concat!("super::", "super::"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
    ];
    let mut findings = vec![];
    for source in all_sources() {
        for (idx, line) in source.text.lines().enumerate() {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{}:{}: `{word}` is not used here", source.path, idx + 1));
            }
        }
    }
    none(&findings);
}

#[test]
fn files_are_short() {
    let long = |source: &Source| {
        let lines = source.text.lines().count();
        let path = &source.path;
        (lines > MOST_LINES).then(|| format!("{path} has {lines} lines; the most is {MOST_LINES}"))
    };
    let sources = all_sources();
    assert!(sources.len() > FLOORS.len(), "the walk found next to nothing");
    none(&sources.iter().filter_map(long).collect::<Vec<_>>());
}

#[test]
fn every_file_says_what_it_is() {
    let silent = |source: &Source| {
        let speaks = source.text.trim_start().starts_with("//!");
        (!speaks).then(|| format!("{} does not begin with `//!`", source.path))
    };
    none(&all_sources().iter().filter_map(silent).collect::<Vec<_>>());
}

#[test]
fn unsafe_code_stands_in_one_folder_and_says_why_it_is_sound() {
    let mut findings = vec![];
    for source in all_sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in source.code() {
            let is_unsafe = line.split_whitespace().any(|word| word.trim_matches('(') == "unsafe");
            if !is_unsafe || line.contains('"') {
                continue;
            }
            let place = format!("{}:{number}", source.path);
            if !source.path.starts_with(UNSAFE_FOLDER) {
                findings.push(format!("{place}: unsafe code outside {UNSAFE_FOLDER}"));
            }
            // An unsafe block is explained in the lines above it; foreign functions are only declared.
            let is_block = line.contains("unsafe {") || line.contains("unsafe impl");
            let above = &lines[number.saturating_sub(9)..number];
            if is_block && !above.iter().any(|line| line.contains("SAFETY:")) {
                findings.push(format!("{place}: no `SAFETY:` above it"));
            }
        }
    }
    none(&findings);
}

/// Lines of the transcripts in `docs/binding-protocol.md`: direction and JSON.
fn transcript() -> Vec<(char, String)> {
    let text =
        fs::read_to_string(root().join("docs/binding-protocol.md")).expect("the document exists");
    let read = |line: &str| {
        let direction = line.chars().next().filter(|c| ['>', '<'].contains(c))?;
        let rest = line[1..].trim();
        rest.starts_with('{').then(|| (direction, rest.to_owned()))
    };
    text.lines().filter_map(read).collect()
}

#[test]
fn the_binding_protocol_is_documented_as_it_is() {
    let mut findings = vec![];
    let mut seen = vec![];
    for (direction, json) in transcript() {
        let bytes = json.as_bytes();
        let problem = match direction {
            '>' => line::decode::<Command>(bytes).err(),
            _ => line::decode::<Event>(bytes).err(),
        };
        if let Some(problem) = problem {
            findings.push(format!("docs/binding-protocol.md: {problem}: {json}"));
        }
        let object: serde_json::Map<String, serde_json::Value> = line::decode(bytes).unwrap();
        seen.extend(object.keys().map(|key| format!("{direction} {key}")));
    }
    for wanted in operations("command.rs", "Command", '>')
        .into_iter()
        .chain(operations("event.rs", "Event", '<'))
    {
        if !seen.contains(&wanted) {
            findings.push(format!("docs/binding-protocol.md shows no line `{wanted}`"));
        }
    }
    none(&findings);
}

/// Names on the wire of an enum's variants, read from its source.
fn operations(file: &str, name: &str, direction: char) -> Vec<String> {
    let text = fs::read_to_string(root().join("src/protocol").join(file))
        .expect("the protocol has this file");
    let head = format!("pub enum {name} {{");
    let body = text.split_once(&head).and_then(|(_, rest)| rest.split_once("\n}"));
    let body = body.expect("the enum stands in this file").0;
    let variants =
        body.lines().filter_map(|line| line.trim().split_once('(').map(|(name, _)| name));
    let variants = variants.filter(|name| !name.starts_with("//"));
    let found: Vec<_> = variants.map(|name| format!("{direction} {}", snake_case(name))).collect();
    assert!(found.len() > 5, "no variants of `{name}` were found");
    found
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for char in name.chars() {
        if char.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(char.to_lowercase());
    }
    out
}
