//! What to do when a decode step fails.

use crate::engine::scheduler::{Scheduler, SeqIdx};

/// What was given up because the cache had no room for a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// These idle sequences; the caller takes them out of the cache and plans again.
    Idle(Vec<SeqIdx>),
    /// Width: the next batch is half as large.
    Narrower,
    /// The generation in this sequence, the youngest; its cells go too.
    Youngest(SeqIdx),
    /// Nothing is left to give up.
    Nothing,
}

impl Scheduler {
    /// Answers a step for which the cache had no room: idle sequences go first, then prompts are read
    /// in smaller pieces, then the youngest generation ends.
    pub fn no_room(&mut self) -> NoRoom {
        let is_idle = |seq: &SeqIdx| {
            let sequence = &self.sequences[*seq];
            sequence.job().is_none() && !sequence.tokens.is_empty()
        };
        let idle: Vec<SeqIdx> = (0..self.sequences.len()).filter(is_idle).collect();
        if !idle.is_empty() {
            for seq in &idle {
                self.sequences[*seq].tokens.clear();
            }
            return NoRoom::Idle(idle);
        }
        let planned = self.batch.len();
        let writing = self.batch.iter().filter(|entry| self.is_writing(entry.seq)).count();
        // With no writer a batch still needs one token, or nothing would ever be read.
        if planned > writing.max(1) {
            self.narrow = Some(planned / 2);
            return NoRoom::Narrower;
        }
        let youngest = (0..self.sequences.len())
            .filter_map(|seq| self.sequences[seq].job().map(|job| (job.ticket, seq)))
            .max();
        let Some((_, seq)) = youngest else { return NoRoom::Nothing };
        self.finish(seq);
        self.sequences[seq].tokens.clear();
        self.narrow = None;
        NoRoom::Youngest(seq)
    }

    /// Answers a broken context: every sequence is empty and free now. Returns those that ran a
    /// generation; what waits goes on waiting.
    pub fn broken(&mut self) -> Vec<SeqIdx> {
        let mut ended = Vec::new();
        for seq in 0..self.sequences.len() {
            if self.sequences[seq].job().is_some() {
                self.finish(seq);
                ended.push(seq);
            }
            self.sequences[seq].tokens.clear();
        }
        self.batch.clear();
        self.narrow = None;
        ended
    }

    fn is_writing(&self, seq: SeqIdx) -> bool {
        self.sequences[seq].job().is_some_and(|job| job.pending.is_some())
    }
}
