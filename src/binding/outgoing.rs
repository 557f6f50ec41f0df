//! What is to be written to a process: control lines before work lines, at line borders.
//!
//! Bounded from outside: work lines by the credits of the instance, control lines by its limits on
//! requests. The writer task takes lines out; nobody waits to put one in.

use std::collections::VecDeque;

/// Two queues of lines, each line with its line break.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    control: VecDeque<Vec<u8>>,
    /// With the id of its generation.
    work: VecDeque<(u64, Vec<u8>)>,
}

impl Outgoing {
    /// Adds a line that overtakes all work: `cancel`, `unload`, questions.
    pub(super) fn control(&mut self, line: Vec<u8>) {
        self.control.push_back(line);
    }

    /// Adds the `generate` line of a generation.
    pub(super) fn work(&mut self, id: u64, line: Vec<u8>) {
        self.work.push_back((id, line));
    }

    /// Takes the line of a generation back; false when it was written already. A cancel would overtake
    /// it, and the process would not know what to cancel.
    pub(super) fn take_back(&mut self, id: u64) -> bool {
        let before = self.work.len();
        self.work.retain(|(of, _)| *of != id);
        self.work.len() < before
    }

    /// Takes the next line to write.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        self.control.pop_front().or_else(|| self.work.pop_front().map(|(_, line)| line))
    }

    /// Forgets everything; the process is gone.
    pub(super) fn clear(&mut self) {
        self.control.clear();
        self.work.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_goes_before_work() {
        let mut outgoing = Outgoing::default();
        outgoing.work(1, vec![1]);
        outgoing.work(2, vec![2]);
        outgoing.control(vec![3]);
        let order: Vec<_> = std::iter::from_fn(|| outgoing.next()).collect();
        assert_eq!(order, [vec![3], vec![1], vec![2]]);
    }

    #[test]
    fn what_is_not_written_yet_can_be_taken_back() {
        let mut outgoing = Outgoing::default();
        outgoing.work(1, vec![1]);
        assert!(outgoing.take_back(1));
        assert!(!outgoing.take_back(1));
        assert_eq!(outgoing.next(), None);
    }
}
