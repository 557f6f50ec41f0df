//! The scheduler's guarantees, over random loads.

mod world;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use world::{Followed, World};

/// What happens before a step.
#[derive(Clone, Debug)]
enum Event {
    /// A prompt: so many tokens of one of two common beginnings, so many of its own; most tokens to make.
    Submit { common: usize, own: usize, most: usize, adapters: Adapters, shifts: bool },
    /// A prompt that goes on where an earlier generation ended.
    GoOn(prop::sample::Index),
    /// Cancels one of the generations so far.
    Cancel(prop::sample::Index),
    /// Nothing; just a step.
    Step,
    /// The next step finds no room this many times.
    NoRoom(usize),
    /// The next state cannot be read, put back or given.
    StateFails,
    /// The next step breaks the context.
    Break,
}

fn events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    let submit = (0_usize..300, 1_usize..60, 1_usize..40, 0_u32..8, 0_u32..12);
    let event = prop_oneof![
        6 => submit.prop_map(|(common, own, most, adapters, shifts)| Event::Submit {
            common,
            own,
            most,
            adapters: adapters.saturating_sub(6),
            shifts: shifts == 0,
        }),
        4 => any::<prop::sample::Index>().prop_map(Event::GoOn),
        2 => any::<prop::sample::Index>().prop_map(Event::Cancel),
        40 => Just(Event::Step),
        1 => (1_usize..6).prop_map(Event::NoRoom),
        1 => Just(Event::StateFails),
        1 => Just(Event::Break),
    ];
    prop::collection::vec(event, 1..most)
}

fn limits() -> impl Strategy<Value = Limits> {
    let cutting = prop_oneof![4 => Just(Cutting::Anywhere), 1 => Just(Cutting::WholeOnly)];
    let host_bytes = prop_oneof![Just(0), Just(3_000), Just(100_000)];
    let running = (1_usize..5, 0_usize..4, 0_usize..8);
    (running, 1_usize..90, 400_usize..1_600, 0_usize..500, host_bytes, cutting).prop_map(
        |((running, kept, drafts), batch, cells, idle_cells, host_bytes, cutting)| Limits {
            running,
            sequences: running + kept,
            batch,
            outputs: running * (1 + drafts),
            ctx_size: 400,
            cells,
            idle_cells,
            host_bytes,
            cutting,
        },
    )
}

impl World {
    /// Does what happens; true when texts may be shorter than alone from now on.
    fn suffer(&mut self, event: &Event) -> bool {
        let past = |index: &prop::sample::Index| index.index(self.all.len()) as u64;
        match *event {
            Event::Submit { common, own, most, adapters, shifts } => {
                let kind = Token::try_from(self.all.len() % 3).unwrap();
                let common = (0..common).map(|n| Token::try_from(n).unwrap() + kind % 2 * 700);
                let own = (0..own).map(|n| Token::try_from(1_500 + n * 7).unwrap() + kind);
                let prompt = common.chain(own).collect();
                let most = if shifts { most * 10 } else { most };
                self.submit(Followed { prompt, most, adapters, shifts, ..Followed::default() });
            }
            Event::GoOn(ref which) if !self.all.is_empty() => {
                let earlier = &self.all[&past(which)];
                let said = earlier.prompt.iter().chain(&earlier.made).copied();
                let prompt: Vec<Token> = said.chain([7, 8, 9]).take(399).collect();
                let adapters = earlier.adapters;
                self.submit(Followed { prompt, most: 9, adapters, ..Followed::default() });
            }
            Event::Cancel(ref which) if !self.all.is_empty() => self.cancel(past(which)),
            Event::GoOn(_) | Event::Cancel(_) | Event::Step => self.step(0, false),
            Event::NoRoom(times) => {
                self.step(times, false);
                return true;
            }
            Event::StateFails => {
                self.state_fails = true;
                return true;
            }
            Event::Break => {
                self.step(0, true);
                return true;
            }
        }
        false
    }
}

