//! The settings that are in use, and the few of them that the server changes and saves.
//!
//! Readers take an `Arc` and never wait for the disk. Changes go one after the other: the file first,
//! then what readers see, so that what was answered as saved is saved.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde_json::{Map, Value};

use crate::config::file;
use crate::config::keys::{self, Access};
use crate::config::load::{LAST_GOOD, LOCAL};
use crate::config::root::Root;
use crate::config::save;
use crate::config::settings::Settings;

/// First line of the saved file.
const HEADER: &str =
    "# Saved by lollmsd. Your own settings belong into config.yaml; those here go before them.\n";

/// The settings in use. Clones share them.
#[derive(Clone, Debug)]
pub struct ConfigStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: Root,
    current: RwLock<Arc<Settings>>,
    /// Held while a change is written.
    writer: Mutex<()>,
}

/// What the server changes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The selected binding.
    pub binding_name: Option<String>,
    /// The selected model.
    pub model_name: Option<String>,
    /// Mounted personalities.
    pub personalities: Vec<String>,
    /// Index of the active one.
    pub active_personality_id: usize,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Nothing was changed, for it could not be saved.
    #[error("the configuration cannot be saved: {0}")]
    Save(#[source] std::io::Error),
    /// No such setting, or not one that clients may change.
    #[error("`{0}` is no setting that can be changed here")]
    NotAllowed(String),
    /// The value does not fit.
    #[error("`{name}` is {found}; expected {expected}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What was given.
        found: String,
        /// What would fit.
        expected: &'static str,
    },
}

impl ConfigStore {
    /// A store of a root's settings as they were loaded.
    pub fn new(root: Root, settings: Settings) -> Self {
        let current = RwLock::new(Arc::new(settings));
        Self { inner: Arc::new(Inner { root, current, writer: Mutex::new(()) }) }
    }

    /// The settings in use.
    pub fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.inner.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what the server manages, and saves what changed. Waits for the disk.
    ///
    /// # Errors
    /// [`UpdateError::Save`]; then nothing has changed.
    pub fn update(&self, change: impl FnOnce(&mut Saved)) -> Result<Arc<Settings>, UpdateError> {
        let _writing = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.get();
        let mut saved = Saved::of(&before);
        change(&mut saved);
        let mut settings = Settings::clone(&before);
        saved.clone().put_into(&mut settings);
        let names = ["binding_name", "model_name", "personalities", "active_personality_id"];
        self.commit(&before, settings, &names)
    }

    /// Changes one setting by name, as a client asks, and saves it. Waits for the disk.
    ///
    /// # Errors
    /// [`UpdateError`] when clients may not change it, or the value does not fit, or it cannot be saved.
    pub fn update_setting(&self, name: &str, value: &Value) -> Result<Arc<Settings>, UpdateError> {
        let key = keys::find(name).filter(|key| key.access == Access::Client);
        let key = key.ok_or_else(|| {
            UpdateError::NotAllowed(name.chars().take(80).flat_map(char::escape_debug).collect())
        })?;
        let _writing = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.get();
        let mut settings = Settings::clone(&before);
        (key.set)(&mut settings, value).ok_or_else(|| UpdateError::Value {
            name: key.name,
            found: value.to_string().chars().take(80).collect(),
            expected: key.expected,
        })?;
        self.commit(&before, settings, &[key.name])
    }

    /// Saves the named keys that changed, then shows the settings to readers.
    fn commit(
        &self,
        before: &Settings,
        settings: Settings,
        names: &[&str],
    ) -> Result<Arc<Settings>, UpdateError> {
        let mut changes = Map::new();
        for key in names.iter().filter_map(|name| keys::find(name)) {
            let value = (key.get)(&settings);
            if value != (key.get)(before) {
                changes.insert(key.name.into(), value);
            }
        }
        if !changes.is_empty() {
            self.save(changes).map_err(UpdateError::Save)?;
        }
        let settings = Arc::new(settings);
        let mut current = self.inner.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::clone(&settings);
        Ok(settings)
    }

    /// Writes changes over what the saved file holds now; its other keys stay.
    fn save(&self, changes: Map<String, Value>) -> std::io::Result<()> {
        let configs = self.inner.root.configs();
        let (path, last_good) = (configs.join(LOCAL), configs.join(LAST_GOOD));
        let mut values = if let Ok(local) = file::read(&path) {
            local.values
        } else {
            // Somebody broke it since the start: kept for them, and not written over.
            save::set_aside(&path)?;
            file::read(&last_good).unwrap_or_default().values
        };
        for (name, value) in changes {
            // An old spelling of the same key would speak against it.
            for alias in keys::find(&name).map_or(&[][..], |key| key.aliases) {
                values.remove(*alias);
            }
            values.insert(name, value);
        }
        let yaml = serde_yaml::to_string(&values).map_err(std::io::Error::other)?;
        let text = format!("{HEADER}{yaml}");
        save::replace(&path, text.as_bytes())?;
        save::replace(&last_good, text.as_bytes())
    }
}

impl Saved {
    fn of(settings: &Settings) -> Self {
        Self {
            binding_name: settings.binding_name.clone(),
            model_name: settings.model_name.clone(),
            personalities: settings.personalities.clone(),
            active_personality_id: settings.active_personality_id,
        }
    }

    fn put_into(self, settings: &mut Settings) {
        settings.binding_name = self.binding_name;
        settings.model_name = self.model_name;
        settings.personalities = self.personalities;
        settings.active_personality_id = self.active_personality_id;
    }
}
