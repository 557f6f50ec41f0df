//! Which tokens may come next: walks the sorted vocabulary, so that tokens with the same beginning share
//! the work for it.

use std::sync::OnceLock;

use crate::engine::grammar::GrammarError;
use crate::engine::grammar::machine::{Machine, StateId};
use crate::engine::grammar::rules::Element;
use crate::engine::scheduler::Token;
use crate::engine::vocabulary::Vocabulary;

/// One bit for each token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask(Vec<u64>);

impl Mask {
    /// A mask that allows none of so many tokens.
    pub(super) fn none(tokens: usize) -> Self {
        Self(vec![0; tokens.div_ceil(64)])
    }

    pub(super) fn allow(&mut self, token: Token) {
        if let Ok(at) = usize::try_from(token)
            && let Some(bits) = self.0.get_mut(at / 64)
        {
            *bits |= 1 << (at % 64);
        }
    }

    /// Whether a token is allowed.
    pub fn allows(&self, token: Token) -> bool {
        let at = usize::try_from(token).ok();
        at.is_some_and(|at| self.0.get(at / 64).is_some_and(|bits| bits >> (at % 64) & 1 == 1))
    }

    /// Whether no token is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|bits| *bits == 0)
    }

    /// Its words, lowest tokens first.
    pub fn words(&self) -> &[u64] {
        &self.0
    }
}

/// A place in a text, perhaps in the middle of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) state: StateId,
    pub(super) open: Open,
}

/// The bytes of a character that is not complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Open {
    /// Bits so far.
    value: u32,
    /// Bytes that are missing.
    missing: u8,
    /// The least character that needs so many bytes.
    least: u32,
}

impl Open {
    pub(super) fn is_whole(self) -> bool {
        self.missing == 0
    }
}

impl Machine {
    /// The place after a byte; `None` when it may not stand here.
    pub(super) fn read(&mut self, place: Place, byte: u8) -> Result<Option<Place>, GrammarError> {
        let Place { state, open } = place;
        let bits = u32::from(byte);
        let begin =
            |value, missing, least| Some(Place { state, open: Open { value, missing, least } });
        if open.missing == 0 {
            return Ok(match byte {
                1..0x80 => {
                    let next = self.step(state, bits)?;
                    next.map(|state| Place { state, open: Open::default() })
                }
                0xC2..0xE0 => begin(bits & 0x1F, 1, 0x80),
                0xE0..0xF0 => begin(bits & 0x0F, 2, 0x800),
                0xF0..0xF5 => begin(bits & 0x07, 3, 0x1_0000),
                // No character begins with these; a zero is none that texts have, for llama.cpp too.
                _ => None,
            });
        }
        if byte & 0xC0 != 0x80 {
            return Ok(None);
        }
        let value = open.value << 6 | bits & 0x3F;
        if open.missing > 1 {
            return Ok(begin(value, open.missing - 1, open.least));
        }
        if value < open.least || char::from_u32(value).is_none() {
            return Ok(None);
        }
        let next = self.step(state, value)?;
        Ok(next.map(|state| Place { state, open: Open::default() }))
    }

    /// Whether a token may end here: with a whole character, or one that can still become right.
    pub(super) fn may_rest(&self, place: Place) -> bool {
        let Open { value, missing, least } = place.open;
        if missing == 0 {
            return true;
        }
        let low = value << (6 * missing);
        let high = low | ((1 << (6 * missing)) - 1);
        self.allows_one_of(place.state, low.max(least), high)
    }

    /// Allows in `mask` what may come next.
    pub(super) fn mark(
        &mut self,
        place: Place,
        vocabulary: &Vocabulary,
        mask: &mut Mask,
    ) -> Result<(), GrammarError> {
        let sorted = vocabulary.sorted();
        // The places after each byte of the current token, as far as they are allowed.
        let mut places = vec![place];
        for (token, shared) in sorted {
            let shared = *shared as usize;
            if shared >= places.len() {
                continue;
            }
            places.truncate(shared + 1);
            let bytes = vocabulary.bytes(*token);
            for byte in &bytes[shared..] {
                match self.read(places[places.len() - 1], *byte)? {
                    Some(next) => places.push(next),
                    None => break,
                }
            }
            if places.len() > bytes.len() && self.may_rest(places[bytes.len()]) {
                mask.allow(*token);
            }
        }
        if place.open.is_whole() {
            self.mark_tokens(place.state, vocabulary, mask);
        }
        Ok(())
    }

    fn mark_tokens(&self, state: StateId, vocabulary: &Vocabulary, mask: &mut Mask) {
        for element in self.elements(state) {
            match element {
                Element::Token(token) => mask.allow(token),
                Element::NotToken(other) => {
                    for token in vocabulary.tokens().filter(|token| *token != other) {
                        mask.allow(token);
                    }
                }
                Element::End | Element::Class(_) | Element::Rule(_) | Element::Repeat { .. } => {}
            }
        }
    }
}

/// Tokens sorted by their bytes, each with how many bytes it begins like the one before; tokens without
/// bytes are left out. Made when it is first needed.
#[derive(Clone, Debug, Default)]
pub struct Sorted(OnceLock<Vec<(Token, u32)>>);

impl Sorted {
    /// The list.
    pub(in crate::engine) fn of(&self, vocabulary: &Vocabulary) -> &[(Token, u32)] {
        self.0.get_or_init(|| {
            let with_bytes = |token: &Token| !vocabulary.bytes(*token).is_empty();
            let mut tokens: Vec<Token> = vocabulary.tokens().filter(with_bytes).collect();
            tokens.sort_by_key(|token| vocabulary.bytes(*token));
            let mut before: &[u8] = &[];
            let mut list = Vec::with_capacity(tokens.len());
            for token in tokens {
                let bytes = vocabulary.bytes(token);
                let shared = bytes.iter().zip(before).take_while(|(a, b)| a == b).count();
                list.push((token, u32::try_from(shared).unwrap_or(u32::MAX)));
                before = bytes;
            }
            list
        })
    }
}
