//! Decides which tokens go into the next decode step, and which sequence a generation gets.
//!
//! Pure: no clock, thread, channel or model; durations are handed in. Owned by the decode thread.
//!
//! Guarantees, held by the properties in `props.rs`: a batch never exceeds [`Limits::batch`]; a sequence
//! runs one generation; generations start in order, except that one whose prompt begins with what a free
//! sequence holds may overtake, and nobody is overtaken more than [`queue::MOST_OVERTAKEN`] times; a
//! cancelled generation is in no later batch; each generation ends exactly once; the cells of a sequence
//! are exactly the prompt and the completion, in order.

pub mod cost;
mod failure;
pub mod queue;
mod sequence;

#[cfg(test)]
mod props;

use std::time::Duration;

use crate::engine::scheduler::cost::Costs;
use crate::engine::scheduler::queue::Queue;
use crate::engine::scheduler::sequence::{Job, Sequence};

pub use crate::engine::scheduler::failure::NoRoom;
pub use crate::engine::scheduler::queue::Waiting;

/// A token of the model's vocabulary.
pub type Token = i32;
/// Number of a sequence: 0 to [`Limits::sequences`] − 1.
pub type SeqIdx = usize;

/// Sizes that never change while a model is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sequences; at least 1 and at most `batch`.
    pub sequences: usize,
    /// Most tokens of one decode step.
    pub batch: usize,
    /// Cells of one sequence: prompt and completion together.
    pub ctx_size: usize,
    /// Most cells that idle sequences may keep together; the one used last may always stay.
    pub idle_cells: usize,
    /// What can be done to a sequence in the cache.
    pub cutting: Cutting,
}

/// Whether the end of a sequence can be taken out of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cutting {
    /// Anywhere.
    Anywhere,
    /// Only as a whole: recurrent and hybrid models.
    WholeOnly,
}

/// One token of a decode step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What to decode.
    pub token: Token,
    /// Its position in the sequence, from 0.
    pub position: usize,
    /// Its sequence.
    pub seq: SeqIdx,
    /// Whether the next token is to be chosen after it.
    pub wants_logits: bool,
}

/// A generation got a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The generation.
    pub id: u64,
    /// Its sequence.
    pub seq: SeqIdx,
    /// Cells that stay; everything from this position on must go out of the cache before the next step.
    pub cached: usize,
    /// Whether anything is there to take out.
    pub cut: Cut,
    /// Tokens of its prompt.
    pub prompt: usize,
}

/// Whether cells must go out of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing lies behind the kept cells.
    Nothing,
    /// What lies behind them goes.
    Rest,
}

/// The token chosen for an entry that wanted logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// The entry's sequence.
    pub seq: SeqIdx,
    /// What was chosen.
    pub token: Token,
    /// Whether the text ends with it.
    pub verdict: Verdict,
}

/// What the caller made of a chosen token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The completion goes on, if there is room.
    GoesOn,
    /// It ends here: end token, stop string, failure.
    Ends,
}

/// What a step meant for one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Part of a prompt was read: tokens so far, cached ones included, of all.
    Reading(SeqIdx, usize, usize),
    /// It ended as the caller's [`Verdict::Ends`] said.
    Ended(SeqIdx),
    /// It ended because it may not make more tokens.
    Limit(SeqIdx),
}

/// Where a cancelled generation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// Not admitted yet.
    Waiting,
    /// In this sequence, which is free now.
    Running(SeqIdx),
}

/// The scheduler. See the module's guarantees.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    sequences: Vec<Sequence>,
    queue: Queue,
    costs: Costs,
    /// Counts admissions and ends, to know which idle sequence was used last.
    uses: u64,
    /// Upper bound of a batch while the cache is short of room.
    narrow: Option<usize>,
    batch: Vec<Entry>,
    outcomes: Vec<Outcome>,
}

