//! Makes a recipe of `sampling`: checks, and everything about it that needs a vocabulary.
//!
//! Runs on the preparation threads.

use crate::domain::error::{ErrorCode, Failure};
use crate::domain::sampler::SamplerKind;
use crate::domain::sampling::{OutOfRange, Sampling};
use crate::domain::steering::{Bias, Probabilities, Stage, Steering, Tokens};
use crate::engine::model::{Control, Lexicon, ModelError, Special};
use crate::engine::recipe::Recipe;
use crate::engine::scheduler::Token;
use crate::protocol::sampling::{BiasTarget, BiasValue, PenaltyPrompt, SamplingParams};
use crate::worker::guided::guided;

/// Longest text that penalties look at in place of the prompt, in bytes. They look back 65,536 tokens at
/// most.
const MAX_PENALTY_BYTES: usize = 1 << 20;

/// Reads and checks how tokens are chosen.
///
/// # Errors
/// A setting out of range, a token that is not in the vocabulary.
pub(super) fn recipe(mut params: SamplingParams, lexicon: &dyn Lexicon) -> Result<Recipe, Failure> {
    let grammar = guided(&mut params, lexicon)?;
    let sampling = numbers(&params).checked().map_err(|error| invalid(&error))?;
    let steering = steering(params)?.checked().map_err(|error| invalid(&error))?;
    let mut biases = Vec::new();
    for bias in &steering.biases {
        let by = bias.by.unwrap_or(f32::NEG_INFINITY);
        let tokens = tokens("logit_bias", &bias.tokens, lexicon)?;
        biases.extend(tokens.into_iter().map(|token| (token, by)));
    }
    if grammar.is_some() {
        // The grammar alone says where the text ends: without an end token it could only fail there.
        let vocabulary = lexicon.vocabulary();
        biases.retain(|(token, _)| !vocabulary.final_tokens().contains(token));
    } else if sampling.ignore_eos {
        let vocabulary = lexicon.vocabulary();
        biases.extend(vocabulary.final_tokens().iter().map(|token| (*token, f32::NEG_INFINITY)));
    }
    let history = match &steering.penalty_prompt {
        Some(history) => Some(tokens("penalty_prompt", history, lexicon)?),
        None => None,
    };
    let dry = sampling.dry_multiplier > 0.0 && steering.order.contains(&SamplerKind::Dry);
    let breakers = if dry {
        let tokenize = |text: &str| lexicon.tokenize(text, Special::Leave, Control::Text);
        lexicon.vocabulary().breakers(&steering.breakers, tokenize).map_err(refused)?
    } else {
        Vec::new()
    };
    let Steering { order, probabilities, .. } = steering;
    Ok(Recipe { sampling, order, biases, breakers, history, probabilities, grammar })
}

/// What is out of range, as clients see it.
pub(super) fn invalid(error: &OutOfRange) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, error.to_string())
}

fn refused(error: ModelError) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, error.0)
}

/// The tokens that are meant, all in the vocabulary.
pub(super) fn tokens(
    name: &str,
    tokens: &Tokens,
    lexicon: &dyn Lexicon,
) -> Result<Vec<Token>, Failure> {
    match tokens {
        Tokens::Listed(tokens) => {
            let vocabulary = lexicon.vocabulary();
            match tokens.iter().find(|token| !vocabulary.contains(**token)) {
                Some(wrong) => {
                    let last = vocabulary.len() - 1;
                    let text = format!("`{name}` has token {wrong}; expected 0 to {last}");
                    Err(Failure::new(ErrorCode::InvalidRequest, text))
                }
                None => Ok(tokens.clone()),
            }
        }
        Tokens::Of(text) if text.len() > MAX_PENALTY_BYTES => {
            let text =
                format!("`{name}` has {} bytes; expected at most {MAX_PENALTY_BYTES}", text.len());
            Err(Failure::new(ErrorCode::InvalidRequest, text))
        }
        Tokens::Of(text) => lexicon.tokenize(text, Special::Leave, Control::Text).map_err(refused),
    }
}

fn numbers(params: &SamplingParams) -> Sampling {
    Sampling {
        temperature: params.temperature,
        top_k: params.top_k,
        top_p: params.top_p,
        min_p: params.min_p,
        typical_p: params.typical_p,
        repeat_penalty: params.repeat_penalty,
        repeat_last_n: params.repeat_last_n,
        presence_penalty: params.presence_penalty,
        frequency_penalty: params.frequency_penalty,
        penalize_nl: params.penalize_nl,
        dynatemp_range: params.dynatemp_range,
        dynatemp_exponent: params.dynatemp_exponent,
        xtc_probability: params.xtc_probability,
        xtc_threshold: params.xtc_threshold,
        dry_multiplier: params.dry_multiplier,
        dry_base: params.dry_base,
        dry_allowed_length: params.dry_allowed_length,
        dry_penalty_last_n: params.dry_penalty_last_n,
        top_n_sigma: params.top_n_sigma,
        tfs_z: params.tfs_z,
        adaptive_target: params.adaptive_target,
        adaptive_decay: params.adaptive_decay,
        mirostat: params.mirostat,
        mirostat_tau: params.mirostat_tau,
        mirostat_eta: params.mirostat_eta,
        min_keep: params.min_keep,
        ignore_eos: params.ignore_eos,
        seed: params.seed,
    }
}

