//! Payloads of generating text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::app::generate::{GenerateRequest, Length, SamplingChoice};
use crate::domain::error::{ErrorCode, Failure};
use crate::wire::events::listing::Nothing;
use crate::wire::events::loose;

/// Payload of `cancel_generation` and `cancel_text_generation`: anything, or nothing.
pub type CancelGeneration = Nothing;

/// Payload of `generate_text`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct GenerateText {
    /// Text to complete, or the user's message when a personality answers.
    pub prompt: String,
    /// Index of a mounted personality; -1 or absent is raw mode: the prompt goes to the model untouched.
    #[serde(default, deserialize_with = "loose::whole")]
    pub personality: Option<i64>,
    /// Most tokens to make; absent means the configured default, -1 as many as the context holds.
    #[serde(default, deserialize_with = "loose::whole")]
    pub n_predicts: Option<i64>,
    /// Raw mode: keeps only the last tokens of the prompt; -1 or absent keeps all.
    #[serde(default, deserialize_with = "loose::whole")]
    pub n_crop: Option<i64>,
    /// Sampling settings; these go before those beside it.
    #[serde(default)]
    pub parameters: Option<Box<Parameters>>,
    /// Texts that end the completion.
    #[serde(default)]
    pub stop: Option<Vec<String>>,
    /// Sampling settings, as clients since October 2023 write them; other fields are ignored.
    #[serde(flatten)]
    #[schemars(with = "Parameters")]
    pub beside: Map<String, Value>,
}

/// Sampling settings of a request; absent ones are left to the personality and the configuration.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Parameters {
    /// Spread of the distribution, 0 to 100; 0 takes the most likely token.
    #[serde(deserialize_with = "loose::number")]
    pub temperature: Option<f32>,
    /// Only the most likely tokens; 0 turns it off.
    #[serde(deserialize_with = "loose::whole")]
    pub top_k: Option<i64>,
    /// Nucleus sampling, 0 to 1; 1 turns it off.
    #[serde(deserialize_with = "loose::number")]
    pub top_p: Option<f32>,
    /// Relative to the most likely token, 0 to 1; 0 turns it off.
    #[serde(deserialize_with = "loose::number")]
    pub min_p: Option<f32>,
    /// Locally typical sampling, 0 to 1; 1 turns it off.
    #[serde(deserialize_with = "loose::number")]
    pub typical_p: Option<f32>,
    /// Divides the logits of recent tokens; 1 turns it off.
    #[serde(deserialize_with = "loose::number")]
    pub repeat_penalty: Option<f32>,
    /// How many tokens back penalties look; -1 means the whole context.
    #[serde(deserialize_with = "loose::whole")]
    pub repeat_last_n: Option<i64>,
    /// Taken from the logit of a token that occurred, -100 to 100.
    #[serde(deserialize_with = "loose::number")]
    pub presence_penalty: Option<f32>,
    /// Taken from the logit of a token for each time it occurred, -100 to 100.
    #[serde(deserialize_with = "loose::number")]
    pub frequency_penalty: Option<f32>,
    /// Seed of the generator; -1 takes a fresh one.
    #[serde(deserialize_with = "loose::whole")]
    pub seed: Option<i64>,
}

impl GenerateText {
    /// What is asked for, in the words of the product.
    ///
    /// # Errors
    /// `InvalidRequest` names the field that is out of its range.
    pub fn into_request(self) -> Result<GenerateRequest, Failure> {
        // Read here and not by `flatten`, which would lose the name of a field that is wrong.
        let beside: Parameters = loose::parse(Value::Object(self.beside))
            .map_err(|error| Failure::new(ErrorCode::InvalidRequest, error.to_string()))?;
        let both = self.parameters.map(|given| *given).unwrap_or_default().or(beside);
        Ok(GenerateRequest {
            prompt: self.prompt,
            personality: optional("personality", self.personality)?,
            n_predict: match self.n_predicts {
                None => Length::Default,
                Some(-1) => Length::Unlimited,
                Some(tokens) => Length::Tokens(in_range("n_predicts", tokens)?),
            },
            keep_last: optional("n_crop", self.n_crop)?,
            sampling: both.into_choice()?,
            stop: self.stop.unwrap_or_default(),
        })
    }
}

impl Parameters {
    fn or(self, other: Self) -> Self {
        Self {
            temperature: self.temperature.or(other.temperature),
            top_k: self.top_k.or(other.top_k),
            top_p: self.top_p.or(other.top_p),
            min_p: self.min_p.or(other.min_p),
            typical_p: self.typical_p.or(other.typical_p),
            repeat_penalty: self.repeat_penalty.or(other.repeat_penalty),
            repeat_last_n: self.repeat_last_n.or(other.repeat_last_n),
            presence_penalty: self.presence_penalty.or(other.presence_penalty),
            frequency_penalty: self.frequency_penalty.or(other.frequency_penalty),
            seed: self.seed.or(other.seed),
        }
    }

