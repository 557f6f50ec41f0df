//! `lollmsd personalities`: what the server would list, and what is wrong with a folder.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use crate::config::root::Root;
use crate::registry::personalities::{Personalities, check_folder};
use crate::registry::problem::{Problem, Weight};

/// Verbs of `lollmsd personalities`.
#[derive(Clone, Debug, Subcommand)]
pub enum PersonalitiesVerb {
    /// List what the server finds, and what is wrong.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check one personality's folder, wherever it lies.
    Check {
        /// The folder with `config.yaml`.
        dir: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs a verb; the exit code is 1 when something is broken.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(
    verb: &PersonalitiesVerb,
    root: &Root,
    out: &mut impl Write,
) -> std::io::Result<ExitCode> {
    match verb {
        PersonalitiesVerb::List { json } => list(root, *json, out),
        PersonalitiesVerb::Check { dir, json } => check(dir, *json, out),
    }
}

fn list(root: &Root, as_json: bool, out: &mut impl Write) -> std::io::Result<ExitCode> {
    let snapshot = Personalities::new(root.personalities()).snapshot();
    if as_json {
        let entry = |entry: &crate::domain::personality::Personality| {
            json!({
                "path": entry.folder, "name": entry.name, "author": entry.author,
                "version": entry.version, "description": entry.description.trim(),
            })
        };
        let entries: Vec<_> = snapshot.entries.values().map(|found| entry(found)).collect();
        let value = json!({ "personalities": entries, "problems": as_values(&snapshot.problems) });
        writeln!(out, "{value:#}")?;
    } else {
        for entry in snapshot.entries.values() {
            let line = entry.description.lines().next().unwrap_or("").trim();
            writeln!(out, "{}\t{line}", entry.folder)?;
        }
        for problem in &snapshot.problems {
            writeln!(out, "{} {problem}", word(problem))?;
        }
    }
    Ok(exit_code(&snapshot.problems))
}

fn check(dir: &std::path::Path, as_json: bool, out: &mut impl Write) -> std::io::Result<ExitCode> {
    let (found, problems) = match check_folder(dir) {
        Ok((personality, odd)) => (Some(personality), odd),
        Err(problem) => (None, vec![problem]),
    };
    let path = found.as_ref().map(|found| found.folder.clone());
    if as_json {
        let value =
            json!({ "path": path, "good": found.is_some(), "problems": as_values(&problems) });
        writeln!(out, "{value:#}")?;
    } else {
        for problem in &problems {
            writeln!(out, "{} {problem}", word(problem))?;
        }
        if let Some(found) = &found {
            writeln!(out, "`{}` by {} can be used as {}", found.name, found.author, found.folder)?;
        }
    }
    Ok(exit_code(&problems))
}

/// Problems as JSON.
pub(super) fn as_values(problems: &[Problem]) -> Vec<serde_json::Value> {
    let value = |problem: &Problem| {
        json!({
            "path": problem.path, "line": problem.line, "reason": problem.reason,
            "weight": word(problem),
        })
    };
    problems.iter().map(value).collect()
}

/// How much a problem matters, in a word.
pub(super) fn word(problem: &Problem) -> &'static str {
    match problem.weight {
        Weight::Odd => "odd",
        Weight::Broken => "broken",
    }
}

/// 1 when something is broken.
pub(super) fn exit_code(problems: &[Problem]) -> ExitCode {
    let broken = problems.iter().any(|problem| problem.weight == Weight::Broken);
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(verb: &PersonalitiesVerb, root: &Root) -> (String, bool) {
        let mut out = Vec::new();
        let code = run(verb, root, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), code == ExitCode::SUCCESS)
    }

    #[test]
    fn what_is_found_and_what_is_wrong_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path());
        root.prepare().unwrap();
        let (text, good) = said(&PersonalitiesVerb::List { json: false }, &root);
        assert!(good && text.contains("generic/lollms\tA friendly assistant"), "{text}");
        let broken = root.personalities().join("generic/lollms/config.yaml");
        std::fs::write(&broken, "name: [").unwrap();
        let (text, good) = said(&PersonalitiesVerb::List { json: true }, &root);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(!good);
        assert_eq!(value["problems"][0]["path"], "generic/lollms/config.yaml");
        assert_eq!(value["problems"][0]["weight"], "broken");
        let dir = root.personalities().join("work/editor");
        let (text, good) = said(&PersonalitiesVerb::Check { dir, json: false }, &root);
        assert!(good && text.contains("can be used as work/editor"), "{text}");
        let dir = broken.parent().unwrap().to_owned();
        let (text, good) = said(&PersonalitiesVerb::Check { dir, json: false }, &root);
        assert!(!good && text.starts_with("broken generic/lollms/config.yaml:"), "{text}");
    }
}
