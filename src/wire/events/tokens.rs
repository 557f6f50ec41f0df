//! Payloads of tokens and vectors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::events::listing::Nothing;

/// Payload of `tokenize`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Tokenize {
    /// Text to cut.
    pub prompt: String,
}

/// Payload of `detokenize`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Detokenize {
    /// Tokens to join; the key is LoLLMs' own.
    pub prompt: Vec<i32>,
}

/// Payload of `embed`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Embed {
    /// Text to embed.
    pub prompt: String,
}

/// Payload of `vectorize_text`; ignored.
pub type VectorizeText = Nothing;
/// Payload of `query_database`; ignored.
pub type QueryDatabase = Nothing;

/// Payload of `tokenized`.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Tokenized {
    /// The tokens.
    pub tokens: Vec<i32>,
    /// Only when it failed: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Tokenized {
    /// The answer when it did not work.
    pub fn failed(error: String) -> Self {
        Self { tokens: Vec::new(), success: Some(false), error: Some(error) }
    }
}

/// Payload of `detokenized`.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Detokenized {
    /// The text.
    pub text: String,
    /// Only when it failed: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Detokenized {
    /// The answer when it did not work.
    pub fn failed(error: String) -> Self {
        Self { text: String::new(), success: Some(false), error: Some(error) }
    }
}

/// Payload of `embeded`.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Embedded {
    /// The vector; the key is LoLLMs' own.
    pub text: Vec<f32>,
    /// Only when it failed: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Embedded {
    /// The answer when it did not work.
    pub fn failed(error: String) -> Self {
        Self { text: Vec::new(), success: Some(false), error: Some(error) }
    }
}

/// Payload of `vectorized_db` and `vector_db_query`: they read files that a client names, which this
/// server does not do.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Unoffered {
    /// Always false.
    pub status: bool,
    /// Always false.
    pub success: bool,
    /// Why.
    pub error: String,
}
