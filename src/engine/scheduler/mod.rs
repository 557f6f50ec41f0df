//! Decides which tokens go into the next decode step, and which sequence a generation gets.
//!
//! Pure: no clock, thread, channel or model; durations are handed in. Owned by the decode thread.
//!
//! Between two steps the caller does what [`Scheduler::next_move`] says to the cache, admits what
//! [`Scheduler::admit`] gives it, and decodes what [`Scheduler::plan`] planned.
//!
//! Guarantees, held by the properties in `props`: a batch never exceeds [`Limits::batch`] and has one
//! set of adapters; a sequence runs one generation; generations start in order, except that one whose
//! prompt begins with what the cache holds may overtake, and nobody is overtaken more than
//! [`queue::MOST_OVERTAKEN`] times; a cancelled generation is in no later batch; each generation ends
//! exactly once; the cells of a sequence are exactly the prompt and the completion, in order, whichever
//! of them it shares with others; what leaves the context is no running sequence.

mod admission;
mod cells;
pub mod cost;
mod failure;
pub mod host;
mod moves;
pub mod queue;
mod sequence;

#[cfg(test)]
mod props;

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::scheduler::cells::Cells;
use crate::engine::scheduler::cost::Costs;
use crate::engine::scheduler::host::HostCache;
use crate::engine::scheduler::moves::Saving;
use crate::engine::scheduler::queue::Queue;
use crate::engine::scheduler::sequence::{Job, Sequence};

pub use crate::engine::scheduler::admission::{Admitted, Cancelled, Left};
pub use crate::engine::scheduler::failure::NoRoom;
pub use crate::engine::scheduler::moves::{Move, Restored};
pub use crate::engine::scheduler::queue::Waiting;

/// A token of the model's vocabulary.
pub type Token = i32;
/// Number of a sequence: 0 to [`Limits::sequences`] − 1.
pub type SeqIdx = usize;

/// Ended generations whose texts are remembered, for whoever saves what they left.
const REMEMBERED: usize = 64;

/// Batches that a set of adapters has in turn while others wait: a change costs llama.cpp some time.
const BATCHES_IN_TURN: u32 = 8;

/// Names a set of adapters that a generation's cells are computed with; 0 is the model as it is.
pub type Adapters = u32;

/// Sizes that never change while a model is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Generations that run at the same time; at least 1 and at most `batch`.
    pub running: usize,
    /// Sequences, `running` at least; the others keep the cells of earlier chats.
    pub sequences: usize,
    /// Most tokens of one decode step.
    pub batch: usize,
    /// Most tokens of one step after which one is chosen; `running` at least.
    pub outputs: usize,
    /// Cells of one sequence: prompt and completion together.
    pub ctx_size: usize,
    /// Cells of the cache, `ctx_size` at least.
    pub cells: usize,
    /// Most cells that only idle sequences hold while others run: idle cells slow every step down.
    pub idle_cells: usize,
    /// Bytes of host memory for chats that left the cache; 0 turns that off.
    pub host_bytes: usize,
    /// What can be done to a sequence in the cache.
    pub cutting: Cutting,
}

/// What happens when a generation has used all cells of its sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// It ends.
    #[default]
    End,
    /// The first `keep` tokens stay, of the others the older half goes.
    Shift {
        /// Tokens at the beginning that stay.
        keep: usize,
    },
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

/// The scheduler. See the module's guarantees.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    sequences: Vec<Sequence>,
    cells: Cells,
    queue: Queue,
    host: HostCache,
    costs: Costs,
    /// Counts admissions and ends, to know which idle sequence was used last.
    uses: u64,
    /// Upper bound of a batch while the cache is short of room.
    narrow: Option<usize>,
    /// Moves that are decided on, in order.
    moves: VecDeque<Move>,
    saving: Option<Saving>,
    /// What the last generations left: id, text, adapters.
    left: VecDeque<(u64, Vec<Token>, Adapters)>,
    /// Idle sequences whose chats are to be written to the disk.
    to_store: VecDeque<SeqIdx>,
    /// A state went in or out since the last step.
    moved_state: bool,
    /// A step found no room: idle sequences must go.
    short_of_cells: bool,
    /// Cells that only idle sequences hold, while that is known.
    idle: Option<usize>,
    /// The set of adapters of the last batch, and how many batches it had in turn.
    adapters: Adapters,
    batches_in_turn: u32,
    batch: Vec<Entry>,
    outcomes: Vec<Outcome>,
}