impl Scheduler {
    /// A scheduler with empty sequences.
    pub fn new(limits: Limits) -> Self {
        let batch = limits.batch.max(limits.sequences);
        Self {
            limits: Limits { batch, ..limits },
            sequences: (0..limits.sequences).map(|_| Sequence::default()).collect(),
            queue: Queue::default(),
            costs: Costs::default(),
            uses: 0,
            narrow: None,
            batch: Vec::with_capacity(batch),
            outcomes: Vec::new(),
        }
    }

    /// Takes a generation into the queue, behind all whose ticket is lower.
    ///
    /// Its prompt must have 1 to `ctx_size` − 1 tokens and it must be allowed to make at least one.
    pub fn submit(&mut self, waiting: Waiting) {
        debug_assert!(!waiting.prompt.is_empty() && waiting.prompt.len() < self.limits.ctx_size);
        debug_assert!(waiting.most >= 1);
        self.queue.insert(waiting);
    }

    /// Ends a generation wherever it is; its sequence is free at once and keeps its cells as cache.
    pub fn cancel(&mut self, id: u64) -> Option<Cancelled> {
        if self.queue.remove(id) {
            return Some(Cancelled::Waiting);
        }
        let seq = self.sequences.iter().position(|s| s.job().is_some_and(|job| job.id == id))?;
        self.finish(seq);
        Some(Cancelled::Running(seq))
    }

    /// Gives a free sequence to a waiting generation; ask again until it returns `None`.
    pub fn admit(&mut self) -> Option<Admitted> {
        let chosen = self.queue.choose(&self.sequences, self.limits.cutting)?;
        let waiting = self.queue.take(chosen.place);
        self.uses += 1;
        let room = self.limits.ctx_size - waiting.prompt.len();
        let sequence = &mut self.sequences[chosen.seq];
        let cut = if sequence.tokens.len() > chosen.cached { Cut::Rest } else { Cut::Nothing };
        let admitted = Admitted {
            id: waiting.id,
            seq: chosen.seq,
            cached: chosen.cached,
            cut,
            prompt: waiting.prompt.len(),
        };
        sequence.tokens.truncate(chosen.cached);
        sequence.start(Job::new(waiting, room), self.uses);
        Some(admitted)
    }

    /// Reports that the cache refused to cut a sequence: it was emptied instead and is read from its
    /// beginning, and from now on sequences are only reused where nothing must be cut.
    pub fn reread(&mut self, seq: SeqIdx) {
        self.sequences[seq].tokens.clear();
        self.limits.cutting = Cutting::WholeOnly;
    }

    /// An idle sequence whose cells are too many, if there is one; the caller takes it out of the cache.
    pub fn trim(&mut self) -> Option<SeqIdx> {
        let idle = |s: &&Sequence| s.job().is_none() && !s.tokens.is_empty();
        let cells: usize = self.sequences.iter().filter(idle).map(|s| s.tokens.len()).sum();
        if cells <= self.limits.idle_cells || self.sequences.iter().filter(idle).count() < 2 {
            return None;
        }
        let oldest = (0..self.sequences.len())
            .filter(|&seq| idle(&&self.sequences[seq]))
            .min_by_key(|&seq| self.sequences[seq].last_use)?;
        self.sequences[oldest].tokens.clear();
        Some(oldest)
    }

    /// The next decode step: one token for each writing sequence, then pieces of prompts as far as the
    /// time of the step allows. Empty when nothing runs. Changes nothing until [`Scheduler::advance`].
    pub fn plan(&mut self) -> &[Entry] {
        self.batch.clear();
        for (seq, sequence) in self.sequences.iter().enumerate() {
            if let Some(token) = sequence.job().and_then(|job| job.pending) {
                let position = sequence.tokens.len();
                self.batch.push(Entry { token, position, seq, wants_logits: true });
            }
        }
        let writing = self.batch.len();
        let most =
            self.narrow.unwrap_or(self.limits.batch).clamp(writing.max(1), self.limits.batch);
        let readers = self.sequences.iter().filter(|s| s.to_read() > 0).count();
        if readers > 0 {
            let room = self.costs.chunk(writing, most).min(most - writing);
            self.plan_reading(room, readers);
        }
        &self.batch
    }

