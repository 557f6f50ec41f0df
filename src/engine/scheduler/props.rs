//! The scheduler's guarantees, over random loads, with a model that remembers everything it was given.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::queue::MOST_OVERTAKEN;
use super::*;

/// What happens before a step.
#[derive(Clone, Debug)]
enum Event {
    /// A prompt: so many tokens of a common beginning, so many of its own; most tokens to make.
    Submit { common: usize, own: usize, most: usize },
    /// Cancels one of the generations so far.
    Cancel(prop::sample::Index),
    /// Nothing; just a step.
    Step,
    /// The next step finds no room this many times.
    NoRoom(usize),
    /// The next step breaks the context.
    Break,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0_usize..60, 1_usize..30, 1_usize..12)
            .prop_map(|(common, own, most)| Event::Submit { common, own, most }),
        1 => any::<prop::sample::Index>().prop_map(Event::Cancel),
        6 => Just(Event::Step),
        1 => (1_usize..6).prop_map(Event::NoRoom),
        1 => Just(Event::Break),
    ];
    prop::collection::vec(event, 1..80)
}

fn limits() -> impl Strategy<Value = Limits> {
    let cutting = prop_oneof![Just(Cutting::Anywhere), Just(Cutting::WholeOnly)];
    (1_usize..5, 1_usize..40, 0_usize..200, cutting).prop_map(
        |(sequences, batch, idle_cells, cutting)| Limits {
            sequences,
            batch,
            ctx_size: 100,
            idle_cells,
            cutting,
        },
    )
}

/// A generation as the test follows it.
#[derive(Debug, Default)]
struct Followed {
    prompt: Vec<Token>,
    most: usize,
    made: Vec<Token>,
    admitted: bool,
    ends: usize,
    cancelled: bool,
    /// Later ones that were admitted before it.
    overtaken: u32,
}

/// A cache and a rule for the next token: a hash of the whole context, so any mistake changes the text.
struct World {
    scheduler: Scheduler,
    limits: Limits,
    cache: Vec<Vec<Token>>,
    in_seq: Vec<Option<u64>>,
    all: HashMap<u64, Followed>,
    next_id: u64,
}

/// The token after a context; every eighth or so ends the text.
fn next_token(context: &[Token]) -> (Token, Verdict) {
    let hash = context.iter().fold(17_u64, |hash, token| {
        hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(9) ^ u64::from(token.unsigned_abs())
    });
    let token = Token::try_from(hash >> 40 & 0xFFFF).unwrap() + 1_000;
    let verdict = if hash % 8 == 0 { Verdict::Ends } else { Verdict::GoesOn };
    (token, verdict)
}

impl World {
    fn new(limits: Limits) -> Self {
        Self {
            scheduler: Scheduler::new(limits),
            limits,
            cache: vec![Vec::new(); limits.sequences],
            in_seq: vec![None; limits.sequences],
            all: HashMap::new(),
            next_id: 0,
        }
    }

    fn submit(&mut self, common: usize, own: usize, most: usize) {
        let id = self.next_id;
        self.next_id += 1;
        let common = (0..common).map(|n| Token::try_from(n).unwrap());
        let own = (0..own).map(|n| Token::try_from(500 + n * 7 + id as usize % 3).unwrap());
        let prompt: Vec<Token> = common.chain(own).collect();
        self.all.insert(id, Followed { prompt: prompt.clone(), most, ..Followed::default() });
        self.scheduler.submit(Waiting { id, ticket: id, prompt, most });
    }

    fn cancel(&mut self, id: u64) {
        let followed = self.all.get_mut(&id).unwrap();
        match self.scheduler.cancel(id) {
            Some(Cancelled::Running(seq)) => {
                assert_eq!(self.in_seq[seq].take(), Some(id));
                followed.ends += 1;
                followed.cancelled = true;
            }
            Some(Cancelled::Waiting) => {
                assert!(!followed.admitted);
                followed.ends += 1;
                followed.cancelled = true;
            }
            None => assert_eq!(followed.ends, 1, "only an ended generation is unknown"),
        }
    }

