//! Lines to a binding process.

use serde::{Deserialize, Serialize};

use crate::protocol::sampling::SamplingParams;
use crate::protocol::vectors::{Embed, Rerank};

/// One line to a binding process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The first line; the process answers with its own `hello`.
    Hello(Hello),
    /// Asks for the models that the binding offers; answered by `models` or `error`.
    ListModels(Ask),
    /// Loads a model; answered by any number of `progress`, then `loaded` or `error`.
    Load(Load),
    /// Frees the model; answered by `unloaded`. Running generations end as cancelled.
    Unload(Ask),
    /// Text to tokens; answered by `tokens` or `error`.
    Tokenize(Tokenize),
    /// Tokens to text; answered by `text` or `error`.
    Detokenize(Detokenize),
    /// Texts to vectors; answered by one or more `embedding`, or `error`.
    Embed(Embed),
    /// How well documents fit a query; answered by `ranks` or `error`.
    Rerank(Rerank),
    /// Messages to the prompt text that `generate` would read; answered by `text` or `error`.
    ApplyTemplate(ApplyTemplate),
    /// Writes what a generation left in the cache to a file; answered by `state` or `error`.
    SaveState(SaveState),
    /// Takes such a file into the cache; answered by `state` or `error`.
    RestoreState(RestoreState),
    /// Makes a completion; answered by `started`, any number of `reading` and `piece`, one `end`.
    Generate(Box<Generate>),
    /// Changes how the loaded model runs, between two steps; answered by `configured` or `error`.
    Configure(Configure),
    /// Ends the `load`, `generate`, `embed` or `rerank` with this id; unknown ids are ignored, for it may just have ended.
    Cancel(Ask),
    /// The process is to end by itself, soon; no answer.
    Bye(Bye),
}

/// Payload of `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`super::PROTOCOL_VERSION`] of the front.
    pub version: u32,
}

/// A command with an id and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Names the operation in every answer.
    pub id: u64,
}

/// Payload of `bye`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {}

/// Payload of `load`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Names the operation in every answer.
    pub id: u64,
    /// Name of the model as the catalogue lists it.
    pub model: String,
    /// The model's file, absolute; absent for bindings whose models are no files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How to load it.
    #[serde(default)]
    pub settings: LoadSettings,
}

/// How a model is loaded. Every field has a default, so `{}` is a good value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadSettings {
    /// Context of one sequence, in tokens; never more than the model was trained with.
    pub ctx_size: u32,
    /// Sequences that are generated at the same time.
    pub slots: u32,
    /// Most tokens of one decode step.
    pub batch: u32,
    /// Threads of a decode step; 0 lets the worker choose (physical cores − 1, at least 1).
    pub threads: u32,
    /// Threads of a step of several tokens; 0 takes `threads`.
    pub batch_threads: u32,
    /// Layers held on GPUs; −1 means all.
    pub gpu_layers: i32,
    /// Type of the KV cache: `f32`, `f16` or `q8_0`.
    pub kv_type: String,
    /// Reads every tensor's data at load and refuses broken ones.
    pub check_tensors: bool,
    /// LoRA adapters; a generation names them by their place in this list, from 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<Adapter>,
    /// Most tokens that a step may guess ahead for one generation, from what its text said before; 0 turns
    /// that off.
    pub draft_max: u32,
    /// Folder for chats that are to be kept (`keep` of `generate`), absolute; absent keeps none on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_dir: Option<String>,
    /// Most MiB in that folder, of all models.
    pub kv_dir_size: u32,
    /// Tokens that all sequences together may hold; 0 means `ctx_size` for each slot.
    pub cells: u32,
    /// Tokens of earlier chats that stay in the KV cache while others run; each slows every step down.
    pub idle_cells: u32,
    /// Memory for earlier chats that left the KV cache, in MiB; 0 turns that off.
    pub cache_ram: u32,
    /// A step that reads prompts while others write may always last this long, in milliseconds.
    pub step_ms: u32,
}

/// A LoRA adapter to load with a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// The GGUF file, absolute.
    pub path: String,
    /// How strongly it works in generations that do not say.
    #[serde(default = "one")]
    pub scale: f32,
}

/// An adapter of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterScale {
    /// Its place among the adapters of the load.
    pub id: u32,
    /// How strongly it works; 0 not at all.
    pub scale: f32,
}

fn one() -> f32 {
    1.0
}

impl Default for LoadSettings {
    fn default() -> Self {
        Self {
            ctx_size: 4096,
            slots: 4,
            batch: 512,
            threads: 0,
            batch_threads: 0,
            gpu_layers: -1,
            kv_type: "f16".into(),
            check_tensors: false,
            adapters: Vec::new(),
            draft_max: 0,
            kv_dir: None,
            kv_dir_size: 4_096,
            cells: 0,
            idle_cells: 1_024,
            cache_ram: 1_024,
            step_ms: 20,
        }
    }
}

