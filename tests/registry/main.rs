//! The registry on real folders of three eras, and on hostile ones.

mod bindings;
mod catalogue;
mod corpus;
mod models;
mod shipped;
mod support;