impl Scheduler {
    /// A scheduler with empty sequences. `costs` says how long a step may last.
    pub fn new(limits: Limits, costs: Costs) -> Self {
        let outputs = limits.outputs.max(limits.running);
        let batch = limits.batch.max(outputs);
        let sequences = limits.sequences.max(limits.running);
        let cells = limits.cells.max(limits.ctx_size);
        Self {
            limits: Limits { sequences, batch, outputs, cells, ..limits },
            sequences: (0..sequences).map(|_| Sequence::default()).collect(),
            cells: Cells::default(),
            queue: Queue::default(),
            host: HostCache::new(limits.host_bytes),
            costs,
            uses: 0,
            narrow: None,
            moves: VecDeque::new(),
            saving: None,
            left: VecDeque::new(),
            to_store: VecDeque::new(),
            moved_state: false,
            short_of_cells: false,
            idle: None,
            adapters: 0,
            batches_in_turn: 0,
            batch: Vec::with_capacity(batch),
            outcomes: Vec::new(),
        }
    }

    /// The next decode step: one token for each writing sequence, then pieces of prompts as far as the
    /// time of the step allows. Empty when nothing runs. Changes nothing until [`Scheduler::advance`].
    pub fn plan(&mut self) -> &[Entry] {
        self.batch.clear();
        self.moved_state = false;
        let Some(adapters) = self.next_adapters() else { return &self.batch };
        self.batches_in_turn = if adapters == self.adapters { self.batches_in_turn + 1 } else { 1 };
        self.adapters = adapters;
        for (seq, sequence) in self.sequences.iter().enumerate() {
            let job = sequence.job().filter(|_| sequence.adapters == adapters);
            let Some((job, pending)) = job.and_then(|job| Some((job, job.pending?))) else {
                continue;
            };
            let tokens = std::iter::once(&pending).chain(&job.drafts);
            for (position, token) in (sequence.tokens.len()..).zip(tokens) {
                self.batch.push(Entry { token: *token, position, seq, wants_logits: true });
            }
        }
        let writing = self.batch.len();
        let most =
            self.narrow.unwrap_or(self.limits.batch).clamp(writing.max(1), self.limits.batch);
        let readers = self.sequences.iter().filter(|s| reads(s, adapters)).count();
        if readers > 0 {
            let room = self.costs.chunk(writing, most).min(most - writing);
            self.plan_reading(room, readers);
        }
        &self.batch
    }

    /// The set of adapters that is next: one batch has one set, and the sets take turns.
    fn next_adapters(&self) -> Option<Adapters> {
        let ready = || self.sequences.iter().filter(|s| s.is_writing() || reads(s, s.adapters));
        if self.batches_in_turn < BATCHES_IN_TURN && ready().any(|s| s.adapters == self.adapters) {
            return Some(self.adapters);
        }
        let turn = |sequence: &&Sequence| sequence.adapters.wrapping_sub(self.adapters + 1);
        ready().min_by_key(turn).map(|sequence| sequence.adapters)
    }

    /// Shares `room` between the prompts that are being read: equal parts, and what a short prompt
    /// leaves goes to the longer ones.
    fn plan_reading(&mut self, mut room: usize, mut readers: usize) {
        let mut order: Vec<SeqIdx> = (0..self.sequences.len())
            .filter(|&seq| reads(&self.sequences[seq], self.adapters))
            .collect();
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
            sequence.push(entry.token, &mut self.cells);
            writing += usize::from(sequence.job().is_some_and(|job| job.pending.is_some()));
        }
        self.costs.observe(writing, self.batch.len() - writing, took);
        self.report_reading();
        for taken in samples.chunk_by(|a, b| a.seq == b.seq) {
            self.drop_wrong_drafts(taken[0].seq, taken.len());
        }
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

