//! The registry on real folders of three eras, and on hostile ones.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod bindings;
mod catalogue;
mod corpus;
mod example;
mod models;
mod shipped;
mod support;
