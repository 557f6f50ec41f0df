//! Loads GGUF files with llama.cpp.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::domain::error::{ErrorCode, Failure};
use crate::engine::llama::context::{KvType, MOST_SEQUENCES};
use crate::engine::llama::model::Model;
use crate::engine::llama::{
    ContextSettings, LlamaDecoder, LlamaEmbedder, LlamaLexicon, LoadError, LoadRequest, load,
};
use crate::engine::model::Facts;
use crate::engine::scheduler::Cutting;
use crate::protocol::command::{Load, LoadSettings};
use crate::worker::cpu;
use crate::worker::loader::{LoadFailure, Loader, Parts};
use crate::worker::threads;

/// Most tokens of a step that may be asked for.
const MOST_BATCH: u32 = 16_384;

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
        let mut decoder =
            LlamaDecoder::new(&model, settings).map_err(|error| unavailable(error.to_string()))?;
        let writes = decoder.writes();
        let cutting = if model.is_recurrent() { Cutting::WholeOnly } else { Cutting::Anywhere };
        Ok(Parts {
            decoder,
            lexicon: Arc::new(LlamaLexicon::new(&model)),
            embedder: Arc::new(LlamaEmbedder::new(&model, settings.ctx_size, settings.threads)),
            facts: Facts {
                ctx_size: settings.ctx_size,
                sequences: settings.sequences,
                batch: settings.batch,
                cutting,
                writes,
                threads: settings.threads,
                description: model.description(),
            },
        })
    }
}

fn invalid(message: String) -> LoadFailure {
    LoadFailure::Failed(Failure::new(ErrorCode::InvalidRequest, message))
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
    let (one, many) = (Some(settings.threads), Some(settings.batch_threads));
    let threads = threads::chosen(threads::UNSET, one, many).map_err(LoadFailure::Failed)?;
    let Some(kv_type) = KvType::from_word(&settings.kv_type) else {
        let given: String = settings.kv_type.chars().take(40).collect();
        return Err(invalid(format!("`kv_type` is `{given}`; expected f32, f16 or q8_0")));
    };
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

    fn refused(settings: &LoadSettings) -> String {
        match checked(settings) {
            Err(LoadFailure::Failed(failure)) => failure.message,
            Err(LoadFailure::Cancelled) | Ok(_) => String::new(),
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let good = LoadSettings::default;
        assert_eq!(refused(&good()), "");
        assert!(refused(&LoadSettings { slots: 0, ..good() }).contains("`slots` is 0"));
        assert!(refused(&LoadSettings { slots: 257, ..good() }).contains("1 to 256"));
        assert!(refused(&LoadSettings { batch: 0, ..good() }).contains("`batch` is 0"));
        assert!(refused(&LoadSettings { kv_type: "q4".into(), ..good() }).contains("`q4`"));
        assert!(refused(&LoadSettings { threads: 1_000, ..good() }).contains("`threads`"));
    }
}
