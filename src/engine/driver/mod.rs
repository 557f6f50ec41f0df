//! Runs the scheduler over a model: admits, decodes, samples, turns tokens into text.
//!
//! Runs on the decode thread and owns everything that a step needs; a step takes no lock and, once
//! warm, allocates next to nothing. What happens to generations is told to an [`Output`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::engine::brake::{Brake, CancelFlag};
use crate::engine::lookup;
use crate::engine::model::{Decoded, Decoder, ModelError, Threads};
use crate::engine::report::{End, Ended, Output, Settings, Started, Totals, never_started};
use crate::engine::scheduler::host::{BLOCK, StoredBlock};
use crate::engine::scheduler::{
    Admitted, Cancelled, Left, Move, NoRoom, Outcome, Sampled, Scheduler, SeqIdx, Token, Verdict,
    Waiting,
};
use crate::engine::text::writer::{Writer, Written};

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// Something was decoded.
    Worked,
    /// There is nothing to do.
    Idle,
    /// The model is lost: its context could not be made anew. Every generation has ended.
    Lost,
}

/// A generation in a sequence, on the side of text and time.
struct Running<S> {
    id: u64,
    sampler: S,
    writer: Writer,
    started: Instant,
    first: Option<Instant>,
    made: u32,
    /// How many of them had been guessed.
    guessed: u32,
    /// Most tokens to guess for one step.
    drafts: usize,
    /// Tokens of the prompt.
    prompt: usize,
    /// Tokens of the prompt that were not read, once they all are there.
    cached: usize,
    cancelled: CancelFlag,
    /// Set by sampling, used when the scheduler says that it ended.
    end: Option<End>,
}

/// The driver.
pub struct Driver<D: Decoder> {
    decoder: D,
    scheduler: Scheduler,
    /// What waits for a sequence, by generation.
    submitted: HashMap<u64, Settings>,
    running: Vec<Option<Running<D::Sampler>>>,
    /// What had to leave its sequence for want of room and goes on later, by generation.
    put_back: HashMap<u64, Running<D::Sampler>>,
    totals: Totals,
    samples: Vec<Sampled>,
    /// Those who have a part in the step.
    brake: Brake,
    bytes: Vec<u8>,
    text: Vec<Token>,
    written: Written,
}

impl<D: Decoder> Driver<D> {
    /// A driver for an empty context with `sequences` sequences.
    pub fn new(decoder: D, scheduler: Scheduler, sequences: usize) -> Self {
        Self {
            decoder,
            scheduler,
            submitted: HashMap::new(),
            running: (0..sequences).map(|_| None).collect(),
            put_back: HashMap::new(),
            totals: Totals::default(),
            samples: Vec::with_capacity(sequences),
            brake: Brake::default(),
            bytes: Vec::with_capacity(64),
            text: Vec::new(),
            written: Written::default(),
        }
    }

    /// The blocks of what an ended generation left, as far as they are in the cache or in the host's
    /// memory; none when its chat is gone.
    pub fn left_by(&mut self, id: u64) -> Vec<StoredBlock> {
        let Some(left) = self.scheduler.left_by(id) else { return vec![] };
        let Left { tokens, adapters, seq } = left;
        let Some(seq) = seq else { return self.scheduler.blocks(&tokens, adapters) };
        let mut blocks = vec![];
        for start in (0..tokens.len()).step_by(BLOCK) {
            let end = tokens.len().min(start + BLOCK);
            let Some(state) = self.decoder.save(seq, start..end) else { break };
            blocks.push(StoredBlock { tokens: tokens[..end].to_vec(), adapters, state });
        }
        blocks
    }

    /// Takes over blocks from the disk.
    pub fn take_stored(&mut self, blocks: Vec<StoredBlock>) {
        for block in blocks {
            self.scheduler.take_stored(block);
        }
    }

    /// Takes over a generation; it starts in a later [`Driver::step`].
    pub fn submit(&mut self, waiting: Waiting, settings: Settings) {
        self.submitted.insert(waiting.id, settings);
        self.scheduler.submit(waiting);
    }

    /// Ends a generation; unknown ones are ignored, for they may just have ended.
    pub fn cancel(&mut self, id: u64, out: &mut impl Output) {
        match self.scheduler.cancel(id) {
            Some(Cancelled::Waiting) => {
                if let Some(running) = self.put_back.remove(&id) {
                    self.tell_end(running, End::Cancelled, out);
                } else {
                    self.submitted.remove(&id);
                    out.ended(never_started(id, End::Cancelled));
                }
            }
            Some(Cancelled::Running(seq)) => self.end(seq, End::Cancelled, out),
            None => {}
        }
    }

    /// Ends everything.
    pub fn cancel_all(&mut self, out: &mut impl Output) {
        let waiting = self.submitted.keys();
        let running = self.running.iter().flatten().map(|running| &running.id);
        let ids: Vec<u64> = waiting.chain(running).chain(self.put_back.keys()).copied().collect();
        for id in ids {
            self.cancel(id, out);
        }
    }

