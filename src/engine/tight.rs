//! A model for tests whose cache has fewer cells than its sequences could fill.

use std::collections::HashMap;

use crate::domain::sampling::Sampling;
use crate::engine::brake::{Brake, CancelFlag};
use crate::engine::driver::{Driver, Stepped};
use crate::engine::model::{Decoded, Decoder, ModelError, Threads};
use crate::engine::report::{End, Ended, Output, Settings, Started};
use crate::engine::scheduler::{Cutting, Entry, Limits, Scheduler, SeqIdx, Token, Waiting};
use crate::engine::text::writer::Written;

/// A cache with fewer cells than its sequences could fill; the next token counts up.
pub(super) struct Tight {
    cells: usize,
    cache: Vec<Vec<Token>>,
    last: Vec<Token>,
    can_cut: bool,
}

impl Decoder for Tight {
    type Sampler = ();

    fn sampler(&mut self, _: &Sampling, _: &[Token]) -> Result<(), ModelError> {
        Ok(())
    }

    fn decode(&mut self, batch: &[Entry], brake: &Brake) -> Decoded {
        let used: usize = self.cache.iter().map(Vec::len).sum();
        if used + batch.len() > self.cells {
            return Decoded::NoRoom;
        }
        for entry in batch {
            assert_eq!(self.cache[entry.seq].len(), entry.position);
            self.cache[entry.seq].push(entry.token);
            if brake.is_pulled() {
                return Decoded::BrokenOff;
            }
        }
        self.last = batch.iter().map(|entry| entry.token).collect();
        Decoded::Done
    }

    fn sample(&mut self, (): &mut (), at: usize) -> Result<Token, ModelError> {
        Ok(self.last[at] + 1)
    }

    fn cut(&mut self, seq: SeqIdx, from: usize) -> bool {
        let works = self.can_cut || from == 0;
        if works {
            self.cache[seq].truncate(from);
        }
        works
    }

    fn append_bytes(&self, token: Token, out: &mut Vec<u8>) {
        out.extend(u8::try_from(token));
    }

    fn ends_text(&self, _: Token) -> bool {
        false
    }

    fn set_threads(&mut self, _: Threads) -> Result<(), ModelError> {
        Ok(())
    }

    fn rebuild(&mut self) -> Result<(), ModelError> {
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Heard {
    pub(super) text: HashMap<u64, String>,
    pub(super) ends: HashMap<u64, End>,
    pub(super) cached: HashMap<u64, usize>,
}

impl Output for Heard {
    fn started(&mut self, started: Started) {
        self.cached.insert(started.id, started.cached);
    }

    fn reading(&mut self, _: u64, _: usize, _: usize) {}

    fn written(&mut self, id: u64, written: &Written) {
        self.text.entry(id).or_default().push_str(&written.text);
    }

    fn ended(&mut self, ended: Ended) {
        assert!(self.ends.insert(ended.id, ended.end).is_none(), "one end each");
    }
}

pub(super) fn driver(cells: usize, can_cut: bool) -> Driver<Tight> {
    let limits = Limits {
        sequences: 2,
        batch: 16,
        ctx_size: 64,
        idle_cells: 100,
        cutting: Cutting::Anywhere,
    };
    let cache = vec![Vec::new(); 2];
    let decoder = Tight { cells, cache, last: vec![], can_cut };
    Driver::new(decoder, Scheduler::new(limits), 2)
}

pub(super) fn submit(driver: &mut Driver<Tight>, id: u64, prompt: Vec<Token>, most: usize) {
    driver.submit(Waiting { id, ticket: id, prompt, most }, Settings::default());
}

pub(super) fn finish(driver: &mut Driver<Tight>) -> Heard {
    let mut heard = Heard::default();
    for _ in 0..1_000 {
        if driver.step(&mut heard) == Stepped::Idle {
            return heard;
        }
    }
    panic!("it goes on for ever");
}

/// A generation whose prompt takes two steps, and the flag that cancels it.
fn submit_long(driver: &mut Driver<Tight>, id: u64) -> CancelFlag {
    let settings = Settings::default();
    let cancelled = settings.cancelled.clone();
    driver.submit(Waiting { id, ticket: id, prompt: vec![65; 24], most: 2 }, settings);
    cancelled
}

#[test]
fn a_step_that_nobody_wants_is_broken_off_and_leaves_what_was_known() {
    for can_cut in [true, false] {
        let mut driver = driver(500, can_cut);
        let mut heard = Heard::default();
        let cancelled = submit_long(&mut driver, 1);
        driver.step(&mut heard);
        cancelled.set();
        driver.step(&mut heard);
        assert_eq!(heard.ends[&1], End::Cancelled);
        let known = if can_cut { 16 } else { 0 };
        assert_eq!(heard.ends.len(), 1);
        submit_long(&mut driver, 2);
        let heard = finish(&mut driver);
        assert_eq!((heard.text[&2].as_str(), heard.cached[&2]), ("BC", known));
    }
}

#[test]
fn a_step_with_a_neighbour_in_it_is_not_broken_off() {
    let mut driver = driver(500, true);
    let mut heard = Heard::default();
    let cancelled = submit_long(&mut driver, 1);
    submit_long(&mut driver, 2);
    cancelled.set();
    driver.step(&mut heard);
    assert!(heard.ends.is_empty());
    driver.cancel(1, &mut heard);
    assert_eq!(finish(&mut driver).text[&2], "BC");
}
