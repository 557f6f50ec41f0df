//! Room, cells that cannot be cut, and who waits.

use std::ops::Range;

use super::*;
use crate::engine::brake::{Brake, CancelFlag};
use crate::engine::model::{ModelError, Threads};
use crate::engine::recipe::{Chosen, Recipe};
use crate::engine::scheduler::cost::Costs;
use crate::engine::scheduler::host::StoredBlock;
use crate::engine::scheduler::{Adapters, Cutting, Entry, Limits, OnFull, Token};

/// A cache with fewer cells than its sequences could fill; the next token counts up.
struct Tight {
    cells: usize,
    cache: Vec<Vec<Token>>,
    last: Vec<Token>,
    can_cut: bool,
}

impl Decoder for Tight {
    type Sampler = ();

    fn sampler(&mut self, _: &Recipe, _: &[Token]) -> Result<(), ModelError> {
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

    fn sample(&mut self, (): &mut (), at: usize) -> Result<Chosen, ModelError> {
        Ok(Chosen { token: self.last[at] + 1, likely: None })
    }

    fn cut(&mut self, seq: SeqIdx, from: usize) -> bool {
        let works = self.can_cut || from == 0;
        if works {
            self.cache[seq].truncate(from);
        }
        works
    }

    fn share(&mut self, _: SeqIdx, _: SeqIdx, _: Range<usize>) {
        unreachable!("these prompts have nothing in common");
    }

    fn save(&mut self, _: SeqIdx, _: Range<usize>) -> Option<Vec<u8>> {
        None
    }

    fn restore(&mut self, _: SeqIdx, _: &[u8], _: Range<usize>) -> bool {
        false
    }

    fn own(&mut self, _: SeqIdx) -> bool {
        true
    }

    fn shift(&mut self, seq: SeqIdx, gone: Range<usize>) {
        self.cache[seq].drain(gone);
    }

    fn adapt(&mut self, _: Adapters) {}

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
struct Heard {
    text: HashMap<u64, String>,
    ends: HashMap<u64, End>,
    cached: HashMap<u64, usize>,
}

impl Output for Heard {
    fn started(&mut self, _: Started) {}

    fn reading(&mut self, _: u64, _: usize, _: usize) {}

    fn written(&mut self, id: u64, written: &Written) {
        self.text.entry(id).or_default().push_str(&written.text);
    }

    fn stored(&mut self, _: StoredBlock) {}

    fn ended(&mut self, ended: Ended) {
        self.cached.insert(ended.id, ended.cached);
        assert!(self.ends.insert(ended.id, ended.end).is_none(), "one end each");
    }
}

fn driver(cells: usize, can_cut: bool) -> Driver<Tight> {
    let limits = Limits {
        running: 2,
        sequences: 2,
        batch: 16,
        outputs: 2,
        ctx_size: 64,
        cells: 64,
        idle_cells: 100,
        host_bytes: 0,
        cutting: Cutting::Anywhere,
    };
    let cache = vec![Vec::new(); 2];
    let decoder = Tight { cells, cache, last: vec![], can_cut };
    Driver::new(decoder, Scheduler::new(limits, Costs::default()), 2)
}

fn submit(driver: &mut Driver<Tight>, id: u64, prompt: Vec<Token>, most: usize) {
    let (adapters, on_full) = (0, OnFull::End);
    let waiting = Waiting { id, ticket: id, prompt, most, adapters, on_full, stores: false };
    driver.submit(waiting, Settings::default());
}

fn finish(driver: &mut Driver<Tight>) -> Heard {
    let mut heard = Heard::default();
    for _ in 0..1_000 {
        if driver.step(&mut heard) == Stepped::Idle {
            return heard;
        }
    }
    panic!("it goes on for ever");
}

#[test]
fn without_room_idle_cells_go_before_anything_else() {
    let mut driver = driver(60, true);
    submit(&mut driver, 1, vec![65; 30], 2);
    finish(&mut driver);
    submit(&mut driver, 2, vec![97; 40], 3);
    let heard = finish(&mut driver);
    assert_eq!((heard.text[&2].as_str(), &heard.ends[&2]), ("bcd", &End::Limit));
}

#[test]
fn without_room_the_youngest_waits_and_goes_on_later() {
    let mut driver = driver(50, true);
    submit(&mut driver, 1, vec![65; 20], 20);
    submit(&mut driver, 2, vec![97; 20], 20);
    let heard = finish(&mut driver);
    let told = |id: u64| (heard.text[&id].as_str(), &heard.ends[&id]);
    assert_eq!(told(1), ("BCDEFGHIJKLMNOPQRSTU", &End::Limit));
    assert_eq!(told(2), ("bcdefghijklmnopqrstu", &End::Limit));
}

#[test]
fn a_cache_that_cannot_be_cut_is_read_again() {
    let mut driver = driver(500, false);
    submit(&mut driver, 1, vec![65; 40], 3);
    finish(&mut driver);
    let mut prompt = vec![65; 40];
    prompt.extend([97, 98]);
    submit(&mut driver, 2, prompt, 2);
    let heard = finish(&mut driver);
    assert_eq!((heard.text[&2].as_str(), heard.cached[&2]), ("cd", 0));
}

/// A generation whose prompt takes two steps, and the flag that cancels it.
fn submit_long(driver: &mut Driver<Tight>, id: u64) -> CancelFlag {
    let settings = Settings::default();
    let cancelled = settings.cancelled.clone();
    let (prompt, most, adapters, on_full) = (vec![65; 24], 2, 0, OnFull::End);
    driver.submit(
        Waiting { id, ticket: id, prompt, most, adapters, on_full, stores: false },
        settings,
    );
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
