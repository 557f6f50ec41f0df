//! The end of the process: at once on purpose, or with one last line when it crashes.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::engine::llama::ffi;

/// Ends the process without destructors, for other threads may be in the middle of a step.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` may be called from any thread at any time.
    unsafe { ffi::lollmsd_exit(code) }
}

/// From now on a crash writes one `fatal` line to this descriptor, which must stay open.
pub fn install_crash_line(fd: BorrowedFd<'_>) {
    // SAFETY: installs signal handlers that only write to the descriptor and raise the signal again.
    unsafe { ffi::lollmsd_crash_install(fd.as_raw_fd()) }
}

/// Tells the crash handler whether the last write ended in the middle of a line.
pub fn mark_in_line(in_line: bool) {
    // SAFETY: stores one atomic flag.
    unsafe { ffi::lollmsd_crash_in_line(in_line) }
}
