//! Payloads of selecting a binding, a model, a personality.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::events::loose;

/// Payload of `select_binding` from a client.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SelectBinding {
    /// Folder name of the binding.
    pub binding_name: String,
}

/// Payload of `select_model` from a client.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SelectModel {
    /// File name of the model.
    pub model_name: String,
}

/// Payload of `add_personality`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AddPersonality {
    /// `category/name` beneath `personalities/`.
    pub path: String,
}

/// Payload of `activate_personality` from a client.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ActivatePersonality {
    /// Index of a mounted personality; required.
    #[serde(default, deserialize_with = "loose::whole")]
    pub id: Option<i64>,
}

/// Payload of `select_binding` from the server.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BindingSelected {
    /// Whether it is selected.
    pub success: bool,
    /// The name as it was sent.
    pub binding_name: String,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Payload of `select_model` from the server.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelSelected {
    /// Whether it is selected.
    pub success: bool,
    /// The name as it was sent.
    pub model_name: String,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Payload of `personality_added`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PersonalityAdded {
    /// Always true.
    pub success: bool,
    /// What people call it.
    pub name: String,
    /// Its index.
    pub id: usize,
}

/// Payload of `activate_personality` from the server.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PersonalityActivated {
    /// Always true.
    pub success: bool,
    /// What people call it.
    pub name: String,
    /// Its index.
    pub id: usize,
}

/// Payload of `personality_add_failed`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PersonalityFailed {
    /// Always false.
    pub success: bool,
    /// What went wrong.
    pub error: String,
}
