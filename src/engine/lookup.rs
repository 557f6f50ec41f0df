//! Guesses what a text says next from what it said before, for speculative decoding without a second
//! model (prompt lookup).
//!
//! Where a text repeats itself (code, quotations, lists) the guess is often right, and a step that checks
//! several tokens takes little longer than one of a single token.

use crate::engine::scheduler::Token;

/// Longest end of the text that is looked for.
const LONGEST: usize = 4;
/// Shortest end of the text that is worth a guess.
const SHORTEST: usize = 2;
/// How far back is looked, in tokens: a look takes some microseconds for each thousand.
const FAR: usize = 16_384;

/// What followed the last time when the text ended like now: at most `most` tokens. `text` ends with the
/// token that was chosen last.
pub fn guess(text: &[Token], most: usize) -> &[Token] {
    for length in (SHORTEST..=LONGEST.min(text.len().saturating_sub(1))).rev() {
        let end = &text[text.len() - length..];
        let before = &text[text.len().saturating_sub(FAR)..text.len() - 1];
        let found = before.windows(length).rposition(|window| window == end);
        if let Some(at) = found {
            let next = &text[text.len() - 1 - before.len() + at + length..];
            return &next[..most.min(next.len())];
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_time_counts_and_the_longest_end() {
        assert_eq!(guess(&[1, 2, 3, 4, 9, 9, 2, 3, 5, 7, 1, 2, 3], 3), [4, 9, 9]);
        assert_eq!(guess(&[8, 2, 3, 4, 9, 9, 2, 3, 5, 7, 1, 2, 3], 3), [5, 7, 1]);
        assert_eq!(guess(&[1, 2, 3, 4, 1, 2], 9), [3, 4, 1, 2]);
    }

    #[test]
    fn nothing_is_guessed_where_nothing_repeats() {
        assert!(guess(&[1, 2, 3, 4, 5, 1], 3).is_empty(), "one token is no reason");
        assert!(guess(&[1], 3).is_empty());
        assert!(guess(&[], 3).is_empty());
        assert!(guess(&[1, 2, 1, 2], 0).is_empty());
    }

    #[test]
    fn a_text_of_one_token_goes_on() {
        assert_eq!(guess(&[7; 10], 3), [7], "what followed the last time is the end of the text");
    }
}
