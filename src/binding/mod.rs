//! Clients of binding processes: start them, talk to them, outlive them.
//!
//! An [`instance::Instance`] is one model loaded in one process. It queues generations fairly, holds back
//! what the process has no credit for, restarts the process when it dies, and writes what arrives into
//! [`log::GenerationLog`]s. Nothing here waits for a pipe or for a reader of a log.

pub mod instance;
pub mod log;
pub mod queue;
pub mod request;
pub mod spawn;

mod intake;
mod lines;
mod outgoing;
mod state;
mod supervise;

pub use supervise::{DEATH_WINDOW, MAX_DEATHS};
