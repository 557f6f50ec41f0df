//! YAML from strangers, read with bounded work into JSON values.
//!
//! Loose where LoLLMs' own reader is: of a key given twice the last one counts, timestamps are text,
//! `<<` merges. Strict where a file could do harm: size, nesting, repeated aliases and tags are limited.
//!
//! The parser is a libyaml: stricter ones refuse 140 of 486 real manifests.

use std::cell::Cell;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Largest YAML file, in bytes. The largest real one, a list of 1,652 models, has 0.7 MB.
pub const MAX_BYTES: u64 = 1 << 20;
/// Deepest nesting of lists and mappings.
pub const MAX_DEPTH: usize = 64;
/// Most values of one file, those repeated through aliases counted each time.
const MAX_VALUES: usize = 250_000;
/// Most text of one file in bytes, repeated text counted each time.
const MAX_TEXT: usize = 4 << 20;
/// Most brackets open at a time. libyaml's work grows with the square of it, so it is counted before
/// libyaml runs, in text as well as in YAML's own lists: no real file comes near.
const MAX_OPEN_BRACKETS: usize = 1_000;

/// Why a file is no good YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct YamlError {
    /// Line, counted from 1, when it is known.
    pub line: Option<usize>,
    /// What was found and what was expected.
    pub reason: String,
}

impl YamlError {
    fn new(line: Option<usize>, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into() }
    }
}

/// Reads one YAML document; an empty one is null.
///
/// # Errors
/// [`YamlError`] names the line when libyaml knows it.
pub fn parse(bytes: &[u8]) -> Result<Value, YamlError> {
    if bytes.len() as u64 > MAX_BYTES {
        let reason = format!("{} bytes of YAML; at most {MAX_BYTES} are read", bytes.len());
        return Err(YamlError::new(None, reason));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = 1 + good.matches('\n').count();
        YamlError::new(Some(line), "the text is not UTF-8")
    })?;
    // Windows editors put a byte order mark first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_brackets(text)?;
    let left = Left { values: Cell::new(MAX_VALUES), text: Cell::new(MAX_TEXT) };
    let seed = Bounded { left: &left, depth: 0 };
    seed.deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
        let line = error.location().map(|location| location.line());
        YamlError::new(line, error.to_string())
    })
}

/// Reads one YAML document that must be a mapping.
///
/// # Errors
/// As [`parse`], and when it is something else.
pub fn parse_mapping(bytes: &[u8]) -> Result<Map<String, Value>, YamlError> {
    let value = parse(bytes)?;
    if let Value::Object(map) = value {
        return Ok(map);
    }
    let reason = format!("the file holds {}; expected `key: value` lines", kind(&value));
    Err(YamlError::new(None, reason))
}

/// What a value is, in words for an error.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a yes/no value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn check_brackets(text: &str) -> Result<(), YamlError> {
    let (mut open, mut line) = (0_usize, 1);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            b'\n' => line += 1,
            _ => {}
        }
        if open > MAX_OPEN_BRACKETS {
            let reason = format!("over {MAX_OPEN_BRACKETS} brackets are open at a time");
            return Err(YamlError::new(Some(line), reason));
        }
    }
    Ok(())
}

/// How much a file may still bring.
struct Left {
    values: Cell<usize>,
    text: Cell<usize>,
}

#[derive(Clone, Copy)]
struct Bounded<'a> {
    left: &'a Left,
    depth: usize,
}

