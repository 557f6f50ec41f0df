//! Loads GGUF files with llama.cpp.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::error::{ErrorCode, Failure};
use crate::engine::adapters::AdapterSets;
use crate::engine::llama::LoraAdapters;
use crate::engine::llama::context::{KvType, MOST_SEQUENCES};
use crate::engine::llama::model::Model;
use crate::engine::llama::{
    ContextSettings, LlamaDecoder, LlamaEmbedder, LlamaLexicon, LoadError, LoadRequest, load,
};
use crate::engine::model::{Facts, ModelError};
use crate::engine::scheduler::{Cutting, Limits};
use crate::protocol::command::{Adapter, Load, LoadSettings};
use crate::worker::cpu;
use crate::worker::kv_files::{KvFiles, KvFolder, Origin};
use crate::worker::loader::{LoadFailure, Loader, Parts};
use crate::worker::threads;

/// Most tokens of a step that may be asked for.
const MOST_BATCH: u32 = 16_384;
/// Most tokens that may be guessed ahead for a generation.
const MOST_DRAFTS: u32 = 64;
/// Sequences for the cells of earlier chats. Each costs room for the scores of one token, and only a few
/// chats stay in the cache: the others go to the host's memory.
const KEPT_SEQUENCES: usize = 8;

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
        let running = settings.sequences;
        let cutting = if model.is_recurrent() { Cutting::WholeOnly } else { Cutting::Anywhere };
        let settings = with_cache(within_training(settings, &model), &command.settings, cutting)?;
        let failed = |error: ModelError| unavailable(error.to_string());
        let (lora, sets) = adapters(&model, &command.settings.adapters).map_err(failed)?;
        let sets = Arc::new(sets);
        let decoder = LlamaDecoder::new(&model, settings, lora, Arc::clone(&sets));
        let mut decoder = decoder.map_err(failed)?;
        let can_shift = cutting == Cutting::Anywhere && decoder.can_shift();
        let writes = decoder.writes();
        let origin = origin(path, &command.settings);
        let kv_files = kv_files(&origin, &command.settings, &sets)
            .map_err(|error| unavailable(format!("chats cannot be kept in `kv_dir`: {error}")))?;
        Ok(Parts {
            decoder,
            lexicon: Arc::new(LlamaLexicon::new(&model)),
            embedder: Arc::new(LlamaEmbedder::new(&model, settings.ctx_size, settings.threads)),
            origin,
            kv_files: kv_files.filter(|_| settings.moves_states),
            facts: Facts {
                limits: Limits {
                    running,
                    sequences: settings.sequences,
                    batch: settings.batch,
                    outputs: settings.outputs,
                    ctx_size: settings.ctx_size,
                    cells: settings.cells,
                    idle_cells: command.settings.idle_cells as usize,
                    host_bytes: if settings.moves_states {
                        (command.settings.cache_ram as usize) << 20
                    } else {
                        0
                    },
                    cutting,
                },
                adapters: sets,
                mixed_step: Duration::from_millis(command.settings.step_ms.into()),
                draft_max: command.settings.draft_max as usize,
                can_shift,
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
    if settings.draft_max > MOST_DRAFTS {
        let given = settings.draft_max;
        return Err(invalid(format!("`draft_max` is {given}; expected 0 to {MOST_DRAFTS}")));
    }
    let Some(kv_type) = KvType::from_word(&settings.kv_type) else {
        let given: String = settings.kv_type.chars().take(40).collect();
        return Err(invalid(format!("`kv_type` is `{given}`; expected f32, f16 or q8_0")));
    };
    Ok(ContextSettings {
        ctx_size: settings.ctx_size as usize,
        cells: 0,
        moves_states: false,
        outputs: sequences,
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

/// What the states of a model depend on.
fn origin(model: &str, settings: &LoadSettings) -> Origin {
    let adapters = settings.adapters.iter().map(|adapter| adapter.path.as_str());
    let files = std::iter::once(model).chain(adapters).map(PathBuf::from).collect();
    Origin { files, kind: settings.kv_type.clone() }
}

/// The blocks of the model's chats on disk, if any are kept.
fn kv_files(
    origin: &Origin,
    settings: &LoadSettings,
    sets: &Arc<AdapterSets>,
) -> io::Result<Option<Arc<KvFiles>>> {
    let Some(folder) = &settings.kv_dir else { return Ok(None) };
    let most_bytes = u64::from(settings.kv_dir_size) << 20;
    let most_read = (settings.cache_ram as usize) << 20;
    let folder = KvFolder { path: folder.into(), most_bytes, most_read };
    KvFiles::open(&folder, origin, Arc::clone(sets)).map(Some)
}

/// Loads the adapters of a model.
fn adapters(
    model: &Arc<Model>,
    asked: &[Adapter],
) -> Result<(LoraAdapters, AdapterSets), ModelError> {
    let mut lora = LoraAdapters::of(model);
    for adapter in asked {
        lora.load(Path::new(&adapter.path))?;
    }
    let sets = AdapterSets::new(asked.iter().map(|adapter| adapter.scale).collect());
    // The usual set is asked for first, so that what is wrong with a scale is said now.
    sets.number(None).map_err(|error| ModelError(error.to_string()))?;
    Ok((lora, sets))
}

/// Adds the sequences that keep the cells of earlier chats, and the number of all cells.
fn with_cache(
    settings: ContextSettings,
    asked: &LoadSettings,
    cutting: Cutting,
) -> Result<ContextSettings, LoadFailure> {
    let ContextSettings { ctx_size, sequences, .. } = settings;
    let cells = match asked.cells as usize {
        0 => ctx_size.saturating_mul(sequences),
        // llama.cpp wants a multiple of 256.
        cells if cells >= ctx_size => cells.next_multiple_of(256),
        cells => {
            return Err(invalid(format!("`cells` is {cells}; expected {ctx_size} or more, or 0")));
        }
    };
    let drafts = 1 + asked.draft_max as usize;
    let outputs = if cutting == Cutting::Anywhere { sequences * drafts } else { sequences };
    let moves_states = cutting == Cutting::Anywhere && sequences < MOST_SEQUENCES;
    let kept = if moves_states { KEPT_SEQUENCES.min(MOST_SEQUENCES - 1 - sequences) } else { 0 };
    let (batch, sequences) = (settings.batch.max(outputs), sequences + kept);
    Ok(ContextSettings { cells, sequences, batch, outputs, moves_states, ..settings })
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
