//! Starts what the first argument names.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        return lollmsd::worker::run();
    }
    ExitCode::from(2)
}
