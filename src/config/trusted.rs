//! Which folders of code the operator trusts: a fingerprint for each, in `configs/trusted.yaml`.
//!
//! Changed from the terminal only; no client and no setting reaches it.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::config::file;
use crate::config::root::Root;
use crate::config::save;

const HEADER: &str = "# Folders of code that may run: written by `lollmsd bindings trust NAME`.\n";

/// The list of trusted bindings.
#[derive(Clone, Debug)]
pub struct Trusted {
    path: PathBuf,
}

/// Why the list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustedError {
    /// It cannot be read; nothing is trusted then.
    #[error("{path}: {reason}")]
    Broken {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be written.
    #[error("the list of trusted folders cannot be saved: {0}")]
    Save(#[from] std::io::Error),
}

impl Trusted {
    /// The list of a root.
    pub fn new(root: &Root) -> Self {
        Self { path: root.configs().join("trusted.yaml") }
    }

    /// Fingerprint that a binding was trusted with, read now.
    ///
    /// # Errors
    /// [`TrustedError::Broken`] when the list cannot be read.
    pub fn binding(&self, name: &str) -> Result<Option<String>, TrustedError> {
        let bindings = self.bindings()?;
        Ok(bindings.get(name).and_then(Value::as_str).map(str::to_owned))
    }

    /// Trusts a binding with this fingerprint, or no longer.
    ///
    /// # Errors
    /// [`TrustedError`] when the list cannot be read or written.
    pub fn set_binding(&self, name: &str, fingerprint: Option<&str>) -> Result<(), TrustedError> {
        let mut bindings = self.bindings()?;
        match fingerprint {
            Some(fingerprint) => bindings.insert(name.into(), fingerprint.into()),
            None => bindings.remove(name),
        };
        let whole = Value::from_iter([("bindings", Value::Object(bindings))]);
        let yaml = serde_yaml::to_string(&whole).map_err(std::io::Error::other)?;
        Ok(save::replace(&self.path, format!("{HEADER}{yaml}").as_bytes())?)
    }

    fn bindings(&self) -> Result<Map<String, Value>, TrustedError> {
        let broken =
            |reason: String| TrustedError::Broken { path: self.path.display().to_string(), reason };
        let mut file = file::read(&self.path).map_err(|problem| broken(problem.reason))?;
        match file.values.remove("bindings") {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(bindings)) => Ok(bindings),
            Some(_) => Err(broken("`bindings` is no mapping of names to fingerprints".into())),
        }
    }
}
