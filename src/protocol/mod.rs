//! The binding protocol: what the front and a binding process say to each other.
//!
//! JSON Lines over stdin and stdout, one key per line (`{"generate":{…}}`), plain serde types.
//! `docs/binding-protocol.md` describes it for authors of bindings; unknown fields are ignored on both
//! sides, so a field can be added without a new version.

use std::time::Duration;

pub mod command;
pub mod event;
pub mod line;
pub mod sampling;
pub mod vectors;

/// Version spoken by this program, said in both `hello` lines.
pub const PROTOCOL_VERSION: u32 = 1;
/// Longest line to a binding process, in bytes, line break included.
pub const MAX_COMMAND_BYTES: usize = 32 << 20;
/// Longest line from a binding process, in bytes, line break included.
pub const MAX_EVENT_BYTES: usize = 1 << 20;
/// Most stray lines (not beginning with `{`) that a process may write to stdout before it is ended.
pub const MAX_STRAY_LINES: usize = 100;
/// A process that has not said `hello` by then is ended.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest id: the largest whole number that every JSON reader keeps exactly (2^53).
pub const MAX_ID: u64 = 1 << 53;
