//! What a binding is asked for, in the words of the product, and the same in the words of the protocol.

use std::path::PathBuf;

use crate::domain::generation::Priority;
use crate::domain::prompt::{Message, PlainFormat, Role};
use crate::domain::sampling::{Sampling, Stops};
use crate::protocol::command::{
    Chat, ChatMessage, Generate, Load, LoadSettings, Plain, Prompt, TextPrompt,
};
use crate::protocol::sampling::SamplingParams;

/// A model to load, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoadRequest {
    /// Its name in the catalogue.
    pub model: String,
    /// Its file, absolute; `None` for models that are no files.
    pub path: Option<PathBuf>,
    /// Context of one sequence, in tokens.
    pub ctx_size: u32,
    /// Sequences that are generated at the same time.
    pub slots: u32,
    /// Most tokens of one decode step.
    pub batch: u32,
    /// Threads of a decode step; 0 lets the worker choose.
    pub threads: u32,
    /// Layers held on GPUs; −1 means all.
    pub gpu_layers: i32,
    /// Type of the KV cache: `f32`, `f16` or `q8_0`.
    pub kv_type: String,
    /// Reads every tensor's data at load and refuses broken ones.
    pub check_tensors: bool,
    /// Tokens of earlier chats that stay in the KV cache while others run.
    pub idle_cells: u32,
    /// Memory for earlier chats that left the KV cache, in MiB; 0 turns that off.
    pub cache_ram: u32,
    /// A step that reads prompts while others write may always last this long, in milliseconds.
    pub step_ms: u32,
}

/// A completion to make.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionRequest {
    /// What the model is given.
    pub prompt: PromptSource,
    /// Most tokens to make; `None` means as many as the context holds.
    pub n_predict: Option<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end it.
    pub stops: Stops,
    /// Who waits for it.
    pub priority: Priority,
}

/// What a model is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptSource {
    /// Text as it stands.
    Text {
        /// The text.
        text: String,
        /// Keeps only this many tokens, the last ones.
        keep_last: Option<u32>,
    },
    /// A conversation, for the model's chat template.
    Chat {
        /// Oldest first.
        messages: Vec<Message>,
        /// How to write it for a model without a template.
        plain: PlainFormat,
    },
}

impl LoadRequest {
    pub(super) fn command(&self, id: u64) -> Load {
        Load {
            id,
            model: self.model.clone(),
            path: self.path.as_ref().map(|path| path.to_string_lossy().into_owned()),
            settings: LoadSettings {
                ctx_size: self.ctx_size,
                slots: self.slots,
                batch: self.batch,
                threads: self.threads,
                batch_threads: 0,
                gpu_layers: self.gpu_layers,
                kv_type: self.kv_type.clone(),
                check_tensors: self.check_tensors,
                adapters: Vec::new(),
                draft_max: 0,
                kv_dir: None,
                kv_dir_size: 0,
                cells: 0,
                idle_cells: self.idle_cells,
                cache_ram: self.cache_ram,
                step_ms: self.step_ms,
            },
        }
    }
}

impl CompletionRequest {
    pub(super) fn command(self, id: u64) -> Generate {
        Generate {
            id,
            prompt: self.prompt.command(),
            n_predict: self.n_predict,
            sampling: params(&self.sampling),
            stop: self.stops.exact,
            anti_prompts: self.stops.any_case,
            lora: None,
            draft_max: None,
            keep: false,
            context_shift: false,
            n_keep: 0,
        }
    }
}

impl PromptSource {
    fn command(self) -> Prompt {
        match self {
            Self::Text { text, keep_last } => Prompt::Text(TextPrompt { text, keep_last }),
            Self::Chat { messages, plain } => {
                let PlainFormat { user_prefix, ai_prefix, link_text } = plain;
                Prompt::Chat(Chat {
                    messages: messages.into_iter().map(message).collect(),
                    plain: Plain { user_prefix, ai_prefix, link_text },
                })
            }
        }
    }
}

fn message(message: Message) -> ChatMessage {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    ChatMessage { role: role.into(), content: message.content }
}

fn params(sampling: &Sampling) -> SamplingParams {
    SamplingParams {
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        typical_p: sampling.typical_p,
        repeat_penalty: sampling.repeat_penalty,
        repeat_last_n: sampling.repeat_last_n,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        penalize_nl: sampling.penalize_nl,
        dynatemp_range: sampling.dynatemp_range,
        dynatemp_exponent: sampling.dynatemp_exponent,
        xtc_probability: sampling.xtc_probability,
        xtc_threshold: sampling.xtc_threshold,
        dry_multiplier: sampling.dry_multiplier,
        dry_base: sampling.dry_base,
        dry_allowed_length: sampling.dry_allowed_length,
        dry_penalty_last_n: sampling.dry_penalty_last_n,
        top_n_sigma: sampling.top_n_sigma,
        tfs_z: sampling.tfs_z,
        adaptive_target: sampling.adaptive_target,
        adaptive_decay: sampling.adaptive_decay,
        mirostat: sampling.mirostat,
        mirostat_tau: sampling.mirostat_tau,
        mirostat_eta: sampling.mirostat_eta,
        min_keep: sampling.min_keep,
        ignore_eos: sampling.ignore_eos,
        seed: sampling.seed,
        ..SamplingParams::default()
    }
}
