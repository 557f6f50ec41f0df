//! How tokens are chosen: names and meanings as llama.cpp's server has them.

use serde::{Deserialize, Serialize};

/// The `sampling` of a `generate`. Every field has a default, so `{}` is a good value.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own, as llama.cpp has it"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingParams {
    /// Spread of the distribution; 0 takes the most likely token.
    pub temperature: f32,
    /// Only the most likely tokens; 0 turns it off.
    pub top_k: i32,
    /// Nucleus sampling; 1 turns it off.
    pub top_p: f32,
    /// Relative to the most likely token; 0 turns it off.
    pub min_p: f32,
    /// Locally typical sampling; 1 turns it off.
    pub typical_p: f32,
    /// Divides the logits of recent tokens; 1 turns it off.
    pub repeat_penalty: f32,
    /// How many tokens back penalties look; −1 means the whole context.
    pub repeat_last_n: i32,
    /// Taken from the logit of a token that occurred.
    pub presence_penalty: f32,
    /// Taken from the logit of a token for each time it occurred.
    pub frequency_penalty: f32,
    /// Whether penalties count for line breaks too.
    pub penalize_nl: bool,
    /// What penalties look at in place of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty_prompt: Option<PenaltyPrompt>,
    /// The temperature varies by so much with the entropy; 0 turns it off.
    pub dynatemp_range: f32,
    /// How the entropy becomes a temperature.
    pub dynatemp_exponent: f32,
    /// Chance that the likeliest tokens are taken out; 0 turns it off.
    pub xtc_probability: f32,
    /// What counts as likely for that; above 0.5 turns it off.
    pub xtc_threshold: f32,
    /// Strength of the penalty for repeated sequences; 0 turns it off.
    pub dry_multiplier: f32,
    /// How fast that penalty grows with the length of the sequence.
    pub dry_base: f32,
    /// Sequences up to this length may be repeated.
    pub dry_allowed_length: i32,
    /// How many tokens back that penalty looks; −1 means the whole context.
    pub dry_penalty_last_n: i32,
    /// Strings that break a repeated sequence; absent means llama.cpp's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_sequence_breakers: Option<Vec<String>>,
    /// Only tokens within so many standard deviations of the best logit; 0 and below turns it off.
    pub top_n_sigma: f32,
    /// Tail free sampling; 1 turns it off.
    pub tfs_z: f32,
    /// Average probability of chosen tokens, for the sampler `adaptive_p`; below 0 turns it off.
    pub adaptive_target: f32,
    /// How long that average looks back.
    pub adaptive_decay: f32,
    /// 0 is off, 1 and 2 are Mirostat's versions.
    pub mirostat: i32,
    /// Surprise that Mirostat keeps.
    pub mirostat_tau: f32,
    /// How fast Mirostat learns.
    pub mirostat_eta: f32,
    /// Least tokens that samplers leave.
    pub min_keep: i32,
    /// Never ends the text by itself; without effect under a grammar.
    pub ignore_eos: bool,
    /// Pairs of a token or text and what is added to its logits; `false` means never.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logit_bias: Vec<(BiasTarget, BiasValue)>,
    /// The samplers, in this order; absent means llama.cpp's order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samplers: Option<Vec<String>>,
    /// Tells the probability of each token and of so many alternatives, 0 to 100.
    pub n_probs: i32,
    /// Tells them as the samplers left them instead of as the model made them.
    pub post_sampling_probs: bool,
    /// What the text must look like, in llama.cpp's GBNF; empty is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub grammar: String,
    /// The text must be JSON that fits this schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<serde_json::Value>,
    /// The grammar holds only from a trigger on.
    pub grammar_lazy: bool,
    /// What triggers a lazy grammar.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grammar_triggers: Vec<GrammarTrigger>,
    /// Seed of the generator; absent takes a fresh one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.0,
            typical_p: 1.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalize_nl: true,
            penalty_prompt: None,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: -1,
            dry_sequence_breakers: None,
            top_n_sigma: -1.0,
            tfs_z: 1.0,
            adaptive_target: -1.0,
            adaptive_decay: 0.9,
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            min_keep: 0,
            ignore_eos: false,
            logit_bias: Vec::new(),
            samplers: None,
            n_probs: 0,
            post_sampling_probs: false,
            grammar: String::new(),
            json_schema: None,
            grammar_lazy: false,
            grammar_triggers: Vec::new(),
            seed: None,
        }
    }
}

/// Text or tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PenaltyPrompt {
    /// A text.
    Text(String),
    /// Tokens.
    Tokens(Vec<i32>),
}

/// Whose logits a bias changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BiasTarget {
    /// One token.
    Token(i32),
    /// Every token of this text.
    Text(String),
}

/// How a bias changes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BiasValue {
    /// `false`: never chosen. `true` changes nothing.
    Allowed(bool),
    /// Added to the logits.
    By(f32),
}

/// What triggers a lazy grammar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrammarTrigger {
    /// This text.
    Word(String),
    /// What matches this pattern; the grammar begins at its first group, or else where the match begins.
    Pattern(String),
    /// The same, but the pattern must match the whole text so far.
    PatternFull(String),
    /// This token.
    Token(i32),
}
