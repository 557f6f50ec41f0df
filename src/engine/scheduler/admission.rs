//! Generations come in, get a sequence, and are cancelled.

use crate::engine::scheduler::host::StoredBlock;
use crate::engine::scheduler::queue::Chosen;
use crate::engine::scheduler::{
    Adapters, Cutting, Job, Limits, Move, Scheduler, SeqIdx, Sequence, Token, Waiting,
};

/// Cells that a generation must find for its completion before it starts, or as many as it may make.
const RESERVE: usize = 256;

/// A generation got a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The generation.
    pub id: u64,
    /// Its sequence.
    pub seq: SeqIdx,
    /// Tokens of its prompt that are in the cache or in the host's memory.
    pub cached: usize,
    /// Tokens of its prompt.
    pub prompt: usize,
}

/// What an ended generation left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// What it read and wrote.
    pub tokens: Vec<Token>,
    /// What that was computed with.
    pub adapters: Adapters,
    /// A sequence that holds all of it, if one does.
    pub seq: Option<SeqIdx>,
}

/// Where a cancelled generation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// Not admitted yet, or moved out for want of room.
    Waiting,
    /// In this sequence, which is free now.
    Running(SeqIdx),
}

impl Scheduler {
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

    /// Gives a free sequence to a waiting generation; ask again until it returns `None`. The moves that
    /// belong to it come from [`Scheduler::next_move`].
    pub fn admit(&mut self) -> Option<Admitted> {
        if self.running() >= self.limits.running || self.must_make_way() {
            return None;
        }
        let chosen = self.queue.choose(&self.sequences, self.limits.cutting)?;
        let leaves_first = chosen.drops && !self.host.is_off() && self.is_writing();
        if leaves_first || !self.has_room(chosen) {
            return None;
        }
        let waiting = self.queue.take(chosen.place);
        self.uses += 1;
        self.idle = None;
        let Self { sequences, cells, .. } = self;
        let sequence = &mut sequences[chosen.seq];
        if sequence.tokens.len() > chosen.keep {
            sequence.truncate(chosen.keep, cells);
            self.moves.push_back(Move::Cut(chosen.seq, chosen.keep));
        }
        let sequence = &mut self.sequences[chosen.seq];
        sequence.adapters = waiting.adapters;
        let (id, prompt) = (waiting.id, waiting.prompt.len());
        let known = self.known_prefix(&waiting.prompt, waiting.adapters);
        let mut job = Job::new(waiting, self.limits.ctx_size);
        job.cached = chosen.keep;
        self.sequences[chosen.seq].start(job, self.uses);
        if let Some((from, end)) = chosen.share {
            self.share(from, chosen.seq, chosen.keep..end);
            self.moves.push_back(Move::Share(from, chosen.seq, chosen.keep..end));
        }
        Some(Admitted { id, seq: chosen.seq, cached: chosen.cached().max(known), prompt })
    }

    /// What an ended generation left, if it was one of the last.
    pub fn left_by(&self, id: u64) -> Option<Left> {
        let (_, tokens, adapters) = self.left.iter().rev().find(|(left, ..)| *left == id)?;
        let holds = |seq: &SeqIdx| {
            let sequence = &self.sequences[*seq];
            !sequence.shifted
                && sequence.adapters == *adapters
                && sequence.tokens.starts_with(tokens)
        };
        let seq = (0..self.sequences.len()).find(holds);
        Some(Left { tokens: tokens.clone(), adapters: *adapters, seq })
    }

    /// The blocks of a text in the host's memory.
    pub fn blocks(&self, tokens: &[Token], adapters: Adapters) -> Vec<StoredBlock> {
        self.host.blocks(tokens, adapters)
    }

    /// Puts a generation back that had to make room; it goes on from its last token.
    pub(super) fn put_back(&mut self, seq: SeqIdx, job: &Job) {
        let mut prompt = self.sequences[seq].tokens.clone();
        if job.pending.is_none() {
            prompt.clone_from(&job.prompt);
        }
        prompt.extend(job.pending);
        self.queue.insert(Waiting {
            id: job.id,
            ticket: job.ticket,
            most: job.left(),
            adapters: self.sequences[seq].adapters,
            on_full: job.on_full,
            stores: job.stores,
            prompt,
        });
    }

    /// Reports that the cache refused to cut a sequence: it was emptied instead and is read from its
    /// beginning, and from now on sequences are only reused where nothing must be cut.
    pub fn reread(&mut self, seq: SeqIdx) {
        self.sequences[seq].truncate(0, &mut self.cells);
        if let Some(job) = self.sequences[seq].job_mut() {
            job.cached = 0;
        }
        self.moves.retain(|next| !matches!(next, Move::Share(_, to, _) if *to == seq));
        self.limits.cutting = Cutting::WholeOnly;
    }

    /// Whether an idle sequence is to leave before the next generation can have one.
    fn must_make_way(&self) -> bool {
        let some_idle = self.sequences.iter().any(Sequence::is_idle);
        !self.moves.is_empty()
            || (self.saving.is_some() && some_idle)
            || (self.short_of_cells && some_idle)
    }

    /// Whether a generation fits beside those that run, once idle sequences have gone.
    fn has_room(&self, chosen: Chosen) -> bool {
        let waiting = self.queue.waiting(chosen.place);
        let running: Vec<&Sequence> = self.sequences.iter().filter(|s| s.job().is_some()).collect();
        if running.is_empty() {
            return true;
        }
        let Limits { cells, ctx_size, .. } = self.limits;
        let held = self.cells.count(running.iter().flat_map(|sequence| &sequence.cells));
        let to_come: usize = running
            .iter()
            .filter_map(|sequence| {
                let job = sequence.job()?;
                let end = sequence.to_read() + job.left().min(RESERVE);
                Some(end.min(ctx_size - sequence.tokens.len().min(ctx_size)))
            })
            .sum();
        let end = (waiting.prompt.len() + waiting.most.min(RESERVE)).min(ctx_size);
        // What is shared with a running sequence is counted there already.
        let from_running = chosen.share.filter(|(from, _)| self.sequences[*from].job().is_some());
        let shared = from_running.map_or(0, |(_, end)| end);
        held + to_come + end - shared.min(end) <= cells
    }
}