    fn into_choice(self) -> Result<SamplingChoice, Failure> {
        Ok(SamplingChoice {
            temperature: self.temperature,
            top_k: self.top_k.map(|value| in_range("top_k", value)).transpose()?,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: self
                .repeat_last_n
                .map(|value| in_range("repeat_last_n", value))
                .transpose()?,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: match self.seed {
                None => None,
                Some(-1) => Some(None),
                Some(seed) => Some(Some(in_range("seed", seed)?)),
            },
        })
    }
}

/// A number for which -1 means absent.
fn optional<T: TryFrom<i64>>(name: &str, value: Option<i64>) -> Result<Option<T>, Failure> {
    value.filter(|value| *value != -1).map(|value| in_range(name, value)).transpose()
}

fn in_range<T: TryFrom<i64>>(name: &str, value: i64) -> Result<T, Failure> {
    // LoLLMs and llama.cpp count in 32 bits.
    let small = i64::from(i32::MIN) <= value && value <= i64::from(u32::MAX);
    T::try_from(value).ok().filter(|_| small).ok_or_else(|| {
        let message = format!("`{name}` is {value}, which is out of its range");
        Failure::new(ErrorCode::InvalidRequest, message)
    })
}

/// Payload of `text_chunk`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TextChunk {
    /// The next piece; whole characters only.
    pub chunk: String,
    /// LoLLMs' message type: always 0, text to append.
    #[serde(rename = "type")]
    pub kind: u8,
}

impl TextChunk {
    /// A chunk of text.
    pub fn new(chunk: String) -> Self {
        Self { chunk, kind: 0 }
    }
}

/// Payload of `text_generated`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TextGenerated {
    /// The whole completion, without the prompt: all chunks joined.
    pub text: String,
}

/// Payload of `generation_error`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GenerationError {
    /// Always false.
    pub success: bool,
    /// What went wrong, in one sentence.
    pub error: String,
    /// What went wrong, for programs.
    pub code: String,
}

/// Payload of `generation_canceled`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GenerationCanceled {
    /// A sentence for people.
    pub message: String,
}

/// Payload of `buzzy` and `busy`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Busy {
    /// A sentence for people.
    pub message: String,
    /// Always false.
    pub success: bool,
    /// What is full.
    pub error: String,
}

/// Payload of `generation_state`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GenerationState {
    /// Names the generation.
    pub id: u64,
    /// `queued`, `loading`, `reading` or `writing`.
    pub state: &'static str,
    /// While queued: place in the queue; 1 is next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// While loading: done so far, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f32>,
    /// While reading: tokens of the prompt that are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<u32>,
    /// While reading: tokens of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(payload: serde_json::Value) -> Result<GenerateRequest, String> {
        let payload: GenerateText = loose::parse(payload).map_err(|error| error.0)?;
        payload.into_request().map_err(|failure| failure.message)
    }

    #[test]
    fn a_prompt_is_enough() {
        let request = read(json!({"prompt": "Hi"})).unwrap();
        assert_eq!((request.personality, request.n_predict), (None, Length::Default));
        let request = read(json!({"prompt": "Hi", "personality": null, "n_predicts": null,
            "n_crop": null, "parameters": null, "stop": null, "seed": null}));
        assert!(request.is_ok());
    }

    #[test]
    fn parameters_go_before_fields_beside_them() {
        let request = read(json!({"prompt": "", "n_predicts": 12.0, "temperature": 2, "top_k": 7,
            "parameters": {"temperature": 0.5, "seed": -1}}))
        .unwrap();
        assert_eq!(request.sampling.temperature, Some(0.5));
        assert_eq!(request.sampling.top_k, Some(7));
        assert_eq!(request.sampling.seed, Some(None));
        assert_eq!(request.n_predict, Length::Tokens(12));
    }

    #[test]
    fn wrong_values_are_named() {
        assert!(read(json!({})).unwrap_err().contains("missing field `prompt`"));
        assert!(read(json!({"prompt": 5})).unwrap_err().contains("`prompt`"));
        assert!(read(json!("text")).unwrap_err().contains("expected an object"));
        assert!(
            read(json!({"prompt": "", "n_predicts": -7}))
                .unwrap_err()
                .contains("`n_predicts` is -7")
        );
        assert!(
            read(json!({"prompt": "", "n_predicts": 1e12})).unwrap_err().contains("`n_predicts`")
        );
        assert!(
            read(json!({"prompt": "", "personality": "x"})).unwrap_err().contains("personality")
        );
        let wrong = read(json!({"prompt": "", "parameters": {"top_k": "many"}})).unwrap_err();
        assert!(wrong.contains("top_k"), "{wrong}");
    }
}
