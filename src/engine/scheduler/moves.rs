//! What is done to the cache between two steps: prefixes are shared, idle chats leave, cached ones return.

use std::ops::Range;

use crate::engine::scheduler::host::{BLOCK, Found, StoredBlock, WORTH_MOVING};
use crate::engine::scheduler::sequence::{Sequence, common};
use crate::engine::scheduler::{Adapters, Cutting, OnFull, Scheduler, SeqIdx, Token};

/// One thing to be done to the cache. The scheduler counts it as done when it hands it out; what can
/// fail is reported back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// Take everything from this position on out of a sequence. Answered by [`Scheduler::reread`] when
    /// the model cannot do that.
    Cut(SeqIdx, usize),
    /// Let the second sequence hold these cells of the first one too.
    Share(SeqIdx, SeqIdx, Range<usize>),
    /// Read the state of these cells out of a sequence; answered by [`Scheduler::saved`].
    Save(SeqIdx, Range<usize>),
    /// Put a state back: it holds the first range, of which the second goes to the sequence. Answered by
    /// [`Scheduler::not_restored`] when that does not work.
    Restore(SeqIdx, Restored),
    /// Give a sequence cells of its own in place of those that it shares; answered by
    /// [`Scheduler::not_owned`] when that does not work.
    Own(SeqIdx),
    /// Take a range out of a sequence and close the gap.
    Shift(SeqIdx, Range<usize>),
    /// Write a block to the disk, if it is worth that.
    Store(Box<StoredBlock>),
}

/// A state that returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    block: usize,
    /// The part that the sequence gets.
    pub range: Range<usize>,
}

/// A cell range on its way to the host's memory.
#[derive(Debug)]
pub(super) struct Saving {
    tokens: Vec<Token>,
    adapters: Adapters,
    seq: SeqIdx,
}

impl Scheduler {
    /// The next thing to be done before a step; `None` when the step can be planned.
    pub fn next_move(&mut self) -> Option<Move> {
        if let Some(ready) = self.moves.pop_front() {
            return Some(ready);
        }
        self.next_shift()
            .or_else(|| self.next_eviction())
            .or_else(|| self.next_store())
            .or_else(|| self.next_prefix())
    }

    /// Takes over what [`Move::Save`] read; `None` when it could not be read.
    pub fn saved(&mut self, state: Option<Vec<u8>>) {
        let Some(Saving { tokens, adapters, seq }) = self.saving.take() else { return };
        let kept = state.is_some_and(|state| self.host.add(&tokens, adapters, state));
        if kept {
            return;
        }
        self.to_store.retain(|stores| *stores != seq);
        if self.sequences[seq].is_idle() {
            // It leaves without its state then.
            self.drop_idle(seq);
            self.moves.push_back(Move::Cut(seq, 0));
        }
    }

    /// Takes over a block that was on disk.
    pub fn take_stored(&mut self, block: StoredBlock) {
        self.host.take_stored(block);
    }

    /// The next step of writing ended chats to the disk: their whole blocks, by way of the host's memory.
    fn next_store(&mut self) -> Option<Move> {
        while let Some(seq) = self.to_store.front().copied() {
            let sequence = &self.sequences[seq];
            let whole = sequence.tokens.len() / BLOCK * BLOCK;
            if !sequence.is_idle() || self.saving.is_some() {
                self.to_store.pop_front();
                continue;
            }
            let tokens = sequence.tokens[..whole].to_vec();
            let adapters = sequence.adapters;
            if let Some(block) = self.host.store_next(&tokens, adapters) {
                return Some(Move::Store(Box::new(block)));
            }
            let Some((start, end)) = self.host.missing(&tokens, adapters) else {
                self.to_store.pop_front();
                continue;
            };
            if self.moved_state && self.is_writing() {
                return None;
            }
            self.moved_state = true;
            self.saving = Some(Saving { tokens: tokens[..end].to_vec(), adapters, seq });
            return Some(Move::Save(seq, start..end));
        }
        None
    }

    /// The state for a [`Move::Restore`].
    pub fn state(&self, restored: &Restored) -> &[u8] {
        self.host.state(restored.block)
    }

    /// Reports that a state could not be put back; its generation reads all the rest.
    pub fn not_restored(&mut self, seq: SeqIdx, restored: &Restored) {
        self.sequences[seq].truncate(restored.range.start, &mut self.cells);
        if let Some(job) = self.sequences[seq].job_mut() {
            job.cached = job.cached.saturating_sub(restored.range.len());
            job.restores = false;
        }
    }

    /// Reports that a sequence got no cells of its own: its generation is over, for the context is full.
    pub fn not_owned(&mut self, seq: SeqIdx) {
        self.moves.retain(|next| !matches!(next, Move::Shift(which, _) if *which == seq));
        self.finish(seq);
        self.sequences[seq].truncate(0, &mut self.cells);
        self.moves.push_back(Move::Cut(seq, 0));
    }

