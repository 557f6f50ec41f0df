//! What is to be written to a process: control lines before work lines, at line borders.
//!
//! Bounded from outside: work lines by the credits of the instance, control lines by its limits on
//! requests. The writer task takes lines out; nobody waits to put one in.

use std::collections::VecDeque;

/// Two queues of lines, each line with its line break.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    control: VecDeque<Vec<u8>>,
    work: VecDeque<Vec<u8>>,
}

impl Outgoing {
    /// Adds a line that overtakes all work: `cancel`, `unload`, questions.
    pub(super) fn control(&mut self, line: Vec<u8>) {
        self.control.push_back(line);
    }

    /// Adds a `generate` line.
    pub(super) fn work(&mut self, line: Vec<u8>) {
        self.work.push_back(line);
    }

    /// Takes the next line to write.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        self.control.pop_front().or_else(|| self.work.pop_front())
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
        outgoing.work(vec![1]);
        outgoing.work(vec![2]);
        outgoing.control(vec![3]);
        let order: Vec<_> = std::iter::from_fn(|| outgoing.next()).collect();
        assert_eq!(order, [vec![3], vec![1], vec![2]]);
    }
}
