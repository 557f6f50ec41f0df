//! One sequence of the cache and the generation that runs in it.

use crate::engine::scheduler::Token;
use crate::engine::scheduler::queue::Waiting;

/// A sequence: its cells, and its generation while it has one.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The tokens of its cells, from position 0.
    pub(super) tokens: Vec<Token>,
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
    /// The token chosen last, to be decoded next; absent while the prompt is being read.
    pub(super) pending: Option<Token>,
}

impl Job {
    pub(super) fn new(waiting: Waiting, room: usize) -> Self {
        let most = waiting.most.min(room);
        let Waiting { id, ticket, prompt, .. } = waiting;
        Self { id, ticket, prompt, most, made: 0, pending: None }
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

    pub(super) fn stop(&mut self, now: u64) {
        self.job = None;
        self.last_use = now;
    }

    /// Tokens of the prompt that are still to be read.
    pub(super) fn to_read(&self) -> usize {
        match &self.job {
            Some(job) if job.pending.is_none() => job.prompt.len() - self.tokens.len(),
            Some(_) | None => 0,
        }
    }

    /// How many cells a prompt can take over. Never all of the prompt: its last token must be read, for
    /// the first token of the completion is chosen after it.
    pub(super) fn common_prefix(&self, prompt: &[Token]) -> usize {
        let most = prompt.len() - 1;
        self.tokens.iter().zip(&prompt[..most]).take_while(|(a, b)| a == b).count()
    }
}
