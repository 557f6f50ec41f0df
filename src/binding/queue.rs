//! The queue of one model: bounded, and fair between clients.
//!
//! Pure. Clients take turns: the next entry is always the oldest one of the client that was served longest
//! ago, so one that sends a hundred prompts waits behind one that sends a single prompt.

use std::collections::{BTreeMap, VecDeque};

/// Tells clients apart; entries of one client keep their order.
pub type ClientKey = u64;

/// A bounded queue, fair between clients.
#[derive(Debug)]
pub struct FairQueue<T> {
    /// Entries of each client, oldest first; a client without entries has no key here.
    lines: BTreeMap<ClientKey, VecDeque<T>>,
    /// Clients with entries, next to be served first.
    turns: VecDeque<ClientKey>,
    /// Entries that go before all others, whoever's they are.
    urgent: VecDeque<T>,
    limits: Limits,
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
        Self { lines: BTreeMap::new(), turns: VecDeque::new(), urgent: VecDeque::new(), limits }
    }

    /// Adds an entry at the end of its client's line.
    ///
    /// # Errors
    /// [`Full`] when the queue or the client's share of it is full.
    pub fn push(&mut self, client: ClientKey, entry: T) -> Result<(), Full> {
        let waiting = self.len();
        let own = self.lines.get(&client).map_or(0, VecDeque::len);
        if waiting >= self.limits.total {
            return Err(Full { waiting });
        }
        if own >= self.limits.per_client {
            return Err(Full { waiting: own });
        }
        if own == 0 {
            self.turns.push_back(client);
        }
        self.lines.entry(client).or_default().push_back(entry);
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

    /// Takes out the entries that `unwanted` names.
    pub fn remove(&mut self, mut unwanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut gone = Vec::new();
        let mut sweep = |line: &mut VecDeque<T>| {
            for _ in 0..line.len() {
                if let Some(entry) = line.pop_front() {
                    if unwanted(&entry) {
                        gone.push(entry);
                    } else {
                        line.push_back(entry);
                    }
                }
            }
        };
        sweep(&mut self.urgent);
        for line in self.lines.values_mut() {
            sweep(line);
        }
        self.lines.retain(|_, line| !line.is_empty());
        let lines = &self.lines;
        self.turns.retain(|client| lines.contains_key(client));
        gone
    }

    /// How many entries wait.
    pub fn len(&self) -> usize {
        self.urgent.len() + self.lines.values().map(VecDeque::len).sum::<usize>()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries in the order in which [`FairQueue::pop`] would give them.
    pub fn in_order(&self) -> Vec<&T> {
        let mut order: Vec<&T> = self.urgent.iter().collect();
        let longest = self.lines.values().map(VecDeque::len).max().unwrap_or(0);
        for round in 0..longest {
            order.extend(self.turns.iter().filter_map(|client| self.lines.get(client)?.get(round)));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue() -> FairQueue<(u64, usize)> {
        FairQueue::new(Limits { total: 8, per_client: 4 })
    }

    #[test]
    fn one_client_cannot_push_another_back() {
        let mut queue = queue();
        for n in 0..4 {
            queue.push(1, (1, n)).unwrap();
        }
        queue.push(2, (2, 0)).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(1, 0), (2, 0), (1, 1), (1, 2), (1, 3)]);
    }

    #[test]
    fn both_limits_hold() {
        let mut queue = queue();
        for n in 0..4 {
            queue.push(1, (1, n)).unwrap();
        }
        assert_eq!(queue.push(1, (1, 4)), Err(Full { waiting: 4 }));
        for n in 0..4 {
            queue.push(n + 2, (n + 2, 0)).unwrap();
        }
        assert_eq!(queue.push(9, (9, 0)), Err(Full { waiting: 8 }));
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
                    if queue.push(client, (client, number)).is_ok() {
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
