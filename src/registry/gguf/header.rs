//! The header as a whole: magic, version, pairs, tensors, and the end of the data.

use std::io::{Read, Seek};

use crate::registry::gguf::Summary;
use crate::registry::gguf::error::GgufError;
use crate::registry::gguf::metadata::{self, Kept, Metadata};
use crate::registry::gguf::source::Source;
use crate::registry::gguf::tensor;

/// Alignment of files that do not say one, in bytes.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Largest alignment, in bytes; real files have 32, a few 4,096.
const MAX_ALIGNMENT: u64 = 1 << 20;

/// Reads a header from its first byte on.
pub(super) fn read<R: Read + Seek>(mut source: Source<R>) -> Result<Summary, GgufError> {
    check_magic(&mut source)?;
    let tensor_count = source.u64("the number of tensors")?;
    let pair_count = source.u64("the number of key-value pairs")?;
    let metadata = metadata::read(&mut source, pair_count)?;
    let alignment = alignment(&metadata)?;
    let tensors = tensor::read(&mut source, tensor_count, alignment)?;
    if let Some(last) = tensors.furthest {
        let data = source.at.next_multiple_of(alignment);
        let end = data.saturating_add(last.end);
        if end > source.length {
            return Err(GgufError::CutShort {
                what: format!("the data of {}", last.name),
                at: data.saturating_add(last.begin),
                needs: last.end - last.begin,
                length: source.length,
            });
        }
    }
    summary(&metadata, tensors.parameters, source.length)
}

fn check_magic<R: Read + Seek>(source: &mut Source<R>) -> Result<(), GgufError> {
    if source.length == 0 {
        return Err(GgufError::Empty);
    }
    let magic: [u8; 4] = source.array("the magic bytes `GGUF`")?;
    if magic != *b"GGUF" {
        let next = source.array("its first bytes").unwrap_or([0; 5]);
        return Err(GgufError::Foreign { found: foreign(magic, next) });
    }
    let version = source.u32("the version")?;
    match version {
        2 | 3 => Ok(()),
        // Read in the wrong order, a small version has its low bytes empty.
        _ if version != 0 && version.trailing_zeros() >= 16 => {
            let found = format!("version {}, big-endian,", version.swap_bytes());
            Err(GgufError::Version { found })
        }
        _ => Err(GgufError::Version { found: format!("version {version}") }),
    }
}

/// What a file without the magic seems to be.
fn foreign(magic: [u8; 4], next: [u8; 5]) -> &'static str {
    match &magic {
        b"lmgg" | b"fmgg" | b"tjgg" | b"algg" => "a GGML file from before August 2023",
        b"FUGG" => "a GGUF file with its bytes in the wrong order",
        b"PK\x03\x04" => "a ZIP archive or PyTorch checkpoint",
        b"vers" => "a Git LFS pointer, downloaded instead of the model",
        b"<!DO" | b"<!do" | b"<htm" | b"<HTM" => "a web page, perhaps an error page of a download",
        // safetensors: the length of a JSON text, then the text.
        _ if next[4] == b'{' && next[..4] == [0; 4] => "a safetensors file",
        _ => "something else",
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    let alignment = match metadata.numbers.get("general.alignment") {
        Some(Kept::Single(alignment)) => *alignment,
        Some(Kept::Sum(_)) | None => DEFAULT_ALIGNMENT,
    };
    if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT {
        return Ok(alignment);
    }
    let found = format!("`general.alignment` {alignment} in the header");
    Err(GgufError::wrong(found, 24, format!("a power of two up to {MAX_ALIGNMENT}")))
}

fn summary(metadata: &Metadata, parameters: u64, file_size: u64) -> Result<Summary, GgufError> {
    let architecture = metadata.texts.get("general.architecture").cloned();
    let single = |name: &str| metadata.single(name).unwrap_or(0);
    let n_layers = single("block_count");
    let n_embd = single("embedding_length");
    let heads = single("attention.head_count");
    // Models without the key have as many key-value heads as heads.
    let kv_heads = match metadata.of_architecture("attention.head_count_kv") {
        Some(Kept::Single(each)) => each.saturating_mul(n_layers),
        Some(Kept::Sum(all)) => all,
        None => heads.saturating_mul(n_layers),
    };
    let width = n_embd.checked_div(heads).unwrap_or(0);
    let key = metadata.single("attention.key_length").unwrap_or(width);
    let value = metadata.single("attention.value_length").unwrap_or(width);
    let per_head = key.saturating_add(value).saturating_mul(2); // two bytes each in f16
    let split = match metadata.numbers.get("split.count") {
        Some(Kept::Single(count)) => *count,
        Some(Kept::Sum(_)) | None => 1,
    };
    Ok(Summary {
        architecture: architecture.ok_or(GgufError::Lacks("general.architecture"))?,
        name: metadata.texts.get("general.name").cloned().unwrap_or_default(),
        parameters,
        context_length: single("context_length"),
        n_layers,
        n_embd,
        kv_heads,
        kv_bytes_per_token: kv_heads.saturating_mul(per_head),
        vocabulary: metadata.tokens,
        chat_template: metadata.chat_template,
        file_size,
        split_count: split.max(1),
    })
}
