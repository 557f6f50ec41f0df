//! Folders become catalogues: personalities, bindings, models.
//!
//! Everything in these folders may have been written by a stranger: files are opened beneath a handle
//! of their root without following links, read up to a limit, and parsed with bounded work. A bad file
//! becomes a [`problem::Problem`]; its neighbours are unaffected. Nothing found here is run.
//!
//! All functions do short file work on the caller's thread.

pub mod beneath;
pub mod bindings;
pub mod catalogue;
pub mod fingerprint;
pub mod gguf;
pub mod image;
mod loose;
pub mod models;
pub mod personalities;
mod personality;
pub mod problem;
#[cfg(test)]
mod testing;
pub mod yaml;