    /// Does one step: admits what can be admitted, decodes one batch, tells what came of it.
    pub fn step(&mut self, out: &mut impl Output) -> Stepped {
        loop {
            self.make_moves(out);
            let Some(admitted) = self.scheduler.admit() else { break };
            self.start(admitted, out);
        }
        self.guess();
        loop {
            if self.scheduler.plan().is_empty() {
                return Stepped::Idle;
            }
            self.hold_brake();
            let before = Instant::now();
            self.decoder.adapt(self.scheduler.adapters());
            match self.decoder.decode(self.scheduler.batch(), &self.brake) {
                Decoded::Done => {
                    self.totals.steps += 1;
                    let decoded = self.sample(out);
                    self.advance(decoded - before, out);
                    return Stepped::Worked;
                }
                Decoded::NoRoom => self.make_room(out),
                Decoded::BrokenOff => {
                    self.give_up(out);
                    return Stepped::Worked;
                }
                Decoded::Broken(reason) => return self.rebuild(&reason, out),
            }
        }
    }

    /// Changes the threads of later steps.
    ///
    /// # Errors
    /// [`ModelError`] when they cannot be started; the former ones stay.
    pub fn set_threads(&mut self, threads: Threads) -> Result<(), ModelError> {
        self.decoder.set_threads(threads)
    }

    /// The scheduler, for counts.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Totals since the model was loaded.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Does to the cache what the scheduler says.
    fn make_moves(&mut self, out: &mut impl Output) {
        while let Some(next) = self.scheduler.next_move() {
            match next {
                Move::Cut(seq, from) => {
                    if !self.decoder.cut(seq, from) {
                        self.decoder.cut(seq, 0);
                        self.scheduler.reread(seq);
                    }
                }
                Move::Share(from, to, range) => self.decoder.share(from, to, range),
                Move::Save(seq, range) => {
                    let state = self.decoder.save(seq, range);
                    self.scheduler.saved(state);
                }
                Move::Restore(seq, restored) => {
                    let state = self.scheduler.state(&restored);
                    if !self.decoder.restore(seq, state, restored.range.clone()) {
                        self.scheduler.not_restored(seq, &restored);
                    }
                }
                Move::Own(seq) => {
                    if !self.decoder.own(seq) {
                        self.scheduler.not_owned(seq);
                        self.end(seq, End::Limit, out);
                    }
                }
                Move::Shift(seq, gone) => self.decoder.shift(seq, gone),
                Move::Store(block) => out.stored(*block),
            }
        }
    }

    fn start(&mut self, admitted: Admitted, out: &mut impl Output) {
        let Admitted { id, seq, cached, prompt } = admitted;
        if let Some(running) = self.put_back.remove(&id) {
            self.running[seq] = Some(running);
            return;
        }
        let settings = self.submitted.remove(&id).expect("what was admitted was submitted");
        let tokens = self.scheduler.prompt(seq);
        match self.decoder.sampler(&settings.recipe, tokens) {
            Ok(sampler) => {
                out.started(Started { id, prompt, cached, dropped: settings.dropped });
                self.running[seq] = Some(Running {
                    id,
                    sampler,
                    writer: Writer::new(&settings.stops),
                    started: Instant::now(),
                    first: None,
                    made: 0,
                    guessed: 0,
                    drafts: settings.drafts,
                    prompt,
                    cached: 0,
                    cancelled: settings.cancelled,
                    end: None,
                });
            }
            Err(error) => {
                self.scheduler.cancel(id);
                out.ended(never_started(id, End::Failed(error.to_string())));
            }
        }
    }

    /// Chooses the next tokens of a decoded batch; returns when decoding was done.
    fn sample(&mut self, out: &mut impl Output) -> Instant {
        self.samples.clear();
        let mut decoded = None;
        // A sequence whose drafts were wrong, or whose text has ended: what follows in it says nothing.
        let mut done_with = None;
        let batch = self.scheduler.batch();
        for (at, entry) in batch.iter().enumerate() {
            if !entry.wants_logits || done_with == Some(entry.seq) {
                continue;
            }
            let Some(running) = &mut self.running[entry.seq] else { continue };
            let chosen = self.decoder.sample(&mut running.sampler, at);
            // llama.cpp may return from decode before the numbers are there; choosing waits for them.
            let now = Instant::now();
            decoded.get_or_insert(now);
            if running.first.is_none() {
                running.first = Some(now);
                running.cached = self.scheduler.cached(entry.seq);
                self.totals.cached += running.cached as u64;
                self.totals.prompt += (running.prompt - running.cached) as u64;
            }
            let (token, end) = match chosen {
                Ok(chosen) => {
                    let token = chosen.token;
                    running.made += 1;
                    self.totals.made += 1;
                    let end = if self.decoder.ends_text(token) {
                        Some(End::Stop)
                    } else {
                        self.bytes.clear();
                        self.decoder.append_bytes(token, &mut self.bytes);
                        running
                            .writer
                            .push(chosen, &self.bytes, &mut self.written)
                            .map(End::StopString)
                    };
                    (token, end)
                }
                Err(error) => (0, Some(End::Failed(error.to_string()))),
            };
            let verdict = if end.is_some() { Verdict::Ends } else { Verdict::GoesOn };
            running.end = end;
            let draft = batch.get(at + 1).filter(|next| next.seq == entry.seq);
            if let Some(draft) = draft {
                if verdict == Verdict::Ends || draft.token != token {
                    done_with = Some(entry.seq);
                } else {
                    running.guessed += 1;
                }
            }
            self.samples.push(Sampled { seq: entry.seq, token, verdict });
            if !self.written.is_empty() {
                out.written(running.id, &self.written);
                self.written.clear();
            }
        }
        decoded.unwrap_or_else(Instant::now)
    }

