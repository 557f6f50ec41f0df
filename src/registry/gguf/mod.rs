//! Reads the header of a GGUF file before llama.cpp sees it.
//!
//! Guarantees: every count, length and offset is checked against the file's length before it is used,
//! memory stays below a few hundred kilobytes whatever the file declares, and a file that is damaged,
//! cut short or something else is refused with what was found at which byte. Tensor data is not read.

mod error;
mod header;
mod metadata;
mod source;
mod tensor;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use error::GgufError;

/// What a model file says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// `llama`, `qwen2`, …
    pub architecture: String,
    /// Its own name, often empty.
    pub name: String,
    /// Parameters: elements of all tensors.
    pub parameters: u64,
    /// Context it was trained with, in tokens; 0 when it does not say.
    pub context_length: u64,
    /// Layers; 0 when it does not say.
    pub n_layers: u64,
    /// Width of its embeddings; 0 when it does not say.
    pub n_embd: u64,
    /// Key-value heads of all layers together; 0 when it does not say.
    pub kv_heads: u64,
    /// Bytes that one token takes in an f16 KV cache, from heads and their widths; 0 when unknown.
    /// An estimate: sliding windows and recurrent layers take less.
    pub kv_bytes_per_token: u64,
    /// Tokens of its vocabulary.
    pub vocabulary: u64,
    /// Whether it brings a chat template.
    pub chat_template: bool,
    /// Size of the file in bytes.
    pub file_size: u64,
    /// Files the model is split into; 1 for a whole one.
    pub split_count: u64,
}

/// Reads and checks the header of a file.
///
/// # Errors
/// [`GgufError`] says what was found at which byte, and what was expected.
pub fn read(path: &Path) -> Result<Summary, GgufError> {
    let file = std::fs::File::open(path).map_err(GgufError::Io)?;
    let metadata = file.metadata().map_err(GgufError::Io)?;
    if !metadata.is_file() {
        return Err(GgufError::NotAFile);
    }
    read_from(file, metadata.len())
}

/// Reads and checks a header from anything that is `length` bytes long.
///
/// # Errors
/// As [`read`].
pub fn read_from<R: std::io::Read + std::io::Seek>(
    input: R,
    length: u64,
) -> Result<Summary, GgufError> {
    header::read(source::Source::new(input, length))
}
