//! Finds stop strings in a text that arrives in pieces, exactly or without regard to case.
//!
//! The stop string that *ends* first wins, then the longer one: choosing the one that starts first
//! would make the result depend on where the text happened to be cut into pieces.
//!
//! Works character by character with one automaton a string (Knuth, Morris, Pratt), so the cost of a
//! character does not depend on what is held back, and case folding never shifts byte offsets.

use crate::domain::sampling::Stops;

/// Watches a text for stop strings.
#[derive(Debug, Default)]
pub struct StopMatcher {
    patterns: Vec<Pattern>,
}

/// A stop string that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    /// Which one: an index for [`StopMatcher::stop`].
    pub stop: usize,
    /// Where it ends, in bytes of the text just given.
    pub end: usize,
    /// Its length in characters of the text.
    pub chars: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Exact,
    Folded,
}

#[derive(Debug)]
struct Pattern {
    /// As the client wrote it.
    stop: String,
    case: Case,
    chars: Vec<char>,
    /// For each length: the longest proper prefix that is also a suffix of the first so many characters.
    fallback: Vec<usize>,
    /// Characters at the end of the text that are the beginning of this string.
    matched: usize,
}

impl StopMatcher {
    /// A matcher for these strings; empty ones are ignored.
    pub fn new(stops: &Stops) -> Self {
        let exact = stops.exact.iter().map(|stop| Pattern::new(stop, Case::Exact));
        let folded = stops.any_case.iter().map(|stop| Pattern::new(stop, Case::Folded));
        Self { patterns: exact.chain(folded).filter(|p| !p.chars.is_empty()).collect() }
    }

    /// Whether there is nothing to watch for.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Reads the next piece of the text up to the first stop string.
    pub fn scan(&mut self, text: &str) -> Option<Met> {
        if self.patterns.is_empty() {
            return None;
        }
        for (at, char) in text.char_indices() {
            let lower = fold(char);
            let mut met: Option<Met> = None;
            for (stop, pattern) in self.patterns.iter_mut().enumerate() {
                let chars = pattern.chars.len();
                let longer = met.is_none_or(|other| chars > other.chars);
                if pattern.step(char, lower) && longer {
                    met = Some(Met { stop, end: at + char.len_utf8(), chars });
                }
            }
            if met.is_some() {
                return met;
            }
        }
        None
    }

    /// How many characters at the end of the text may be the beginning of a stop string.
    pub fn open_chars(&self) -> usize {
        self.patterns.iter().map(|pattern| pattern.matched).max().unwrap_or(0)
    }

    /// A stop string as the client wrote it.
    pub fn stop(&self, met: Met) -> &str {
        &self.patterns[met.stop].stop
    }
}

impl Pattern {
    fn new(stop: &str, case: Case) -> Self {
        let chars: Vec<char> = match case {
            Case::Exact => stop.chars().collect(),
            Case::Folded => stop.chars().map(fold).collect(),
        };
        let mut fallback = vec![0; chars.len() + 1];
        let mut length = 0;
        for at in 1..chars.len() {
            while length > 0 && chars[at] != chars[length] {
                length = fallback[length];
            }
            if chars[at] == chars[length] {
                length += 1;
            }
            fallback[at + 1] = length;
        }
        Self { stop: stop.to_owned(), case, chars, fallback, matched: 0 }
    }

    /// Reads one character; true when the string is complete with it.
    fn step(&mut self, exact: char, folded: char) -> bool {
        let char = match self.case {
            Case::Exact => exact,
            Case::Folded => folded,
        };
        while self.matched > 0 && self.chars[self.matched] != char {
            self.matched = self.fallback[self.matched];
        }
        if self.chars[self.matched] == char {
            self.matched += 1;
        }
        let complete = self.matched == self.chars.len();
        if complete {
            self.matched = self.fallback[self.matched];
        }
        complete
    }
}

/// Lower case of one character, where that is one character too (`İ` stays).
fn fold(char: char) -> char {
    if char.is_ascii() {
        return char.to_ascii_lowercase();
    }
    let mut lower = char.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(single), None) => single,
        _ => char,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(exact: &[&str], any_case: &[&str]) -> StopMatcher {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        StopMatcher::new(&Stops { exact: owned(exact), any_case: owned(any_case) })
    }

    #[test]
    fn the_string_that_ends_first_wins_then_the_longer() {
        let mut stops = matcher(&["abcd", "bc", "abc"], &[]);
        let met = stops.scan("xabcd").unwrap();
        assert_eq!((stops.stop(met), met.end, met.chars), ("abc", 4, 3));
    }

    #[test]
    fn a_stop_string_over_a_border_is_met() {
        let mut stops = matcher(&["\nUser:"], &[]);
        assert_eq!(stops.scan("Hi.\nUs"), None);
        assert_eq!(stops.open_chars(), 3);
        assert_eq!(stops.scan("er: you"), Some(Met { stop: 0, end: 3, chars: 6 }));
    }

    #[test]
    fn a_false_start_does_not_hide_a_true_one() {
        let mut stops = matcher(&["aab"], &[]);
        assert_eq!(stops.scan("aaa"), None);
        assert_eq!(stops.open_chars(), 2);
        assert!(stops.scan("b").is_some());
    }

    #[test]
    fn anti_prompts_do_not_mind_case_and_stops_do() {
        let mut stops = matcher(&["STOP"], &["!@> Éric:"]);
        assert_eq!(stops.scan("stop Stop "), None);
        let met = stops.scan("!@> éRIC: x").unwrap();
        assert_eq!((stops.stop(met), met.end), ("!@> Éric:", "!@> éRIC:".len()));
    }

    #[test]
    fn letters_whose_lower_case_is_longer_do_not_shift_anything() {
        // The lower case of this letter is two characters and three bytes.
        let mut stops = matcher(&[], &["X"]);
        let met = stops.scan("İİx").unwrap();
        assert_eq!(met.end, "İİx".len());
    }

    #[test]
    fn without_stop_strings_nothing_is_held_back() {
        let mut stops = matcher(&[""], &[""]);
        assert!(stops.is_empty());
        assert_eq!((stops.scan("anything"), stops.open_chars()), (None, 0));
    }
}
