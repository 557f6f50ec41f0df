//! From token bytes to text that may be shown: whole characters, no stop strings, borders of tokens.
//!
//! Pure. Owned by the decode thread, one [`writer::Writer`] for each generation.

pub mod stops;
pub mod utf8;
pub mod writer;
