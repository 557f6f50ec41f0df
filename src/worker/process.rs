//! What the worker does to its own process before anything else runs, and how it ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::protocol::event::{Event, Fatal};
use crate::protocol::line;

/// Moves the protocol away from descriptor 1, so that whatever a library prints goes to the log; makes
/// the process end with its front; prepares the last words. Returns the descriptor of the protocol.
pub(super) fn prepare() -> io::Result<OwnedFd> {
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    start_log();
    die_with_parent();
    speak_last_words(output.as_fd())?;
    Ok(output)
}

fn start_log() {
    // An error means that the program has a log already.
    let _ = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .try_init();
}

/// A second net: the first is that stdin ends. The signal follows the thread that started this process.
fn die_with_parent() {
    let before = getppid();
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        tracing::warn!("no signal will tell the death of the parent process: {error}");
    }
    // It may have died before the signal was asked for.
    if getppid() != before {
        exit_now(0);
    }
}

/// A crash or a panic writes one `fatal` line.
fn speak_last_words(output: BorrowedFd<'_>) -> io::Result<()> {
    static OUTPUT: OnceLock<OwnedFd> = OnceLock::new();
    let copy = OUTPUT.get_or_init(|| output.try_clone_to_owned().expect("one more descriptor"));
    #[cfg(feature = "llama")]
    crate::engine::llama::install_crash_line(copy.as_fd());
    std::panic::set_hook(Box::new(move |panic| {
        let reason = format!("a defect in the worker: {panic}");
        tracing::error!("{reason}");
        if let Ok(line) = line::encode(&Event::Fatal(Fatal { reason })) {
            // Nothing more can be done if this fails.
            let _ = rustix::io::write(copy, &line);
        }
        exit_now(101);
    }));
    Ok(())
}

/// Ends the process at once; without llama.cpp there is nothing that destructors could disturb.
pub(super) fn exit_now(code: i32) -> ! {
    #[cfg(feature = "llama")]
    crate::engine::llama::exit_now(code);
    #[cfg(not(feature = "llama"))]
    std::process::exit(code)
}

/// Tells the crash handler whether the pipe stands in the middle of a line.
pub(super) fn mark_in_line(in_line: bool) {
    #[cfg(feature = "llama")]
    crate::engine::llama::mark_in_line(in_line);
    #[cfg(not(feature = "llama"))]
    let _ = in_line;
}

/// Threads for decode steps when nobody chose: one less than there are physical cores, so that the
/// front and the sockets have one; steps wait for each other at barriers, so a shared core is worse
/// than one thread fewer.
pub(super) fn default_threads() -> u32 {
    let usable = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = physical_cores().unwrap_or(usable).min(usable);
    u32::try_from(cores.saturating_sub(1).max(1)).unwrap_or(1)
}

/// Cores, hyper-threads counted once; `None` where Linux does not say.
fn physical_cores() -> Option<usize> {
    let mut cores = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        let siblings = entry.path().join("topology/thread_siblings_list");
        if let Ok(siblings) = std::fs::read_to_string(siblings) {
            cores.insert(siblings);
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}
