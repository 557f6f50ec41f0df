//! Looks at a JSON schema before llama.cpp makes a grammar of it.
//!
//! llama.cpp's converter recurses without a limit, copies a schema for each of several types, takes time
//! with the third power of optional properties, and follows references in circles. All of that is counted
//! here first, in time proportional to what is counted.

use serde_json::Value;

use crate::engine::grammar::{GrammarError, MAX_BYTES};

/// Deepest nesting.
const MAX_DEPTH: usize = 64;
/// Most parts that the converter visits.
const MAX_PARTS: usize = 2_000;
/// Longest name of a property or reference, in bytes.
const MAX_NAME: usize = 256;
/// Most work for the optional properties of all objects, each with the third power of their number.
const MAX_OPTIONAL_WORK: usize = 8_000_000;
/// Most references that lead to each other.
const MAX_HOPS: usize = 32;

/// Checks a schema and writes it as llama.cpp reads it.
///
/// # Errors
/// [`GrammarError`] says what is too much, or which reference leads nowhere.
pub fn checked(schema: &Value) -> Result<String, GrammarError> {
    let text = schema.to_string();
    if text.len() > MAX_BYTES {
        let given = text.len();
        return Err(GrammarError(format!("it has {given} bytes; at most {MAX_BYTES} are read")));
    }
    let mut count = Count { root: schema, parts: 0, optional_work: 0 };
    count.visit(schema, 0, 1)?;
    Ok(text)
}

struct Count<'a> {
    root: &'a Value,
    parts: usize,
    optional_work: usize,
}

impl Count<'_> {
    /// Counts a value that is visited `times` times.
    fn visit(&mut self, value: &Value, depth: usize, times: usize) -> Result<(), GrammarError> {
        if depth > MAX_DEPTH {
            return Err(GrammarError(format!("it is nested deeper than {MAX_DEPTH}")));
        }
        match value {
            Value::Array(values) => {
                for value in values {
                    self.visit(value, depth + 1, times)?;
                }
                Ok(())
            }
            Value::Object(object) => {
                let kinds = object.get("type").and_then(Value::as_array).map_or(1, Vec::len);
                let times = times.saturating_mul(kinds.max(1));
                self.parts = self.parts.saturating_add(times);
                if self.parts > MAX_PARTS {
                    return Err(GrammarError(format!("it has more than {MAX_PARTS} parts")));
                }
                self.optional(object, times)?;
                if let Some(Value::String(reference)) = object.get("$ref") {
                    self.follow(reference)?;
                }
                for (name, value) in object {
                    if name.len() > MAX_NAME {
                        let given = name.len();
                        let text = format!("a name has {given} bytes; at most {MAX_NAME} are read");
                        return Err(GrammarError(text));
                    }
                    self.visit(value, depth + 1, times)?;
                }
                Ok(())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    fn optional(
        &mut self,
        object: &serde_json::Map<String, Value>,
        times: usize,
    ) -> Result<(), GrammarError> {
        let Some(Value::Object(properties)) = object.get("properties") else { return Ok(()) };
        let required = object.get("required").and_then(Value::as_array).map_or(0, Vec::len);
        let optional = properties.len().saturating_sub(required);
        let work = optional.saturating_pow(3).saturating_mul(times);
        self.optional_work = self.optional_work.saturating_add(work);
        if self.optional_work > MAX_OPTIONAL_WORK {
            return Err(GrammarError::new(
                "it has too many optional properties; about 200 are possible",
            ));
        }
        Ok(())
    }

    /// Follows references to references: the converter would go round in circles.
    fn follow(&self, reference: &str) -> Result<(), GrammarError> {
        let shown = || reference.chars().take(60).collect::<String>();
        let mut next = reference;
        for _ in 0..MAX_HOPS {
            if next.len() > MAX_NAME {
                return Err(GrammarError(format!("the `$ref` `{}` is too long", shown())));
            }
            let found = next.strip_prefix('#').and_then(|path| self.root.pointer(path));
            let Some(found) = found else {
                return Err(GrammarError(format!("the `$ref` `{}` leads nowhere", shown())));
            };
            match found.get("$ref").and_then(Value::as_str) {
                Some(further) => next = further,
                None => return Ok(()),
            }
        }
        Err(GrammarError(format!("the `$ref` `{}` goes round in circles", shown())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(schema: &Value) -> String {
        checked(schema).unwrap_err().0
    }

    #[test]
    fn usual_schemas_pass() {
        let person = json!({
            "type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "maxLength": 40}, "age": {"type": ["integer", "null"]},
                "friends": {"type": "array", "items": {"$ref": "#/$defs/person"}}
            }, "$defs": {"person": {"$ref": "#"}}
        });
        // A reference to the whole schema is one that llama.cpp does not know; we say the same.
        assert!(checked(&person).is_ok());
        assert_eq!(checked(&json!({})).unwrap(), "{}");
    }

    #[test]
    fn what_would_take_too_long_is_refused() {
        let mut deep = json!({"type": "string"});
        for _ in 0..100 {
            deep = json!({"items": deep});
        }
        assert!(wrong(&deep).contains("nested deeper than 64"));
        let mut copies = json!({"type": "string"});
        for _ in 0..20 {
            copies = json!({"type": ["object", "array"], "properties": {"a": copies}});
        }
        assert!(wrong(&copies).contains("more than 2000 parts"));
        let many: serde_json::Map<String, Value> =
            (0..300).map(|n| (format!("p{n}"), json!({}))).collect();
        assert!(wrong(&json!({"properties": many})).contains("optional properties"));
        assert!(wrong(&json!({"enum": vec!["word"; 20_000]})).contains("bytes"));
        assert!(wrong(&json!({"properties": {"x".repeat(300): {}}})).contains("300 bytes"));
    }

    #[test]
    fn references_must_lead_somewhere() {
        let circle = json!({"$ref": "#/a", "a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}});
        assert!(wrong(&circle).contains("in circles"));
        let own = json!({"allOf": [{"$ref": "#/a"}], "a": {"$ref": "#/a"}});
        assert!(wrong(&own).contains("in circles"));
        assert!(wrong(&json!({"$ref": "#/nothing"})).contains("leads nowhere"));
        assert!(wrong(&json!({"$ref": "https://example.org"})).contains("leads nowhere"));
        let list = json!({"$ref": "#/list", "list": {"items": {"$ref": "#/list"}}});
        assert!(checked(&list).is_ok());
    }
}
