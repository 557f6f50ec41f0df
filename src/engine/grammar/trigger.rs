//! Triggers of a lazy grammar: texts and tokens at which it begins to hold.
//!
//! Patterns are matched by the `regex` crate, in time proportional to the text; what it does not know, such
//! as looking ahead, is refused.

use regex::bytes::{Regex, RegexBuilder};

use crate::engine::grammar::GrammarError;
use crate::engine::scheduler::Token;

/// Most triggers of one grammar.
const MOST: usize = 64;
/// Longest word or pattern, in bytes.
const MOST_BYTES: usize = 1_024;
/// Most memory of a compiled pattern.
const PATTERN_MEMORY: usize = 1 << 20;
/// Text that is kept to look for triggers; older text is forgotten.
const KEPT_BYTES: usize = 64 << 10;

/// What begins a grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// This text.
    Word(String),
    /// What matches this pattern; the grammar begins at its first group, or else where the match begins.
    Pattern(String),
    /// The same, but the pattern must match the whole text so far.
    WholePattern(String),
    /// This token, and the bytes that the grammar sees for it.
    Token(Token, Vec<u8>),
}

/// Compiled triggers.
#[derive(Clone, Debug, Default)]
pub struct Triggers {
    patterns: Vec<(Regex, Scope)>,
    tokens: Vec<(Token, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Anywhere,
    Whole,
}

impl Triggers {
    /// Compiles triggers.
    ///
    /// # Errors
    /// [`GrammarError`] when there are none or too many, or when a pattern cannot be used.
    pub fn new(triggers: Vec<Trigger>) -> Result<Self, GrammarError> {
        if triggers.is_empty() {
            return Err(GrammarError::new("a lazy grammar needs triggers"));
        }
        if triggers.len() > MOST {
            let given = triggers.len();
            return Err(GrammarError(format!(
                "there are {given} triggers; at most {MOST} are read"
            )));
        }
        let mut compiled = Self::default();
        for trigger in triggers {
            match trigger {
                Trigger::Word(word) => compiled.add(&regex::escape(&word), Scope::Anywhere)?,
                Trigger::Pattern(pattern) => {
                    // llama.cpp's way to say the whole text.
                    let whole = pattern.starts_with('^') && pattern.ends_with('$');
                    compiled.add(&pattern, if whole { Scope::Whole } else { Scope::Anywhere })?;
                }
                Trigger::WholePattern(pattern) => {
                    compiled.add(&format!("^(?:{pattern})$"), Scope::Whole)?;
                }
                Trigger::Token(token, bytes) => compiled.tokens.push((token, bytes)),
            }
        }
        Ok(compiled)
    }

    fn add(&mut self, pattern: &str, scope: Scope) -> Result<(), GrammarError> {
        if pattern.is_empty() || pattern.len() > MOST_BYTES {
            let text = format!("a trigger has {} bytes; expected 1 to {MOST_BYTES}", pattern.len());
            return Err(GrammarError(text));
        }
        let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_MEMORY).build();
        let compiled = compiled.map_err(|error| {
            let pattern: String = pattern.chars().take(40).collect();
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default();
            GrammarError(format!("the trigger pattern `{pattern}` cannot be used: {reason}"))
        })?;
        self.patterns.push((compiled, scope));
        Ok(())
    }

    /// Tokens that trigger, with the bytes that the grammar sees for them.
    pub(super) fn tokens(&self) -> &[(Token, Vec<u8>)] {
        &self.tokens
    }
}

/// A text in which triggers are looked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    text: Vec<u8>,
    /// Whether its beginning was forgotten.
    cut: bool,
}

impl Watched {
    /// Adds text; returns what the grammar sees first when a trigger is met.
    pub(super) fn push(&mut self, bytes: &[u8], triggers: &Triggers) -> Option<Vec<u8>> {
        self.text.extend_from_slice(bytes);
        if self.text.len() > KEPT_BYTES {
            self.text.drain(..self.text.len() - KEPT_BYTES / 2);
            self.cut = true;
        }
        let start = triggers.patterns.iter().find_map(|(pattern, scope)| {
            if *scope == Scope::Whole && self.cut {
                return None;
            }
            let found = pattern.captures(&self.text)?;
            let group = found.iter().skip(1).flatten().find(|group| !group.is_empty());
            group.or_else(|| found.get(0)).map(|found| found.start())
        });
        start.map(|start| self.text.split_off(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triggers(triggers: Vec<Trigger>) -> Result<Triggers, String> {
        Triggers::new(triggers).map_err(|error| error.0)
    }

    #[test]
    fn the_grammar_begins_where_the_trigger_does() {
        let word = triggers(vec![Trigger::Word("<a>".into())]).unwrap();
        let mut watched = Watched::default();
        assert_eq!(watched.push(b"x <", &word), None);
        assert_eq!(watched.push(b"a> y", &word).as_deref(), Some(&b"<a> y"[..]));
        let group = triggers(vec![Trigger::Pattern("say (\\{.*)".into())]).unwrap();
        assert_eq!(Watched::default().push(b"I say {1", &group).as_deref(), Some(&b"{1"[..]));
        let whole = triggers(vec![Trigger::WholePattern("a+".into())]).unwrap();
        assert_eq!(Watched::default().push(b"baa", &whole), None);
        assert_eq!(Watched::default().push(b"aa", &whole).as_deref(), Some(&b"aa"[..]));
    }

    #[test]
    fn old_text_is_forgotten() {
        let whole = triggers(vec![Trigger::Pattern("^a*b$".into())]).unwrap();
        let mut watched = Watched::default();
        assert_eq!(watched.push(&vec![b'a'; 2 * KEPT_BYTES], &whole), None);
        assert!(watched.text.len() <= KEPT_BYTES);
        assert_eq!(watched.push(b"b", &whole), None, "its beginning is not known any more");
    }

    #[test]
    fn patterns_that_cannot_be_used_are_named() {
        let wrong = |pattern: &str| triggers(vec![Trigger::Pattern(pattern.into())]).unwrap_err();
        assert!(wrong("(a").contains("`(a`"));
        assert!(wrong("(?=a)b").contains("cannot be used"));
        assert!(wrong("(((a{1000}){1000}){1000})").contains("size limit"));
        assert!(wrong(&"a".repeat(2_000)).contains("2000 bytes"));
        assert!(wrong("").contains("0 bytes"));
        assert!(triggers(vec![]).unwrap_err().contains("needs triggers"));
        assert!(triggers(vec![Trigger::Token(1, vec![]); 65]).unwrap_err().contains("65"));
    }
}
