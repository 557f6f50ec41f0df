//! Puts the layers of settings together.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::file::{self, ConfigFile, FileProblem};
use crate::config::keys::{self, KEYS, Key};
use crate::config::root::Root;
use crate::config::save;
use crate::config::settings::{MIN_KEY_LENGTH, Secret, Settings};

/// What operators edit.
pub(super) const CONFIG: &str = "config.yaml";
/// What the server saves.
pub(super) const LOCAL: &str = "local_config.yaml";
/// The last saved state that was read back well.
pub(super) const LAST_GOOD: &str = "local_config.yaml.last-good";
/// Variables begin with this.
const PREFIX: &str = "LOLLMSD_";
/// Variables of this program that are no settings.
const OTHER_VARIABLES: [&str; 3] = ["LOLLMSD_ROOT", "LOLLMSD_LOG", "LOLLMSD_LOG_FORMAT"];

/// The layers above the files.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// Environment variables; those that do not begin with `LOLLMSD_` are ignored.
    pub variables: Vec<(String, String)>,
    /// Flags, as key and value.
    pub flags: Vec<(String, Value)>,
}

/// Settings, and what should be said about how they came to be.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Unknown keys, a broken saved file that was set aside, a key file that others can read.
    pub warnings: Vec<String>,
}

/// Why the settings cannot be used; the start stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read or parsed.
    #[error("{}: {reason}", place(.file, *.line))]
    File {
        /// The file.
        file: PathBuf,
        /// Line, counted from 1, when it is known.
        line: Option<usize>,
        /// What was found and what was expected.
        reason: String,
    },
    /// A value does not fit.
    #[error("{place}: `{key}` is {found}; expected {expected}")]
    Value {
        /// File and line, or the variable or flag.
        place: String,
        /// The key.
        key: String,
        /// What was found.
        found: String,
        /// What would fit.
        expected: &'static str,
    },
}

fn place(file: &Path, line: Option<usize>) -> String {
    match line {
        Some(line) => format!("{}:{line}", file.display()),
        None => file.display().to_string(),
    }
}

/// Reads the settings of a root.
///
/// A saved file that is torn is set aside as `local_config.yaml.broken-<n>`, and the last good one is
/// used, with a warning.
///
/// # Errors
/// [`ConfigError`] names file, line, key, what was found and what was expected.
pub fn load(root: &Root, layers: Layers) -> Result<Loaded, ConfigError> {
    let mut draft = Draft { settings: Settings::default(), warnings: Vec::new() };
    let path = root.configs().join(CONFIG);
    let config = file::read(&path).map_err(|problem| unusable(&path, problem))?;
    draft.take_file(&path, &config)?;
    draft.take_local(root)?;
    draft.take_variables(layers.variables)?;
    for (name, value) in layers.flags {
        let flag = format!("--{}", name.replace('_', "-"));
        if let Some(key) = keys::find(&name) {
            draft.set(key, &value, &flag)?;
        }
    }
    draft.take_key_file(root)?;
    let Draft { settings, warnings } = draft;
    Ok(Loaded { settings, warnings })
}

fn unusable(path: &Path, problem: FileProblem) -> ConfigError {
    ConfigError::File { file: path.to_owned(), line: problem.line, reason: problem.reason }
}

struct Draft {
    settings: Settings,
    warnings: Vec<String>,
}

impl Draft {
    fn set(&mut self, key: &Key, value: &Value, place: &str) -> Result<(), ConfigError> {
        let fits = (key.set)(&mut self.settings, value).is_some();
        // Nothing stands for the layer below.
        if fits || value.is_null() {
            return Ok(());
        }
        Err(ConfigError::Value {
            place: place.to_owned(),
            key: key.name.into(),
            found: if key.is_secret() { "***".into() } else { shorten(&value.to_string()) },
            expected: key.expected,
        })
    }

