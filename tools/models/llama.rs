//! The `llama` architecture: names and shapes of its tensors, and its metadata.

use super::gguf::{Gguf, Tensor, Type, Value};
use super::random::{Matrix, Random};

/// Sizes and scales of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Shown as `general.name`.
    pub(crate) name: &'static str,
    /// Tokens of the longest context.
    pub(crate) n_ctx: u32,
    /// Numbers that stand for one token.
    pub(crate) n_embd: u32,
    /// Blocks.
    pub(crate) n_layer: u32,
    /// Attention heads of a block.
    pub(crate) n_head: u32,
    /// Width of the feed-forward part.
    pub(crate) n_ff: u32,
    /// Type of the matrices; norms are always 32-bit floats.
    pub(crate) kind: Type,
}

impl Shape {
    /// A file with the metadata of this shape, no tokenizer and no tensors yet.
    pub(crate) fn describe(&self) -> Gguf {
        let mut gguf = Gguf::default();
        gguf.set("general.architecture", Value::Text("llama".into()));
        gguf.set("general.name", Value::Text(self.name.into()));
        gguf.set("general.license", Value::Text("apache-2.0".into()));
        gguf.set("general.quantization_version", Value::U32(2));
        gguf.set("general.file_type", Value::U32(if self.kind == Type::F32 { 0 } else { 7 }));
        gguf.set("llama.context_length", Value::U32(self.n_ctx));
        gguf.set("llama.embedding_length", Value::U32(self.n_embd));
        gguf.set("llama.block_count", Value::U32(self.n_layer));
        gguf.set("llama.feed_forward_length", Value::U32(self.n_ff));
        gguf.set("llama.attention.head_count", Value::U32(self.n_head));
        gguf.set("llama.attention.head_count_kv", Value::U32(self.n_head));
        gguf.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        gguf.set("llama.rope.dimension_count", Value::U32(self.n_embd / self.n_head));
        gguf.set("llama.rope.freq_base", Value::F32(10_000.0));
        gguf
    }
}

/// Adds all tensors, in llama.cpp's order; `matrix` makes each matrix, norms are ones.
pub(crate) fn add_tensors(
    gguf: &mut Gguf,
    shape: &Shape,
    n_vocab: u32,
    matrix: &dyn Fn(&str, u64, u64) -> Tensor,
) {
    let (n_embd, n_ff) = (u64::from(shape.n_embd), u64::from(shape.n_ff));
    gguf.tensors.push(matrix("token_embd.weight", n_embd, n_vocab.into()));
    for block in 0..shape.n_layer {
        let name = |part: &str| format!("blk.{block}.{part}.weight");
        gguf.tensors.push(ones(&name("attn_norm"), n_embd));
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            gguf.tensors.push(matrix(&name(part), n_embd, n_embd));
        }
        gguf.tensors.push(ones(&name("ffn_norm"), n_embd));
        gguf.tensors.push(matrix(&name("ffn_gate"), n_embd, n_ff));
        gguf.tensors.push(matrix(&name("ffn_up"), n_embd, n_ff));
        gguf.tensors.push(matrix(&name("ffn_down"), n_ff, n_embd));
    }
    gguf.tensors.push(ones("output_norm.weight", n_embd));
    gguf.tensors.push(matrix("output.weight", n_embd, n_vocab.into()));
}

/// A matrix made from whole rows, as 32-bit floats.
pub(crate) fn rows(name: &str, row_len: u64, rows: Vec<Vec<f32>>) -> Tensor {
    let dims = vec![row_len, rows.len() as u64];
    let bytes = move || rows.iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
    Tensor { name: name.into(), dims, kind: Type::F32, data: Box::new(bytes) }
}

/// A matrix of zeros, as 32-bit floats.
pub(crate) fn zeros(name: &str, row_len: u64, n_rows: u64) -> Tensor {
    let n_bytes = usize::try_from(row_len * n_rows * 4).expect("test models fit the memory");
    let data = Box::new(move || vec![0; n_bytes]);
    Tensor { name: name.into(), dims: vec![row_len, n_rows], kind: Type::F32, data }
}

/// What a random matrix is made of.
#[derive(Clone, Copy)]
pub(crate) struct Weights {
    /// Seed of the model.
    pub(crate) seed: u64,
    /// Type of the numbers.
    pub(crate) kind: Type,
    /// Standard deviation of the matrix with this name, before it is divided by the root of the row.
    pub(crate) gain: fn(&str) -> f32,
    /// Whether row `row` of the matrix with this name holds anything but zeros.
    pub(crate) keep: fn(&str, u64) -> bool,
}

impl Weights {
    /// The random matrix with this name; its numbers depend on name and seed only.
    pub(crate) fn matrix(self, name: &str, row_len: u64, n_rows: u64) -> Tensor {
        #[expect(clippy::cast_precision_loss, reason = "a row is short")]
        let scale = (self.gain)(name) / (row_len as f32).sqrt();
        let owned = name.to_owned();
        let data = move || {
            let mut random = Random::new(self.seed, &owned);
            let keep = |row| (self.keep)(&owned, row);
            Matrix { row_len, n_rows, scale }.bytes(self.kind, &mut random, &keep)
        };
        Tensor {
            name: name.into(),
            dims: vec![row_len, n_rows],
            kind: self.kind,
            data: Box::new(data),
        }
    }
}

fn ones(name: &str, len: u64) -> Tensor {
    constants(name, len, 1.0)
}

/// A row of equal numbers.
pub(crate) fn constants(name: &str, len: u64, value: f32) -> Tensor {
    let n_values = usize::try_from(len).expect("test models fit the memory");
    let data = Box::new(move || value.to_le_bytes().repeat(n_values));
    Tensor { name: name.into(), dims: vec![len], kind: Type::F32, data }
}
