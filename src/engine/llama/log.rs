//! llama.cpp's log: warnings and errors go to stderr, and the last errors are kept, for they are the
//! only reason that a failed load has.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, Once, PoisonError};

use llama_cpp_sys_2 as sys;

/// Error lines that are kept.
const KEPT_LINES: usize = 6;
/// Longest kept line, in bytes.
const LINE_BYTES: usize = 400;

static LAST_ERRORS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
static INSTALL: Once = Once::new();

thread_local! {
    /// Whether lines of this thread are the consequence of what it was asked to do.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Sends llama.cpp's log here; later calls do nothing.
pub(super) fn capture() {
    // SAFETY: the callback has the type that llama.cpp wants and lives as long as the program.
    INSTALL.call_once(|| unsafe { sys::llama_log_set(Some(on_line), std::ptr::null_mut()) });
}

/// Leaves out what this thread logs, until it is told otherwise.
pub(super) fn expect_errors(expected: bool) {
    EXPECTED.set(expected);
}

/// Forgets the errors so far.
pub(super) fn forget_errors() {
    LAST_ERRORS.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// The last errors, joined; empty when there were none.
pub(super) fn last_errors() -> String {
    let lines = LAST_ERRORS.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
}

/// Called by llama.cpp from any thread. Nothing in it panics: no lock is trusted, no text is assumed.
unsafe extern "C" fn on_line(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    let is_error = level == sys::GGML_LOG_LEVEL_ERROR;
    if EXPECTED.try_with(Cell::get).unwrap_or(false) {
        return;
    }
    if text.is_null() || !(is_error || level == sys::GGML_LOG_LEVEL_WARN) {
        return;
    }
    // SAFETY: llama.cpp hands a text that ends with a zero byte.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let line: String = text.trim().chars().take(LINE_BYTES).collect();
    if line.is_empty() {
        return;
    }
    if is_error {
        let mut lines = LAST_ERRORS.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line.clone());
    }
    tracing::warn!("llama.cpp: {line}");
}
