//! Payloads of listing what there is.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::domain::binding::ModelEntry;
use crate::domain::personality::Personality;

/// A payload without meaning: whatever is sent, or nothing.
#[derive(Debug, Default)]
pub struct Nothing;

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(input).map(|_| Self)
    }
}

impl JsonSchema for Nothing {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Nothing".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "Ignored; may be left out."})
    }
}

/// Payload of `list_available_personalities_categories`; older clients send a language, which is ignored.
pub type CategoryQuery = Nothing;

/// Payload of `list_available_personalities_names`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct NamesQuery {
    /// The category; one folder name.
    pub category: String,
}

/// Payload of `bindings_list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BindingsList {
    /// Whether it worked.
    pub success: bool,
    /// The bindings.
    pub bindings: Vec<BindingItem>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A binding of [`BindingsList`].
#[derive(Debug, Serialize, JsonSchema)]
pub struct BindingItem {
    /// Folder name; what `select_binding` takes.
    pub name: String,
    /// Its `binding_card.yaml` as it stands.
    pub card: Value,
    /// Its `models.yaml` as it stands.
    pub models: Value,
}

/// Payload of `personalities_list`: no `success`, as LoLLMs has it, unless it failed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PersonalitiesList {
    /// Personalities by category.
    pub personalities: BTreeMap<String, Vec<PersonalityItem>>,
    /// Only when it failed: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A personality of [`PersonalitiesList`].
#[derive(Debug, Serialize, JsonSchema)]
pub struct PersonalityItem {
    /// Folder name.
    pub folder: String,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Who wrote it.
    pub author: String,
    /// Its version, as written.
    pub version: String,
    /// Whether it brings scripts; they are never run.
    pub has_scripts: bool,
    /// Whether it has a png or gif logo.
    pub has_logo: bool,
    /// Path of its logo beneath the root folder, or empty.
    pub avatar: String,
}

impl PersonalityItem {
    fn of(personality: &Personality) -> Self {
        let avatar = personality.avatar.as_ref();
        Self {
            folder: personality.id.name.to_string(),
            name: personality.name.clone(),
            description: personality.description.clone(),
            author: personality.author.clone(),
            version: personality.version.clone(),
            has_scripts: personality.has_scripts,
            has_logo: personality.has_logo,
            avatar: avatar.map_or_else(String::new, |file| {
                format!("personalities/{}/{file}", personality.folder)
            }),
        }
    }
}

impl PersonalitiesList {
    /// The whole tree.
    pub fn of(tree: BTreeMap<String, Vec<Arc<Personality>>>) -> Self {
        let items =
            |list: Vec<Arc<Personality>>| list.iter().map(|p| PersonalityItem::of(p)).collect();
        let personalities = tree.into_iter().map(|(category, list)| (category, items(list)));
        Self { personalities: personalities.collect(), success: None, error: None }
    }
}

/// Payload of `available_models_list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AvailableModels {
    /// Whether it worked.
    pub success: bool,
    /// The models.
    pub available_models: Vec<ModelItem>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A model of [`AvailableModels`].
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelItem {
    /// File name; what `select_model` takes.
    pub title: String,
    /// Picture.
    pub icon: String,
    /// Licence.
    pub license: String,
    /// Who publishes it.
    pub owner: String,
    /// Where its publisher is found.
    pub owner_link: String,
    /// What it is.
    pub description: String,
    /// Whether it can be selected now.
    #[serde(rename = "isInstalled")]
    pub is_installed: bool,
    /// Where the file comes from, or empty.
    pub path: String,
    /// Size of the file in bytes; 0 when unknown.
    pub filesize: u64,
    /// `gguf`, `api`, …
    pub model_type: String,
}

impl From<ModelEntry> for ModelItem {
    fn from(entry: ModelEntry) -> Self {
        Self {
            title: entry.title,
            icon: entry.icon,
            license: entry.license,
            owner: entry.owner,
            owner_link: entry.owner_link,
            description: entry.description,
            is_installed: entry.is_installed,
            path: entry.path,
            filesize: entry.filesize,
            model_type: entry.model_type,
        }
    }
}

/// Payload of `available_personalities_languages_list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Languages {
    /// Whether it worked.
    pub success: bool,
    /// The languages.
    pub available_personalities_languages: Vec<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Payload of `available_personalities_categories_list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Categories {
    /// Whether it worked.
    pub success: bool,
    /// The categories.
    pub available_personalities_categories: Vec<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Payload of `list_available_personalities_names_list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NamesList {
    /// Whether it worked.
    pub success: bool,
    /// The names.
    pub list_available_personalities_names: Vec<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Payload of `active_personalities_list`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ActivePersonalities {
    /// Whether it worked.
    pub success: bool,
    /// Names in the order of their indexes.
    pub personalities: Vec<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