    /// Guesses what the texts say next that may be guessed at.
    fn guess(&mut self) {
        for (seq, running) in self.running.iter().enumerate() {
            let Some(running) = running.as_ref().filter(|running| running.drafts > 0) else {
                continue;
            };
            let Some(most) = self.scheduler.may_draft(seq) else { continue };
            self.text.clear();
            self.scheduler.append_text(seq, &mut self.text);
            let guess = lookup::guess(&self.text, most.min(running.drafts));
            if !guess.is_empty() {
                self.scheduler.draft(seq, guess.to_vec());
            }
        }
    }

    fn advance(&mut self, took: Duration, out: &mut impl Output) {
        let outcomes = self.scheduler.advance(&self.samples, took).len();
        for at in 0..outcomes {
            match self.scheduler.outcome(at) {
                Outcome::Reading(seq, done, total) => {
                    // One that was put back reads again what its client has long seen.
                    let reader = self.running[seq].as_ref().filter(|r| r.first.is_none());
                    if let Some(running) = reader {
                        out.reading(running.id, done, total);
                    }
                }
                Outcome::Ended(seq) => {
                    let end = self.running[seq].as_mut().and_then(|running| running.end.take());
                    self.end(seq, end.unwrap_or(End::Stop), out);
                }
                Outcome::Limit(seq) => self.end(seq, End::Limit, out),
            }
        }
    }

    /// Tells the end of a generation, and before it the text that was still held back.
    fn end(&mut self, seq: SeqIdx, end: End, out: &mut impl Output) {
        if let Some(running) = self.running[seq].take() {
            self.tell_end(running, end, out);
        }
    }

    fn tell_end(&mut self, mut running: Running<D::Sampler>, end: End, out: &mut impl Output) {
        match end {
            End::Stop | End::Limit => {
                running.writer.finish(&mut self.written);
                if !self.written.is_empty() {
                    out.written(running.id, &self.written);
                    self.written.clear();
                }
            }
            // After a stop string everything is written; after the others nothing is owed.
            End::StopString(_) | End::Cancelled | End::Failed(_) => {}
        }
        let now = Instant::now();
        let first = running.first.unwrap_or(now);
        out.ended(Ended {
            id: running.id,
            end,
            made: running.made,
            guessed: running.guessed,
            cached: running.cached,
            reading: first - running.started,
            writing: now - first,
        });
    }

    /// Lets the planned step be broken off when all who have a part in it are cancelled.
    fn hold_brake(&mut self) {
        self.brake.clear();
        for (seq, _) in self.scheduler.in_batch() {
            if let Some(running) = &self.running[seq] {
                self.brake.add(&running.cancelled);
            }
        }
    }

    /// Ends the generations of a step that was broken off; what was in the cache before it stays there.
    fn give_up(&mut self, out: &mut impl Output) {
        let known: Vec<(SeqIdx, usize)> = self.scheduler.in_batch().collect();
        for (seq, cells) in known {
            if !self.decoder.cut(seq, cells) {
                self.decoder.cut(seq, 0);
                self.scheduler.reread(seq);
            }
            if let Some(id) = self.running[seq].as_ref().map(|running| running.id) {
                self.cancel(id, out);
            }
        }
    }

    fn make_room(&mut self, out: &mut impl Output) {
        match self.scheduler.no_room() {
            NoRoom::Idle | NoRoom::Narrower | NoRoom::Nothing => {}
            NoRoom::PutBack(seq) => {
                if let Some(running) = self.running[seq].take() {
                    self.put_back.insert(running.id, running);
                }
            }
            NoRoom::Ends(seq) => self.end(seq, End::Limit, out),
        }
        self.make_moves(out);
    }

    fn rebuild(&mut self, reason: &str, out: &mut impl Output) -> Stepped {
        for seq in self.scheduler.broken() {
            self.end(seq, End::Failed(format!("a decode step failed: {reason}")), out);
        }
        match self.decoder.rebuild() {
            Ok(()) => Stepped::Worked,
            Err(error) => {
                let waiting: Vec<u64> = self.submitted.drain().map(|(id, _)| id).collect();
                for id in waiting {
                    self.scheduler.cancel(id);
                    let reason = format!("the context could not be made anew: {error}");
                    out.ended(never_started(id, End::Failed(reason)));
                }
                Stepped::Lost
            }
        }
    }
}

#[cfg(test)]
mod tests;
