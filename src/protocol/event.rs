//! Lines from a binding process.

use serde::{Deserialize, Serialize};

use crate::protocol::vectors::{Embedding, Ranks};

/// One line from a binding process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The first line, in answer to the front's `hello`.
    Hello(HelloEvent),
    /// Answer to `list_models`.
    Models(Models),
    /// A load goes on.
    Progress(Progress),
    /// A load is done.
    Loaded(Loaded),
    /// The model is gone.
    Unloaded(Done),
    /// Answer to `tokenize`.
    Tokens(Tokens),
    /// Answer to `detokenize` and `apply_template`.
    Text(Text),
    /// Answer to `save_state` and `restore_state`.
    State(State),
    /// Answer to `embed`: rows of one input.
    Embedding(Embedding),
    /// Answer to `rerank`.
    Ranks(Ranks),
    /// Answer to `configure`.
    Configured(Configured),
    /// An operation other than `generate` failed, or a `load` was cancelled (code `cancelled`).
    Error(ErrorEvent),
    /// A generation was admitted: it has a sequence now and is being read.
    Started(Started),
    /// A prompt is being read.
    Reading(Reading),
    /// More text of a completion; tokens of several steps may be merged.
    Piece(Piece),
    /// A generation ended; exactly one for each `generate`.
    End(End),
    /// Pushed when something changed, at most 4 times a second, and each second while there is work.
    Stats(Stats),
    /// The process is about to die and says why.
    Fatal(Fatal),
}

impl Event {
    /// Id of the question that this event answers: of `tokenize` and its like, where an `error` can come instead.
    pub fn answered(&self) -> Option<u64> {
        match self {
            Self::Tokens(answer) => Some(answer.id),
            Self::Text(answer) => Some(answer.id),
            Self::Embedding(answer) => Some(answer.id),
            Self::Ranks(answer) => Some(answer.id),
            Self::Configured(answer) => Some(answer.id),
            Self::State(answer) => Some(answer.id),
            Self::Models(answer) => Some(answer.id),
            Self::Hello(_)
            | Self::Progress(_)
            | Self::Loaded(_)
            | Self::Unloaded(_)
            | Self::Error(_)
            | Self::Started(_)
            | Self::Reading(_)
            | Self::Piece(_)
            | Self::End(_)
            | Self::Stats(_)
            | Self::Fatal(_) => None,
        }
    }
}

/// The keys of all events, to tell a malformed line from an event of a newer version.
pub const KINDS: &[&str] = &[
    "hello",
    "models",
    "progress",
    "loaded",
    "unloaded",
    "tokens",
    "text",
    "state",
    "embedding",
    "ranks",
    "configured",
    "error",
    "started",
    "reading",
    "piece",
    "end",
    "stats",
    "fatal",
];

/// Payload of `hello`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HelloEvent {
    /// Protocol version that the process speaks.
    pub version: u32,
    /// Name of the program, for logs.
    pub name: String,
    /// Operations it offers: `load`, `generate`, `tokenize`, `detokenize`, `embed`, `rerank`,
    /// `apply_template`, `list_models`, `configure`.
    pub capabilities: Vec<String>,
}

/// Payload of `models`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Models {
    /// The operation's id.
    pub id: u64,
    /// Names of models.
    pub models: Vec<String>,
}

/// Payload of `progress`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The operation's id.
    pub id: u64,
    /// Done so far, 0 to 1.
    pub fraction: f32,
}

/// Payload of `loaded`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Loaded {
    /// The operation's id.
    pub id: u64,
    /// Generations that run at the same time; at least 1.
    pub slots: u32,
    /// Context of one sequence, in tokens; 0 means unknown.
    pub ctx_size: u32,
    /// Whether the model brings a chat template.
    pub chat_template: bool,
    /// What the model is, for people: architecture, size, type.
    pub description: String,
    /// Numbers of an `embedding`; 0 when the model makes none.
    #[serde(skip_serializing_if = "is_zero")]
    pub embedding_size: u32,
    /// Whether `rerank` works.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ranks: bool,
    /// Whether prompts of the kind `infill` work.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub infills: bool,
}

