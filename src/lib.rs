//! lollmsd: a private chat server for local language models, in one program.
//!
//! Floors, lowest first; a floor imports only from the ones below it (`tests/tidy.rs` holds them):
//! [`domain`] and [`protocol`]; [`engine`] and [`worker`] inside a worker process; [`config`],
//! [`registry`] and [`binding`]; [`app`]; [`wire`]; [`cli`] on top.

pub mod app;
pub mod binding;
pub mod cli;
pub mod config;
pub mod domain;
pub mod engine;
pub mod protocol;
pub mod registry;
pub mod wire;
pub mod worker;
