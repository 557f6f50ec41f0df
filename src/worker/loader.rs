//! Where a model comes from: llama.cpp, or nowhere in a build without it. Tests bring their own.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::domain::error::{ErrorCode, Failure};
use crate::engine::model::{Decoder, Facts, Lexicon};
use crate::protocol::command::Load;

/// A loaded model, ready for both of its sides.
pub struct Parts<D> {
    /// For the decode thread.
    pub decoder: D,
    /// For the preparation threads.
    pub lexicon: Arc<dyn Lexicon>,
    /// Its sizes.
    pub facts: Facts,
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

fn invalid(message: String) -> LoadFailure {
    LoadFailure::Failed(Failure::new(ErrorCode::InvalidRequest, message))
}

/// llama.cpp.
#[cfg(feature = "llama")]
pub mod llama {
    use std::path::Path;

    use super::{
        Arc, ControlFlow, ErrorCode, Facts, Failure, Load, LoadFailure, Loader, Parts, invalid,
    };
    use crate::engine::llama::context::{KvType, MOST_SEQUENCES};
    use crate::engine::llama::model::Model;
    use crate::engine::llama::{
        ContextSettings, LlamaDecoder, LlamaLexicon, LoadError, LoadRequest, load,
    };
    use crate::engine::scheduler::Cutting;
    use crate::protocol::command::LoadSettings;
    use crate::worker::cpu;
    use crate::worker::process::default_threads;

    /// Most tokens of a step that may be asked for.
    const MOST_BATCH: u32 = 16_384;
    /// Most threads that may be asked for; ggml's own limit.
    const MOST_THREADS: u32 = 512;

    /// Loads GGUF files.
    #[derive(Clone, Copy, Debug)]
    pub struct LlamaLoader;

    impl Loader for LlamaLoader {
        type Decoder = LlamaDecoder;

        fn load(
            &self,
            command: &Load,
            progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
        ) -> Result<Parts<LlamaDecoder>, LoadFailure> {
            if let Some(complaint) = cpu::complaint(&cpu::missing()) {
                return Err(LoadFailure::Failed(Failure::new(ErrorCode::Unsupported, complaint)));
            }
            let path = command.path.as_deref().ok_or_else(|| {
                invalid(format!("`load` of `{}` names no file in `path`", command.model))
            })?;
            let settings = checked(&command.settings)?;
            let request = LoadRequest {
                path: Path::new(path),
                gpu_layers: command.settings.gpu_layers,
                check_tensors: command.settings.check_tensors,
            };
            let model = load(&request, progress).map_err(|error| match error {
                LoadError::Cancelled => LoadFailure::Cancelled,
                LoadError::Failed(reason) => unavailable(reason),
            })?;
            let settings = within_training(settings, &model);
            let decoder = LlamaDecoder::new(&model, settings)
                .map_err(|error| unavailable(error.to_string()))?;
            let embed_ctx = u32::try_from(settings.ctx_size).unwrap_or(u32::MAX);
            let cutting = if model.is_recurrent() { Cutting::WholeOnly } else { Cutting::Anywhere };
            Ok(Parts {
                decoder,
                lexicon: Arc::new(LlamaLexicon::new(&model, embed_ctx, settings.threads)),
                facts: Facts {
                    ctx_size: settings.ctx_size,
                    sequences: settings.sequences,
                    batch: settings.batch,
                    cutting,
                    description: model.description(),
                },
            })
        }
    }

    fn unavailable(reason: String) -> LoadFailure {
        LoadFailure::Failed(Failure::new(ErrorCode::Unavailable, reason))
    }

