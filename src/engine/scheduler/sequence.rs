//! One sequence of the cache and the generation that runs in it.

use crate::engine::scheduler::cells::{Cell, Cells};
use crate::engine::scheduler::queue::Waiting;
use crate::engine::scheduler::{Adapters, OnFull, Token};

/// A sequence: its cells, and its generation while it has one.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The tokens of its cells, from position 0.
    pub(super) tokens: Vec<Token>,
    /// The cells, in the same order; other sequences may hold some of them too.
    pub(super) cells: Vec<Cell>,
    /// What its cells were computed with.
    pub(super) adapters: Adapters,
    /// Its cells were moved to other positions: they are good for its own generation and no other.
    pub(super) shifted: bool,
    /// When it was last given away or freed; larger is later.
    pub(super) last_use: u64,
    pub(super) job: Option<Job>,
}

/// A generation in a sequence.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    /// Order of arrival.
    pub(super) ticket: u64,
    pub(super) prompt: Vec<Token>,
    /// Most tokens it may make, the room in the context included.
    pub(super) most: usize,
    pub(super) made: usize,
    pub(super) on_full: OnFull,
    /// The token chosen last, to be decoded next; absent while the prompt is being read.
    pub(super) pending: Option<Token>,
    /// Guesses what follows it, to be checked in the same step.
    pub(super) drafts: Vec<Token>,
    /// Tokens of the prompt that came from elsewhere and were not decoded.
    pub(super) cached: usize,
    /// Another sequence or the host's memory will soon have what it would read next.
    pub(super) expects: bool,
    /// The chat is to be written to the disk when it ends.
    pub(super) stores: bool,
    /// States may be put back from the host's memory; not any more once that failed.
    pub(super) restores: bool,
}

impl Job {
    pub(super) fn new(waiting: Waiting, ctx_size: usize) -> Self {
        let Waiting { id, ticket, prompt, most, on_full, stores, .. } = waiting;
        let most = match on_full {
            OnFull::End => most.min(ctx_size - prompt.len()),
            OnFull::Shift { .. } => most,
        };
        Self {
            id,
            ticket,
            prompt,
            most,
            made: 0,
            on_full,
            pending: None,
            drafts: Vec::new(),
            cached: 0,
            expects: false,
            stores,
            restores: true,
        }
    }

    /// Tokens that it may still make.
    pub(super) fn left(&self) -> usize {
        self.most - self.made
    }
}

impl Sequence {
    pub(super) fn job(&self) -> Option<&Job> {
        self.job.as_ref()
    }

    pub(super) fn job_mut(&mut self) -> Option<&mut Job> {
        self.job.as_mut()
    }

    pub(super) fn start(&mut self, job: Job, now: u64) {
        self.job = Some(job);
        self.last_use = now;
    }

    pub(super) fn stop(&mut self, now: u64) -> Option<Job> {
        self.last_use = now;
        self.job.take()
    }

    /// Whether it holds cells and no generation.
    pub(super) fn is_idle(&self) -> bool {
        self.job.is_none() && !self.tokens.is_empty()
    }

    /// Whether it has neither cells nor a generation.
    pub(super) fn is_empty(&self) -> bool {
        self.job.is_none() && self.tokens.is_empty()
    }

    /// Whether it writes.
    pub(super) fn is_writing(&self) -> bool {
        self.job().is_some_and(|job| job.pending.is_some())
    }

    /// Tokens of the prompt that are still to be read.
    pub(super) fn to_read(&self) -> usize {
        match &self.job {
            Some(job) if job.pending.is_none() => job.prompt.len() - self.tokens.len(),
            Some(_) | None => 0,
        }
    }

    pub(super) fn push(&mut self, token: Token, cells: &mut Cells) {
        self.tokens.push(token);
        self.cells.push(cells.take());
    }

    /// Lets go of everything from position `len` on.
    pub(super) fn truncate(&mut self, len: usize, cells: &mut Cells) {
        self.tokens.truncate(len);
        cells.release(self.cells.drain(len.min(self.cells.len())..));
        if len == 0 {
            self.shifted = false;
        }
    }

    /// Appends its text so far, with the token chosen last.
    pub(super) fn append_text(&self, out: &mut Vec<Token>) {
        out.extend_from_slice(&self.tokens);
        out.extend(self.job().and_then(|job| job.pending));
    }

    /// How many cells a prompt can take over. Never all of the prompt: its last token must be read, for
    /// the first token of the completion is chosen after it.
    pub(super) fn common_prefix(&self, prompt: &[Token], adapters: Adapters) -> usize {
        if self.shifted || self.adapters != adapters {
            return 0;
        }
        common(&self.tokens, &prompt[..prompt.len() - 1])
    }

    /// Whether the first `len` tokens lie in the same cells as those of another sequence.
    pub(super) fn shares(&self, other: &Self, len: usize) -> bool {
        let last = len.checked_sub(1);
        last.is_none_or(|last| {
            self.cells.get(last).is_some_and(|cell| other.cells.get(last) == Some(cell))
        })
    }
}

/// Length of the common beginning.
pub(super) fn common(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
