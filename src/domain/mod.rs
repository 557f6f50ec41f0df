//! Words and rules of the product: what a personality is, how a prompt is put together, what may be asked.
//!
//! Pure: no file, socket, clock or thread, and no serde; every other floor stands on this one.
//! Wire shapes live in `wire`, stored shapes in `registry`, process shapes in `protocol`.

pub mod binding;
pub mod error;
pub mod generation;
pub mod moment;
pub mod name;
pub mod personality;
pub mod prompt;
pub mod sampler;
pub mod sampling;
pub mod steering;