    fn admit(&mut self) {
        while let Some(seq) = self.scheduler.trim() {
            assert_eq!(self.in_seq[seq], None, "only idle cells are trimmed");
            self.cache[seq].clear();
        }
        while let Some(admitted) = self.scheduler.admit() {
            let Admitted { id, seq, cached, cut, prompt } = admitted;
            assert_eq!(self.in_seq[seq].replace(id), None, "a sequence runs one generation");
            for (other, followed) in &mut self.all {
                followed.overtaken +=
                    u32::from(*other < id && !followed.admitted && followed.ends == 0);
                assert!(followed.overtaken <= MOST_OVERTAKEN || followed.ends > 0);
            }
            let followed = self.all.get_mut(&id).unwrap();
            followed.admitted = true;
            assert_eq!(prompt, followed.prompt.len());
            assert!(cached < prompt, "the last token of a prompt is always read");
            match cut {
                Cut::Rest if self.limits.cutting == Cutting::WholeOnly => assert_eq!(cached, 0),
                Cut::Rest => {}
                Cut::Nothing => assert_eq!(cached, self.cache[seq].len()),
            }
            self.cache[seq].truncate(cached);
            assert_eq!(self.cache[seq], followed.prompt[..cached]);
        }
    }

    fn step(&mut self, mut no_room: usize, breaks: bool) {
        self.admit();
        loop {
            let batch = self.scheduler.plan().to_vec();
            if batch.is_empty() {
                return;
            }
            assert!(batch.len() <= self.limits.batch.max(self.limits.sequences));
            if breaks {
                for seq in self.scheduler.broken() {
                    self.end(seq);
                }
                self.cache.iter_mut().for_each(Vec::clear);
                return;
            }
            if no_room > 0 {
                no_room -= 1;
                self.make_room();
                continue;
            }
            return self.decode(&batch);
        }
    }

    fn make_room(&mut self) {
        match self.scheduler.no_room() {
            NoRoom::Idle(sequences) => {
                for seq in sequences {
                    assert_eq!(self.in_seq[seq], None);
                    self.cache[seq].clear();
                }
            }
            NoRoom::Youngest(seq) => {
                let youngest = self.in_seq.iter().flatten().max().copied();
                assert_eq!(self.in_seq[seq], youngest);
                self.cache[seq].clear();
                self.end(seq);
            }
            NoRoom::Narrower => {}
            NoRoom::Nothing => panic!("there was a batch"),
        }
    }

    fn decode(&mut self, batch: &[Entry]) {
        let mut samples = Vec::new();
        for entry in batch {
            let id = self.in_seq[entry.seq].expect("only running sequences are decoded");
            let followed = &self.all[&id];
            assert!(!followed.cancelled, "a cancelled generation is gone after one step");
            assert_eq!(entry.position, self.cache[entry.seq].len(), "positions have no gap");
            self.cache[entry.seq].push(entry.token);
            if entry.wants_logits {
                let (token, verdict) = next_token(&self.cache[entry.seq]);
                samples.push(Sampled { seq: entry.seq, token, verdict });
            }
        }
        for sampled in &samples {
            let id = self.in_seq[sampled.seq].unwrap();
            self.all.get_mut(&id).unwrap().made.push(sampled.token);
        }
        let outcomes = self.scheduler.advance(&samples, Duration::from_millis(3)).to_vec();
        for outcome in outcomes {
            match outcome {
                Outcome::Reading(seq, done, total) => {
                    assert_eq!(done, self.cache[seq].len());
                    assert!(done <= total);
                }
                Outcome::Ended(seq) | Outcome::Limit(seq) => self.end(seq),
            }
        }
    }

    fn end(&mut self, seq: SeqIdx) {
        let id = self.in_seq[seq].take().expect("it ran");
        self.all.get_mut(&id).unwrap().ends += 1;
    }

    fn idle_cells_are_bounded(&mut self) {
        while let Some(seq) = self.scheduler.trim() {
            self.cache[seq].clear();
        }
        let idle: Vec<usize> = (0..self.limits.sequences)
            .filter(|seq| self.in_seq[*seq].is_none() && !self.cache[*seq].is_empty())
            .map(|seq| self.cache[seq].len())
            .collect();
        assert!(idle.len() <= 1 || idle.iter().sum::<usize>() <= self.limits.idle_cells);
    }

