//! Runs the scheduler over a model: admits, decodes, samples, turns tokens into text.
//!
//! Runs on the decode thread and owns everything that a step needs; a step takes no lock and, once
//! warm, allocates next to nothing. What happens to generations is told to an [`Output`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::domain::sampling::{Sampling, Stops};
use crate::engine::model::{Decoded, Decoder};
use crate::engine::scheduler::{
    Admitted, Cancelled, Cut, NoRoom, Outcome, Sampled, Scheduler, SeqIdx, Verdict, Waiting,
};
use crate::engine::text::writer::{Writer, Written};

/// What a generation needs beside its prompt.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What ends it.
    pub stops: Stops,
    /// Messages that were cropped away, for the report.
    pub dropped: u32,
}

/// What the driver tells about generations.
pub trait Output {
    /// A generation got a sequence.
    fn started(&mut self, started: Started);
    /// Part of a prompt is read: tokens done, cached ones included, of all.
    fn reading(&mut self, id: u64, done: usize, total: usize);
    /// More text.
    fn written(&mut self, id: u64, written: &Written);
    /// The end; nothing follows for this generation.
    fn ended(&mut self, ended: Ended);
}

/// A generation got a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The generation.
    pub id: u64,
    /// Tokens of its prompt.
    pub prompt: usize,
    /// How many of them were cached.
    pub cached: usize,
    /// Messages that were cropped away.
    pub dropped: u32,
}

/// A generation ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The generation.
    pub id: u64,
    /// Why.
    pub end: End,
    /// Tokens that were made.
    pub made: u32,
    /// Time from its start to its first token.
    pub reading: Duration,
    /// Time from its first token on.
    pub writing: Duration,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The model ended its text.
    Stop,
    /// This stop string was met.
    StopString(String),
    /// It may not make more tokens, or the context is full.
    Limit,
    /// It was cancelled.
    Cancelled,
    /// The model failed; the text says how.
    Failed(String),
}

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

/// Totals since the model was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Decode steps.
    pub steps: u64,
    /// Tokens of prompts that were read.
    pub prompt: u64,
    /// Tokens of prompts that were in the cache.
    pub cached: u64,
    /// Tokens that were made.
    pub made: u64,
}

/// A generation in a sequence, on the side of text and time.
struct Running<S> {
    id: u64,
    sampler: S,
    writer: Writer,
    started: Instant,
    first: Option<Instant>,
    made: u32,
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
    totals: Totals,
    samples: Vec<Sampled>,
    bytes: Vec<u8>,
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
            totals: Totals::default(),
            samples: Vec::with_capacity(sequences),
            bytes: Vec::with_capacity(64),
            written: Written::default(),
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
                self.submitted.remove(&id);
                out.ended(never_started(id, End::Cancelled));
            }
            Some(Cancelled::Running(seq)) => self.end(seq, End::Cancelled, out),
            None => {}
        }
    }

    /// Ends everything.
    pub fn cancel_all(&mut self, out: &mut impl Output) {
        let waiting = self.submitted.keys();
        let running = self.running.iter().flatten().map(|running| &running.id);
        let ids: Vec<u64> = waiting.chain(running).copied().collect();
        for id in ids {
            self.cancel(id, out);
        }
    }

    /// Does one step: admits what can be admitted, decodes one batch, tells what came of it.
    pub fn step(&mut self, out: &mut impl Output) -> Stepped {
        while let Some(seq) = self.scheduler.trim() {
            self.decoder.cut(seq, 0);
        }
        while let Some(admitted) = self.scheduler.admit() {
            self.start(admitted, out);
        }
        loop {
            if self.scheduler.plan().is_empty() {
                return Stepped::Idle;
            }
            let before = Instant::now();
            match self.decoder.decode(self.scheduler.batch()) {
                Decoded::Done => {
                    self.totals.steps += 1;
                    let decoded = self.sample(out);
                    self.advance(decoded - before, out);
                    return Stepped::Worked;
                }
                Decoded::NoRoom => self.make_room(out),
                Decoded::Broken(reason) => return self.rebuild(&reason, out),
            }
        }
    }

    /// The scheduler, for counts.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Totals since the model was loaded.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn start(&mut self, admitted: Admitted, out: &mut impl Output) {
        let Admitted { id, seq, mut cached, prompt, .. } = admitted;
        if admitted.cut == Cut::Rest && !self.decoder.cut(seq, cached) {
            self.decoder.cut(seq, 0);
            self.scheduler.reread(seq);
            cached = 0;
        }
        let settings = self.submitted.remove(&id).expect("what was admitted was submitted");
        let tokens = self.scheduler.prompt(seq);
        match self.decoder.sampler(&settings.sampling, tokens) {
            Ok(sampler) => {
                self.totals.cached += cached as u64;
                self.totals.prompt += (prompt - cached) as u64;
                out.started(Started { id, prompt, cached, dropped: settings.dropped });
                self.running[seq] = Some(Running {
                    id,
                    sampler,
                    writer: Writer::new(&settings.stops),
                    started: Instant::now(),
                    first: None,
                    made: 0,
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
        for (at, entry) in self.scheduler.batch().iter().enumerate() {
            if !entry.wants_logits {
                continue;
            }
            let Some(running) = &mut self.running[entry.seq] else { continue };
            let chosen = self.decoder.sample(&mut running.sampler, at);
            // llama.cpp may return from decode before the numbers are there; choosing waits for them.
            let now = Instant::now();
            decoded.get_or_insert(now);
            running.first.get_or_insert(now);
            let (token, end) = match chosen {
                Ok(token) => {
                    running.made += 1;
                    self.totals.made += 1;
                    let end = if self.decoder.ends_text(token) {
                        Some(End::Stop)
                    } else {
                        self.bytes.clear();
                        self.decoder.append_bytes(token, &mut self.bytes);
                        running
                            .writer
                            .push(token, &self.bytes, &mut self.written)
                            .map(End::StopString)
                    };
                    (token, end)
                }
                Err(error) => (0, Some(End::Failed(error.to_string()))),
            };
            let verdict = if end.is_some() { Verdict::Ends } else { Verdict::GoesOn };
            running.end = end;
            self.samples.push(Sampled { seq: entry.seq, token, verdict });
            if !self.written.is_empty() {
                out.written(running.id, &self.written);
                self.written.clear();
            }
        }
        decoded.unwrap_or_else(Instant::now)
    }

    fn advance(&mut self, took: Duration, out: &mut impl Output) {
        let outcomes = self.scheduler.advance(&self.samples, took).len();
        for at in 0..outcomes {
            match self.scheduler.outcome(at) {
                Outcome::Reading(seq, done, total) => {
                    if let Some(running) = &self.running[seq] {
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
        let Some(mut running) = self.running[seq].take() else { return };
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
            reading: first - running.started,
            writing: now - first,
        });
    }

    fn make_room(&mut self, out: &mut impl Output) {
        match self.scheduler.no_room() {
            NoRoom::Idle(sequences) => {
                for seq in sequences {
                    self.decoder.cut(seq, 0);
                }
            }
            NoRoom::Narrower | NoRoom::Nothing => {}
            NoRoom::Youngest(seq) => {
                self.decoder.cut(seq, 0);
                let reason = "the context has no room for this generation beside the others";
                self.end(seq, End::Failed(reason.into()), out);
            }
        }
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

/// The end of a generation that never got a sequence.
pub fn never_started(id: u64, end: End) -> Ended {
    Ended { id, end, made: 0, reading: Duration::ZERO, writing: Duration::ZERO }
}
