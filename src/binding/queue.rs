//! The queue of one model: bounded, and fair between clients.
//!
//! Pure. Clients take turns: the next entry is always the oldest one of the client that was served longest
//! ago, so one that sends a hundred prompts waits behind one that sends a single prompt. People go before
//! programs, but a program is never passed over more than [`IN_A_ROW`] times; what nobody waits for goes
//! last.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::generation::Priority;

/// Tells clients apart; entries of one client and priority keep their order.
pub type ClientKey = u64;

/// Entries of people that go before one of a program.
pub const IN_A_ROW: u32 = 4;

/// A bounded queue, fair between clients.
#[derive(Debug)]
pub struct FairQueue<T> {
    interactive: Lane<T>,
    api: Lane<T>,
    background: Lane<T>,
    /// Entries of people that went before programs, one after the other.
    in_a_row: u32,
    /// Entries that go before all others, whoever's they are.
    urgent: VecDeque<T>,
    limits: Limits,
}

/// Entries of one priority.
#[derive(Debug)]
struct Lane<T> {
    /// Entries of each client, oldest first; a client without entries has no key here.
    lines: BTreeMap<ClientKey, VecDeque<T>>,
    /// Clients with entries, next to be served first.
    turns: VecDeque<ClientKey>,
}

/// How much a [`FairQueue`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries in all.
    pub total: usize,
    /// Entries of one client.
    pub per_client: usize,
}

/// The queue is full, or this client's share of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} generations are already waiting")]
pub struct Full {
    /// How many wait.
    pub waiting: usize,
}

impl<T> FairQueue<T> {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        let (interactive, api, background) = (Lane::new(), Lane::new(), Lane::new());
        Self { interactive, api, background, in_a_row: 0, urgent: VecDeque::new(), limits }
    }

    /// Adds an entry at the end of its client's line.
    ///
    /// # Errors
    /// [`Full`] when the queue or the client's share of it is full.
    pub fn push(&mut self, client: ClientKey, priority: Priority, entry: T) -> Result<(), Full> {
        let waiting = self.len();
        let own = self.lanes().iter().map(|lane| lane.of(client)).sum();
        if waiting >= self.limits.total {
            return Err(Full { waiting });
        }
        if own >= self.limits.per_client {
            return Err(Full { waiting: own });
        }
        let lane = match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Api => &mut self.api,
            Priority::Background => &mut self.background,
        };
        lane.push(client, entry);
        Ok(())
    }

    /// Puts back an entry that was taken but not served; it goes before all others, in the order
    /// of these calls, and no limit applies: it had its place already.
    pub fn put_back(&mut self, entry: T) {
        self.urgent.push_back(entry);
    }

    /// Takes the next entry.
    pub fn pop(&mut self) -> Option<T> {
        if let Some(entry) = self.urgent.pop_front() {
            return Some(entry);
        }
        let people = !self.interactive.is_empty();
        let programs = !self.api.is_empty();
        let (lane, in_a_row) = match choose(people, programs, self.in_a_row) {
            (Priority::Interactive, in_a_row) => (&mut self.interactive, in_a_row),
            (Priority::Api, in_a_row) => (&mut self.api, in_a_row),
            (Priority::Background, in_a_row) => (&mut self.background, in_a_row),
        };
        self.in_a_row = in_a_row;
        lane.pop()
    }

    /// Whether the next entry is one that nobody waits for.
    pub fn is_background_next(&self) -> bool {
        self.urgent.is_empty() && self.interactive.is_empty() && self.api.is_empty()
    }

    /// Takes out the entries that `unwanted` names.
    pub fn remove(&mut self, mut unwanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut gone = Vec::new();
        sweep(&mut self.urgent, &mut unwanted, &mut gone);
        for lane in [&mut self.interactive, &mut self.api, &mut self.background] {
            lane.remove(&mut unwanted, &mut gone);
        }
        gone
    }

    /// How many entries wait.
    pub fn len(&self) -> usize {
        self.urgent.len() + self.lanes().iter().map(|lane| lane.len()).sum::<usize>()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries in the order in which [`FairQueue::pop`] would give them.
    pub fn in_order(&self) -> Vec<&T> {
        let mut order: Vec<&T> = self.urgent.iter().collect();
        let [mut people, mut programs, background] =
            self.lanes().map(|lane| lane.in_order().into_iter().peekable());
        let mut in_a_row = self.in_a_row;
        loop {
            let (next, after) =
                choose(people.peek().is_some(), programs.peek().is_some(), in_a_row);
            in_a_row = after;
            match next {
                Priority::Interactive => order.extend(people.next()),
                Priority::Api => order.extend(programs.next()),
                Priority::Background => break,
            }
        }
        order.extend(background);
        order
    }

    fn lanes(&self) -> [&Lane<T>; 3] {
        [&self.interactive, &self.api, &self.background]
    }
}

