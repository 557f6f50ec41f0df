//! Writes GGUF version 3 files.
//!
//! Only what test models need: metadata, tensor table, data aligned to 32 bytes. Tensors are made one
//! after the other while the file is written, so that a large model needs no memory of its size.

use std::io::{self, Write};

/// Distance of tensor data, in bytes.
pub(crate) const ALIGNMENT: usize = 32;

/// A value of the metadata.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// `uint32`.
    U32(u32),
    /// `float32`.
    F32(f32),
    /// `bool`.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// `[string]`.
    Texts(Vec<String>),
    /// `[float32]`.
    Floats(Vec<f32>),
    /// `[int32]`.
    Ints(Vec<i32>),
}

/// How a tensor's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// 32-bit floats.
    F32,
    /// Blocks of 32 signed bytes with one 16-bit scale.
    Q8_0,
}

/// One tensor: its place in the table and how its bytes are made.
pub(crate) struct Tensor {
    /// Name as llama.cpp expects it.
    pub(crate) name: String,
    /// Sizes, the contiguous one first.
    pub(crate) dims: Vec<u64>,
    /// Type of its numbers.
    pub(crate) kind: Type,
    /// Makes exactly [`Tensor::size_bytes`] bytes.
    pub(crate) data: Box<dyn Fn() -> Vec<u8>>,
}

/// A whole file before it is written.
#[derive(Default)]
pub(crate) struct Gguf {
    /// Metadata in the order of the file.
    pub(crate) metadata: Vec<(String, Value)>,
    /// Tensors in the order of the file.
    pub(crate) tensors: Vec<Tensor>,
}

impl Tensor {
    /// Bytes of its data, padding not counted; sizes that lie wrap around.
    pub(crate) fn size_bytes(&self) -> u64 {
        let n_values = self.dims.iter().fold(1_u64, |product, size| product.wrapping_mul(*size));
        match self.kind {
            Type::F32 => n_values.wrapping_mul(4),
            Type::Q8_0 => n_values / 32 * 34,
        }
    }
}

impl Gguf {
    /// Adds a metadata entry.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        self.metadata.push((key.to_owned(), value));
    }

    /// Writes header, metadata and tensor table, padded to where the data begins.
    ///
    /// # Errors
    /// Whatever `out` fails with.
    pub(crate) fn write_head(&self, out: &mut impl Write) -> io::Result<()> {
        let mut head = Vec::new();
        head.extend_from_slice(b"GGUF");
        head.extend_from_slice(&3_u32.to_le_bytes());
        head.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        head.extend_from_slice(&(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut head, key);
            put_value(&mut head, value);
        }
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            put_text(&mut head, &tensor.name);
            let n_dims = u32::try_from(tensor.dims.len()).expect("a tensor has few dimensions");
            head.extend_from_slice(&n_dims.to_le_bytes());
            for dim in &tensor.dims {
                head.extend_from_slice(&dim.to_le_bytes());
            }
            head.extend_from_slice(&type_code(tensor.kind).to_le_bytes());
            head.extend_from_slice(&offset.to_le_bytes());
            offset = offset.wrapping_add(padded(tensor.size_bytes()));
        }
        head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
        out.write_all(&head)
    }

    /// Writes the whole file.
    ///
    /// # Errors
    /// Whatever `out` fails with.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_head(out)?;
        for tensor in &self.tensors {
            let mut bytes = (tensor.data)();
            assert_eq!(bytes.len() as u64, tensor.size_bytes(), "data of `{}`", tensor.name);
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
            out.write_all(&bytes)?;
        }
        Ok(())
    }

    /// The whole file in memory; for small ones.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes).expect("a vector takes every byte");
        bytes
    }
}

fn padded(size_bytes: u64) -> u64 {
    size_bytes.wrapping_add(ALIGNMENT as u64 - 1) & !(ALIGNMENT as u64 - 1)
}

/// Appends a text with its length before it.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn type_code(kind: Type) -> u32 {
    match kind {
        Type::F32 => 0,
        Type::Q8_0 => 8,
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let code = |out: &mut Vec<u8>, code: u32| out.extend_from_slice(&code.to_le_bytes());
    let array = |out: &mut Vec<u8>, element: u32, len: usize| {
        code(out, 9);
        code(out, element);
        out.extend_from_slice(&(len as u64).to_le_bytes());
    };
    match value {
        Value::U32(number) => {
            code(out, 4);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::F32(number) => {
            code(out, 6);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Bool(flag) => {
            code(out, 7);
            out.push(u8::from(*flag));
        }
        Value::Text(text) => {
            code(out, 8);
            put_text(out, text);
        }
        Value::Texts(texts) => {
            array(out, 8, texts.len());
            for text in texts {
                put_text(out, text);
            }
        }
        Value::Floats(numbers) => {
            array(out, 6, numbers.len());
            for number in numbers {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        Value::Ints(numbers) => {
            array(out, 5, numbers.len());
            for number in numbers {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
}
