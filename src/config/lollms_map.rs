//! The settings as LoLLMs clients read them: one flat map with the key names of all eras.

use serde_json::{Map, Value, json};

use crate::config::keys::KEYS;
use crate::config::settings::Settings;

/// Version of LoLLMs' configuration file that the map looks like most: that of August 2023.
const VERSION: u32 = 11;

/// The flat map of `GET /get_config`: own and old names, secrets as `***`.
///
/// `listen` is left out: `host` and `port` are what clients know.
pub fn as_lollms_map(settings: &Settings) -> Map<String, Value> {
    let mut map: Map<String, Value> = settings
        .extra
        .iter()
        .map(|(name, value)| {
            (name.clone(), if is_secret(name, value) { json!("***") } else { value.clone() })
        })
        .collect();
    for key in KEYS.iter().filter(|key| key.name != "listen") {
        let value = (key.get)(settings);
        for alias in key.aliases {
            map.insert((*alias).into(), value.clone());
        }
        map.insert(key.name.into(), value);
    }
    map.entry("version").or_insert_with(|| json!(VERSION));
    // Until June 2023 there was one personality, named in three parts.
    let active = settings.personalities.get(settings.active_personality_id);
    let mut parts = active.map_or("", String::as_str).split(':').next().unwrap_or("").rsplit('/');
    map.insert("personality".into(), json!(parts.next().unwrap_or("")));
    map.insert("personality_category".into(), json!(parts.next().unwrap_or("")));
    map.insert("personality_language".into(), json!(parts.next().unwrap_or("english")));
    map
}

/// Whether a key of LoLLMs holds a text or list that opens something: `lollms_access_keys`,
/// `rag_vectorizer_openai_key`.
fn is_secret(name: &str, value: &Value) -> bool {
    let holds = match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    };
    holds && ["key", "token", "password", "secret"].iter().any(|word| name.contains(word))
}