/// Payload of `tokenize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokenize {
    /// Names the operation in every answer.
    pub id: u64,
    /// Text to cut into tokens.
    pub text: String,
    /// Adds the tokens that the model wants at the beginning and the end.
    #[serde(default)]
    pub add_special: bool,
    /// Reads the names of control tokens (`<|im_start|>`) as those tokens, not as text.
    #[serde(default)]
    pub parse_special: bool,
}

/// Payload of `detokenize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detokenize {
    /// Names the operation in every answer.
    pub id: u64,
    /// Tokens to join; a token outside the vocabulary is an error.
    pub tokens: Vec<i32>,
}

/// Payload of `configure`. What is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configure {
    /// Names the operation in every answer.
    pub id: u64,
    /// Threads of a step of one token; 0 lets the worker choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Threads of a step of several tokens; 0 takes as many as for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_threads: Option<u32>,
}

/// Payload of `apply_template`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyTemplate {
    /// Names the operation in every answer.
    pub id: u64,
    /// The conversation.
    pub chat: Chat,
}

/// Payload of `save_state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveState {
    /// Names the operation in every answer.
    pub id: u64,
    /// A generation that has ended: what it read and wrote is saved.
    pub generation: u64,
    /// The file, absolute; one that is there is replaced.
    pub path: String,
}

/// Payload of `restore_state`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestoreState {
    /// Names the operation in every answer.
    pub id: u64,
    /// The file, absolute.
    pub path: String,
    /// The adapters that it was made with, as `generate` names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Vec<AdapterScale>>,
}

/// Payload of `generate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    /// Names the generation in every answer.
    pub id: u64,
    /// What the model is given.
    pub prompt: Prompt,
    /// Most tokens to make; absent means as many as the context holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_predict: Option<u32>,
    /// How tokens are chosen.
    #[serde(default)]
    pub sampling: SamplingParams,
    /// Texts that end the completion, matched exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Texts that end the completion, matched without regard to case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anti_prompts: Vec<String>,
    /// The adapters to use, and no others; absent means those of the load with their scales.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Vec<AdapterScale>>,
    /// Most tokens to guess ahead, at most the load's `draft_max`, which absent means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft_max: Option<u32>,
    /// Keeps what was computed for this chat in `kv_dir`, so that it goes on quickly after a restart.
    #[serde(default)]
    pub keep: bool,
    /// Goes on when the context is full: the older half of the text goes, but for the first `n_keep`
    /// tokens. Otherwise the completion ends there.
    #[serde(default)]
    pub context_shift: bool,
    /// Tokens at the beginning of the prompt that a shift keeps; -1 means the whole prompt.
    #[serde(default)]
    pub n_keep: i32,
}

/// What a model is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Text as it stands.
    Text(TextPrompt),
    /// A conversation: the model's chat template puts it together, or `plain` when it has none.
    /// What does not fit is cropped by whole messages, oldest first.
    Chat(Chat),
    /// A gap in a text that the model fills in, with the tokens it was trained on for that.
    Infill(Infill),
}

/// A gap to fill in. What does not fit is left out: the prefix loses its beginning, the suffix its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Infill {
    /// What stands before the gap.
    pub prefix: String,
    /// What stands behind it.
    pub suffix: String,
    /// How the gap begins; control tokens by name are read as such.
    pub prompt: String,
    /// Other files that help; the last ones stay when not all fit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<ExtraFile>,
    /// Puts the suffix before the prefix, as some models were trained.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub suffix_first: bool,
}

/// Another file of an [`Infill`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraFile {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A prompt of plain text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPrompt {
    /// The text; control tokens by name are read as such, as llama.cpp's server does.
    pub text: String,
    /// Keeps only this many tokens, the last ones; absent keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
}

/// A prompt of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    /// Oldest first; a `system` message comes first if there is one.
    pub messages: Vec<ChatMessage>,
    /// How to write them for a model without a chat template.
    #[serde(default)]
    pub plain: Plain,
}

/// One message of a [`Chat`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// LoLLMs' prefixes, used for models without a chat template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plain {
    /// Before each message of the user.
    pub user_prefix: String,
    /// Before each answer.
    pub ai_prefix: String,
    /// Between two messages.
    pub link_text: String,
}

impl Default for Plain {
    fn default() -> Self {
        Self {
            user_prefix: "!@> Human: ".into(),
            ai_prefix: "!@> lollms:".into(),
            link_text: "\n".into(),
        }
    }
}
