//! Every Socket.IO event, once: its name, direction, payload and one-line summary.
//!
//! The table makes [`ClientEvent`] with its parser, [`ServerEvent`] with its writer, and [`EVENTS`], from
//! which the `AsyncAPI` document is built. An event without a handler does not compile: dispatch matches
//! [`ClientEvent`] without a wildcard.

use schemars::{Schema, schema_for};
use serde::Serialize;
use serde_json::Value;

pub mod generation;
pub mod listing;
pub mod loose;
pub mod selection;
pub mod tokens;

use generation::{
    Busy, CancelGeneration, GenerateText, GenerationCanceled, GenerationError, GenerationState,
    TextChunk, TextGenerated,
};
use listing::{
    ActivePersonalities, AvailableModels, BindingsList, Categories, CategoryQuery, Languages,
    NamesList, NamesQuery, Nothing, PersonalitiesList,
};
use selection::{
    ActivatePersonality, AddPersonality, BindingSelected, ModelSelected, PersonalityActivated,
    PersonalityAdded, PersonalityFailed, SelectBinding, SelectModel,
};
use tokens::{
    Detokenize, Detokenized, Embed, Embedded, QueryDatabase, Tokenize, Tokenized, Unoffered,
    VectorizeText,
};

/// Row of the event table.
#[derive(Debug)]
pub struct EventInfo {
    /// Name on the wire, as LoLLMs clients send it.
    pub name: &'static str,
    /// Which side sends it.
    pub direction: Direction,
    /// One sentence about it.
    pub summary: &'static str,
    /// JSON Schema of its payload.
    pub schema: fn() -> Schema,
}

/// Which side sends an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Client to server.
    Client,
    /// Server to client.
    Server,
}

/// A payload that cannot be read, in one sentence: which field, what was found, what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPayload(pub String);