fn run(limits: Limits, events: Vec<Event>) {
    let mut world = World::new(limits);
    let mut disturbed = false;
    for event in events {
        disturbed |= world.suffer(&event);
    }
    world.check(disturbed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_text_is_the_one_it_gets_alone(limits in limits(), events in events(200)) {
        run(limits, events);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn ten_thousand_operations(
        limits in limits(),
        events in prop::collection::vec(events(100), 250),
    ) {
        run(limits, events.concat());
    }
}

fn roomy(running: usize, kept: usize) -> Limits {
    Limits {
        running,
        sequences: running + kept,
        batch: 64,
        outputs: running,
        ctx_size: 4_096,
        cells: 16_384,
        idle_cells: 9_999,
        host_bytes: 1 << 20,
        cutting: Cutting::Anywhere,
    }
}

fn asks(prompt: Vec<Token>) -> Followed {
    Followed { prompt, most: 5, ..Followed::default() }
}

/// Steps until nothing runs.
fn finish(world: &mut World) {
    while world.scheduler.running() + world.scheduler.waiting() > 0 {
        world.step(0, false);
    }
}

#[test]
fn a_hundred_chats_with_one_personality_read_it_once() {
    for (at_once, idle_cells) in [(1, 9_999), (4, 9_999), (4, 0)] {
        let mut world = World::new(Limits { idle_cells, ..roomy(4, 4) });
        for chat in 0..100 {
            let own = (0..20).map(|n| 2_000 + chat * 20 + n);
            world.submit(asks((0..1_000).chain(own).collect()));
            if chat % at_once == 0 {
                finish(&mut world);
            }
        }
        finish(&mut world);
        let most = 1_000 + 100 * (20 + 5) + 100 * 32;
        assert!(world.decoded < most, "{} tokens decoded for {at_once} at once", world.decoded);
        world.check(false);
    }
}

#[test]
fn a_chat_that_left_the_cache_comes_back_from_the_host() {
    let mut world = World::new(Limits { idle_cells: 0, ..roomy(1, 0) });
    world.submit(asks((0..500).collect()));
    finish(&mut world);
    world.submit(asks((3_000..3_500).collect()));
    finish(&mut world);
    let before = world.decoded;
    world.submit(asks((0..510).collect()));
    finish(&mut world);
    assert!(world.decoded - before < 10 + 5 + 32, "{} tokens", world.decoded - before);
    world.check(false);
}

#[test]
fn a_chat_that_was_kept_is_not_read_again_by_the_next_worker() {
    let mut world = World::new(roomy(2, 2));
    world.submit(asks((0..500).collect()));
    finish(&mut world);
    world.step(0, false);
    let ends: Vec<usize> = world.on_disk.iter().map(|block| block.tokens.len()).collect();
    assert_eq!(ends, [128, 256, 384], "whole blocks only, each once");
    let mut next = World::new(roomy(2, 2));
    next.scheduler.take_stored(world.on_disk[2].clone());
    assert_eq!(next.scheduler.kept().1, 0, "nothing is taken whose beginning is not here");
    for block in world.on_disk {
        next.scheduler.take_stored(block);
    }
    next.submit(asks((0..500).collect()));
    finish(&mut next);
    assert!(next.decoded < 500 - 384 + 10, "{} tokens", next.decoded);
    next.check(false);
}

#[test]
fn a_cancel_in_the_middle_of_a_prompt_frees_the_sequence_at_once() {
    let mut scheduler = Scheduler::new(roomy(1, 0), Costs::default());
    let waiting = |id: u64, length: usize| Waiting {
        id,
        ticket: id,
        prompt: vec![5; length],
        most: 9,
        adapters: 0,
        on_full: OnFull::End,
        stores: false,
    };
    scheduler.submit(waiting(1, 2_000));
    scheduler.submit(waiting(2, 100));
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
    let mut scheduler = Scheduler::new(Limits { batch: 21, ..roomy(3, 0) }, Costs::default());
    let submit = |scheduler: &mut Scheduler, id: u64, token: Token, length: usize| {
        let prompt = vec![token; length];
        let on_full = OnFull::End;
        scheduler.submit(Waiting {
            id,
            ticket: id,
            prompt,
            most: 9,
            adapters: 0,
            on_full,
            stores: false,
        });
    };
    submit(&mut scheduler, 1, 5, 2);
    scheduler.admit().unwrap();
    scheduler.plan();
    let sampled = Sampled { seq: 0, token: 7, verdict: Verdict::GoesOn };
    scheduler.advance(&[sampled], Duration::from_micros(10));
    submit(&mut scheduler, 2, 6, 500);
    submit(&mut scheduler, 3, 7, 4);
    while scheduler.admit().is_some() {}
    let of = |batch: &[Entry], seq: SeqIdx| batch.iter().filter(|e| e.seq == seq).count();
    let batch = scheduler.plan().to_vec();
    assert_eq!(batch[0], Entry { token: 7, position: 2, seq: 0, wants_logits: true });
    assert_eq!((of(&batch, 0), of(&batch, 1), of(&batch, 2)), (1, 16, 4));
}
