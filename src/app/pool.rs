//! Which models are loaded: one process for each model that somebody has selected.
//!
//! Whoever selects a model holds an `Arc` of its instance, and so does each of its generations; when the
//! last one goes, the process ends and all its memory returns.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use crate::binding::instance::{Instance, InstanceSpec};
use crate::binding::queue::Limits;
use crate::binding::request::LoadRequest;
use crate::binding::spawn::{Program, Spawner};
use crate::config::settings::Settings;
use crate::domain::error::{ErrorCode, Failure};
use crate::domain::name::Name;
use crate::registry::bindings::Launch;

/// Most models that are loaded at the same time.
pub const MAX_LOADED: usize = 8;

/// The loaded models.
#[derive(Debug)]
pub struct Pool {
    spawner: Spawner,
    /// This program, which runs the built-in worker and starts drop-in programs.
    own_program: PathBuf,
    instances: Mutex<HashMap<Key, Weak<Instance>>>,
}

/// Two selections share a process when all of this is equal: a file that was replaced is another model, and
/// so is one that is loaded otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    binding: Name,
    load: LoadRequest,
    file: Option<(u64, Option<SystemTime>)>,
}

/// A model to load.
#[derive(Clone, Debug)]
pub struct ModelChoice {
    /// Whose model it is.
    pub binding: Name,
    /// Its name in the catalogue.
    pub model: String,
    /// Its file, for bindings whose models are files.
    pub path: Option<PathBuf>,
    /// How the binding's program is started; `None` is the built-in worker.
    pub launch: Option<Launch>,
}

impl Pool {
    /// An empty pool.
    pub fn new(spawner: Spawner, own_program: PathBuf) -> Self {
        Self { spawner, own_program, instances: Mutex::default() }
    }

    /// The instance of a model: the running one, or one that is being started now.
    ///
    /// # Errors
    /// `Busy` when [`MAX_LOADED`] models are loaded already.
    pub fn lease(
        &self,
        choice: ModelChoice,
        settings: &Settings,
    ) -> Result<Arc<Instance>, Failure> {
        let file = choice.path.as_deref().map(fingerprint);
        let spec = self.spec(choice.clone(), settings);
        let key = Key { binding: choice.binding, load: spec.load.clone(), file };
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.retain(|_, instance| instance.strong_count() > 0);
        if let Some(instance) = instances.get(&key).and_then(Weak::upgrade) {
            return Ok(instance);
        }
        if instances.len() >= MAX_LOADED {
            let message = format!("{MAX_LOADED} models are in use already");
            return Err(Failure::new(ErrorCode::Busy, message));
        }
        let instance = Arc::new(Instance::start(self.spawner.clone(), spec));
        instances.insert(key, Arc::downgrade(&instance));
        Ok(instance)
    }

    /// The instances that run now.
    pub fn running(&self) -> Vec<Arc<Instance>> {
        let instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.values().filter_map(Weak::upgrade).collect()
    }

    fn spec(&self, choice: ModelChoice, settings: &Settings) -> InstanceSpec {
        let name = format!("{}/{}", choice.binding, choice.model);
        let program = match choice.launch {
            None => Program {
                file: self.own_program.clone(),
                arguments: vec!["worker".into()],
                folder: None,
            },
            // Through this program, which asks the kernel to end the child with its parent.
            Some(launch) => Program {
                file: self.own_program.clone(),
                arguments: ["exec-binding", "--", &launch.program]
                    .into_iter()
                    .map(OsString::from)
                    .chain(launch.args.iter().map(OsString::from))
                    .collect(),
                folder: Some(launch.folder),
            },
        };
        InstanceSpec {
            name,
            program,
            load: load_request(choice.model, choice.path, settings),
            limits: Limits {
                total: usize_of(settings.queue_length),
                per_client: usize_of(settings.queue_per_client),
            },
            hang_timeout: Duration::from_secs(settings.hang_timeout_s.into()),
        }
    }
}

fn load_request(model: String, path: Option<PathBuf>, settings: &Settings) -> LoadRequest {
    LoadRequest {
        model,
        path,
        ctx_size: settings.ctx_size,
        slots: settings.slots,
        batch: settings.n_batch,
        threads: settings.n_threads,
        gpu_layers: settings.gpu_layers,
        kv_type: settings.kv_type.clone(),
        check_tensors: settings.check_tensors,
        idle_cells: settings.idle_cells,
        cache_ram: settings.cache_ram,
        step_ms: settings.step_ms,
    }
}

/// Size and time of a file.
fn fingerprint(path: &Path) -> (u64, Option<SystemTime>) {
    let about = std::fs::metadata(path).ok();
    let size = about.as_ref().map_or(0, std::fs::Metadata::len);
    (size, about.and_then(|about| about.modified().ok()))
}

pub(super) fn usize_of(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
