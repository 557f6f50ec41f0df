//! Vocabularies of the `SentencePiece` kind with byte tokens.

use super::gguf::{Gguf, Value};

/// Unknown text; never made, because every byte has a token.
pub(crate) const UNKNOWN: u32 = 0;
/// Begins every prompt.
pub(crate) const BEGIN: u32 = 1;
/// Ends a text.
pub(crate) const END: u32 = 2;
/// Token of byte 0; the other 255 follow it.
pub(crate) const FIRST_BYTE: u32 = 3;
/// Token of the space, the first of the 95 printable ASCII characters.
pub(crate) const FIRST_CHAR: u32 = FIRST_BYTE + 256;
/// First token after bytes and characters.
pub(crate) const FIRST_PIECE: u32 = FIRST_CHAR + 95;

/// llama.cpp's token types.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    Byte = 6,
}

/// A list of tokens; the number of a token is its place.
pub(crate) struct Vocabulary {
    texts: Vec<String>,
    scores: Vec<f32>,
    kinds: Vec<i32>,
}

impl Vocabulary {
    /// The three special tokens, 256 bytes and 95 printable characters.
    pub(crate) fn basic() -> Self {
        let mut vocabulary = Self { texts: vec![], scores: vec![], kinds: vec![] };
        vocabulary.push("<unk>", Kind::Unknown);
        vocabulary.push("<s>", Kind::Control);
        vocabulary.push("</s>", Kind::Control);
        for byte in 0..=255_u8 {
            vocabulary.push(&format!("<0x{byte:02X}>"), Kind::Byte);
        }
        for char in ' '..='~' {
            vocabulary.push(&char.to_string(), Kind::Normal);
        }
        vocabulary
    }

    /// Adds a piece of text and returns its token; spaces are written as llama.cpp keeps them.
    pub(crate) fn add(&mut self, piece: &str) -> u32 {
        self.push(piece, Kind::Normal)
    }

    /// Adds a control token such as `<|im_end|>` and returns it.
    pub(crate) fn add_control(&mut self, name: &str) -> u32 {
        self.push(name, Kind::Control)
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.texts.len()).expect("vocabularies are small")
    }

    /// Writes the metadata of a tokenizer that ends each text with the end token too, and knows a token
    /// that stands between two texts.
    pub(crate) fn describe_closed(self, gguf: &mut Gguf, separator: u32) {
        self.write(gguf, true);
        gguf.set("tokenizer.ggml.seperator_token_id", Value::U32(separator));
        gguf.set("tokenizer.ggml.add_sep_token", Value::Bool(true));
    }

    /// Writes the metadata of a tokenizer.
    pub(crate) fn describe(self, gguf: &mut Gguf) {
        self.write(gguf, false);
    }

    fn write(self, gguf: &mut Gguf, add_end: bool) {
        gguf.set("tokenizer.ggml.model", Value::Text("llama".into()));
        gguf.set("tokenizer.ggml.tokens", Value::Texts(self.texts));
        gguf.set("tokenizer.ggml.scores", Value::Floats(self.scores));
        gguf.set("tokenizer.ggml.token_type", Value::Ints(self.kinds));
        gguf.set("tokenizer.ggml.unknown_token_id", Value::U32(UNKNOWN));
        gguf.set("tokenizer.ggml.bos_token_id", Value::U32(BEGIN));
        gguf.set("tokenizer.ggml.eos_token_id", Value::U32(END));
        gguf.set("tokenizer.ggml.add_bos_token", Value::Bool(true));
        gguf.set("tokenizer.ggml.add_eos_token", Value::Bool(add_end));
        gguf.set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    }

    fn push(&mut self, text: &str, kind: Kind) -> u32 {
        let token = self.len();
        self.texts.push(text.replace(' ', "\u{2581}"));
        // Longer pieces come later and get lower scores, as a trained tokenizer has them.
        #[expect(clippy::cast_precision_loss, reason = "vocabularies are small")]
        self.scores.push(-(token as f32));
        self.kinds.push(kind as i32);
        token
    }
}
