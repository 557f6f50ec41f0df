//! What goes into the driver with a generation, and what it tells about it.

use std::time::Duration;

use crate::domain::sampling::Stops;
use crate::engine::brake::CancelFlag;
use crate::engine::recipe::Recipe;
use crate::engine::scheduler::host::StoredBlock;
use crate::engine::text::writer::Written;

/// What a generation needs beside its prompt.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How tokens are chosen.
    pub recipe: Recipe,
    /// What ends it.
    pub stops: Stops,
    /// Messages that were cropped away, for the report.
    pub dropped: u32,
    /// Most tokens to guess for one step; 0 guesses none.
    pub drafts: usize,
    /// Set when nobody wants it any more.
    pub cancelled: CancelFlag,
}

/// What the driver tells about generations.
pub trait Output {
    /// A generation got a sequence.
    fn started(&mut self, started: Started);
    /// Part of a prompt is read: tokens done, cached ones included, of all.
    fn reading(&mut self, id: u64, done: usize, total: usize);
    /// More text.
    fn written(&mut self, id: u64, written: &Written);
    /// The end; nothing follows for this generation.
    fn ended(&mut self, ended: Ended);
    /// A block of a chat that is to be kept on disk.
    fn stored(&mut self, block: StoredBlock);
}

/// A generation got a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The generation.
    pub id: u64,
    /// Tokens of its prompt.
    pub prompt: usize,
    /// How many of them were cached.
    pub cached: usize,
    /// Messages that were cropped away.
    pub dropped: u32,
}

/// A generation ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The generation.
    pub id: u64,
    /// Why.
    pub end: End,
    /// Tokens that were made.
    pub made: u32,
    /// How many of them had been guessed, and so took no step of their own.
    pub guessed: u32,
    /// Tokens of the prompt that came from the cache.
    pub cached: usize,
    /// Time from its start to its first token.
    pub reading: Duration,
    /// Time from its first token on.
    pub writing: Duration,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The model ended its text.
    Stop,
    /// This stop string was met.
    StopString(String),
    /// It may not make more tokens, or the context is full.
    Limit,
    /// It was cancelled.
    Cancelled,
    /// The model failed; the text says how.
    Failed(String),
}

/// Totals since the model was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Decode steps.
    pub steps: u64,
    /// Tokens of prompts that were read.
    pub prompt: u64,
    /// Tokens of prompts that were in the cache.
    pub cached: u64,
    /// Tokens that were made.
    pub made: u64,
}

/// The end of a generation that never got a sequence.
pub fn never_started(id: u64, end: End) -> Ended {
    Ended {
        id,
        end,
        made: 0,
        guessed: 0,
        cached: 0,
        reading: Duration::ZERO,
        writing: Duration::ZERO,
    }
}