macro_rules! event_table {
    (
        client { $($c_name:literal => $c:ident($c_payload:ident), $c_summary:literal;)* }
        server { $($s_name:literal => $s:ident($s_payload:ident), $s_summary:literal;)* }
    ) => {
        /// An event that a client sends, without its payload.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ClientEventKind { $(#[doc = $c_summary] $c,)* }

        impl ClientEventKind {
            /// The event called `name`.
            pub fn find(name: &str) -> Option<Self> {
                match name { $($c_name => Some(Self::$c),)* _ => None }
            }

            /// Reads a payload of this event.
            ///
            /// # Errors
            /// [`BadPayload`] names the field and what is wrong with it.
            pub fn parse(self, payload: Value) -> Result<ClientEvent, BadPayload> {
                match self {
                    $(Self::$c => loose::parse::<$c_payload>(payload).map(ClientEvent::$c),)*
                }
            }
        }

        /// An event that a client sends.
        #[derive(Debug)]
        pub enum ClientEvent { $(#[doc = $c_summary] $c($c_payload),)* }

        impl ClientEvent {
            /// Which event it is.
            pub fn kind(&self) -> ClientEventKind {
                match self { $(Self::$c(_) => ClientEventKind::$c,)* }
            }
        }

        /// An event that the server sends.
        #[derive(Debug)]
        pub enum ServerEvent { $(#[doc = $s_summary] $s($s_payload),)* }

        impl ServerEvent {
            /// Hands the name and the payload to `write`.
            pub fn write<W: EventWriter>(&self, write: W) -> W::Output {
                match self { $(Self::$s(payload) => write.write($s_name, payload),)* }
            }
        }

        /// The table.
        pub const EVENTS: &[EventInfo] = &[
            $(EventInfo {
                name: $c_name,
                direction: Direction::Client,
                summary: $c_summary,
                schema: || schema_for!($c_payload),
            },)*
            $(EventInfo {
                name: $s_name,
                direction: Direction::Server,
                summary: $s_summary,
                schema: || schema_for!($s_payload),
            },)*
        ];
    };
}

/// Takes an event's name and payload, to send or to measure them.
pub trait EventWriter {
    /// What becomes of it.
    type Output;
    /// Takes them.
    fn write<T: Serialize>(self, name: &'static str, payload: &T) -> Self::Output;
}

event_table! {
    client {
        "list_available_bindings" => ListBindings(Nothing), "Asks for all bindings.";
        "list_available_personalities" => ListPersonalities(Nothing), "Asks for all personalities by category.";
        "list_available_models" => ListModels(Nothing), "Asks for the models of the selected binding.";
        "list_available_personalities_languages" => ListLanguages(Nothing), "Asks for the languages of the personalities.";
        "list_available_personalities_categories" => ListCategories(CategoryQuery), "Asks for the categories of personalities.";
        "list_available_personalities_names" => ListNames(NamesQuery), "Asks for the personalities of a category.";
        "list_active_personalities" => ListActive(Nothing), "Asks for the mounted personalities, in the order of their indexes.";
        "select_binding" => SelectBinding(SelectBinding), "Selects a binding.";
        "select_model" => SelectModel(SelectModel), "Selects a model of the selected binding and waits until it is loaded.";
        "add_personality" => AddPersonality(AddPersonality), "Mounts a personality.";
        "activate_personality" => ActivatePersonality(ActivatePersonality), "Makes a mounted personality the active one.";
        "tokenize" => Tokenize(Tokenize), "Cuts text into tokens.";
        "detokenize" => Detokenize(Detokenize), "Joins tokens to text.";
        "embed" => Embed(Embed), "Turns text into a vector.";
        "vectorize_text" => VectorizeText(VectorizeText), "Not offered; answered by its failure.";
        "query_database" => QueryDatabase(QueryDatabase), "Not offered; answered by its failure.";
        "generate_text" => GenerateText(GenerateText), "Asks for a completion of a raw prompt, or for a personality's answer.";
        "cancel_generation" => CancelGeneration(CancelGeneration), "Ends this connection's generations.";
        "cancel_text_generation" => CancelTextGeneration(CancelGeneration), "Ends this connection's generations; newer name.";
    }
    server {
        "bindings_list" => BindingsList(BindingsList), "All bindings.";
        "personalities_list" => PersonalitiesList(PersonalitiesList), "All personalities by category.";
        "available_models_list" => AvailableModels(AvailableModels), "The models of the selected binding.";
        "available_personalities_languages_list" => Languages(Languages), "The languages of the personalities.";
        "available_personalities_categories_list" => Categories(Categories), "The categories of personalities.";
        "list_available_personalities_names_list" => Names(NamesList), "The personalities of a category.";
        "active_personalities_list" => ActivePersonalities(ActivePersonalities), "The mounted personalities.";
        "select_binding" => BindingSelected(BindingSelected), "Whether the binding is selected.";
        "select_model" => ModelSelected(ModelSelected), "Whether the model is selected.";
        "personality_added" => PersonalityAdded(PersonalityAdded), "A personality was mounted.";
        "personality_add_failed" => PersonalityFailed(PersonalityFailed), "A personality was not mounted or not activated.";
        "activate_personality" => PersonalityActivated(PersonalityActivated), "A personality is the active one now.";
        "tokenized" => Tokenized(Tokenized), "The tokens of a text.";
        "detokenized" => Detokenized(Detokenized), "The text of tokens.";
        "embeded" => Embedded(Embedded), "The vector of a text; misspelt as LoLLMs has it.";
        "vectorized_db" => VectorizedDb(Unoffered), "Says that vectorizing is not offered.";
        "vector_db_query" => VectorDbQuery(Unoffered), "Says that querying is not offered.";
        "text_chunk" => TextChunk(TextChunk), "The next piece of a completion.";
        "text_generated" => TextGenerated(TextGenerated), "The whole completion, once; its end.";
        "generation_canceled" => GenerationCanceled(GenerationCanceled), "A generation was cancelled; nothing of it follows.";
        "generation_error" => GenerationError(GenerationError), "A generation failed; its end.";
        "buzzy" => Buzzy(Busy), "The queue is full; the name that LoLLMs' own clients listen to.";
        "busy" => Busy(Busy), "The queue is full; the name of later LoLLMs servers.";
        "generation_state" => GenerationState(GenerationState), "Where a generation is while it keeps its client waiting.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct ToJson;
    impl EventWriter for ToJson {
        type Output = (&'static str, Value);
        fn write<T: Serialize>(self, name: &'static str, payload: &T) -> Self::Output {
            (name, serde_json::to_value(payload).unwrap())
        }
    }

    #[test]
    fn names_of_one_direction_are_unique() {
        for direction in [Direction::Client, Direction::Server] {
            let mut names: Vec<_> =
                EVENTS.iter().filter(|e| e.direction == direction).map(|e| e.name).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }

    #[test]
    fn events_without_data_take_any_payload() {
        for payload in [json!({}), json!(null), json!([1, 2]), json!("x"), json!({"a": {"b": 1}})] {
            for name in
                ["list_available_bindings", "cancel_generation", "list_active_personalities"]
            {
                let kind = ClientEventKind::find(name).unwrap();
                assert!(kind.parse(payload.clone()).is_ok(), "{name} {payload}");
            }
        }
    }

    #[test]
    fn a_chunk_has_the_bytes_that_lollms_sends() {
        let event = ServerEvent::TextChunk(TextChunk::new("hé".into()));
        assert_eq!(event.write(ToJson), ("text_chunk", json!({"chunk": "hé", "type": 0})));
    }
}