/// An answer with an id and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The operation's id.
    pub id: u64,
}

/// Payload of `tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// The operation's id.
    pub id: u64,
    /// The tokens.
    pub tokens: Vec<i32>,
}

/// Payload of `text`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The operation's id.
    pub id: u64,
    /// The text; bytes that are no UTF-8 become U+FFFD.
    pub text: String,
}

/// Payload of `configured`: what holds from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configured {
    /// The operation's id.
    pub id: u64,
    /// Threads of a step of one token.
    pub threads: u32,
    /// Threads of a step of several tokens.
    pub batch_threads: u32,
}

/// Payload of `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The operation's id.
    pub id: u64,
    /// Tokens that were saved or taken.
    pub tokens: u32,
    /// Bytes of it.
    pub bytes: u64,
}

/// Payload of `error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEvent {
    /// The operation's id.
    pub id: u64,
    /// A word of `domain::error::ErrorCode`, or `cancelled`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
}

/// Payload of `started`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The generation's id.
    pub id: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// How many of them were in the cache already.
    #[serde(default)]
    pub cached_tokens: u32,
    /// Messages that were cropped away.
    #[serde(default)]
    pub dropped: u32,
}

/// Payload of `reading`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The generation's id.
    pub id: u64,
    /// Tokens of the prompt that are read, cached ones included.
    pub done: u32,
    /// Tokens of the prompt.
    pub total: u32,
}

/// Payload of `piece`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// The generation's id.
    pub id: u64,
    /// Whole characters only.
    pub text: String,
    /// Where each token's text ends, as byte offsets into `text`; absent means one token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<u32>,
    /// The tokens, in the order of `ends`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tok: Vec<i32>,
    /// How likely the tokens were, in the same order; there only when `n_probs` asked for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probs: Vec<Probability>,
}

/// How likely a token was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Probability {
    /// Natural logarithm of its probability, at least -1e30.
    pub logprob: f32,
    /// The likeliest tokens, most likely first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TopProbability>,
}

/// A token that could have been chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TopProbability {
    /// The token.
    pub id: i32,
    /// Its text; bytes that are no UTF-8 become U+FFFD.
    pub text: String,
    /// Its bytes, when `text` does not have them all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability, at least -1e30.
    pub logprob: f32,
}

/// Payload of `end`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// The generation's id.
    pub id: u64,
    /// Why it ended.
    pub reason: EndReason,
    /// The stop string that was met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
    /// For `error`: a word of `domain::error::ErrorCode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// For `error`: one sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Tokens that were made.
    #[serde(default)]
    pub completion_tokens: u32,
    /// How many of them had been guessed, and so took no step of their own.
    #[serde(default)]
    pub guessed_tokens: u32,
    /// Tokens of the prompt that came from a cache; `started` says what was known then.
    #[serde(default)]
    pub cached_tokens: u32,
    /// Time spent reading the prompt, in milliseconds.
    #[serde(default)]
    pub prompt_ms: f64,
    /// Time spent writing, in milliseconds.
    #[serde(default)]
    pub completion_ms: f64,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The model ended its text.
    Stop,
    /// A stop string was met; it is not part of the text.
    StopString,
    /// `n_predict` or the context is used up.
    Limit,
    /// It was cancelled.
    Cancelled,
    /// It failed; `message` says why.
    Error,
}

/// Payload of `stats`: what the process is doing now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Sequences that read or write.
    pub active: u32,
    /// Generations taken over but not yet admitted.
    pub waiting: u32,
    /// Decode steps so far. It stands still when the process hangs.
    pub steps: u64,
    /// Tokens of prompts read so far.
    pub prompt_tokens: u64,
    /// Tokens taken from the cache so far.
    pub cached_tokens: u64,
    /// Tokens made so far.
    pub completion_tokens: u64,
}

/// Payload of `fatal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fatal {
    /// What happened, for people.
    pub reason: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}
