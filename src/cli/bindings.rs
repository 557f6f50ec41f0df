//! `lollmsd bindings`: what the server would list, and which programs it may start.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use crate::cli::personalities::{as_values, exit_code, word};
use crate::config::root::Root;
use crate::config::trusted::Trusted;
use crate::domain::binding::LLAMA_CPP;
use crate::domain::name::Name;
use crate::registry::bindings::{BindingEntry, Bindings};

/// Verbs of `lollmsd bindings`.
#[derive(Clone, Debug, Subcommand)]
pub enum BindingsVerb {
    /// List what the server finds, and what is wrong.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Allow a binding's program to be started, as its folder is now.
    Trust {
        /// The binding's folder name.
        name: String,
    },
    /// Allow it no longer.
    Untrust {
        /// The binding's folder name.
        name: String,
    },
    /// Say what is wrong with a binding, and whether it may be started.
    Check {
        /// The binding's folder name.
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// How a binding stands with the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    BuiltIn,
    ListsOnly,
    Trusted,
    Untrusted,
    Changed,
}

impl Standing {
    fn word(self) -> &'static str {
        match self {
            Self::BuiltIn => "built in",
            Self::ListsOnly => "no program",
            Self::Trusted => "trusted",
            Self::Untrusted => "not trusted",
            Self::Changed => "changed since it was trusted",
        }
    }
}

/// Runs a verb; the exit code is 1 when it could not be done or something is broken.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(verb: &BindingsVerb, root: &Root, out: &mut impl Write) -> std::io::Result<ExitCode> {
    let (bindings, trusted) = (Bindings::new(root.bindings()), Trusted::new(root));
    match verb {
        BindingsVerb::List { json } => list(&bindings, &trusted, *json, out),
        BindingsVerb::Trust { name } => match trust(&bindings, &trusted, name) {
            Ok(said) => writeln!(out, "{said}").map(|()| ExitCode::SUCCESS),
            Err(error) => writeln!(out, "{error}").map(|()| ExitCode::FAILURE),
        },
        BindingsVerb::Untrust { name } => match trusted.set_binding(name, None) {
            Ok(()) => writeln!(out, "`{name}` is not trusted").map(|()| ExitCode::SUCCESS),
            Err(error) => writeln!(out, "{error}").map(|()| ExitCode::FAILURE),
        },
        BindingsVerb::Check { name, json } => check(&bindings, &trusted, (name, *json), out),
    }
}

fn standing(bindings: &Bindings, trusted: &Trusted, entry: &BindingEntry) -> Standing {
    if entry.name.as_str() == LLAMA_CPP {
        return Standing::BuiltIn;
    }
    if entry.command.is_none() {
        return Standing::ListsOnly;
    }
    match trusted.binding(entry.name.as_str()) {
        Ok(Some(known)) if bindings.fingerprint(&entry.name).is_ok_and(|now| now == known) => {
            Standing::Trusted
        }
        Ok(Some(_)) => Standing::Changed,
        Ok(None) | Err(_) => Standing::Untrusted,
    }
}

fn list(
    bindings: &Bindings,
    trusted: &Trusted,
    as_json: bool,
    out: &mut impl Write,
) -> std::io::Result<ExitCode> {
    let snapshot = bindings.snapshot();
    let with_standing =
        snapshot.entries.values().map(|entry| (entry, standing(bindings, trusted, entry).word()));
    if as_json {
        let entries: Vec<_> = with_standing
            .map(|(entry, standing)| {
                json!({ "name": entry.name.as_str(), "standing": standing, "card": entry.card })
            })
            .collect();
        let value = json!({ "bindings": entries, "problems": as_values(&snapshot.problems) });
        writeln!(out, "{value:#}")?;
    } else {
        for (entry, standing) in with_standing {
            let text = entry.card.get("description").and_then(|text| text.as_str()).unwrap_or("");
            let line = text.lines().next().unwrap_or("");
            writeln!(out, "{}\t{standing}\t{line}", entry.name)?;
        }
        for problem in &snapshot.problems {
            writeln!(out, "{} {problem}", word(problem))?;
        }
    }
    Ok(exit_code(&snapshot.problems))
}

fn trust(bindings: &Bindings, trusted: &Trusted, name: &str) -> Result<String, String> {
    let wanted = Name::parse(name).map_err(|error| error.to_string())?;
    let entry = bindings.find(&wanted).ok_or_else(|| format!("there is no binding `{name}`"))?;
    let command = entry.command.as_ref().filter(|_| name != LLAMA_CPP);
    let command =
        command.ok_or_else(|| format!("`{name}` has no program, so it needs no trust"))?;
    let now = bindings.fingerprint(&wanted).map_err(|error| error.to_string())?;
    trusted.set_binding(name, Some(&now)).map_err(|error| error.to_string())?;
    let folder = bindings.root().join(name);
    let (folder, command) = (folder.display(), command.join(" "));
    Ok(format!("`{name}` is trusted as it is now: the server may run `{command}` in {folder}"))
}

fn check(
    bindings: &Bindings,
    trusted: &Trusted,
    (name, as_json): (&str, bool),
    out: &mut impl Write,
) -> std::io::Result<ExitCode> {
    let snapshot = bindings.snapshot();
    let own =
        |path: &str| path == name || path.strip_prefix(name).is_some_and(|p| p.starts_with('/'));
    let mut problems: Vec<_> =
        snapshot.problems.iter().filter(|problem| own(&problem.path)).cloned().collect();
    let entry = snapshot.entries.get(name);
    if entry.is_none() && problems.is_empty() {
        let reason = "there is no such binding";
        problems.push(crate::registry::problem::Problem::broken(name, None, reason));
    }
    let standing = entry.map(|entry| standing(bindings, trusted, entry).word());
    if as_json {
        let value = json!({ "name": name, "standing": standing, "problems": as_values(&problems) });
        writeln!(out, "{value:#}")?;
    } else {
        for problem in &problems {
            writeln!(out, "{} {problem}", word(problem))?;
        }
        if let Some(standing) = standing {
            writeln!(out, "`{name}` can be read: {standing}")?;
        }
    }
    Ok(exit_code(&problems))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(verb: &BindingsVerb, root: &Root) -> (String, bool) {
        let mut out = Vec::new();
        let code = run(verb, root, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), code == ExitCode::SUCCESS)
    }

    #[test]
    fn trust_is_given_taken_and_lost_by_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path());
        root.prepare().unwrap();
        let name = || "example_python".to_owned();
        let standing = || {
            let (text, _) = said(&BindingsVerb::Check { name: name(), json: true }, &root);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            value["standing"].as_str().unwrap().to_owned()
        };
        assert_eq!(standing(), "not trusted");
        let (text, good) = said(&BindingsVerb::Trust { name: name() }, &root);
        assert!(good && text.contains("python3 binding.py"), "{text}");
        assert_eq!(standing(), "trusted");
        std::fs::write(root.bindings().join("example_python/more.py"), "").unwrap();
        assert_eq!(standing(), "changed since it was trusted");
        assert!(said(&BindingsVerb::Trust { name: name() }, &root).1);
        assert!(said(&BindingsVerb::Untrust { name: name() }, &root).1);
        assert_eq!(standing(), "not trusted");
        for wrong in ["llama_cpp", "none", "../x", ""] {
            assert!(!said(&BindingsVerb::Trust { name: wrong.into() }, &root).1, "{wrong}");
        }
        let (text, good) = said(&BindingsVerb::List { json: false }, &root);
        assert!(good && text.contains("llama_cpp\tbuilt in\t"), "{text}");
    }
}