    /// Shares `room` between the prompts that are being read: equal parts, and what a short prompt
    /// leaves goes to the longer ones.
    fn plan_reading(&mut self, mut room: usize, mut readers: usize) {
        let mut order: Vec<SeqIdx> =
            (0..self.sequences.len()).filter(|&seq| self.sequences[seq].to_read() > 0).collect();
        order.sort_by_key(|&seq| self.sequences[seq].to_read());
        for seq in order {
            let sequence = &self.sequences[seq];
            let Some(job) = sequence.job() else { continue };
            let share = room.div_ceil(readers).min(sequence.to_read());
            let from = sequence.tokens.len();
            for position in from..from + share {
                let wants_logits = position + 1 == job.prompt.len();
                let token = job.prompt[position];
                self.batch.push(Entry { token, position, seq, wants_logits });
            }
            room -= share;
            readers -= 1;
        }
    }

    /// The planned batch, as [`Scheduler::plan`] returned it.
    pub fn batch(&self) -> &[Entry] {
        &self.batch
    }

    /// The sequences of the planned batch, and how many cells each had before it.
    pub fn in_batch(&self) -> impl Iterator<Item = (SeqIdx, usize)> {
        self.batch.chunk_by(|a, b| a.seq == b.seq).map(|run| (run[0].seq, run[0].position))
    }

    /// Takes over a decoded step: `samples` has one token for each entry that wanted logits, in the
    /// order of the batch, and `took` is how long decoding lasted.
    pub fn advance(&mut self, samples: &[Sampled], took: Duration) -> &[Outcome] {
        self.outcomes.clear();
        self.narrow = None;
        let mut writing = 0;
        for entry in &self.batch {
            let sequence = &mut self.sequences[entry.seq];
            sequence.tokens.push(entry.token);
            writing += usize::from(sequence.job().is_some_and(|job| job.pending.is_some()));
        }
        self.costs.observe(writing, self.batch.len() - writing, took);
        self.report_reading();
        for sampled in samples {
            let Some(job) = self.sequences[sampled.seq].job_mut() else { continue };
            job.made += 1;
            job.pending = Some(sampled.token);
            match sampled.verdict {
                Verdict::Ends => self.outcomes.push(Outcome::Ended(sampled.seq)),
                Verdict::GoesOn if job.made >= job.most => {
                    self.outcomes.push(Outcome::Limit(sampled.seq));
                }
                Verdict::GoesOn => continue,
            }
            self.finish(sampled.seq);
        }
        self.batch.clear();
        &self.outcomes
    }

    fn report_reading(&mut self) {
        let mut last = None;
        for entry in &self.batch {
            let sequence = &self.sequences[entry.seq];
            let Some(job) = sequence.job().filter(|job| job.pending.is_none()) else { continue };
            if last.replace(entry.seq) != Some(entry.seq) {
                let read = sequence.tokens.len();
                self.outcomes.push(Outcome::Reading(entry.seq, read, job.prompt.len()));
            }
        }
    }

    /// One of the outcomes that the last [`Scheduler::advance`] returned.
    pub fn outcome(&self, at: usize) -> Outcome {
        self.outcomes[at]
    }

    /// The prompt of the generation in a sequence; empty when it is free.
    pub fn prompt(&self, seq: SeqIdx) -> &[Token] {
        self.sequences[seq].job().map_or(&[], |job| &job.prompt)
    }

    /// Sequences that read or write.
    pub fn running(&self) -> usize {
        self.sequences.iter().filter(|s| s.job().is_some()).count()
    }

    /// Generations without a sequence.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Makes a sequence idle.
    fn finish(&mut self, seq: SeqIdx) {
        self.uses += 1;
        self.sequences[seq].stop(self.uses);
    }
}
