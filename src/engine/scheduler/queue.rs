//! Generations that wait for a sequence, and which of them gets which sequence.

use std::cmp::Reverse;

use crate::engine::scheduler::host::WORTH_MOVING;
use crate::engine::scheduler::sequence::Sequence;
use crate::engine::scheduler::{Adapters, Cutting, OnFull, SeqIdx, Token};

/// How often one generation may be overtaken.
pub const MOST_OVERTAKEN: u32 = 4;
/// How many places from the front a generation may be to overtake.
const LOOK_AHEAD: usize = 5;

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
    /// What the model is changed by.
    pub adapters: Adapters,
    /// What happens when the context is full.
    pub on_full: OnFull,
    /// Its chat is to be written to the disk when it ends.
    pub stores: bool,
}

/// Who goes where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) place: usize,
    pub(super) seq: SeqIdx,
    /// Cells of that sequence that stay.
    pub(super) keep: usize,
    /// Another sequence, whose cells up to this position are shared.
    pub(super) share: Option<(SeqIdx, usize)>,
    /// That sequence holds another chat, which is lost.
    pub(super) drops: bool,
}

impl Chosen {
    /// Tokens that need not be read.
    pub(super) fn cached(&self) -> usize {
        self.share.map_or(self.keep, |(_, end)| end)
    }
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

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
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

    /// The generation at a place.
    pub(super) fn waiting(&self, place: usize) -> &Waiting {
        &self.places[place].waiting
    }

