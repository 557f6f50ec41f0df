//! One function per thing that a user can do.
//!
//! Knows who may do what and in which order parts are used; knows no JSON, no HTTP, no Socket.IO.
//! An [`App`] is a cheap clone of shared parts; what belongs to one client is its [`session::Session`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::binding::queue::ClientKey;
use crate::config::root::Root;
use crate::config::store::ConfigStore;
use crate::config::trusted::Trusted;
use crate::domain::error::{ErrorCode, Failure};
use crate::registry::bindings::Bindings;
use crate::registry::models::Models;
use crate::registry::personalities::Personalities;

pub mod fallback;
pub mod generate;
pub mod models;
pub mod personalities;
pub mod pool;
pub mod selection;
pub mod session;
pub mod status;

use fallback::Fallback;
use pool::Pool;
use selection::Selection;
use session::Session;

/// Shared parts of the server; cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    config: ConfigStore,
    trusted: Trusted,
    personalities: Personalities,
    bindings: Bindings,
    models: Models,
    pool: Pool,
    /// What a new session starts with.
    default: Mutex<Selection>,
    fallback: Mutex<Fallback>,
    next_client: AtomicU64,
    stopping: AtomicBool,
}

impl App {
    /// Puts the parts together; the selections of the configuration become the default. No model is
    /// loaded yet: see [`App::load_default_model`].
    pub fn new(root: &Root, config: ConfigStore, pool: Pool) -> Self {
        let personalities = Personalities::new(root.personalities());
        let bindings = Bindings::new(root.bindings());
        let default = Selection::from_settings(&config.get(), &personalities, &bindings);
        let parts = Parts {
            config,
            trusted: Trusted::new(root),
            personalities,
            bindings,
            models: Models::new(root.models()),
            pool,
            default: Mutex::new(default),
            fallback: Mutex::default(),
            next_client: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
        };
        Self { parts: Arc::new(parts) }
    }

    /// From now on no generation is accepted; those that are under way go on.
    pub fn stop_accepting(&self) {
        self.parts.stopping.store(true, Ordering::Relaxed);
    }

    /// Most generations of one client that wait for an earlier one of it.
    pub fn most_waiting(&self) -> usize {
        pool::usize_of(self.parts.config.get().queue_per_client)
    }

    /// Ends every generation with the news that the server stops.
    pub fn end_generations(&self) {
        let failure = Failure::new(ErrorCode::Unavailable, "the server is stopping");
        for instance in self.parts.pool.running() {
            instance.end_all(&failure);
        }
    }

    /// A session for a client that has just connected.
    pub fn open_session(&self) -> Session {
        Session::new(self.next_client(), self.default_selection())
    }

    fn next_client(&self) -> ClientKey {
        self.parts.next_client.fetch_add(1, Ordering::Relaxed)
    }

    fn default_selection(&self) -> Selection {
        self.lock_default().clone()
    }

    fn lock_default(&self) -> MutexGuard<'_, Selection> {
        // A selection is replaced as a whole, so a panic elsewhere does not spoil it.
        self.parts.default.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Failure::new(ErrorCode::Internal, "the server failed while reading files"))
}
