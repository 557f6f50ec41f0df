//! The way in: listeners, connections with limits, and the guard that turns away who may not enter.
//!
//! All of it stands outside the Socket.IO layer, which knows no Host, Origin, keys or limits of its own.

pub mod conn;
pub mod flow;
pub mod guard;
pub mod keys;
pub mod listen;
pub mod python_numbers;
