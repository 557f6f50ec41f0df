//! The model that answers while nobody has chosen one: the newest file in the folder of llama.cpp, and
//! when there is none the demonstration model that ships. So a file that is copied there is in use
//! without a restart.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

use crate::app::selection::SelectedModel;
use crate::app::{App, blocking};
use crate::binding::instance::Instance;
use crate::domain::binding::{DEMO_MODEL, LLAMA_CPP};
use crate::domain::error::{ErrorCode, Failure};
use crate::domain::name::Name;
use crate::registry::gguf::Summary;
use crate::registry::models::ModelFile;

/// Time between two looks at the folder.
const GLANCE: Duration = Duration::from_secs(1);
/// A file that was written to within this time is still being copied.
const SETTLED: Duration = Duration::from_secs(2);

/// What is known about it.
#[derive(Debug, Default)]
pub(super) struct Fallback {
    current: Option<Current>,
    /// Files that could not be used, as they were then.
    refused: BTreeSet<ModelFile>,
}

#[derive(Clone, Debug)]
struct Current {
    file: ModelFile,
    instance: Arc<Instance>,
    loaded: bool,
}

impl App {
    /// The model that answers while none is chosen, if there is one.
    pub(super) fn fallback(&self) -> Option<SelectedModel> {
        let fallback = self.lock_fallback();
        let current = fallback.current.as_ref()?;
        let instance = Arc::clone(&current.instance);
        Some(SelectedModel { name: current.file.name.clone(), instance })
    }

    /// Keeps the fallback in step with the folder. Runs as long as the server.
    pub async fn follow_models(self) {
        let mut glances = interval(GLANCE);
        glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            glances.tick().await;
            while let Some(awaited) = self.renew_fallback().await {
                match awaited.instance.ready().await {
                    Ok(_) => self.install(Current { loaded: true, ..awaited }),
                    Err(failure) => self.refuse(awaited.file, &failure),
                }
            }
        }
    }

    /// Starts what the folder asks for. Where nothing answered before it takes the place at once, so that
    /// requests wait for it; otherwise the former one answers until the new one is loaded. Returns what has
    /// to be waited for.
    async fn renew_fallback(&self) -> Option<Current> {
        let wanted = self.wants_fallback();
        let app = self.clone();
        let file = blocking(move || wanted.then(|| app.first_usable()).flatten()).await.ok()?;
        let Some(file) = file else {
            self.drop_fallback();
            return None;
        };
        if let Some(current) = self.lock_fallback().current.as_ref().filter(|now| now.file == file)
        {
            return (!current.loaded).then(|| current.clone());
        }
        match self.lease_file(file.name.clone(), file.path.clone()) {
            Ok(instance) => {
                let new = Current { file, instance, loaded: false };
                self.lock_fallback().current.get_or_insert_with(|| new.clone());
                Some(new)
            }
            // Too many models are loaded; that may change.
            Err(failure) => {
                tracing::debug!(model.name = %file.name, %failure, "The fallback model waits");
                None
            }
        }
    }

    /// Starts the fallback when a model is wanted and none is chosen; returns before it is loaded.
    pub(super) async fn start_fallback(&self) {
        if self.lock_fallback().current.is_none() {
            self.renew_fallback().await;
        }
    }

    /// Lets the fallback go once a model is chosen; its generations end in peace.
    pub(super) fn release_fallback(&self) {
        if !self.wants_fallback() {
            self.drop_fallback();
        }
    }

    /// Nothing is chosen, neither now nor in the configuration: a chosen model that cannot be used is
    /// never replaced behind its user's back.
    fn wants_fallback(&self) -> bool {
        let default = self.lock_default();
        let is_built_in = default.binding.as_ref().is_some_and(|name| name.as_str() == LLAMA_CPP);
        is_built_in && default.model.is_none() && self.parts.config.get().model_name.is_none()
    }

    /// The first file that can be used: real ones, newest first, then the demonstration model.
    fn first_usable(&self) -> Option<ModelFile> {
        let binding = Name::parse(LLAMA_CPP).ok()?;
        let mut files = self.parts.models.list_files(&binding);
        files.sort_by_key(|file| (file.name == DEMO_MODEL, Reverse(file.modified)));
        files.into_iter().find(|file| self.is_usable(file))
    }

    fn is_usable(&self, file: &ModelFile) -> bool {
        let fallback = self.lock_fallback();
        if fallback.current.as_ref().is_some_and(|current| current.file == *file) {
            return true;
        }
        if fallback.refused.contains(file) || is_being_copied(file) {
            return false;
        }
        drop(fallback);
        let checked = self.check_file(&file.path).and_then(|summary| writes_text(file, &summary));
        checked.inspect_err(|failure| self.refuse(file.clone(), failure)).is_ok()
    }

    fn install(&self, new: Current) {
        if !self.wants_fallback() {
            return;
        }
        tracing::info!(model.name = %new.file.name, "This model answers until one is selected");
        let former = self.lock_fallback().current.replace(new);
        drop(former);
    }

    fn refuse(&self, file: ModelFile, failure: &Failure) {
        tracing::warn!(model.name = %file.name, %failure, "This model is passed over");
        let mut fallback = self.lock_fallback();
        let former = fallback.current.take_if(|current| current.file == file);
        fallback.refused.retain(|known| known.name != file.name);
        fallback.refused.insert(file);
        drop(fallback);
        drop(former);
    }

    fn drop_fallback(&self) {
        let former = self.lock_fallback().current.take();
        drop(former);
    }

    fn lock_fallback(&self) -> MutexGuard<'_, Fallback> {
        // Each change is one assignment, so a panic elsewhere does not spoil it.
        self.parts.fallback.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_being_copied(file: &ModelFile) -> bool {
    // The demonstration model is put in place whole. A time in the future was copied with the file.
    let age = file.modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
    file.name != DEMO_MODEL && age.is_some_and(|age| age < SETTLED)
}

/// Adapters, projectors and embedding models lie in the same folder.
fn writes_text(file: &ModelFile, summary: &Summary) -> Result<(), Failure> {
    let unfit = |reason: String| Failure::new(ErrorCode::InvalidRequest, reason);
    let architecture = &summary.architecture;
    if summary.vocabulary == 0 || architecture.contains("bert") || architecture.contains("encoder")
    {
        return Err(unfit(format!("a `{architecture}` file of this kind writes no text")));
    }
    if summary.split_count > 1 && !file.name.contains("-00001-of-") {
        return Err(unfit("it is a later part of a model in several files".into()));
    }
    Ok(())
}
