//! The tensor list of a GGUF header: shapes, types, and whether their data lies within the file.

use std::io::{Read, Seek};

use crate::registry::gguf::error::GgufError;
use crate::registry::gguf::source::Source;

/// Most tensors. The largest real models have about 20,000, and llama.cpp's search for doubles is
/// quadratic.
const MAX_TENSORS: u64 = 65_536;
/// Longest tensor name in bytes: ggml holds 64 with the closing zero.
const MAX_NAME: u64 = 63;
/// Most dimensions ggml knows.
const MAX_DIMENSIONS: u32 = 4;

/// What the tensors are together.
pub(super) struct Tensors {
    /// Elements of all tensors.
    pub(super) parameters: u64,
    /// Where the data of each one ends, counted from the beginning of all data, with its name and the
    /// place of its entry.
    pub(super) furthest: Option<Furthest>,
}

/// The tensor whose data ends last.
pub(super) struct Furthest {
    pub(super) name: String,
    pub(super) begin: u64,
    pub(super) end: u64,
}

/// Elements and bytes of one block of a ggml type, from ggml's block structures.
fn block(kind: u32) -> Option<(u64, u64)> {
    Some(match kind {
        0 | 26 => (1, 4),      // F32, I32
        1 | 25 | 30 => (1, 2), // F16, I16, BF16
        2 | 20 => (32, 18),    // Q4_0, IQ4_NL
        3 => (32, 20),         // Q4_1
        6 => (32, 22),         // Q5_0
        7 => (32, 24),         // Q5_1
        8 => (32, 34),         // Q8_0
        9 => (32, 36),         // Q8_1
        10 => (256, 84),       // Q2_K
        11 | 21 => (256, 110), // Q3_K, IQ3_S
        12 => (256, 144),      // Q4_K
        13 => (256, 176),      // Q5_K
        14 => (256, 210),      // Q6_K
        15 => (256, 292),      // Q8_K
        16 | 35 => (256, 66),  // IQ2_XXS, TQ2_0
        17 => (256, 74),       // IQ2_XS
        18 => (256, 98),       // IQ3_XXS
        19 => (256, 50),       // IQ1_S
        22 => (256, 82),       // IQ2_S
        23 => (256, 136),      // IQ4_XS
        24 => (1, 1),          // I8
        27 | 28 => (1, 8),     // I64, F64
        29 => (256, 56),       // IQ1_M
        34 => (256, 54),       // TQ1_0
        39 => (32, 17),        // MXFP4
        40 => (64, 36),        // NVFP4
        41 => (128, 18),       // Q1_0
        42 => (64, 18),        // Q2_0
        _ => return None,
    })
}

/// Reads `count` entries. Their data is not read.
pub(super) fn read<R: Read + Seek>(
    source: &mut Source<R>,
    count: u64,
    alignment: u64,
) -> Result<Tensors, GgufError> {
    // An entry takes 8 bytes of name length, 4 of dimensions, 4 of type and 8 of offset.
    if count > MAX_TENSORS || count > source.left() / 24 {
        let found = format!("{count} tensors with {} bytes left", source.left());
        let expected = format!("at most {MAX_TENSORS}, of 24 bytes or more");
        return Err(GgufError::wrong(found, 8, expected));
    }
    let mut tensors = Tensors { parameters: 0, furthest: None };
    for _ in 0..count {
        let (furthest, elements) = entry(source, alignment)?;
        tensors.parameters = tensors.parameters.saturating_add(elements);
        if tensors.furthest.as_ref().is_none_or(|known| known.end < furthest.end) {
            tensors.furthest = Some(furthest);
        }
    }
    Ok(tensors)
}

fn entry<R: Read + Seek>(
    source: &mut Source<R>,
    alignment: u64,
) -> Result<(Furthest, u64), GgufError> {
    let name = source.text("a tensor's name", MAX_NAME)?;
    let shown = format!("tensor `{}`", name.escape_debug());
    let at = source.at;
    let dimensions = source.u32(&shown)?;
    if dimensions > MAX_DIMENSIONS {
        let found = format!("{dimensions} dimensions of {shown}");
        return Err(GgufError::wrong(found, at, format!("at most {MAX_DIMENSIONS}")));
    }
    let (mut elements, mut row) = (1_u64, 1);
    for dimension in 0..dimensions {
        let at = source.at;
        let size = source.u64(&shown)?;
        if dimension == 0 {
            row = size;
        }
        let product = elements.checked_mul(size).filter(|product| i64::try_from(*product).is_ok());
        elements = product.ok_or_else(|| {
            GgufError::wrong(format!("{shown} with a side of {size}"), at, "below 2^63 elements")
        })?;
    }
    let at = source.at;
    let kind = source.u32(&shown)?;
    let Some((per_block, bytes)) = block(kind) else {
        return Err(GgufError::wrong(format!("data type {kind} of {shown}"), at, "a type of ggml"));
    };
    if row % per_block != 0 {
        let found = format!("{shown} with rows of {row} elements");
        return Err(GgufError::wrong(found, at, format!("a multiple of {per_block}")));
    }
    let at = source.at;
    let begin = source.u64(&shown)?;
    if begin % alignment != 0 {
        let found = format!("data offset {begin} of {shown}");
        return Err(GgufError::wrong(found, at, format!("a multiple of {alignment}")));
    }
    let size = (elements / per_block).checked_mul(bytes);
    let end = size.and_then(|size| begin.checked_add(size)).ok_or_else(|| {
        GgufError::wrong(format!("{shown} at offset {begin}"), at, "an end below 2^64")
    })?;
    Ok((Furthest { name: shown, begin, end }, elements))
}
