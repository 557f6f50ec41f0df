//! One configuration file: a flat YAML mapping, with the line of each key.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

/// Largest configuration file, in bytes. LoLLMs' largest has 8 kB.
const MAX_BYTES: u64 = 256 << 10;

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    pub(super) values: Map<String, Value>,
    text: String,
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileProblem {
    pub(super) line: Option<usize>,
    pub(super) reason: String,
}

impl FileProblem {
    fn new(line: Option<usize>, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into() }
    }
}

/// Reads a file; a missing or empty one holds nothing.
pub(super) fn read(path: &Path) -> Result<ConfigFile, FileProblem> {
    let Some(text) = text_of(path)? else { return Ok(ConfigFile::default()) };
    let value: Value = serde_yaml::from_str(&text).map_err(|error| {
        FileProblem::new(error.location().map(|at| at.line()), error.to_string())
    })?;
    match value {
        Value::Object(values) => Ok(ConfigFile { values, text }),
        Value::Null => Ok(ConfigFile::default()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(FileProblem::new(Some(1), "the file holds no `key: value` lines"))
        }
    }
}

/// Reads a small text file; `None` when it is missing.
pub(super) fn text_of(path: &Path) -> Result<Option<String>, FileProblem> {
    let refused = |error: std::io::Error| FileProblem::new(None, error.to_string());
    // A fifo would wait for its writer, so the kind is looked at first.
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(error)),
        Ok(metadata) if !metadata.is_file() => {
            return Err(FileProblem::new(None, "it is no regular file"));
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(refused)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FileProblem::new(None, format!("it has over {MAX_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + String::from_utf8_lossy(good).matches('\n').count();
        FileProblem::new(Some(line), "the text is not UTF-8")
    })?;
    if let Some(at) = text.find('\0') {
        // What a power cut leaves of a file whose blocks were never written.
        let line = 1 + text[..at].matches('\n').count();
        return Err(FileProblem::new(Some(line), "the text holds a zero byte"));
    }
    Ok(Some(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned)))
}

impl ConfigFile {
    /// Line of a key, counted from 1: of two, the later, which is the one that counts.
    pub(super) fn line(&self, key: &str) -> Option<usize> {
        let is_key = |line: &str| {
            let bare = line.trim_start_matches(['"', '\'']);
            let rest = bare.strip_prefix(key).map(|rest| rest.trim_start_matches(['"', '\'']));
            rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
        };
        let numbered: Vec<&str> = self.text.lines().collect();
        numbered.iter().rposition(|line| is_key(line)).map(|at| at + 1)
    }
}
