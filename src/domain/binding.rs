//! What a binding offers: models, as LoLLMs clients list them.

/// The binding that is built in: llama.cpp in worker processes.
pub const LLAMA_CPP: &str = "llama_cpp";

/// File of the demonstration model that ships, beneath `models/llama_cpp/`.
pub const DEMO_MODEL: &str = "lollmsd-demo.gguf";

/// A model that a binding offers, installed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// File name, or name for models that are no files; what `select_model` takes.
    pub title: String,
    /// Picture, as a URL or a path of this server.
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
    pub is_installed: bool,
    /// Where the file comes from: its URL, or empty.
    pub path: String,
    /// Size of the file in bytes; 0 when unknown.
    pub filesize: u64,
    /// `gguf`, `api`, …; empty when unknown.
    pub model_type: String,
}
