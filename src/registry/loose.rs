//! Reads values of manifests as loosely as their authors wrote them, and notes what did not fit.

use serde_json::{Map, Value};

use crate::registry::problem::Problem;
use crate::registry::yaml;

/// The keys of one manifest; every getter falls back instead of failing.
pub(crate) struct Keys<'a> {
    map: &'a Map<String, Value>,
    path: &'a str,
    /// What did not fit, in the order it was met.
    pub(crate) odd: Vec<Problem>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(path: &'a str, map: &'a Map<String, Value>) -> Self {
        Self { map, path, odd: Vec::new() }
    }

    /// The first of these keys that is there and not null.
    fn find(&self, names: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        let present = |name: &&'static str| {
            let value = self.map.get(*name).filter(|value| !value.is_null())?;
            Some((*name, value))
        };
        names.iter().find_map(present)
    }

    fn note(&mut self, key: &str, value: &Value, expected: &str) {
        let reason = format!("`{key}` is {}; expected {expected}", yaml::kind(value));
        self.odd.push(Problem::odd(self.path, reason));
    }

    /// A text; numbers and yes/no values are taken as written, lists are joined by line breaks.
    pub(crate) fn text(&mut self, names: &[&'static str]) -> Option<String> {
        let (key, value) = self.find(names)?;
        let text = value.as_array().map_or_else(
            || scalar(value),
            |items| {
                let parts: Option<Vec<String>> = items.iter().map(scalar).collect();
                parts.map(|parts| parts.join("\n"))
            },
        );
        if text.is_none() {
            self.note(key, value, "a text");
        }
        text
    }

    /// A list of texts; a single text is a list of one.
    pub(crate) fn texts(&mut self, names: &[&'static str]) -> Vec<String> {
        let Some((key, value)) = self.find(names) else { return Vec::new() };
        let single = std::slice::from_ref(value);
        let items = value.as_array().map_or(single, Vec::as_slice);
        let texts: Vec<String> = items.iter().filter_map(scalar).collect();
        if texts.len() < items.len() {
            self.note(key, value, "a list of texts");
        }
        texts
    }

    /// A list of mappings.
    pub(crate) fn mappings(&mut self, names: &[&'static str]) -> Vec<&'a Map<String, Value>> {
        let Some((key, value)) = self.find(names) else { return Vec::new() };
        let items: &[Value] = value.as_array().map_or(&[], Vec::as_slice);
        let maps: Vec<_> = items.iter().filter_map(Value::as_object).collect();
        if maps.len() < items.len() || !value.is_array() {
            self.note(key, value, "a list of mappings");
        }
        maps
    }

    /// A number within a range, both ends included.
    pub(crate) fn number(&mut self, name: &'static str, range: (f64, f64)) -> Option<f64> {
        let (key, value) = self.find(&[name])?;
        let number = match value.as_str() {
            Some(text) => text.trim().parse().ok(),
            None => value.as_f64(),
        };
        let (low, high) = range;
        match number {
            Some(number) if (low..=high).contains(&number) => Some(number),
            Some(number) => {
                let reason = format!("`{key}` is {number}; expected {low} to {high}");
                self.odd.push(Problem::odd(self.path, reason));
                None
            }
            None => {
                self.note(key, value, "a number");
                None
            }
        }
    }

    /// A yes/no value in any of YAML's spellings.
    pub(crate) fn flag(&mut self, names: &[&'static str], default: bool) -> bool {
        let Some((key, value)) = self.find(names) else { return default };
        let word = scalar(value).map(|word| word.to_ascii_lowercase());
        match word.as_deref() {
            Some("true" | "yes" | "on" | "y" | "1") => true,
            Some("false" | "no" | "off" | "n" | "0") => false,
            Some(_) | None => {
                self.note(key, value, "true or false");
                default
            }
        }
    }
}

/// A single value as text; `None` for lists, mappings and nothing.
pub(crate) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        // `version: 1.0` is a float; its text is `1.0`.
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_taken_as_they_were_meant() {
        let value = json!({
            "version": 1.0, "list": ["a", 2], "one": "x", "n": "0.5", "i": 3, "yes": "Yes",
            "map": {}, "hot": "hot", "cold": -1, "nothing": null
        });
        let mut keys = Keys::new("config.yaml", value.as_object().unwrap());
        assert_eq!(keys.text(&["version"]).unwrap(), "1.0");
        assert_eq!(keys.text(&["list"]).unwrap(), "a\n2");
        assert_eq!(keys.texts(&["one"]), ["x"]);
        assert_eq!(keys.number("n", (0.0, 1.0)), Some(0.5));
        assert_eq!(keys.number("i", (0.0, 9.0)), Some(3.0));
        assert!(keys.flag(&["misspelt", "yes"], false));
        assert_eq!(keys.text(&["nothing"]), None);
        assert!(keys.odd.is_empty());
        assert_eq!(keys.text(&["map"]), None);
        assert_eq!(keys.number("hot", (0.0, 1.0)), None);
        assert_eq!(keys.number("cold", (0.0, 1.0)), None);
        let reasons: Vec<_> = keys.odd.iter().map(|odd| odd.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "`map` is a mapping; expected a text",
                "`hot` is a text; expected a number",
                "`cold` is -1; expected 0 to 1"
            ]
        );
    }
}