    /// The settings in the engine's types, ranges checked; a context of 0 is the trained one.
    fn checked(settings: &LoadSettings) -> Result<ContextSettings, LoadFailure> {
        let sequences = settings.slots as usize;
        if !(1..=MOST_SEQUENCES).contains(&sequences) {
            return Err(invalid(format!("`slots` is {sequences}; expected 1 to {MOST_SEQUENCES}")));
        }
        if !(1..=MOST_BATCH).contains(&settings.batch) {
            let given = settings.batch;
            return Err(invalid(format!("`batch` is {given}; expected 1 to {MOST_BATCH}")));
        }
        if settings.threads > MOST_THREADS {
            let given = settings.threads;
            return Err(invalid(format!("`threads` is {given}; expected 0 to {MOST_THREADS}")));
        }
        let Some(kv_type) = KvType::from_word(&settings.kv_type) else {
            let given: String = settings.kv_type.chars().take(40).collect();
            return Err(invalid(format!("`kv_type` is `{given}`; expected f32, f16 or q8_0")));
        };
        let threads = if settings.threads == 0 { default_threads() } else { settings.threads };
        Ok(ContextSettings {
            ctx_size: settings.ctx_size as usize,
            sequences,
            // Every sequence must be able to write in each step.
            batch: (settings.batch as usize).max(sequences),
            threads,
            kv_type,
        })
    }

    /// Never more context than the model was trained with.
    fn within_training(settings: ContextSettings, model: &Model) -> ContextSettings {
        let trained = (model.trained_context() as usize).max(2);
        let wanted = if settings.ctx_size == 0 { trained } else { settings.ctx_size };
        ContextSettings { ctx_size: wanted.clamp(2, trained), ..settings }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn refused(settings: LoadSettings) -> String {
            match checked(&settings) {
                Err(LoadFailure::Failed(failure)) => failure.message,
                Err(LoadFailure::Cancelled) | Ok(_) => String::new(),
            }
        }

        #[test]
        fn settings_out_of_range_are_named() {
            let good = LoadSettings::default;
            assert_eq!(refused(good()), "");
            assert!(refused(LoadSettings { slots: 0, ..good() }).contains("`slots` is 0"));
            assert!(refused(LoadSettings { slots: 257, ..good() }).contains("1 to 256"));
            assert!(refused(LoadSettings { batch: 0, ..good() }).contains("`batch` is 0"));
            assert!(refused(LoadSettings { kv_type: "q4".into(), ..good() }).contains("`q4`"));
            assert!(refused(LoadSettings { threads: 1_000, ..good() }).contains("`threads`"));
        }
    }
}

/// A build that runs no model itself.
#[cfg(not(feature = "llama"))]
pub mod none {
    use super::{ControlFlow, ErrorCode, Failure, Load, LoadFailure, Loader, Parts};
    use crate::domain::sampling::Sampling;
    use crate::engine::model::{Decoded, Decoder, ModelError};
    use crate::engine::scheduler::{Entry, SeqIdx, Token};

    /// Answers every load with an error.
    #[derive(Clone, Copy, Debug)]
    pub struct NoLoader;

    impl Loader for NoLoader {
        type Decoder = Never;

        fn load(
            &self,
            _: &Load,
            _: &mut dyn FnMut(f32) -> ControlFlow<()>,
        ) -> Result<Parts<Never>, LoadFailure> {
            let text = "this build of lollmsd has no llama.cpp in it";
            Err(LoadFailure::Failed(Failure::new(ErrorCode::Unsupported, text)))
        }
    }

    /// A model that cannot exist.
    #[derive(Clone, Copy, Debug)]
    pub enum Never {}

    impl Decoder for Never {
        type Sampler = Never;

        fn sampler(&mut self, _: &Sampling, _: &[Token]) -> Result<Never, ModelError> {
            match *self {}
        }

        fn decode(&mut self, _: &[Entry]) -> Decoded {
            match *self {}
        }

        fn sample(&mut self, _: &mut Never, _: usize) -> Result<Token, ModelError> {
            match *self {}
        }

        fn cut(&mut self, _: SeqIdx, _: usize) -> bool {
            match *self {}
        }

        fn append_bytes(&self, _: Token, _: &mut Vec<u8>) {
            match *self {}
        }

        fn ends_text(&self, _: Token) -> bool {
            match *self {}
        }

        fn rebuild(&mut self) -> Result<(), ModelError> {
            match *self {}
        }
    }
}