    /// Takes the drafts out of a sequence behind the `taken` tokens that were chosen after them.
    fn drop_wrong_drafts(&mut self, seq: SeqIdx, taken: usize) {
        let Self { sequences, cells, .. } = self;
        let sequence = &mut sequences[seq];
        let drafts = sequence.job_mut().map_or(0, |job| std::mem::take(&mut job.drafts).len());
        let wrong = (drafts + 1).saturating_sub(taken);
        if drafts > 0 && wrong > 0 {
            let right = sequence.tokens.len() - wrong;
            sequence.truncate(right, cells);
            self.moves.push_back(Move::Cut(seq, right));
        }
    }

    /// How many drafts a sequence may have beside those of the others; `None` when it may have none.
    pub fn may_draft(&self, seq: SeqIdx) -> Option<usize> {
        let sequence = &self.sequences[seq];
        let job = sequence.job().filter(|job| job.pending.is_some() && job.drafts.is_empty())?;
        let drafted: usize =
            self.sequences.iter().filter_map(|s| s.job()).map(|job| job.drafts.len()).sum();
        let room = self.limits.ctx_size.saturating_sub(sequence.tokens.len() + 1);
        let spare = self.limits.outputs.saturating_sub(self.limits.running + drafted);
        let most = spare.min(room).min(job.left().saturating_sub(1));
        (most > 0 && self.limits.cutting == Cutting::Anywhere).then_some(most)
    }

    /// Appends the text of a sequence so far, with the token chosen last.
    pub fn append_text(&self, seq: SeqIdx, out: &mut Vec<Token>) {
        self.sequences[seq].append_text(out);
    }

    /// Has the next step check a guess of what a sequence says next.
    pub fn draft(&mut self, seq: SeqIdx, tokens: Vec<Token>) {
        let most = self.may_draft(seq).unwrap_or(0);
        debug_assert!(tokens.len() <= most);
        if let Some(job) = self.sequences[seq].job_mut().filter(|_| tokens.len() <= most) {
            job.drafts = tokens;
        }
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

    /// The set of adapters of the planned batch.
    pub fn adapters(&self) -> Adapters {
        self.adapters
    }

    /// Tokens of the prompt in a sequence that came from the cache.
    pub fn cached(&self, seq: SeqIdx) -> usize {
        self.sequences[seq].job().map_or(0, |job| job.cached)
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

    /// Cells that sequences hold, and bytes of host memory for chats that left.
    pub fn kept(&self) -> (usize, usize) {
        (self.cells.taken(), self.host.bytes())
    }

    /// Makes a sequence idle.
    fn finish(&mut self, seq: SeqIdx) -> Option<Job> {
        self.uses += 1;
        self.idle = None;
        let job = self.sequences[seq].stop(self.uses);
        if job.as_ref().is_some_and(|job| job.stores) && !self.host.is_off() {
            self.to_store.push_back(seq);
        }
        let sequence = &self.sequences[seq];
        if let Some(job) = job.as_ref().filter(|_| !sequence.shifted && !sequence.tokens.is_empty())
        {
            if self.left.len() >= REMEMBERED {
                self.left.pop_front();
            }
            self.left.push_back((job.id, sequence.tokens.clone(), sequence.adapters));
        }
        if self.sequences[seq].shifted {
            // Nobody can go on from cells that were moved.
            self.sequences[seq].truncate(0, &mut self.cells);
            self.moves.push_back(Move::Cut(seq, 0));
        }
        job
    }
}

/// Whether a sequence has something to read now, with these adapters.
fn reads(sequence: &Sequence, adapters: Adapters) -> bool {
    sequence.adapters == adapters
        && sequence.to_read() > 0
        && sequence.job().is_some_and(|job| !job.expects)
}
