//! Starts lollmsd and prints what stopped it.

use std::process::ExitCode;

fn main() -> ExitCode {
    match lollmsd::cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lollmsd: {error:#}");
            ExitCode::from(2)
        }
    }
}
