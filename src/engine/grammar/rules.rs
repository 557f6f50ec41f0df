//! A grammar as the machine reads it: one flat list of elements.

use crate::engine::scheduler::Token;

/// No upper limit of a repetition.
pub(super) const ENDLESS: u32 = u32::MAX;
/// A place that holds [`Element::End`] in every grammar.
pub(super) const END: u32 = 0;

/// One step of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// The end of an alternative.
    End,
    /// One character of this class.
    Class(u32),
    /// Exactly this token.
    Token(Token),
    /// Any token but this.
    NotToken(Token),
    /// A rule, once.
    Rule(u32),
    /// A rule, `least` to `most` times.
    Repeat {
        /// The rule.
        rule: u32,
        /// At least so often.
        least: u32,
        /// At most so often.
        most: u32,
    },
}

/// A set of characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Class(Vec<(u32, u32)>);

impl Class {
    /// Characters within these ranges, both ends included, or all others.
    pub(super) fn new(mut ranges: Vec<(u32, u32)>, negated: bool) -> Self {
        ranges.retain(|(low, high)| low <= high);
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (low, high) in ranges {
            match merged.last_mut() {
                Some((_, end)) if low <= end.saturating_add(1) => *end = high.max(*end),
                Some(_) | None => merged.push((low, high)),
            }
        }
        if !negated {
            return Self(merged);
        }
        let mut others = Vec::new();
        let mut from = 0;
        for (low, high) in merged {
            if from < low {
                others.push((from, low - 1));
            }
            from = high.saturating_add(1);
        }
        if from <= u32::from(char::MAX) {
            others.push((from, u32::from(char::MAX)));
        }
        Self(others)
    }

    /// Whether one of the characters from `low` to `high` is in it.
    pub(super) fn meets(&self, low: u32, high: u32) -> bool {
        let at = self.0.partition_point(|(_, end)| *end < low);
        self.0.get(at).is_some_and(|(start, _)| *start <= high)
    }
}

/// A checked grammar; immutable.
#[derive(Debug)]
pub struct Rules {
    pub(super) elements: Vec<Element>,
    pub(super) classes: Vec<Class>,
    /// Where the alternatives of each rule start.
    pub(super) starts: Vec<Vec<u32>>,
    pub(super) root: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_know_their_characters() {
        let class = Class::new(vec![(97, 99), (98, 101), (48, 57), (9, 3)], false);
        assert_eq!(class, Class(vec![(48, 57), (97, 101)]));
        assert!(class.meets(99, 99) && class.meets(0, 48) && !class.meets(58, 96));
        let others = Class::new(vec![(0, 31), (34, 34)], true);
        assert!(
            others.meets(32, 33) && !others.meets(34, 34) && others.meets(0x10_FFFF, 0x10_FFFF)
        );
        assert!(!Class::new(vec![], false).meets(0, u32::MAX));
        assert!(Class::new(vec![], true).meets(0, 0));
    }
}