    /// How many tokens of a prompt need not be read, as far as is known now.
    pub(super) fn known_prefix(&self, prompt: &[Token], adapters: Adapters) -> usize {
        let most = &prompt[..prompt.len() - 1];
        let host = self.host.covered(most, adapters);
        if host >= WORTH_MOVING { host } else { 0 }
    }

    /// A full sequence whose generation asked for it drops the older half of what may go.
    fn next_shift(&mut self) -> Option<Move> {
        let full = |seq: &SeqIdx| {
            let sequence = &self.sequences[*seq];
            sequence.is_writing() && sequence.tokens.len() >= self.limits.ctx_size
        };
        let seq = (0..self.sequences.len()).find(full)?;
        let sequence = &mut self.sequences[seq];
        let OnFull::Shift { keep } = sequence.job()?.on_full else { return None };
        let keep = keep.min(self.limits.ctx_size / 2);
        let held_too = sequence.cells.iter().filter(|cell| self.cells.is_shared(**cell)).count();
        if held_too > self.limits.cells - self.cells.taken().min(self.limits.cells) {
            // Cells of its own need room, which idle sequences give if there are any.
            self.short_of_cells = self.sequences.iter().any(Sequence::is_idle);
            if self.short_of_cells {
                return None;
            }
        }
        let sequence = &mut self.sequences[seq];
        let gone = keep..keep + (sequence.tokens.len() - keep).div_ceil(2);
        let shared = sequence.cells[keep..].iter().any(|cell| self.cells.is_shared(*cell));
        if shared {
            // Moving shared cells would move them for the others too.
            let fresh = sequence.cells.iter().map(|_| self.cells.take()).collect();
            self.cells.release(std::mem::replace(&mut sequence.cells, fresh));
        }
        sequence.tokens.drain(gone.clone());
        self.cells.release(sequence.cells.drain(gone.clone()));
        sequence.shifted = true;
        if shared {
            self.moves.push_back(Move::Shift(seq, gone));
            return Some(Move::Own(seq));
        }
        Some(Move::Shift(seq, gone))
    }

    /// A step of moving the idle sequence that was used longest ago out of the context, if one must go.
    fn next_eviction(&mut self) -> Option<Move> {
        if self.saving.is_some() || !self.must_evict() {
            return None;
        }
        let idle = (0..self.sequences.len()).filter(|seq| self.sequences[*seq].is_idle());
        let oldest = idle.min_by_key(|seq| self.sequences[*seq].last_use)?;
        let sequence = &self.sequences[oldest];
        let keeps = !self.host.is_off()
            && !sequence.shifted
            && self.limits.cutting == Cutting::Anywhere
            && !self.is_elsewhere(oldest);
        let missing =
            if keeps { self.host.missing(&sequence.tokens, sequence.adapters) } else { None };
        let Some((start, end)) = missing else {
            self.drop_idle(oldest);
            return Some(Move::Cut(oldest, 0));
        };
        if self.moved_state && self.is_writing() && !self.short_of_cells {
            // One state a step: those who write must not wait for all of them.
            return None;
        }
        self.moved_state = true;
        let tokens = sequence.tokens[..end].to_vec();
        self.saving = Some(Saving { tokens, adapters: sequence.adapters, seq: oldest });
        Some(Move::Save(oldest, start..end))
    }

    fn must_evict(&mut self) -> bool {
        if !self.sequences.iter().any(Sequence::is_idle) {
            self.short_of_cells = false;
            return false;
        }
        if self.short_of_cells {
            return true;
        }
        let running = self.running();
        if running > 0 && self.idle_cells() > self.limits.idle_cells {
            return true;
        }
        let waits = !self.queue.is_empty() && running < self.limits.running;
        waits
            && self
                .queue
                .choose(&self.sequences, self.limits.cutting)
                .is_some_and(|chosen| chosen.drops)
    }

    /// Whether all but a few tokens of a sequence are the beginning of another one.
    fn is_elsewhere(&self, seq: SeqIdx) -> bool {
        let sequence = &self.sequences[seq];
        let own = sequence.tokens.len();
        self.sequences.iter().enumerate().any(|(other, holder)| {
            other != seq
                && !holder.shifted
                && holder.adapters == sequence.adapters
                && common(&holder.tokens, &sequence.tokens) + WORTH_MOVING > own
        })
    }

    /// Empties an idle sequence in the account.
    fn drop_idle(&mut self, seq: SeqIdx) {
        self.sequences[seq].truncate(0, &mut self.cells);
        self.idle = None;
        self.short_of_cells = false;
    }

