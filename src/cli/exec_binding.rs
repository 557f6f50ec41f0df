//! Starts a binding's program so that it ends with the server.
//!
//! The kernel's parent-death signal survives `exec`, so a program that knows nothing of it ends as well
//! when the server is killed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Becomes the program; returns only when that fails.
///
/// # Errors
/// When the program cannot be started.
pub fn run(command: &[OsString]) -> anyhow::Result<ExitCode> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != parent {
        // The server ended before the signal was asked for.
        return Ok(ExitCode::FAILURE);
    }
    let (program, arguments) =
        command.split_first().ok_or_else(|| anyhow::anyhow!("no program is named"))?;
    let error = Command::new(program).args(arguments).exec();
    Err(anyhow::Error::new(error).context(format!("`{}` cannot be started", program.display())))
}