impl Bounded<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn take<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let values = self.left.values.get().checked_sub(1);
        let bytes = self.left.text.get().checked_sub(text.len());
        let (Some(values), Some(bytes)) = (values, bytes) else {
            return Err(E::custom(format_args!(
                "aliases included it holds over {MAX_VALUES} values or {MAX_TEXT} bytes of text"
            )));
        };
        self.left.values.set(values);
        self.left.text.set(bytes);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("plain YAML without tags")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.take("").map(|()| Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.take("").map(|()| Value::Number(value.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.take("").map(|()| Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        // JSON has no infinity; as nothing it reads as "not set".
        self.take("").map(|()| Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.take(value).map(|()| Value::String(value.to_owned()))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.take("").map(|()| Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        self.take("")?;
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<Value, A::Error> {
        self.take("")?;
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some((key, value)) = mapping.next_entry_seed(inner, inner)? {
            let key = match key {
                Value::String(text) => text,
                Value::Array(_) | Value::Object(_) => {
                    return Err(A::Error::custom("a key is a list or a mapping; expected a text"));
                }
                plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain.to_string(),
            };
            map.insert(key, value);
        }
        Ok(Value::Object(merged(map)))
    }
}

/// Applies `<<: *defaults`: keys of the mapping itself win.
fn merged(mut map: Map<String, Value>) -> Map<String, Value> {
    let sources = match map.remove("<<") {
        Some(Value::Object(source)) => vec![source],
        Some(Value::Array(list)) if list.iter().all(Value::is_object) => {
            list.into_iter().filter_map(|item| item.as_object().cloned()).collect()
        }
        Some(other) => {
            map.insert("<<".into(), other);
            return map;
        }
        None => return map,
    };
    for (key, value) in sources.into_iter().flatten() {
        map.entry(key).or_insert(value);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_is_read_as_lollms_does() {
        let read = |text: &str| parse(text.as_bytes()).unwrap();
        assert_eq!(read("a: 1\na: 2"), json!({"a": 2}));
        assert_eq!(read("d: 2024-07-22 16:14:13"), json!({"d": "2024-07-22 16:14:13"}));
        assert_eq!(read("v: 1.0\nw: 1.0.0"), json!({"v": 1.0, "w": "1.0.0"}));
        assert_eq!(read("p: \"### Human:\n\n  \""), json!({"p": "### Human:\n"}));
        assert_eq!(
            read("b: {x: 1, y: 2}\nc: {<<: {x: 0, z: 3}, x: 9}")["c"],
            json!({"x": 9, "z": 3})
        );
        assert_eq!(read(""), json!(null));
        assert_eq!(read("\u{feff}a: True\r\nb: ~\r\n"), json!({"a": true, "b": null}));
        assert_eq!(read("1: a\nnull: b"), json!({"1": "a", "null": "b"}));
        assert_eq!(read("q: 'it''s\nnot indented'"), json!({"q": "it's not indented"}));
    }

    fn refusal(bytes: &[u8]) -> YamlError {
        parse(bytes).unwrap_err()
    }

    #[test]
    fn a_tag_is_never_more_than_data() {
        let read = parse(b"a: !!python/object/apply:os.system [ls]").unwrap();
        assert_eq!(read, json!({"a": ["ls"]}));
    }

    #[test]
    fn large_and_strange_files_come_to_an_end() {
        for unit in ["? ", "a: &a ", "*a ", "!t ", "\"", "a:\n ", "{}", "a: [", "%", "---\n"] {
            let text = unit.repeat((1 << 18) / unit.len());
            let size = parse(text.as_bytes()).map_or(0, |value| value.to_string().len());
            assert!(size <= text.len() * 2, "{unit:?}: {size}");
        }
    }

    #[test]
    fn hostile_yaml_is_refused_by_name() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..30 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb = format!("{bomb}a{level}: &a{level} [{inner}]\n");
        }
        let reason = refusal(bomb.as_bytes()).reason;
        assert!(reason.contains("aliases") || reason.contains("repetition"), "{reason}");
        let text_bomb = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), "*a,".repeat(5_000));
        assert!(refusal(text_bomb.as_bytes()).reason.contains("bytes of text"));
        assert!(refusal(&b"[".repeat(60_000)).reason.contains("brackets"));
        assert!(refusal("- ".repeat(500_000).as_bytes()).reason.contains("64 levels"));
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(refusal(deep.as_bytes()).reason.contains("64 levels"));
        assert!(refusal(b"a: !call os.system").reason.contains("without tags"));
        assert!(refusal(b"a: &a [*a]").reason.len() > 3);
        assert!(refusal(&vec![b'x'; 20 << 20]).reason.contains("at most 1048576"));
        assert_eq!(refusal(b"a: 1\nb: \xff").line, Some(2));
        assert!(refusal(b"a: 1\nb: 'open\n").reason.contains("scalar"));
        assert_eq!(
            parse_mapping(b"- 1").unwrap_err().reason,
            "the file holds a list; expected `key: value` lines"
        );
    }
}