    /// Cells that only idle sequences hold.
    fn idle_cells(&mut self) -> usize {
        if let Some(idle) = self.idle {
            return idle;
        }
        let busy = self.sequences.iter().filter(|s| s.job().is_some()).flat_map(|s| &s.cells);
        let idle = self.cells.taken() - self.cells.count(busy);
        self.idle = Some(idle);
        idle
    }

    /// What a reading sequence need not read: cells of another sequence, or a state from the host.
    fn next_prefix(&mut self) -> Option<Move> {
        if self.limits.cutting == Cutting::WholeOnly {
            return None;
        }
        let mut readers: Vec<(u64, SeqIdx)> = vec![];
        for (seq, sequence) in self.sequences.iter().enumerate() {
            if let Some(job) = sequence.job().filter(|_| sequence.to_read() > 0) {
                readers.push((job.ticket, seq));
            }
        }
        readers.sort_unstable();
        for (ticket, seq) in readers {
            if let Some((from, end)) = self.held_by_another(seq) {
                let range = self.sequences[seq].tokens.len()..end;
                self.share(from, seq, range.clone());
                return Some(Move::Share(from, seq, range));
            }
            let mut expects = self.is_read_by_another(seq, ticket);
            if !expects && let Some(found) = self.in_host(seq) {
                if !(self.moved_state && self.is_writing()) {
                    self.moved_state = true;
                    return Some(self.restore(seq, found));
                }
                expects = true;
            }
            if let Some(job) = self.sequences[seq].job_mut() {
                job.expects = expects;
            }
        }
        None
    }

    /// A sequence that holds what this one would read next, and how far.
    fn held_by_another(&self, seq: SeqIdx) -> Option<(SeqIdx, usize)> {
        let reader = &self.sequences[seq];
        let at = reader.tokens.len();
        let prompt = &reader.job()?.prompt;
        let rest = &prompt[at..prompt.len() - 1];
        self.sequences.iter().enumerate().find_map(|(other, holder)| {
            let may = other != seq
                && !holder.shifted
                && holder.tokens.len() >= at + WORTH_MOVING
                && holder.adapters == reader.adapters
                && reader.shares(holder, at);
            let common = if may { common(&holder.tokens[at..], rest) } else { 0 };
            (common >= WORTH_MOVING).then_some((other, at + common))
        })
    }

    /// Whether a sequence that came earlier is reading just what this one would read next.
    fn is_read_by_another(&self, seq: SeqIdx, ticket: u64) -> bool {
        let reader = &self.sequences[seq];
        let Some(job) = reader.job() else { return false };
        let at = reader.tokens.len();
        let next = |prompt: &'_ [Token]| prompt.len() > at + WORTH_MOVING;
        next(&job.prompt)
            && self.sequences.iter().enumerate().any(|(other, leader)| {
                let Some(leading) = leader.job() else { return false };
                other != seq
                    && leading.ticket < ticket
                    && leader.to_read() > 0
                    && leader.adapters == reader.adapters
                    && (at..at + WORTH_MOVING).contains(&leader.tokens.len())
                    && next(&leading.prompt)
                    && reader.shares(leader, at)
                    && leading.prompt[at..at + WORTH_MOVING] == job.prompt[at..at + WORTH_MOVING]
            })
    }

    fn in_host(&mut self, seq: SeqIdx) -> Option<Found> {
        let reader = &self.sequences[seq];
        let prompt = &reader.job().filter(|job| job.restores)?.prompt;
        self.host.find(&prompt[..prompt.len() - 1], reader.adapters, reader.tokens.len())
    }

    fn restore(&mut self, seq: SeqIdx, found: Found) -> Move {
        let Self { sequences, cells, .. } = self;
        let sequence = &mut sequences[seq];
        let at = sequence.tokens.len();
        let job = sequence.job.as_mut().expect("a reader has a generation");
        job.cached += found.end - at;
        sequence.tokens.extend_from_slice(&job.prompt[at..found.end]);
        sequence.cells.extend((at..found.end).map(|_| cells.take()));
        Move::Restore(seq, Restored { block: found.block, range: at..found.end })
    }

    /// Lets `to` hold a range of the cells of `from`, in the account.
    pub(super) fn share(&mut self, from: SeqIdx, to: SeqIdx, range: Range<usize>) {
        let tokens = self.sequences[from].tokens[range.clone()].to_vec();
        let cells = self.sequences[from].cells[range.clone()].to_vec();
        self.cells.share(&cells);
        let sequence = &mut self.sequences[to];
        sequence.tokens.extend(tokens);
        sequence.cells.extend(cells);
        if let Some(job) = sequence.job_mut() {
            job.cached += range.len();
        }
        self.idle = None;
    }

    pub(super) fn is_writing(&self) -> bool {
        self.sequences.iter().any(Sequence::is_writing)
    }
}
