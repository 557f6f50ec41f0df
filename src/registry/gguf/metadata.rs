//! The key-value pairs of a GGUF header: all are checked, a few are kept.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use crate::registry::gguf::error::GgufError;
use crate::registry::gguf::source::Source;

/// Most pairs. Real models have below 100, and llama.cpp's search for doubles is quadratic.
const MAX_PAIRS: u64 = 10_000;
/// Longest key in bytes, as the format says.
const MAX_KEY: u64 = 65_535;
/// Longest key that is kept, in bytes.
const MAX_KEPT_KEY: usize = 160;
/// Longest text value that is kept, in bytes; longer ones are cut.
const MAX_KEPT_TEXT: u64 = 1_024;
/// Most elements of one array. The largest vocabularies have 262,144 tokens and twice the merges.
const MAX_ELEMENTS: u64 = 1 << 24;
/// Most elements of a number array that are added up: layers of the deepest models.
const MAX_LAYERS: u64 = 4_096;

const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// What is kept of the pairs.
#[derive(Default)]
pub(super) struct Metadata {
    /// Whole numbers, and sums of arrays of whole numbers, by key.
    pub(super) numbers: BTreeMap<String, Kept>,
    /// `general.architecture` and `general.name`.
    pub(super) texts: BTreeMap<String, String>,
    /// Elements of `tokenizer.ggml.tokens`.
    pub(super) tokens: u64,
    /// Whether there is a non-empty `tokenizer.chat_template`.
    pub(super) chat_template: bool,
}

/// A number, or the sum of an array with one element for each layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// One number for all layers.
    Single(u64),
    /// Sum over the layers.
    Sum(u64),
}

/// Size in bytes of a value of a fixed-size type.
fn size_of(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Whether a type is a whole number that is kept: u8, i8, u16, i16, u32, i32, u64 or i64.
fn is_whole(kind: u32) -> bool {
    matches!(kind, 0..=5 | 10 | 11)
}

/// Reads `count` pairs.
pub(super) fn read<R: Read + Seek>(
    source: &mut Source<R>,
    count: u64,
) -> Result<Metadata, GgufError> {
    // A pair takes 8 bytes of key length, 4 of type and a value of at least 1.
    if count > MAX_PAIRS || count > source.left() / 13 {
        let found = format!("{count} key-value pairs in {} bytes", source.left());
        let expected = format!("at most {MAX_PAIRS}, of 13 bytes or more");
        return Err(GgufError::wrong(found, 16, expected));
    }
    let mut metadata = Metadata::default();
    for _ in 0..count {
        let key = source.text("a key of the header", MAX_KEY)?;
        let at = source.at;
        let kind = source.u32(&key)?;
        match kind {
            STRING => metadata.take_text(source, key)?,
            ARRAY => metadata.take_array(source, key)?,
            _ => {
                let Some(size) = size_of(kind) else {
                    let found = format!("value type {kind} of `{}`", key.escape_debug());
                    return Err(GgufError::wrong(found, at, "0 to 12"));
                };
                metadata.take_value(source, key, (kind, size))?;
            }
        }
    }
    Ok(metadata)
}

impl Metadata {
    /// A number of the model's architecture: `{architecture}.{name}`.
    pub(super) fn of_architecture(&self, name: &str) -> Option<Kept> {
        let architecture = self.texts.get("general.architecture")?;
        self.numbers.get(&format!("{architecture}.{name}")).copied()
    }

    /// A single number of the model's architecture.
    pub(super) fn single(&self, name: &str) -> Option<u64> {
        match self.of_architecture(name)? {
            Kept::Single(number) => Some(number),
            Kept::Sum(_) => None,
        }
    }

    fn take_value<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        key: String,
        (kind, size): (u32, u64),
    ) -> Result<(), GgufError> {
        if is_whole(kind) && key.len() <= MAX_KEPT_KEY {
            let number = whole(source, size, &key)?;
            self.numbers.insert(key, Kept::Single(number));
            Ok(())
        } else {
            source.skip(size, &key)
        }
    }

    fn take_text<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        key: String,
    ) -> Result<(), GgufError> {
        match key.as_str() {
            "general.architecture" | "general.name" => {
                let text = source.text(&key, MAX_KEPT_TEXT)?;
                self.texts.insert(key, text);
                Ok(())
            }
            "tokenizer.chat_template" => {
                let before = source.at;
                source.skip_text(&key)?;
                self.chat_template = source.at > before + 8;
                Ok(())
            }
            _ => source.skip_text(&key),
        }
    }

    fn take_array<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        key: String,
    ) -> Result<(), GgufError> {
        let at = source.at;
        let kind = source.u32(&key)?;
        let count = source.u64(&key)?;
        // A string takes at least the 8 bytes of its length.
        let size = if kind == STRING { Some(8) } else { size_of(kind) };
        let Some(size) = size else {
            let found = format!("an array of value type {kind} for `{}`", key.escape_debug());
            return Err(GgufError::wrong(found, at, "numbers or strings"));
        };
        if count > MAX_ELEMENTS || count > source.left() / size {
            let found = format!(
                "an array of {count} elements for `{}` with {} bytes left",
                key.escape_debug(),
                source.left()
            );
            return Err(GgufError::wrong(
                found,
                at + 4,
                format!("at most {MAX_ELEMENTS} that fit"),
            ));
        }
        if key == "tokenizer.ggml.tokens" {
            self.tokens = count;
        }
        if kind == STRING {
            for _ in 0..count {
                source.skip_text(&key)?;
            }
            Ok(())
        } else if is_whole(kind) && count <= MAX_LAYERS && key.len() <= MAX_KEPT_KEY {
            let mut sum = 0_u64;
            for _ in 0..count {
                sum = sum.saturating_add(whole(source, size, &key)?);
            }
            self.numbers.insert(key, Kept::Sum(sum));
            Ok(())
        } else {
            source.skip(count * size, &key)
        }
    }
}

/// A whole number; a negative one counts as its bits do, which is far out of any range.
fn whole<R: Read + Seek>(source: &mut Source<R>, size: u64, what: &str) -> Result<u64, GgufError> {
    Ok(match size {
        1 => u64::from(source.array::<1>(what)?[0]),
        2 => u64::from(u16::from_le_bytes(source.array(what)?)),
        4 => u64::from(source.u32(what)?),
        _ => source.u64(what)?,
    })
}
