//! What steers the choice of tokens beyond single numbers: the order of samplers, biases, what penalties
//! look at. Lengths are checked once, here; what needs a vocabulary is checked where there is one.

use crate::domain::sampler::SamplerKind;
use crate::domain::sampling::{OutOfRange, out};

/// Most entries of `logit_bias`.
pub const MAX_BIASES: usize = 1_024;
/// Longest text that is given a bias, in bytes.
pub const MAX_BIAS_BYTES: usize = 256;
/// Most strings that break a repeated sequence for DRY.
pub const MAX_BREAKERS: usize = 64;
/// Longest of them, in bytes.
pub const MAX_BREAKER_BYTES: usize = 64;
/// Most alternatives that are told for each token.
pub const MAX_PROBABILITIES: i32 = 100;

/// A token, or all tokens of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// Tokens by number.
    Listed(Vec<i32>),
    /// Whatever this text is cut into.
    Of(String),
}

/// A change of logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Bias {
    /// Whose logits.
    pub tokens: Tokens,
    /// Added to them; `None` means that they are never chosen. -1,000 to 1,000.
    pub by: Option<f32>,
}

/// Which distribution probabilities are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// As the model made it.
    Model,
    /// As the samplers left it.
    Samplers,
}

/// What is told about the probability of each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probabilities {
    /// So many of the likeliest tokens, 1 to [`MAX_PROBABILITIES`].
    pub top: u32,
    /// Of which distribution.
    pub stage: Stage,
}

impl Probabilities {
    /// Reads the number of alternatives; 0 means that nothing is told.
    ///
    /// # Errors
    /// [`OutOfRange`] when there are too many.
    pub fn checked(n_probs: i32, stage: Stage) -> Result<Option<Self>, OutOfRange> {
        match u32::try_from(n_probs) {
            Ok(0) => Ok(None),
            Ok(top) if n_probs <= MAX_PROBABILITIES => Ok(Some(Self { top, stage })),
            Ok(_) | Err(_) => Err(out("n_probs", n_probs, "a whole number from 0 to 100")),
        }
    }
}

/// What steers one generation, lengths checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Steering {
    /// The samplers, in this order; none means a choice by the model's own distribution.
    pub order: Vec<SamplerKind>,
    /// Changes of logits, before all samplers.
    pub biases: Vec<Bias>,
    /// Strings that break a repeated sequence for DRY.
    pub breakers: Vec<String>,
    /// What the penalties look at in place of the prompt.
    pub penalty_prompt: Option<Tokens>,
    /// What is told about the probability of each token.
    pub probabilities: Option<Probabilities>,
}

impl Default for Steering {
    fn default() -> Self {
        Self {
            order: SamplerKind::USUAL.to_vec(),
            biases: Vec::new(),
            breakers: ["\n", ":", "\"", "*"].map(String::from).to_vec(),
            penalty_prompt: None,
            probabilities: None,
        }
    }
}

impl Steering {
    /// Checks lengths, and drops empty breakers.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first list or text that is too long.
    pub fn checked(mut self) -> Result<Self, OutOfRange> {
        let expected = "at most 64 strings of at most 64 bytes";
        self.breakers.retain(|breaker| !breaker.is_empty());
        if self.breakers.len() > MAX_BREAKERS {
            let given = format!("a list of {}", self.breakers.len());
            return Err(out("dry_sequence_breakers", given, expected));
        }
        let longest = self.breakers.iter().map(String::len).max().unwrap_or(0);
        if longest > MAX_BREAKER_BYTES {
            return Err(out("dry_sequence_breakers", format!("{longest} bytes long"), expected));
        }
        if self.biases.len() > MAX_BIASES {
            let given = format!("a list of {}", self.biases.len());
            return Err(out("logit_bias", given, "at most 1024 entries"));
        }
        for bias in &self.biases {
            bias.check()?;
        }
        Ok(self)
    }
}

impl Bias {
    fn check(&self) -> Result<(), OutOfRange> {
        if let Some(by) = self.by
            && !(-1_000.0..=1_000.0).contains(&by)
        {
            return Err(out("logit_bias", by, "`false` or a number from -1000 to 1000"));
        }
        if let Tokens::Of(text) = &self.tokens
            && text.len() > MAX_BIAS_BYTES
        {
            let given = format!("a text of {} bytes", text.len());
            return Err(out("logit_bias", given, "texts of at most 256 bytes"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl FnOnce(&mut Steering)) -> String {
        let mut steering = Steering::default();
        change(&mut steering);
        steering.checked().unwrap_err().to_string()
    }

    #[test]
    fn what_is_too_long_is_named() {
        let text = wrong(|s| s.breakers = vec!["x".into(); 65]);
        assert!(text.starts_with("`dry_sequence_breakers` is a list of 65"), "{text}");
        let text = wrong(|s| s.breakers = vec!["x".repeat(65)]);
        assert!(text.contains("65 bytes long"), "{text}");
        let bias = |by| Bias { tokens: Tokens::Listed(vec![1]), by };
        let text = wrong(|s| s.biases = vec![bias(None); 1_025]);
        assert!(text.starts_with("`logit_bias` is a list of 1025"), "{text}");
        assert!(wrong(|s| s.biases = vec![bias(Some(f32::NAN))]).contains("NaN"));
        assert!(wrong(|s| s.biases = vec![bias(Some(1e9))]).contains("1000"));
        let long = Bias { tokens: Tokens::Of("x".repeat(257)), by: None };
        assert!(wrong(|s| s.biases = vec![long]).contains("257 bytes"));
    }

    #[test]
    fn empty_breakers_are_dropped_and_the_rest_stays() {
        let steering =
            Steering { breakers: vec![String::new(), "a".into()], ..Steering::default() };
        assert_eq!(steering.checked().unwrap().breakers, ["a"]);
        let none = Steering { breakers: vec![], order: vec![], ..Steering::default() };
        assert_eq!(none.clone().checked().unwrap(), none);
    }

    #[test]
    fn probabilities_are_told_when_asked_for() {
        assert_eq!(Probabilities::checked(0, Stage::Model), Ok(None));
        let five = Probabilities { top: 5, stage: Stage::Samplers };
        assert_eq!(Probabilities::checked(5, Stage::Samplers), Ok(Some(five)));
        for wrong in [-1, 101, i32::MIN, i32::MAX] {
            assert_eq!(Probabilities::checked(wrong, Stage::Model).unwrap_err().name, "n_probs");
        }
    }
}
