//! What the engine needs of a loaded model: one half decodes, the other works with text.
//!
//! llama.cpp makes both (`llama`); tests make their own.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::prompt::Message;
use crate::engine::adapters::AdapterSets;
use crate::engine::brake::Brake;
use crate::engine::recipe::{Chosen, Recipe};
use crate::engine::scheduler::{Adapters, Entry, Limits, SeqIdx, Token};
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
    /// The brake was pulled. What the cache holds of the batch is unknown; what it held before is there.
    BrokenOff,
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

    /// Decodes a batch; breaks it off when the brake is pulled meanwhile, where that is possible.
    fn decode(&mut self, batch: &[Entry], brake: &Brake) -> Decoded;

    /// Chooses the token after entry `at` of the batch decoded last; that entry wanted logits.
    ///
    /// # Errors
    /// [`ModelError`] when nothing can be chosen, such as for numbers that are not finite.
    fn sample(&mut self, sampler: &mut Self::Sampler, at: usize) -> Result<Chosen, ModelError>;

    /// Takes the cells from position `from` on out of a sequence; false when the model cannot do that.
    /// From position 0 it always works.
    fn cut(&mut self, seq: SeqIdx, from: usize) -> bool;

    /// Lets a sequence hold the cells of another one in this range too, behind its own.
    fn share(&mut self, from: SeqIdx, to: SeqIdx, range: Range<usize>);

    /// Reads the state of a range of cells; `None` when that does not work.
    fn save(&mut self, seq: SeqIdx, range: Range<usize>) -> Option<Vec<u8>>;

    /// Puts the part `range` of a saved state behind the cells of a sequence; false when that does not
    /// work, and then nothing has changed.
    fn restore(&mut self, seq: SeqIdx, state: &[u8], range: Range<usize>) -> bool;

    /// Gives a sequence cells that no other one holds; false when that does not work, and then it is
    /// empty.
    fn own(&mut self, seq: SeqIdx) -> bool;

    /// Takes a range of cells out of a sequence and moves what follows to close the gap. Only for
    /// sequences that share nothing.
    fn shift(&mut self, seq: SeqIdx, gone: Range<usize>);

    /// Uses a set of adapters from the next step on.
    fn adapt(&mut self, adapters: Adapters);

    /// Appends the bytes that a token stands for; control tokens stand for none.
    fn append_bytes(&self, token: Token, out: &mut Vec<u8>);

    /// Whether a token ends the text.
    fn ends_text(&self, token: Token) -> bool;

    /// Changes the threads of later steps.
    ///
    /// # Errors
    /// [`ModelError`] when they cannot be started; the former ones stay.
    fn set_threads(&mut self, threads: Threads) -> Result<(), ModelError>;

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

/// The text side of a model: tokenizer, chat template. Shared by the preparation threads.
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

    /// The tokens that stand for no text.
    fn marks(&self) -> Marks;

    /// How the model wants a query and a document to be put together: a text with `{query}` and
    /// `{document}` in it. Most models do not say.
    fn pair_template(&self) -> Option<String>;
}

/// Tokens that stand for no text, as far as the vocabulary has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Begins a text.
    pub begin: Mark,
    /// Ends a text.
    pub end: Mark,
    /// Stands between two texts.
    pub separator: Mark,
    /// For filling in.
    pub fill: FillMarks,
}

/// One of the tokens around texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The token.
    pub token: Option<Token>,
    /// Whether the model wants it there.
    pub wanted: bool,
}

/// Tokens for filling in a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FillMarks {
    /// Before what stands before the gap.
    pub prefix: Option<Token>,
    /// Before what stands behind it.
    pub suffix: Option<Token>,
    /// Before the gap.
    pub middle: Option<Token>,
    /// Before the name of the repository.
    pub repository: Option<Token>,
    /// Before the name of a file.
    pub file: Option<Token>,
}

/// Threads of a step, each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    /// With one token.
    pub one: u32,
    /// With several.
    pub many: u32,
}

/// Sizes and words of a loaded model.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Sizes of its context.
    pub limits: Limits,
    /// A step that reads prompts while others write may always last this long.
    pub mixed_step: Duration,
    /// The adapters that it was loaded with.
    pub adapters: Arc<AdapterSets>,
    /// Most tokens that a step guesses ahead for one generation.
    pub draft_max: usize,
    /// Whether a full context can go on by moving positions.
    pub can_shift: bool,
    /// Whether it makes text, token by token; models that only read whole texts do not.
    pub writes: bool,
    /// Threads of its steps.
    pub threads: Threads,
    /// Architecture, size, type: for people.
    pub description: String,
}