fn steering(params: SamplingParams) -> Result<Steering, Failure> {
    let usual = Steering::default();
    let order = match params.samplers {
        Some(words) => SamplerKind::list(&words).map_err(|error| invalid(&error))?,
        None => usual.order,
    };
    let stage = if params.post_sampling_probs { Stage::Samplers } else { Stage::Model };
    let read = |history| match history {
        PenaltyPrompt::Text(text) => Tokens::Of(text),
        PenaltyPrompt::Tokens(tokens) => Tokens::Listed(tokens),
    };
    Ok(Steering {
        order,
        biases: params.logit_bias.into_iter().filter_map(bias).collect(),
        breakers: params.dry_sequence_breakers.unwrap_or(usual.breakers),
        penalty_prompt: params.penalty_prompt.map(read),
        probabilities: Probabilities::checked(params.n_probs, stage)
            .map_err(|error| invalid(&error))?,
    })
}

fn bias((target, value): (BiasTarget, BiasValue)) -> Option<Bias> {
    let by = match value {
        BiasValue::Allowed(true) => return None,
        BiasValue::Allowed(false) => None,
        BiasValue::By(by) => Some(by),
    };
    let tokens = match target {
        BiasTarget::Token(token) => Tokens::Listed(vec![token]),
        BiasTarget::Text(text) => Tokens::Of(text),
    };
    Some(Bias { tokens, by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::fake::{END, FakeLexicon, Template};

    #[test]
    fn under_a_grammar_no_end_token_has_a_bias() {
        let json = r#"{"grammar": "root ::= \"a\"", "ignore_eos": true, "logit_bias": [[256, false], [5, 1]]}"#;
        assert_eq!(made(json).unwrap().biases, [(5, 1.0)]);
    }

    fn made(json: &str) -> Result<Recipe, String> {
        let params = serde_json::from_str(json).map_err(|error| error.to_string())?;
        recipe(params, &FakeLexicon::new(Template::None)).map_err(|failure| failure.message)
    }

    #[test]
    fn nothing_said_means_the_usual() {
        let recipe = made("{}").unwrap();
        assert_eq!(recipe.order, SamplerKind::USUAL);
        assert!(recipe.biases.is_empty() && recipe.breakers.is_empty());
        assert!(recipe.history.is_none() && recipe.probabilities.is_none());
    }

    #[test]
    fn biases_are_of_tokens_and_of_every_token_of_a_text() {
        let json = r#"{"logit_bias": [[97, 1.5], ["bc", false], [3, true], ["", 2]]}"#;
        let never = f32::NEG_INFINITY;
        assert_eq!(made(json).unwrap().biases, [(97, 1.5), (98, never), (99, never)]);
        let none = made(r#"{"ignore_eos": true}"#).unwrap().biases;
        assert_eq!(none, [(END, never)]);
    }

    #[test]
    fn penalties_can_look_at_something_else() {
        assert_eq!(made(r#"{"penalty_prompt": "ab"}"#).unwrap().history, Some(vec![97, 98]));
        assert_eq!(made(r#"{"penalty_prompt": [5]}"#).unwrap().history, Some(vec![5]));
        assert_eq!(made(r#"{"penalty_prompt": []}"#).unwrap().history, Some(vec![]));
    }

    #[test]
    fn breakers_are_looked_for_only_when_dry_is_on() {
        assert_eq!(made(r#"{"dry_multiplier": 1}"#).unwrap().breakers.len(), 4);
        let own = r#"{"dry_multiplier": 1, "dry_sequence_breakers": ["ab"]}"#;
        assert_eq!(made(own).unwrap().breakers, [[97, 98]]);
        let off = r#"{"dry_multiplier": 1, "samplers": ["top_k"]}"#;
        assert!(made(off).unwrap().breakers.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, text) in [
            (r#"{"samplers": ["top_k", "bogus"]}"#, "`bogus`"),
            (r#"{"logit_bias": [[257, 1]]}"#, "token 257; expected 0 to 256"),
            (r#"{"logit_bias": [[-1, 1]]}"#, "token -1"),
            (r#"{"logit_bias": [["a", 1e30]]}"#, "`logit_bias`"),
            (r#"{"penalty_prompt": [1, 9999]}"#, "`penalty_prompt` has token 9999"),
            (r#"{"n_probs": 101}"#, "`n_probs` is 101"),
            (r#"{"n_probs": -1}"#, "`n_probs` is -1"),
            (r#"{"mirostat": 3}"#, "`mirostat` is 3"),
            (r#"{"dry_base": 0.5}"#, "`dry_base`"),
            (r#"{"tfs_z": 1e300}"#, "`tfs_z` is inf"),
            (r#"{"top_k": 1e10}"#, "expected i32"),
            (r#"{"logit_bias": [["a"]]}"#, "expected"),
            (r#"{"logit_bias": {"a": 1}}"#, "expected"),
        ] {
            let error = made(json).unwrap_err();
            assert!(error.contains(text), "{json}: {error}");
        }
        let many = format!(r#"{{"logit_bias": [{}]}}"#, vec!["[1, 1]"; 1_025].join(","));
        assert!(made(&many).unwrap_err().contains("a list of 1025"));
    }
}
