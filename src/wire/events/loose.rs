//! Reads payloads as loosely as LoLLMs clients write them, and no more loosely.
//!
//! Absent and null mean the same; whole numbers may come as `3.0`. The looseness ends here: what is read
//! is typed.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::wire::events::BadPayload;

/// Deepest nesting of a payload.
pub const MAX_DEPTH: usize = 64;
/// Longest excerpt of a wrong value in a message, in characters.
const EXCERPT_CHARS: usize = 60;

/// Reads a payload; null is read as an empty object.
///
/// # Errors
/// [`BadPayload`] names the field, what was found and what was expected.
pub fn parse<T: DeserializeOwned>(payload: Value) -> Result<T, BadPayload> {
    if deeper_than(&payload, MAX_DEPTH) {
        return Err(BadPayload(format!("the payload is nested deeper than {MAX_DEPTH} levels")));
    }
    let payload = if payload.is_null() { Value::Object(serde_json::Map::new()) } else { payload };
    // Only payloads without meaning read a null; all others have fields.
    if !payload.is_object() && T::deserialize(Value::Null).is_err() {
        let found: String = payload.to_string().chars().take(EXCERPT_CHARS).collect();
        return Err(BadPayload(format!("found {found}; expected an object")));
    }
    serde_path_to_error::deserialize(payload).map_err(|error| {
        let path = error.path().to_string();
        let reason = shorten(&error.into_inner().to_string());
        BadPayload(if path == "." { reason } else { format!("`{}`: {reason}", shorten(&path)) })
    })
}

fn deeper_than(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => {
            levels == 0 || items.iter().any(|item| deeper_than(item, levels - 1))
        }
        Value::Object(fields) => {
            levels == 0 || fields.values().any(|field| deeper_than(field, levels - 1))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Serde quotes whole strings in its messages; a megabyte of prompt is not wanted back.
fn shorten(text: &str) -> String {
    const MOST: usize = 240;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let head: String = text.chars().take(MOST - EXCERPT_CHARS).collect();
    let tail: Vec<char> = text.chars().rev().take(EXCERPT_CHARS).collect();
    format!("{head} … {}", tail.into_iter().rev().collect::<String>())
}

/// A whole number, also when written as `3.0`; null is absent.
///
/// # Errors
/// When there is something else, or a number beyond 2^53.
pub fn whole<'de, D: Deserializer<'de>>(input: D) -> Result<Option<i64>, D::Error> {
    let value = Option::<Value>::deserialize(input)?;
    let Some(value) = value else { return Ok(None) };
    let found = || D::Error::custom(format!("found {}; expected a whole number", excerpt(&value)));
    if let Some(number) = value.as_i64() {
        return Ok(Some(number));
    }
    let number = value.as_f64().ok_or_else(found)?;
    // Every whole number up to 2^53 has a float of its own.
    if number.fract() != 0.0 || number.abs() > 9_007_199_254_740_992.0 {
        return Err(found());
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53, as just checked")]
    Ok(Some(number as i64))
}

/// What was found. Python's `NaN` and `Infinity` arrive as empty objects, see `net::python_numbers`.
fn excerpt(value: &Value) -> String {
    if value.as_object().is_some_and(serde_json::Map::is_empty) {
        return "NaN, Infinity or {}".into();
    }
    value.to_string().chars().take(EXCERPT_CHARS).collect()
}

/// A number; null is absent.
///
/// # Errors
/// When there is something else.
pub fn number<'de, D: Deserializer<'de>>(input: D) -> Result<Option<f32>, D::Error> {
    let value = Option::<Value>::deserialize(input)?;
    let Some(value) = value else { return Ok(None) };
    let number = value
        .as_f64()
        .ok_or_else(|| D::Error::custom(format!("found {}; expected a number", excerpt(&value))))?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "settings are used as f32; ranges are checked later"
    )]
    Ok(Some(number as f32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, Deserialize)]
    struct Sample {
        #[serde(default, deserialize_with = "whole")]
        count: Option<i64>,
        #[serde(default, deserialize_with = "number")]
        heat: Option<f32>,
        #[serde(default, rename = "text")]
        _text: String,
    }

    #[test]
    fn whole_numbers_come_in_three_ways() {
        for (payload, count) in [
            (json!({"count": 3}), Some(3)),
            (json!({"count": 3.0}), Some(3)),
            (json!({"count": null}), None),
            (json!(null), None),
        ] {
            assert_eq!(parse::<Sample>(payload).unwrap().count, count);
        }
        assert_eq!(parse::<Sample>(json!({"heat": 1})).unwrap().heat, Some(1.0));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |payload| parse::<Sample>(payload).unwrap_err().0;
        assert_eq!(error(json!({"count": "3"})), "`count`: found \"3\"; expected a whole number");
        assert_eq!(
            error(json!({"count": 1e300})),
            "`count`: found 1e+300; expected a whole number"
        );
        assert_eq!(error(json!({"heat": true})), "`heat`: found true; expected a number");
        assert!(
            error(json!({"text": 5}))
                .starts_with("`text`: invalid type: integer `5`, expected a string")
        );
        assert!(error(json!({"text": ["x".repeat(100_000)]})).len() < 1_000);
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        assert!(error(json!({"text": deep})).contains("nested deeper"));
    }
}
