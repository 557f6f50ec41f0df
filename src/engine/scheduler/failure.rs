//! What to do when a decode step fails.

use crate::engine::scheduler::{Scheduler, SeqIdx, Sequence};

/// What is given up because the cache had no room for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// An idle sequence: it leaves by the next moves.
    Idle,
    /// Width: the next batch is half as large, or checks no guesses.
    Narrower,
    /// The place of this sequence's generation, the youngest: it waits until there is room and goes on
    /// then. Its cells go by the next moves.
    PutBack(SeqIdx),
    /// The generation in this sequence, which ran alone and has all there is.
    Ends(SeqIdx),
    /// Nothing runs.
    Nothing,
}

impl Scheduler {
    /// Answers a step for which the cache had no room: idle sequences go first, then prompts are read
    /// in smaller pieces, then the youngest generation waits. No neighbour fails.
    pub fn no_room(&mut self) -> NoRoom {
        if self.sequences.iter().any(Sequence::is_idle) {
            self.short_of_cells = true;
            return NoRoom::Idle;
        }
        let mut drafted = false;
        for job in self.sequences.iter_mut().filter_map(Sequence::job_mut) {
            drafted |= !std::mem::take(&mut job.drafts).is_empty();
        }
        if drafted {
            return NoRoom::Narrower;
        }
        let planned = self.batch.len();
        let writing = self.batch.iter().filter(|e| self.sequences[e.seq].is_writing()).count();
        // With no writer a batch still needs one token, or nothing would ever be read.
        if planned > writing.max(1) {
            self.narrow = Some(planned / 2);
            return NoRoom::Narrower;
        }
        let running = self.running();
        let youngest = (0..self.sequences.len())
            .filter_map(|seq| self.sequences[seq].job().map(|job| (job.ticket, seq)))
            .max();
        let Some((_, seq)) = youngest else { return NoRoom::Nothing };
        self.narrow = None;
        let shifted = self.sequences[seq].shifted;
        let Some(job) = self.finish(seq) else { return NoRoom::Nothing };
        if running == 1 || shifted {
            return NoRoom::Ends(seq);
        }
        self.put_back(seq, &job);
        self.short_of_cells = true;
        NoRoom::PutBack(seq)
    }

    /// Answers a broken context: every sequence is empty and free now. Returns those that ran a
    /// generation; what waits goes on waiting.
    pub fn broken(&mut self) -> Vec<SeqIdx> {
        let mut ended = Vec::new();
        for seq in 0..self.sequences.len() {
            if self.finish(seq).is_some() {
                ended.push(seq);
            }
            self.sequences[seq].truncate(0, &mut self.cells);
        }
        self.moves.clear();
        self.saving = None;
        self.to_store.clear();
        self.short_of_cells = false;
        self.batch.clear();
        self.narrow = None;
        ended
    }
}
