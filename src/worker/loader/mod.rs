//! Where a model comes from: llama.cpp, or nowhere in a build without it. Tests bring their own.

#[cfg(feature = "llama")]
pub mod llama;
#[cfg(not(feature = "llama"))]
pub mod none;

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::domain::error::Failure;
use crate::engine::model::{Decoder, Facts, Lexicon};
use crate::engine::vectors::Embedder;
use crate::protocol::command::Load;
use crate::worker::kv_files::{KvFiles, Origin};

/// A loaded model, ready for both of its sides.
pub struct Parts<D> {
    /// For the decode thread.
    pub decoder: D,
    /// For the preparation threads.
    pub lexicon: Arc<dyn Lexicon>,
    /// For the thread of vectors.
    pub embedder: Arc<dyn Embedder>,
    /// Its sizes.
    pub facts: Facts,
    /// What its states depend on.
    pub origin: Origin,
    /// Blocks of chats on disk, if any are kept.
    pub kv_files: Option<Arc<KvFiles>>,
}

/// Why there is no model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadFailure {
    /// The front changed its mind.
    Cancelled,
    /// It failed.
    Failed(Failure),
}

/// Loads models.
pub trait Loader: Send + Sync + 'static {
    /// What it makes.
    type Decoder: Decoder<Sampler: Send> + Send + 'static;

    /// Loads a model; `progress` is told 0 to 1 and may break the load off.
    ///
    /// # Errors
    /// [`LoadFailure`].
    fn load(
        &self,
        load: &Load,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<Parts<Self::Decoder>, LoadFailure>;
}

/// The loader of this build.
#[cfg(feature = "llama")]
pub fn built_in() -> llama::LlamaLoader {
    llama::LlamaLoader
}

/// The loader of this build.
#[cfg(not(feature = "llama"))]
pub fn built_in() -> none::NoLoader {
    none::NoLoader
}