    fn take_file(&mut self, path: &Path, file: &ConfigFile) -> Result<(), ConfigError> {
        for key in KEYS {
            // The own name wins over an old one in the same file.
            let names = key.aliases.iter().chain([&key.name]);
            for name in names {
                if let Some(value) = file.values.get(*name) {
                    self.set(key, value, &place(path, file.line(name)))?;
                }
            }
        }
        for (name, value) in &file.values {
            if keys::find(name).is_some() {
                continue;
            }
            if keys::is_lollms_key(name) {
                self.settings.extra.insert(name.clone(), value.clone());
            } else {
                let place = place(path, file.line(name));
                self.warnings.push(format!("{place}: unknown key `{}`", shorten(name)));
            }
        }
        Ok(())
    }

    /// The saved file; a torn one is replaced by the last good one.
    fn take_local(&mut self, root: &Root) -> Result<(), ConfigError> {
        let path = root.configs().join(LOCAL);
        let problem = match file::read(&path) {
            Ok(local) => return self.take_file(&path, &local),
            Err(problem) => unusable(&path, problem),
        };
        let aside = save::set_aside(&path).map_err(|error| ConfigError::File {
            file: path.clone(),
            line: None,
            reason: format!("it is broken and cannot be set aside: {error}"),
        })?;
        let former = root.configs().join(LAST_GOOD);
        let last = file::read(&former).unwrap_or_default();
        let used = if last.values.is_empty() { "nothing saved" } else { "the last good version" };
        self.warnings.push(format!("{problem}; kept as {}, using {used}", aside.display()));
        self.take_file(&former, &last)?;
        if !last.values.is_empty()
            && let Err(error) = save::copy(&former, &path)
        {
            self.warnings.push(format!("{}: cannot be restored: {error}", path.display()));
        }
        Ok(())
    }

    fn take_variables(&mut self, variables: Vec<(String, String)>) -> Result<(), ConfigError> {
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix(PREFIX) else { continue };
            if OTHER_VARIABLES.contains(&variable.as_str()) {
                continue;
            }
            let Some(key) = keys::find(&name.to_ascii_lowercase()) else {
                self.warnings.push(format!("variable {variable}: no such setting"));
                continue;
            };
            self.set(key, &variable_value(key, &text), &format!("variable {variable}"))?;
        }
        Ok(())
    }

    /// Adds the keys of `api_key_file`: one on each line, `#` begins a remark.
    fn take_key_file(&mut self, root: &Root) -> Result<(), ConfigError> {
        let Some(file) = self.settings.api_key_file.clone() else { return Ok(()) };
        let path = root.path().join(file);
        let wrong = |line, reason: &str| ConfigError::File {
            file: path.clone(),
            line,
            reason: reason.to_owned(),
        };
        let text = file::text_of(&path)
            .map_err(|problem| unusable(&path, problem))?
            .ok_or_else(|| wrong(None, "there is no such file (`api_key_file`)"))?;
        for (at, line) in text.lines().enumerate() {
            let key = line.trim();
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            if key.len() < MIN_KEY_LENGTH {
                let problem = format!("a key has below {MIN_KEY_LENGTH} characters");
                return Err(wrong(Some(at + 1), &problem));
            }
            self.settings.api_keys.push(Secret::new(key));
        }
        if self.settings.api_keys.is_empty() {
            return Err(wrong(None, "it holds no key"));
        }
        if save::others_can_read(&path) {
            let path = path.display();
            self.warnings.push(format!("{path}: others can read it; `chmod 600 {path}`"));
        }
        Ok(())
    }
}

/// A variable's text as YAML would read it; lists may be written with commas.
fn variable_value(key: &Key, text: &str) -> Value {
    let parsed = serde_yaml::from_str::<Value>(text).ok();
    match parsed {
        Some(list @ Value::Array(_)) if key.is_list() => list,
        _ if key.is_list() => {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
        }
        Some(single @ (Value::Bool(_) | Value::Number(_))) => single,
        _ => Value::String(text.to_owned()),
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
