//! The worker process: the binding protocol on one side, the engine on the other.
//!
//! Threads: the *desk* reads commands and answers what needs no model; two *preparation* threads tokenize
//! and apply templates; a *vectors* thread embeds and ranks; a *load* thread while a model is loaded; the *decode* thread owns the model's
//! context and does nothing but steps; a *drain* thread sleeps until the pipe to the front is full.
//! Nobody waits for the pipe: unsent text is merged per generation ([`outbox`]).

pub mod cpu;
mod decode;
pub mod desk;
mod guided;
mod infill;
mod kv_files;
mod live;
pub mod loader;
pub mod outbox;
mod pair;
mod pieces;
pub mod prepare;
mod process;
mod reader;
mod recipe;
mod states;
mod text;
pub mod threads;
mod vectors;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use crate::worker::desk::{Desk, Ending};
use crate::worker::loader::Loader;

/// What this worker offers.
const CAPABILITIES: [&str; 11] = [
    "save_state",
    "restore_state",
    "load",
    "list_models",
    "generate",
    "tokenize",
    "detokenize",
    "embed",
    "rerank",
    "apply_template",
    "configure",
];

/// Runs the worker over stdin and stdout until the front closes them or says `bye`.
pub fn run() -> ExitCode {
    let output = match process::prepare() {
        Ok(output) => output,
        Err(error) => {
            tracing::error!("the worker cannot use its stdout: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut desk = Desk::new(loader::built_in(), output);
    match desk.serve(std::io::stdin().lock()) {
        // No destructors: other threads may be in the middle of a step.
        Ending::Closed | Ending::Bye => process::exit_now(0),
        Ending::Malformed => process::exit_now(2),
    }
}

/// Runs the worker over any pair of descriptors, and ends its threads before it returns.
pub fn run_on<L: Loader>(
    loader: L,
    input: impl std::io::Read,
    output: std::os::fd::OwnedFd,
) -> Ending {
    let mut desk = Desk::new(loader, output);
    let ending = desk.serve(input);
    desk.close();
    ending
}
