//! The command line: verbs over the floors below.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::root::{Root, RootChoice};

pub mod bindings;
pub mod exec_binding;
pub mod listeners;
pub mod personalities;
pub mod serve;
pub mod telemetry;

/// A private chat server for local language models.
#[derive(Debug, Parser)]
#[command(name = "lollmsd", version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; without it the server starts.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Flags of `serve`.
    #[command(flatten)]
    pub serve: serve::ServeFlags,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start the server.
    Serve(serve::ServeFlags),
    /// Run one model; started by the server.
    #[command(hide = true)]
    Worker,
    /// Start a binding's program so that it ends with the server; started by the server.
    #[command(hide = true)]
    ExecBinding {
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Look at personalities.
    Personalities {
        /// The root folder.
        #[arg(long, value_name = "DIR", env = "LOLLMSD_ROOT", global = true)]
        root: Option<PathBuf>,
        /// What to do with them.
        #[command(subcommand)]
        verb: personalities::PersonalitiesVerb,
    },
    /// Look at bindings, and say which of them may run.
    Bindings {
        /// The root folder.
        #[arg(long, value_name = "DIR", env = "LOLLMSD_ROOT", global = true)]
        root: Option<PathBuf>,
        /// What to do with them.
        #[command(subcommand)]
        verb: bindings::BindingsVerb,
    },
}

/// Runs the program.
///
/// # Errors
/// What stopped it, for the person who started it.
pub fn run() -> anyhow::Result<ExitCode> {
    let Cli { verb, serve } = Cli::parse();
    match verb {
        None => serve::run(serve),
        Some(Verb::Serve(flags)) => serve::run(flags),
        Some(Verb::Worker) => Ok(crate::worker::run()),
        Some(Verb::ExecBinding { command }) => exec_binding::run(&command),
        Some(Verb::Personalities { root, verb }) => {
            let root = prepared(root)?;
            Ok(personalities::run(&verb, &root, &mut std::io::stdout().lock())?)
        }
        Some(Verb::Bindings { root, verb }) => {
            let root = prepared(root)?;
            Ok(bindings::run(&verb, &root, &mut std::io::stdout().lock())?)
        }
    }
}

/// The root folder, laid out.
fn prepared(flag: Option<PathBuf>) -> anyhow::Result<Root> {
    let root = find_root(flag)?;
    root.prepare()?;
    Ok(root)
}

fn find_root(flag: Option<PathBuf>) -> anyhow::Result<Root> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    Ok(Root::find(RootChoice {
        flag,
        variable: variable("LOLLMSD_ROOT"),
        current: std::env::current_dir().unwrap_or_default(),
        data_home: variable("XDG_DATA_HOME"),
        home: variable("HOME"),
    })?)
}
