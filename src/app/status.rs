//! What the server says about itself: its settings, its memory, its disk.

use serde_json::{Map, Value};

use crate::app::models::Adopt;
use crate::app::selection::Selection;
use crate::app::{App, blocking};
use crate::config::lollms_map::as_lollms_map;
use crate::config::store::{Saved, UpdateError};
use crate::domain::error::{ErrorCode, Failure};

/// Memory and disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// All there is.
    pub total: u64,
    /// Free for use.
    pub available: u64,
}

/// What `/get_server_ifos` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// Main memory.
    pub ram: Space,
    /// The disk that holds the root folder.
    pub disk: Space,
    /// Bytes of the model files of the default binding.
    pub models: u64,
}

impl App {
    /// All settings as LoLLMs clients know them, secrets as `***`.
    pub fn config_map(&self) -> Map<String, Value> {
        let mut map = as_lollms_map(&self.parts.config.get());
        let binding = self.lock_default().binding.as_ref().map(|name| Value::from(name.as_str()));
        let model = self.default_model().map(|model| Value::from(model.name));
        for (keys, value) in
            [(["binding_name", "binding"], binding), (["model_name", "model"], model)]
        {
            for key in keys {
                map.insert(key.into(), value.clone().unwrap_or(Value::Null));
            }
        }
        map
    }

    /// Changes one setting of the default, as a LoLLMs client asks: a binding or a model is selected, other settings of
    /// a short list are saved.
    ///
    /// # Errors
    /// `InvalidRequest` for a setting that clients may not change or a value that does not fit; what
    /// selecting says.
    pub async fn update_setting(&self, name: &str, value: Value) -> Result<(), Failure> {
        let text = || {
            let wrong = format!("`{name}` is {value}; expected a text");
            value.as_str().ok_or_else(|| Failure::new(ErrorCode::InvalidRequest, wrong))
        };
        match name {
            "binding_name" | "binding" => {
                self.select_binding(&mut self.open_session(), text()?).await
            }
            "model_name" | "model" => {
                let never = std::future::pending();
                self.select_model(&mut self.open_session(), text()?, never).await
            }
            _ => {
                let app = self.clone();
                let name = name.to_owned();
                blocking(move || app.parts.config.update_setting(&name, &value))
                    .await?
                    .map(drop)
                    .map_err(|error| update_failed(&error))
            }
        }
    }

    /// Memory and disk.
    ///
    /// # Errors
    /// `Internal` when the server fails while reading.
    pub async fn server_info(&self) -> Result<ServerInfo, Failure> {
        let app = self.clone();
        let binding = self.default_selection().binding;
        blocking(move || {
            let folder = app.parts.models.root().to_owned();
            let models = binding.map_or(0, |binding| {
                let names = app.parts.models.list_installed(&binding);
                let size = |name: &String| {
                    let file = app.parts.models.folder(&binding).join(name);
                    std::fs::metadata(file).map_or(0, |about| about.len())
                };
                names.iter().map(size).sum()
            });
            ServerInfo { ram: ram().unwrap_or_default(), disk: disk(&folder), models }
        })
        .await
    }

    /// Generations that run or wait, over all models.
    pub fn busy(&self) -> usize {
        let instances = self.parts.pool.running();
        instances.iter().map(|instance| instance.waiting() + instance.in_flight()).sum()
    }

    /// Saves the personalities of a selection.
    pub(super) async fn save_personalities(&self, selection: &Selection) -> Result<(), Failure> {
        let paths: Vec<String> =
            selection.mounted.iter().map(|mounted| mounted.path.clone()).collect();
        let active = selection.active;
        self.save(move |saved| {
            saved.personalities = paths;
            saved.active_personality_id = active;
        })
        .await
    }

    /// Makes the model of a selection the default and saves it. A server that cannot save goes on with it all
    /// the same: the model works, and the log says what is wrong.
    pub(super) async fn save_model(&self, selection: &Selection) {
        let binding = selection.binding.as_ref().map(ToString::to_string);
        let model = selection.model.as_ref().map(|model| model.name.clone());
        let saved = self.save(move |saved| {
            saved.binding_name = binding;
            saved.model_name = model;
        });
        if let Err(error) = saved.await {
            tracing::error!(%error, "The selected model is not saved");
        }
        self.adopt(selection, Adopt::Model);
        self.release_fallback();
    }

    async fn save(&self, change: impl FnOnce(&mut Saved) + Send + 'static) -> Result<(), Failure> {
        let app = self.clone();
        blocking(move || app.parts.config.update(change))
            .await?
            .map(drop)
            .map_err(|error| update_failed(&error))
    }
}

fn update_failed(error: &UpdateError) -> Failure {
    let code = match error {
        UpdateError::Save(_) => ErrorCode::Internal,
        UpdateError::NotAllowed(_) | UpdateError::Value { .. } => ErrorCode::InvalidRequest,
    };
    Failure::new(code, error.to_string())
}

/// All memory of this machine, in bytes.
pub(super) fn total_memory() -> Option<u64> {
    ram().map(|ram| ram.total)
}

fn ram() -> Option<Space> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim_start_matches(':').trim().split(' ').next()?.parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(Space { total: field("MemTotal")?, available: field("MemAvailable")? })
}

fn disk(folder: &std::path::Path) -> Space {
    let Ok(about) = rustix::fs::statvfs(folder) else { return Space::default() };
    Space {
        total: about.f_blocks.saturating_mul(about.f_frsize),
        available: about.f_bavail.saturating_mul(about.f_frsize),
    }
}
