//! Drives llama.cpp inside a worker process.
//!
//! [`scheduler`] decides what the next decode step holds and [`text`] what may be shown; both are pure.
//! [`driver`] runs them over a [`model::Decoder`], and [`llama`] is the one that llama.cpp makes.

pub mod adapters;
pub mod brake;
pub mod driver;
pub mod grammar;
#[cfg(feature = "llama")]
#[expect(unsafe_code, reason = "the border to llama.cpp; each use says why it is sound")]
pub mod llama;
pub mod lookup;
pub mod model;
pub mod recipe;
pub mod report;
pub mod scheduler;
pub mod text;
pub mod vectors;
pub mod vocabulary;
