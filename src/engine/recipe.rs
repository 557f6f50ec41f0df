//! How the tokens of one generation are chosen, ready for the decode thread: what needed text or a
//! vocabulary is done.

use crate::domain::sampler::SamplerKind;
use crate::domain::sampling::Sampling;
use crate::domain::steering::Probabilities;
use crate::engine::grammar::guide::Guided;
use crate::engine::scheduler::Token;

/// How tokens are chosen.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The numbers.
    pub sampling: Sampling,
    /// The samplers, in this order.
    pub order: Vec<SamplerKind>,
    /// Added to the logits of these tokens; minus infinity takes one out. All are in the vocabulary.
    pub biases: Vec<(Token, f32)>,
    /// Token sequences that break a repeated sequence for DRY.
    pub breakers: Vec<Vec<Token>>,
    /// What penalties look at in place of the prompt.
    pub history: Option<Vec<Token>>,
    /// What is told about the probability of each token.
    pub probabilities: Option<Probabilities>,
    /// What the text must look like.
    pub grammar: Option<Guided>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            order: SamplerKind::USUAL.to_vec(),
            biases: Vec::new(),
            breakers: Vec::new(),
            history: None,
            probabilities: None,
            grammar: None,
        }
    }
}

/// A token that was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The token.
    pub token: Token,
    /// How likely it was, when that was asked for.
    pub likely: Option<Likely>,
}

/// How likely a token was, and which others were.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Likely {
    /// Natural logarithm of its probability; -1e30 when it had none.
    pub log: f32,
    /// The likeliest tokens, most likely first; the chosen one may be among them.
    pub top: Vec<Alternative>,
}

/// A token that could have been chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// The token.
    pub token: Token,
    /// What it stands for; control tokens have their names.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub log: f32,
}