    /// The generation to admit next and its sequence; `None` when nobody waits or nothing is free.
    pub(super) fn choose(&self, sequences: &[Sequence], cutting: Cutting) -> Option<Chosen> {
        let first = self.places.first()?;
        let mut chosen = best(0, &first.waiting, sequences, cutting)?;
        for (at, place) in self.places.iter().enumerate().take(LOOK_AHEAD).skip(1) {
            if self.places[at - 1].overtaken >= MOST_OVERTAKEN {
                break;
            }
            let Some(other) = best(at, &place.waiting, sequences, cutting) else { break };
            if other.cached() >= WORTH_MOVING && other.cached() > chosen.cached() {
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

/// The best sequence for a generation: one that it continues, or an empty one that shares the longest
/// beginning, or the one used longest ago.
fn best(
    place: usize,
    waiting: &Waiting,
    sequences: &[Sequence],
    cutting: Cutting,
) -> Option<Chosen> {
    let commons: Vec<usize> = sequences
        .iter()
        .map(|sequence| usable_prefix(sequence, &waiting.prompt, waiting.adapters, cutting))
        .collect();
    let free = || (0..sequences.len()).filter(|seq| sequences[*seq].job().is_none());
    let source = (0..sequences.len()).max_by_key(|seq| (commons[*seq], Reverse(*seq)))?;
    let longest = commons[source];
    let share_from = |keep: usize| {
        let worth = cutting == Cutting::Anywhere && longest >= keep + WORTH_MOVING;
        worth.then_some((source, longest))
    };
    let continued = free()
        .filter(|seq| {
            let lost = sequences[*seq].tokens.len() - commons[*seq];
            // What is worth keeping stays as it is, and the new chat shares its beginning.
            commons[*seq] > 0 && lost < WORTH_MOVING
        })
        .max_by_key(|seq| (commons[*seq], Reverse(sequences[*seq].last_use)));
    if let Some(seq) = continued
        && share_from(commons[seq]).is_none()
    {
        return Some(Chosen { place, seq, keep: commons[seq], share: None, drops: false });
    }
    if let Some(seq) = free().find(|seq| sequences[*seq].is_empty()) {
        return Some(Chosen { place, seq, keep: 0, share: share_from(0), drops: false });
    }
    let seq = free().min_by_key(|seq| sequences[*seq].last_use)?;
    Some(Chosen { place, seq, keep: commons[seq], share: share_from(commons[seq]), drops: true })
}

/// Cells that `prompt` can take over from a sequence.
fn usable_prefix(
    sequence: &Sequence,
    prompt: &[Token],
    adapters: Adapters,
    cutting: Cutting,
) -> usize {
    let common = sequence.common_prefix(prompt, adapters);
    match cutting {
        Cutting::Anywhere => common,
        Cutting::WholeOnly if common == sequence.tokens.len() => common,
        Cutting::WholeOnly => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scheduler::sequence::Job;

    fn waiting(id: u64, prompt: Vec<Token>) -> Waiting {
        Waiting {
            id,
            ticket: id,
            prompt,
            most: 8,
            adapters: 0,
            on_full: OnFull::End,
            stores: false,
        }
    }

    fn sequence(tokens: Vec<Token>, last_use: u64) -> Sequence {
        Sequence { tokens, last_use, ..Sequence::default() }
    }

    fn chosen(prompt: Vec<Token>, sequences: &[Sequence]) -> Chosen {
        let mut queue = Queue::default();
        queue.insert(waiting(1, prompt));
        queue.choose(sequences, Cutting::Anywhere).unwrap()
    }

    #[test]
    fn a_chat_that_goes_on_gets_its_own_sequence() {
        let sequences =
            [sequence((0..100).collect(), 5), sequence(vec![], 0), sequence((0..300).collect(), 1)];
        let expected = Chosen { place: 0, seq: 2, keep: 300, share: None, drops: false };
        assert_eq!(chosen((0..310).collect(), &sequences), expected);
    }

    #[test]
    fn a_new_chat_shares_the_beginning_of_a_running_one() {
        let mut running = sequence((0..100).collect(), 5);
        running.job = Some(Job::new(waiting(7, (0..100).collect()), 4_096));
        let mut prompt: Vec<Token> = (0..80).collect();
        prompt.extend(900..950);
        let expected = Chosen { place: 0, seq: 1, keep: 0, share: Some((0, 80)), drops: false };
        assert_eq!(chosen(prompt, &[running, sequence(vec![], 0)]), expected);
    }

    #[test]
    fn a_long_chat_is_not_cut_for_one_that_only_begins_alike() {
        let sequences = [sequence((0..500).collect(), 5), sequence(vec![], 0)];
        let mut prompt: Vec<Token> = (0..100).collect();
        prompt.extend(900..910);
        let expected = Chosen { place: 0, seq: 1, keep: 0, share: Some((0, 100)), drops: false };
        assert_eq!(chosen(prompt, &sequences), expected);
    }

    #[test]
    fn a_begin_token_in_common_does_not_cost_a_long_chat() {
        let sequences = [sequence((0..500).collect(), 1), sequence(vec![], 9)];
        let expected = Chosen { place: 0, seq: 1, keep: 0, share: None, drops: false };
        assert_eq!(chosen(vec![0, 900, 901], &sequences), expected);
    }

    #[test]
    fn without_an_empty_one_the_one_used_longest_ago_goes() {
        let sequences = [sequence(vec![7; 50], 3), sequence(vec![8; 50], 2)];
        let expected = Chosen { place: 0, seq: 1, keep: 0, share: None, drops: true };
        assert_eq!(chosen(vec![1, 2, 3], &sequences), expected);
    }

    #[test]
    fn the_last_token_of_a_prompt_is_read_again() {
        let expected = Chosen { place: 0, seq: 0, keep: 99, share: None, drops: false };
        assert_eq!(chosen((0..100).collect(), &[sequence((0..100).collect(), 1)]), expected);
    }

    #[test]
    fn another_set_of_adapters_has_other_cells() {
        let sequences = [sequence((0..100).collect(), 5), sequence(vec![], 0)];
        let mut queue = Queue::default();
        queue.insert(Waiting { adapters: 3, ..waiting(1, (0..110).collect()) });
        let chosen = queue.choose(&sequences, Cutting::Anywhere).unwrap();
        assert_eq!(chosen, Chosen { place: 0, seq: 1, keep: 0, share: None, drops: false });
    }

    #[test]
    fn a_sequence_that_cannot_be_cut_is_only_continued() {
        let mut queue = Queue::default();
        queue.insert(waiting(1, (0..100).collect()));
        let with = |length: i32| {
            let free = [sequence((0..length).collect(), 1)];
            queue.choose(&free, Cutting::WholeOnly).unwrap().cached()
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
