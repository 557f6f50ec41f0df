//! Where a generation is in its life, and how it ends.

use crate::domain::error::Failure;

/// Who waits for a generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// A person in a chat.
    #[default]
    Interactive,
    /// A program.
    Api,
    /// Nobody: it runs when nothing else does.
    Background,
}

/// Where a generation is in its life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// Waiting; 1 is next.
    Queued {
        /// Place in the queue.
        position: usize,
    },
    /// The model is being loaded.
    Loading {
        /// Done so far, 0 to 1.
        fraction: f32,
    },
    /// The prompt is being read.
    Reading {
        /// Tokens read so far.
        done: u32,
        /// Tokens of the prompt.
        total: u32,
    },
    /// Text is being written.
    Writing,
    /// It has ended.
    Finished,
}

/// Why a generation ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its text.
    Stop,
    /// A stop string was met.
    StopString,
    /// `n_predict` or the context is used up.
    Limit,
}

/// How a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The text is whole.
    Finished(Finish),
    /// Somebody cancelled it, or its client left.
    Cancelled,
    /// It failed.
    Failed(Failure),
}
