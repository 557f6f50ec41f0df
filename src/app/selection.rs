//! What is selected: a binding, a model, mounted personalities, the active one.

use std::sync::Arc;

use crate::binding::instance::Instance;
use crate::config::settings::Settings;
use crate::domain::binding::LLAMA_CPP;
use crate::domain::name::Name;
use crate::domain::personality::Personality;
use crate::registry::bindings::Bindings;
use crate::registry::personalities::Personalities;

/// Most personalities that one session mounts.
pub const MAX_MOUNTED: usize = 100;

/// A selection. Copied into each session when it connects; from then on the session's own, so that
/// nothing another client does moves its indexes.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The binding.
    pub binding: Option<Name>,
    /// The model, with the process that runs it; without one the server's default answers.
    pub model: Option<SelectedModel>,
    /// Personalities in the order of their indexes.
    pub mounted: Vec<Mounted>,
    /// Index of the active one.
    pub active: usize,
}

/// A selected model. As long as a copy lives, its process does.
#[derive(Clone, Debug)]
pub struct SelectedModel {
    /// Its name in the catalogue.
    pub name: String,
    /// What runs it.
    pub instance: Arc<Instance>,
}

/// A mounted personality.
#[derive(Clone, Debug)]
pub struct Mounted {
    /// As the client named it, `category/name` or `category/name:language`; this is what is saved.
    pub path: String,
    /// As it was when it was mounted.
    pub personality: Arc<Personality>,
}

impl Selection {
    /// What the configuration selects, without a model. A personality that is gone is left out, with a warning.
    pub fn from_settings(
        settings: &Settings,
        personalities: &Personalities,
        bindings: &Bindings,
    ) -> Self {
        let name = settings.binding_name.as_deref().unwrap_or(LLAMA_CPP);
        let binding = Name::parse(name).ok().filter(|name| bindings.find(name).is_some());
        if binding.is_none() {
            tracing::warn!(binding.name = %name, "The configured binding is not there");
        }
        let mut mounted = Vec::new();
        for path in &settings.personalities {
            match personalities.find_path(path) {
                Ok(personality) => mounted.push(Mounted { path: path.clone(), personality }),
                Err(error) => tracing::warn!(%error, "A configured personality is left out"),
            }
        }
        let active = settings.active_personality_id.min(mounted.len().saturating_sub(1));
        Self { binding, model: None, mounted, active }
    }
}
