//! The vocabulary of a model as a table of bytes: what grammars and sequence breakers look through.
//!
//! Made once for a model, by the first generation that needs it.

use std::collections::BTreeSet;

use crate::engine::grammar::mask::Sorted;
use crate::engine::scheduler::Token;

/// Longest rest of a breaker, in tokens; llama.cpp's own limit.
const MOST_TAIL: usize = 20;

/// Bytes of all tokens.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    bytes: Vec<u8>,
    /// Where the bytes of each token end.
    ends: Vec<usize>,
    /// Tokens that end a text.
    final_tokens: Vec<Token>,
    sorted: Sorted,
}

impl Vocabulary {
    /// Adds the next token; control tokens have no bytes.
    pub fn push(&mut self, bytes: &[u8], ends_text: bool) {
        if ends_text {
            self.final_tokens.extend(Token::try_from(self.ends.len()));
        }
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether a token exists.
    pub fn contains(&self, token: Token) -> bool {
        usize::try_from(token).is_ok_and(|at| at < self.len())
    }

    /// Bytes of a token; none for what is no token.
    pub fn bytes(&self, token: Token) -> &[u8] {
        let Some(at) = usize::try_from(token).ok().filter(|at| *at < self.len()) else {
            return &[];
        };
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[at]]
    }

    /// Tokens that end a text.
    pub fn final_tokens(&self) -> &[Token] {
        &self.final_tokens
    }

    /// Tokens with bytes, sorted by them, each with how many bytes it begins like the one before.
    pub fn sorted(&self) -> &[(Token, u32)] {
        self.sorted.of(self)
    }

    /// All tokens.
    pub fn tokens(&self) -> impl Iterator<Item = Token> {
        (0..self.len()).filter_map(|at| Token::try_from(at).ok())
    }

    /// Token sequences in which one of these texts lies, for DRY: a token that holds all of it, or one
    /// that ends with its beginning, followed by the tokens of its rest, which `tokenize` makes.
    ///
    /// # Errors
    /// Those of `tokenize`.
    pub fn breakers<E>(
        &self,
        texts: &[String],
        mut tokenize: impl FnMut(&str) -> Result<Vec<Token>, E>,
    ) -> Result<Vec<Vec<Token>>, E> {
        let mut found = BTreeSet::new();
        for text in texts.iter().filter(|text| !text.is_empty()) {
            // The rest of the text behind each of its bytes; most are needed for many tokens.
            let mut rests: Vec<Option<Vec<Token>>> = vec![None; text.len()];
            for token in self.tokens() {
                let bytes = self.bytes(token);
                if holds(bytes, text.as_bytes()) {
                    found.insert(vec![token]);
                    continue;
                }
                for begun in beginnings(bytes, text.as_bytes()) {
                    // A character that is cut in two has no rest that could be tokenized.
                    let Some(rest) = text.get(begun..) else { continue };
                    if rests[begun].is_none() {
                        let mut tail = tokenize(rest)?;
                        tail.truncate(MOST_TAIL);
                        rests[begun] = Some(tail);
                    }
                    let mut sequence = vec![token];
                    sequence.extend(rests[begun].iter().flatten());
                    found.insert(sequence);
                }
            }
        }
        Ok(found.into_iter().collect())
    }
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.len() >= text.len() && bytes.windows(text.len()).any(|window| window == text)
}

/// How many bytes of `text` stand at the end of `bytes`, for each way that is possible.
fn beginnings(bytes: &[u8], text: &[u8]) -> impl Iterator<Item = usize> {
    let most = bytes.len().min(text.len() - 1);
    (1..=most).filter(move |count| bytes.ends_with(&text[..*count]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(words: &[&str]) -> Vocabulary {
        let mut vocabulary = Vocabulary::default();
        for word in words {
            vocabulary.push(word.as_bytes(), word.is_empty());
        }
        vocabulary
    }

    #[test]
    fn tokens_have_their_bytes() {
        let words = vocabulary(&["a", "", "bcd"]);
        assert_eq!(
            (words.bytes(0), words.bytes(1), words.bytes(2)),
            (&b"a"[..], &[][..], &b"bcd"[..])
        );
        assert_eq!((words.bytes(-1), words.bytes(3)), (&[][..], &[][..]));
        assert!(words.contains(2) && !words.contains(3) && !words.contains(-1));
        assert_eq!(words.final_tokens(), [1]);
    }

    #[test]
    fn breakers_are_found_over_the_borders_of_tokens() {
        let words = vocabulary(&["x\n\ny", "x\n", "\n", "y", "ab"]);
        let tokenize = |text: &str| Ok::<_, ()>(vec![if text == "\n" { 2 } else { 3 }]);
        let found = words.breakers(&["\n\n".into()], tokenize).unwrap();
        assert_eq!(found, [vec![0], vec![1, 2], vec![2, 2]]);
        assert!(words.breakers(&[], |_| Err(())).unwrap().is_empty());
        // The same breaker twice is one.
        let twice = words.breakers(&["y".into(), "y".into()], tokenize).unwrap();
        assert_eq!(twice, [vec![0], vec![3]]);
    }
}
