//! Settings and the root folder they lie in.
//!
//! Layers, later ones win: built-in, `configs/config.yaml`, `configs/local_config.yaml` (what the server
//! saves), `LOLLMSD_*` variables, flags. A wrong value stops the start with file, line, key, what was
//! found and what was expected; an unknown key is a warning.

mod file;
mod keys;
pub mod load;
pub mod lollms_map;
pub mod root;
mod save;
pub mod settings;
mod shipped;
pub mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod trusted;
mod value;
