//! Logging to stderr.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `LOLLMSD_LOG` chooses what is logged, as `info`, `debug` or `lollmsd=debug`.
pub fn start(format: LogFormat) {
    let wanted = std::env::var("LOLLMSD_LOG").unwrap_or_else(|_| "warn,lollmsd=info".into());
    // The Socket.IO layer logs whole packets, which hold chats, whatever level was asked for.
    let filter = EnvFilter::new(format!("{wanted},engineioxide=warn,socketioxide=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
}
