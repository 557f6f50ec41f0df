//! What the engine needs of a loaded model: one half decodes, the other works with text.
//!
//! llama.cpp makes both (`llama`); tests make their own.

use std::sync::Arc;

use crate::domain::prompt::Message;
use crate::engine::recipe::{Chosen, Recipe};
use crate::engine::scheduler::{Cutting, Entry, SeqIdx, Token};
use crate::engine::vocabulary::Vocabulary;

/// Why something did not work, as the model's library says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ModelError(pub String);

/// How a decode step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Every entry is in the cache.
    Done,
    /// The cache has no room; nothing changed.
    NoRoom,
    /// The context is in an unknown state and must be made anew.
    Broken(String),
}

/// The context of a model: its cache, its steps. Owned by the decode thread.
pub trait Decoder {
    /// Chooses the tokens of one generation.
    type Sampler;

    /// Makes a sampler; penalties look back into `prompt` too.
    ///
    /// # Errors
    /// [`ModelError`] when the library refuses the settings.
    fn sampler(&mut self, recipe: &Recipe, prompt: &[Token]) -> Result<Self::Sampler, ModelError>;

    /// Decodes a batch.
    fn decode(&mut self, batch: &[Entry]) -> Decoded;

    /// Chooses the token after entry `at` of the batch decoded last; that entry wanted logits.
    ///
    /// # Errors
    /// [`ModelError`] when nothing can be chosen, such as for numbers that are not finite.
    fn sample(&mut self, sampler: &mut Self::Sampler, at: usize) -> Result<Chosen, ModelError>;

    /// Takes the cells from position `from` on out of a sequence; false when the model cannot do that.
    /// From position 0 it always works.
    fn cut(&mut self, seq: SeqIdx, from: usize) -> bool;

    /// Appends the bytes that a token stands for; control tokens stand for none.
    fn append_bytes(&self, token: Token, out: &mut Vec<u8>);

    /// Whether a token ends the text.
    fn ends_text(&self, token: Token) -> bool;

    /// Makes the context anew, empty.
    ///
    /// # Errors
    /// [`ModelError`] when that fails; then nothing works any more.
    fn rebuild(&mut self) -> Result<(), ModelError>;
}

/// Whether a tokenizer adds the tokens that the model wants at the beginning and the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Adds them.
    Add,
    /// Leaves the text as it is.
    Leave,
}

/// Whether a tokenizer reads the names of control tokens as those tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// `<|im_start|>` is one token.
    Parse,
    /// `<|im_start|>` is text.
    Text,
}

/// The text side of a model: tokenizer, chat template, embeddings. Shared by the preparation threads.
pub trait Lexicon: Send + Sync {
    /// Text to tokens.
    ///
    /// # Errors
    /// [`ModelError`] when the tokenizer fails.
    fn tokenize(
        &self,
        text: &str,
        special: Special,
        control: Control,
    ) -> Result<Vec<Token>, ModelError>;

    /// Tokens to text; control tokens by their names, bytes that are no UTF-8 as U+FFFD.
    ///
    /// # Errors
    /// [`ModelError`] names a token that is not in the vocabulary.
    fn detokenize(&self, tokens: &[Token]) -> Result<String, ModelError>;

    /// The table of all tokens, made when it is first asked for.
    fn vocabulary(&self) -> Arc<Vocabulary>;

    /// The grammar of the JSON that fits a schema, itself as text, which has been checked.
    ///
    /// # Errors
    /// [`ModelError`] says what in the schema is not understood.
    fn schema_grammar(&self, schema: &str) -> Result<String, ModelError>;

    /// Whether the model brings a chat template that can be used.
    fn has_template(&self) -> bool;

    /// A conversation as the model's chat template writes it, ending where the model goes on. The begin
    /// token is left out when [`Special::Add`] adds it.
    ///
    /// # Errors
    /// [`ModelError`] when the template refuses the conversation.
    fn apply_template(&self, messages: &[Message]) -> Result<String, ModelError>;

    /// Text to a vector of length 1.
    ///
    /// # Errors
    /// [`ModelError`] when the text is too long or the model makes no embeddings.
    fn embed(&self, text: &str) -> Result<Vec<f32>, ModelError>;
}

/// Sizes and words of a loaded model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Context of one sequence, in tokens.
    pub ctx_size: usize,
    /// Sequences.
    pub sequences: usize,
    /// Most tokens of one step.
    pub batch: usize,
    /// Whether the end of a sequence can be taken out of the cache.
    pub cutting: Cutting,
    /// Architecture, size, type: for people.
    pub description: String,
}
