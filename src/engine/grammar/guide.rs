//! A grammar on its way through one completion: which tokens are allowed, and where it stands.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::grammar::GrammarError;
use crate::engine::grammar::machine::Machine;
use crate::engine::grammar::mask::{Mask, Open, Place};
use crate::engine::grammar::rules::Rules;
use crate::engine::grammar::trigger::{Triggers, Watched};
use crate::engine::scheduler::Token;
use crate::engine::vocabulary::Vocabulary;

/// Work for one token, in places looked at: some milliseconds.
const TOKEN_FUEL: usize = 100_000;
/// Work for one look over the vocabulary: some tenths of a second at worst.
const MASK_FUEL: usize = 3_000_000;
/// Masks that are kept; they are used again wherever the text stands at the same place.
const KEPT_MASKS: usize = 64;

/// A grammar, ready to be followed.
#[derive(Clone, Debug)]
pub struct Guided {
    /// The grammar.
    pub rules: Arc<Rules>,
    /// What it waits for; without triggers it holds from the beginning.
    pub triggers: Option<Triggers>,
    /// The model's tokens.
    pub vocabulary: Arc<Vocabulary>,
}

/// A grammar in the middle of a completion.
pub struct Guide {
    guided: Guided,
    machine: Machine,
    place: Place,
    /// The text so far, while a trigger is waited for.
    waiting: Option<Watched>,
    masks: HashMap<Place, Arc<Mask>>,
}

impl Guide {
    /// A guide at the beginning of a completion.
    ///
    /// # Errors
    /// [`GrammarError`] when not even its beginning can be worked out.
    pub fn new(guided: &Guided) -> Result<Self, GrammarError> {
        let (machine, state) = Machine::new(&guided.rules, MASK_FUEL)?;
        Ok(Self {
            guided: guided.clone(),
            machine,
            place: Place { state, open: Open::default() },
            waiting: guided.triggers.as_ref().map(|_| Watched::default()),
            masks: HashMap::new(),
        })
    }

    /// Whether a token may come next.
    ///
    /// # Errors
    /// [`GrammarError`] when that takes too much work.
    pub fn allows(&mut self, token: Token) -> Result<bool, GrammarError> {
        if self.waiting.is_some() {
            return Ok(true);
        }
        if self.guided.vocabulary.final_tokens().contains(&token) {
            return Ok(self.may_end());
        }
        self.machine.refuel(TOKEN_FUEL);
        Ok(self.after(token)?.is_some())
    }

    /// All tokens that may come next.
    ///
    /// # Errors
    /// [`GrammarError`] when there are none, or when it takes too much work to tell.
    pub fn mask(&mut self) -> Result<Arc<Mask>, GrammarError> {
        if let Some(mask) = self.masks.get(&self.place) {
            return Ok(Arc::clone(mask));
        }
        self.machine.refuel(MASK_FUEL);
        let vocabulary = Arc::clone(&self.guided.vocabulary);
        let mut allowed = Mask::none(vocabulary.len());
        self.machine.mark(self.place, &vocabulary, &mut allowed)?;
        let mut mask = Mask::none(vocabulary.len());
        let ends = vocabulary.final_tokens();
        for token in vocabulary.tokens().filter(|token| allowed.allows(*token)) {
            if !ends.contains(&token) {
                mask.allow(token);
            }
        }
        for (token, _) in self.named() {
            if self.after(token)?.is_some() {
                mask.allow(token);
            }
        }
        if self.may_end() {
            for token in ends {
                mask.allow(*token);
            }
        }
        if mask.is_empty() {
            return Err(GrammarError::new("the model has no token that the grammar allows here"));
        }
        let mask = Arc::new(mask);
        if self.masks.len() == KEPT_MASKS {
            self.masks.clear();
        }
        self.masks.insert(self.place, Arc::clone(&mask));
        Ok(mask)
    }

    /// Goes on behind a token.
    ///
    /// # Errors
    /// [`GrammarError`] when it may not stand here, or when it takes too much work to go on.
    pub fn accept(&mut self, token: Token) -> Result<(), GrammarError> {
        if self.guided.vocabulary.final_tokens().contains(&token) {
            return Ok(());
        }
        self.machine.refuel(TOKEN_FUEL);
        let next = if self.waiting.is_some() { self.awaited(token)? } else { self.after(token)? };
        let place = next.ok_or_else(|| GrammarError::new("the text does not fit the grammar"))?;
        let state = self.machine.tidy(place.state)?;
        if state != place.state {
            self.masks.clear();
        }
        self.place = Place { state, ..place };
        Ok(())
    }

    /// Looks for a trigger; with one the grammar begins.
    fn awaited(&mut self, token: Token) -> Result<Option<Place>, GrammarError> {
        let triggers = self.guided.triggers.clone().unwrap_or_default();
        if triggers.tokens().iter().any(|(trigger, _)| *trigger == token) {
            self.waiting = None;
            return self.after(token);
        }
        let Some(watched) = &mut self.waiting else { return Ok(Some(self.place)) };
        let Some(text) = watched.push(self.guided.vocabulary.bytes(token), &triggers) else {
            return Ok(Some(self.place));
        };
        self.waiting = None;
        self.machine.refuel(MASK_FUEL);
        self.read(self.place, &text)
    }

    /// The place behind a token, read as text, and as the token that the grammar may name.
    fn after(&mut self, token: Token) -> Result<Option<Place>, GrammarError> {
        let vocabulary = Arc::clone(&self.guided.vocabulary);
        let named = self.named().into_iter().find(|(name, _)| *name == token);
        let bytes = named.as_ref().map_or(vocabulary.bytes(token), |(_, bytes)| bytes);
        let as_text = if bytes.is_empty() { None } else { self.read(self.place, bytes)? };
        let as_text = as_text.filter(|place| self.machine.may_rest(*place));
        let as_token = if self.place.open.is_whole() {
            self.machine.step_token(self.place.state, token)?
        } else {
            None
        };
        Ok(match (as_text, as_token) {
            (Some(place), Some(state)) if place.open.is_whole() => {
                let state = self.machine.either(place.state, state);
                Some(Place { state, ..place })
            }
            (None, Some(state)) => Some(Place { state, open: Open::default() }),
            (as_text, _) => as_text,
        })
    }

    fn read(&mut self, from: Place, bytes: &[u8]) -> Result<Option<Place>, GrammarError> {
        let mut place = from;
        for byte in bytes {
            match self.machine.read(place, *byte)? {
                Some(next) => place = next,
                None => return Ok(None),
            }
        }
        Ok(Some(place))
    }

    fn may_end(&self) -> bool {
        self.place.open.is_whole() && self.machine.is_complete(self.place.state)
    }

    /// Trigger tokens, whose bytes are not in the vocabulary when they are control tokens.
    fn named(&self) -> Vec<(Token, Vec<u8>)> {
        self.guided.triggers.as_ref().map_or_else(Vec::new, |triggers| triggers.tokens().to_vec())
    }
}

#[cfg(test)]
impl Guide {
    /// What the machine holds, in states, ways and parts of nodes.
    pub(super) fn size(&self) -> usize {
        self.machine.size()
    }
}