    /// The text that a generation makes alone.
    fn alone(&self, followed: &Followed) -> Vec<Token> {
        let mut context = followed.prompt.clone();
        let most = followed.most.min(self.limits.ctx_size - context.len());
        let mut made = Vec::new();
        while made.len() < most {
            let (token, verdict) = next_token(&context);
            context.push(token);
            made.push(token);
            if verdict == Verdict::Ends {
                break;
            }
        }
        made
    }
}

proptest! {
    #[test]
    fn every_text_is_the_one_it_gets_alone(limits in limits(), events in events()) {
        let mut world = World::new(limits);
        let mut disturbed = false;
        for event in events {
            match event {
                Event::Submit { common, own, most } => world.submit(common, own, most),
                Event::Cancel(which) if world.next_id > 0 => {
                    let id = which.index(usize::try_from(world.next_id).unwrap()) as u64;
                    world.cancel(id);
                }
                Event::Cancel(_) | Event::Step => world.step(0, false),
                Event::NoRoom(times) => {
                    world.step(times, false);
                    disturbed = true;
                }
                Event::Break => {
                    world.step(0, true);
                    disturbed = true;
                }
            }
            world.idle_cells_are_bounded();
        }
        for _ in 0..20_000 {
            if world.scheduler.running() + world.scheduler.waiting() == 0 {
                break;
            }
            world.step(0, false);
        }
        for (id, followed) in &world.all {
            prop_assert_eq!(followed.ends, 1, "generation {} ends exactly once", id);
            let alone = world.alone(followed);
            if followed.cancelled || disturbed {
                prop_assert!(alone.starts_with(&followed.made));
            } else {
                prop_assert_eq!(&followed.made, &alone);
            }
        }
    }
}

#[test]
fn a_cancel_in_the_middle_of_a_prompt_frees_the_sequence_at_once() {
    let limits = Limits {
        sequences: 1,
        batch: 64,
        ctx_size: 4_096,
        idle_cells: 9_999,
        cutting: Cutting::Anywhere,
    };
    let mut scheduler = Scheduler::new(limits);
    scheduler.submit(Waiting { id: 1, ticket: 1, prompt: vec![5; 2_000], most: 9 });
    scheduler.submit(Waiting { id: 2, ticket: 2, prompt: vec![5; 100], most: 9 });
    assert_eq!(scheduler.admit().unwrap().id, 1);
    assert_eq!(scheduler.plan().len(), 32);
    scheduler.advance(&[], Duration::from_millis(1));
    assert_eq!(scheduler.cancel(1), Some(Cancelled::Running(0)));
    let next = scheduler.admit().unwrap();
    assert_eq!((next.id, next.cached), (2, 32));
    assert_eq!(scheduler.cancel(1), None);
}

#[test]
fn writers_come_first_and_prompts_share_the_rest() {
    let limits = Limits {
        sequences: 3,
        batch: 21,
        ctx_size: 4_096,
        idle_cells: 0,
        cutting: Cutting::Anywhere,
    };
    let mut scheduler = Scheduler::new(limits);
    scheduler.submit(Waiting { id: 1, ticket: 1, prompt: vec![5; 2], most: 9 });
    scheduler.admit().unwrap();
    scheduler.plan();
    let sampled = Sampled { seq: 0, token: 7, verdict: Verdict::GoesOn };
    scheduler.advance(&[sampled], Duration::from_micros(10));
    scheduler.submit(Waiting { id: 2, ticket: 2, prompt: vec![6; 500], most: 9 });
    scheduler.submit(Waiting { id: 3, ticket: 3, prompt: vec![7; 4], most: 9 });
    while scheduler.admit().is_some() {}
    let of = |batch: &[Entry], seq: SeqIdx| batch.iter().filter(|e| e.seq == seq).count();
    let batch = scheduler.plan().to_vec();
    assert_eq!(batch[0], Entry { token: 7, position: 2, seq: 0, wants_logits: true });
    assert_eq!((of(&batch, 0), of(&batch, 1), of(&batch, 2)), (1, 16, 4));
}
