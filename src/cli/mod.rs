//! The command line: verbs over the floors below.

pub mod bindings;
pub mod personalities;
