//! Vectors and scores of texts: the payloads of `embed` and `rerank` and of their answers.

use serde::{Deserialize, Serialize};

/// Payload of `embed`. Either `inputs` or `text` is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embed {
    /// Names the operation in every answer.
    pub id: u64,
    /// What to embed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// A single text: the short form, which every binding that embeds understands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How the vectors of tokens become one; absent leaves it to the model, and a model that does not
    /// say takes the mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Length of the vectors: −1 as they are, 0 their largest number is 32,760, 1 their absolute numbers
    /// add up to 1, 2 Euclid's length is 1, and so on for each p-norm. Absent means 2, and −1 where
    /// `pooling` is `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<i32>,
    /// Cuts an input that is longer than the context instead of refusing it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncate: bool,
}

/// One thing to embed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Input {
    /// Text; the model's own begin and end tokens are added.
    Text(String),
    /// Tokens as they are.
    Tokens(Vec<i32>),
}

/// How the vectors of an input's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Not at all: one vector for each token.
    None,
    /// Their mean.
    Mean,
    /// The first one.
    Cls,
    /// The last one.
    Last,
}

/// Payload of `rerank`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rerank {
    /// Names the operation in every answer.
    pub id: u64,
    /// What is looked for.
    pub query: String,
    /// Where it could be found.
    pub documents: Vec<String>,
    /// Cuts a pair that is longer than the context instead of refusing it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncate: bool,
}

/// Payload of `embedding`: rows of one input. The rows of all inputs come in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// The operation's id.
    pub id: u64,
    /// Which input, from 0.
    #[serde(default)]
    pub input: u32,
    /// Rows of this input that came before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first: u32,
    /// Rows in `vector`, one after the other; only the pooling `none` makes more than one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub rows: u32,
    /// Tokens of the input that were read.
    #[serde(default)]
    pub tokens: u32,
    /// Whether the input was cut to fit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// How the vectors of tokens became one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Whether more lines of this operation follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The numbers.
    pub vector: Vector,
}

/// A vector of floats, in either of two forms; both sides read both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Vector {
    /// Base64 of little-endian `f32`, three times as fast to read: `{"f32":"…"}`.
    Packed {
        /// The base64 text.
        f32: String,
    },
    /// A plain array.
    Plain(Vec<f32>),
}

/// Payload of `ranks`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranks {
    /// The operation's id.
    pub id: u64,
    /// How well each document fits the query, in the order of the documents; larger fits better.
    pub scores: Vec<f32>,
    /// Tokens that were read for each document, the query's included.
    #[serde(default)]
    pub tokens: Vec<u32>,
}

impl Embed {
    /// The short form for one text.
    pub fn text(id: u64, text: String) -> Self {
        Self { id, text: Some(text), ..Self::default() }
    }
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_one(n: &u32) -> bool {
    *n == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::Command;
    use crate::protocol::event::Event;
    use crate::protocol::line::{decode, encode};

    #[test]
    fn one_text_is_asked_and_answered_in_the_short_form() {
        let line = encode(&Command::Embed(Embed::text(3, "hi".into()))).unwrap();
        assert_eq!(line, b"{\"embed\":{\"id\":3,\"text\":\"hi\"}}\n");
        let answer: Event = decode(br#"{"embedding":{"id":3,"vector":[0.5]}}"#).unwrap();
        let Event::Embedding(embedding) = answer else { panic!("an embedding") };
        assert_eq!((embedding.input, embedding.rows, embedding.more), (0, 1, false));
    }

    #[test]
    fn inputs_are_texts_or_tokens() {
        let line = br#"{"embed":{"id":3,"inputs":["hi",[1,2]],"pooling":"cls","normalize":-1}}"#;
        let Command::Embed(embed) = decode(line).unwrap() else { panic!("an embed") };
        assert_eq!(embed.inputs, [Input::Text("hi".into()), Input::Tokens(vec![1, 2])]);
        assert_eq!((embed.pooling, embed.normalize), (Some(Pooling::Cls), Some(-1)));
    }
}