/// Whose turn it is, by whether people and programs wait, and how many people went before programs then.
fn choose(people: bool, programs: bool, in_a_row: u32) -> (Priority, u32) {
    match (people, programs) {
        (true, true) if in_a_row < IN_A_ROW => (Priority::Interactive, in_a_row + 1),
        (true, false) => (Priority::Interactive, 0),
        (_, true) => (Priority::Api, 0),
        (false, false) => (Priority::Background, 0),
    }
}

/// Moves the unwanted entries of a line to `gone`; the others keep their order.
fn sweep<T>(line: &mut VecDeque<T>, unwanted: &mut impl FnMut(&T) -> bool, gone: &mut Vec<T>) {
    for _ in 0..line.len() {
        if let Some(entry) = line.pop_front() {
            if unwanted(&entry) {
                gone.push(entry);
            } else {
                line.push_back(entry);
            }
        }
    }
}

impl<T> Lane<T> {
    fn new() -> Self {
        Self { lines: BTreeMap::new(), turns: VecDeque::new() }
    }

    fn of(&self, client: ClientKey) -> usize {
        self.lines.get(&client).map_or(0, VecDeque::len)
    }

    fn push(&mut self, client: ClientKey, entry: T) {
        if self.of(client) == 0 {
            self.turns.push_back(client);
        }
        self.lines.entry(client).or_default().push_back(entry);
    }

    fn pop(&mut self) -> Option<T> {
        let client = self.turns.pop_front()?;
        let line = self.lines.get_mut(&client)?;
        let entry = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        entry
    }

    fn remove(&mut self, unwanted: &mut impl FnMut(&T) -> bool, gone: &mut Vec<T>) {
        for line in self.lines.values_mut() {
            sweep(line, unwanted, gone);
        }
        self.lines.retain(|_, line| !line.is_empty());
        let lines = &self.lines;
        self.turns.retain(|client| lines.contains_key(client));
    }

    fn len(&self) -> usize {
        self.lines.values().map(VecDeque::len).sum()
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn in_order(&self) -> Vec<&T> {
        let longest = self.lines.values().map(VecDeque::len).max().unwrap_or(0);
        (0..longest)
            .flat_map(|round| {
                self.turns.iter().filter_map(move |client| self.lines.get(client)?.get(round))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Priority::{Api, Background, Interactive};
    use proptest::prelude::*;

    fn queue() -> FairQueue<(u64, usize)> {
        FairQueue::new(Limits { total: 8, per_client: 4 })
    }

    #[test]
    fn one_client_cannot_push_another_back() {
        let mut queue = queue();
        for n in 0..4 {
            queue.push(1, Interactive, (1, n)).unwrap();
        }
        queue.push(2, Interactive, (2, 0)).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(1, 0), (2, 0), (1, 1), (1, 2), (1, 3)]);
    }

    #[test]
    fn people_go_first_and_programs_are_not_forgotten() {
        let mut queue = FairQueue::new(Limits { total: 20, per_client: 20 });
        queue.push(9, Background, 'b').unwrap();
        for _ in 0..3 {
            queue.push(8, Api, 'a').unwrap();
        }
        for _ in 0..6 {
            queue.push(7, Interactive, 'i').unwrap();
        }
        assert!(!queue.is_background_next());
        assert_eq!(queue.in_order().into_iter().collect::<String>(), "iiiiaiiaab");
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<String>(), "iiiiaiiaab");
    }

    #[test]
    fn both_limits_hold() {
        let mut queue = queue();
        for n in 0..4 {
            queue.push(1, Interactive, (1, n)).unwrap();
        }
        assert_eq!(queue.push(1, Api, (1, 4)), Err(Full { waiting: 4 }));
        for n in 0..4 {
            queue.push(n + 2, Api, (n + 2, 0)).unwrap();
        }
        assert_eq!(queue.push(9, Background, (9, 0)), Err(Full { waiting: 8 }));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_once_and_in_order_of_each_client(
            steps in prop::collection::vec((0_u64..4, 0_u8..4), 0..60),
        ) {
            let mut queue = queue();
            let (mut counts, mut expected, mut taken) = ([0_usize; 4], 0_usize, Vec::new());
            for (client, action) in steps {
                if action < 3 {
                    let number = counts[usize::try_from(client).unwrap()];
                    let priority = [Interactive, Api, Background, Api][usize::try_from(client).unwrap()];
                    if queue.push(client, priority, (client, number)).is_ok() {
                        counts[usize::try_from(client).unwrap()] += 1;
                        expected += 1;
                    }
                } else {
                    let predicted = queue.in_order().first().map(|entry| **entry);
                    let popped = queue.pop();
                    prop_assert_eq!(popped, predicted);
                    taken.extend(popped);
                }
                prop_assert!(queue.len() <= 8);
            }
            let rest: Vec<_> = queue.in_order().into_iter().copied().collect();
            let drained: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
            prop_assert_eq!(&rest, &drained);
            taken.extend(drained);
            prop_assert_eq!(taken.len(), expected);
            for client in 0..4 {
                let own: Vec<_> = taken.iter().filter(|e| e.0 == client).map(|e| e.1).collect();
                prop_assert_eq!(own.clone(), (0..own.len()).collect::<Vec<_>>());
            }
        }
    }
}
