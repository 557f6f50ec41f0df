//! llama.cpp: the only place with `unsafe`.
//!
//! `llama-cpp-2` gives the backend, the model and its vocabulary; context, batch and sampler are ours over
//! its sys crate, because the safe crate keeps its context to itself. Every call that can throw goes
//! through the C++ files here. Calls that would end the process on a wrong argument are guarded here:
//! a batch never exceeds its capacity, its sequence numbers and tokens are in range, and a token is only
//! chosen where the step was asked for numbers.

mod adapters;
mod batch;
mod bridge;
mod chat;
pub mod context;
mod crash;
mod embed;
mod ffi;
mod log;
pub mod model;
mod sampler;
mod schema;
mod step;
#[cfg(test)]
mod tests;
mod watch;

#[cfg(test)]
mod agreement;
#[cfg(test)]
#[path = "../../../tools/models/mod.rs"]
#[expect(dead_code, reason = "shared with the program that writes the models")]
mod models;

pub use crate::engine::llama::adapters::LoraAdapters;
pub use crate::engine::llama::context::{ContextSettings, LlamaDecoder};
pub use crate::engine::llama::crash::{exit_now, install_crash_line, mark_in_line};
pub use crate::engine::llama::embed::LlamaEmbedder;
pub use crate::engine::llama::model::{LlamaLexicon, LoadError, LoadRequest, load};
