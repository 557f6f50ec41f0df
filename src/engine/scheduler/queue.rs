//! Generations that wait for a sequence, and which of them gets which sequence.

use std::cmp::Reverse;

use crate::engine::scheduler::sequence::Sequence;
use crate::engine::scheduler::{Cutting, SeqIdx, Token};

/// How often one generation may be overtaken.
pub const MOST_OVERTAKEN: u32 = 4;
/// How many places from the front a generation may be to overtake.
const LOOK_AHEAD: usize = 5;
/// Shortest prefix worth overtaking for, in tokens: the begin token and a short header are nothing.
const WORTH_OVERTAKING: usize = 32;
/// A cell that need not be read again is worth this many that another chat would have to read again.
/// A chat that goes on takes its own cells even when most of them changed; a few tokens in common
/// (the begin token, a short conditioning) are no reason to destroy a long chat.
const KEEP_FACTOR: i64 = 4;

/// A generation that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Names the generation.
    pub id: u64,
    /// Order of arrival; unique.
    pub ticket: u64,
    /// What the model is given.
    pub prompt: Vec<Token>,
    /// Most tokens to make.
    pub most: usize,
}

/// Who goes where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) place: usize,
    pub(super) seq: SeqIdx,
    pub(super) cached: usize,
}

#[derive(Debug)]
struct Place {
    waiting: Waiting,
    overtaken: u32,
}

/// In order of arrival.
#[derive(Debug, Default)]
pub(super) struct Queue {
    places: Vec<Place>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Prompts are prepared on two threads, so a later one may come first: tickets decide.
    pub(super) fn insert(&mut self, waiting: Waiting) {
        let at = self.places.partition_point(|place| place.waiting.ticket < waiting.ticket);
        self.places.insert(at, Place { waiting, overtaken: 0 });
    }

    pub(super) fn remove(&mut self, id: u64) -> bool {
        let found = self.places.iter().position(|place| place.waiting.id == id);
        found.map(|at| self.places.remove(at)).is_some()
    }

    /// The generation to admit next and its sequence; `None` when nobody waits or nothing is free.
    pub(super) fn choose(&self, sequences: &[Sequence], cutting: Cutting) -> Option<Chosen> {
        let first = self.places.first()?;
        let best = |place: usize, prompt: &[Token]| {
            let free = sequences.iter().enumerate().filter(|(_, s)| s.job().is_none());
            let scored = free.map(|(seq, sequence)| {
                let cached = usable_prefix(sequence, prompt, cutting);
                (value(sequence, cached), Reverse(sequence.last_use), Reverse(seq), cached)
            });
            scored.max().map(|(.., Reverse(seq), cached)| Chosen { place, seq, cached })
        };
        let mut chosen = best(0, &first.waiting.prompt)?;
        for (at, place) in self.places.iter().enumerate().take(LOOK_AHEAD).skip(1) {
            if self.places[at - 1].overtaken >= MOST_OVERTAKEN {
                break;
            }
            let Some(other) = best(at, &place.waiting.prompt) else { break };
            if other.cached >= WORTH_OVERTAKING && other.cached > chosen.cached {
                chosen = other;
            }
        }
        Some(chosen)
    }

    /// Takes a generation out; all before it are overtaken once more.
    pub(super) fn take(&mut self, place: usize) -> Waiting {
        for earlier in &mut self.places[..place] {
            earlier.overtaken += 1;
        }
        self.places.remove(place).waiting
    }
}

/// Cells that `prompt` can take over from a sequence.
fn usable_prefix(sequence: &Sequence, prompt: &[Token], cutting: Cutting) -> usize {
    let common = sequence.common_prefix(prompt);
    match cutting {
        Cutting::Anywhere => common,
        Cutting::WholeOnly if common == sequence.tokens.len() => common,
        Cutting::WholeOnly => 0,
    }
}

/// How good it is to give a sequence away: cells saved against cells lost.
fn value(sequence: &Sequence, cached: usize) -> i64 {
    let cells = |n: usize| i64::try_from(n).unwrap_or(i64::MAX / 8);
    KEEP_FACTOR * cells(cached) - cells(sequence.tokens.len() - cached)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(id: u64, prompt: Vec<Token>) -> Waiting {
        Waiting { id, ticket: id, prompt, most: 8 }
    }

    fn sequence(tokens: Vec<Token>, last_use: u64) -> Sequence {
        Sequence { tokens, last_use, ..Sequence::default() }
    }

    fn chosen(prompt: Vec<Token>, sequences: &[Sequence]) -> (SeqIdx, usize) {
        let mut queue = Queue::default();
        queue.insert(waiting(1, prompt));
        let chosen = queue.choose(sequences, Cutting::Anywhere).unwrap();
        (chosen.seq, chosen.cached)
    }

    #[test]
    fn a_chat_that_goes_on_gets_its_own_cells() {
        let sequences =
            [sequence((0..100).collect(), 5), sequence(vec![], 0), sequence((0..300).collect(), 1)];
        assert_eq!(chosen((0..310).collect(), &sequences), (2, 300));
    }

    #[test]
    fn a_begin_token_in_common_does_not_cost_a_long_chat() {
        let sequences = [sequence((0..500).collect(), 1), sequence(vec![], 9)];
        assert_eq!(chosen(vec![0, 900, 901], &sequences), (1, 0));
    }

    #[test]
    fn among_equals_the_one_used_longest_ago_goes() {
        let sequences = [sequence(vec![7; 50], 3), sequence(vec![8; 50], 2)];
        assert_eq!(chosen(vec![1, 2, 3], &sequences), (1, 0));
    }

    #[test]
    fn the_last_token_of_a_prompt_is_read_again() {
        assert_eq!(chosen((0..100).collect(), &[sequence((0..100).collect(), 1)]), (0, 99));
    }

    #[test]
    fn a_sequence_that_cannot_be_cut_is_only_continued() {
        let mut queue = Queue::default();
        queue.insert(waiting(1, (0..100).collect()));
        let with = |length: i32| {
            let free = [sequence((0..length).collect(), 1)];
            queue.choose(&free, Cutting::WholeOnly).unwrap().cached
        };
        assert_eq!((with(60), with(99), with(100), with(140)), (60, 99, 0, 0));
    }

    #[test]
    fn a_better_prefix_overtakes_four_times_and_no_more() {
        let mut queue = Queue::default();
        queue.insert(waiting(0, vec![9; 10]));
        for id in 1..10 {
            queue.insert(waiting(id, (0..100).collect()));
        }
        let free = [sequence((0..90).collect(), 1)];
        let mut order = Vec::new();
        while let Some(chosen) = queue.choose(&free, Cutting::Anywhere) {
            order.push(queue.take(chosen.place).id);
        }
        assert_eq!(order, [1, 2, 3, 4, 0, 5, 6, 7, 8, 9]);
    }
}
