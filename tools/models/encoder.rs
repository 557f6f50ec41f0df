//! Models that read a whole text at once and write none: `encoder` and `ranker`.
//!
//! Of the `bert` kind with small random weights, so every vector depends on the whole text, on the order
//! of its tokens and on nothing else. The ranker adds a head of one row that is known: its score is
//! [`HEAD`] times the first numbers of the first token's vector.

use super::gguf::{Gguf, Tensor, Type, Value};
use super::llama::{Weights, constants, rows};
use super::vocabulary::Vocabulary;

/// Tokens of the longest text.
pub(crate) const N_CTX: u32 = 640;
/// Numbers of a vector.
pub(crate) const N_EMBD: u32 = 64;
/// The first numbers of the ranker's only row; the others are 0.
pub(crate) const HEAD: [f32; 3] = [1.0, 0.5, -0.25];

const N_LAYER: u32 = 2;
const N_HEAD: u32 = 4;
const N_FF: u32 = 128;
const SEED: u64 = 4;

/// What the model is for; the discriminant is llama.cpp's pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Vectors; names the mean as its own pooling.
    Vectors = 1,
    /// Scores of pairs.
    Ranking = 4,
}

/// The model.
pub(crate) fn build(purpose: Use) -> Gguf {
    let mut gguf = Gguf::default();
    let name = match purpose {
        Use::Vectors => "encoder",
        Use::Ranking => "ranker",
    };
    gguf.set("general.architecture", Value::Text("bert".into()));
    gguf.set("general.name", Value::Text(name.into()));
    gguf.set("general.license", Value::Text("apache-2.0".into()));
    gguf.set("general.quantization_version", Value::U32(2));
    gguf.set("general.file_type", Value::U32(0));
    gguf.set("bert.context_length", Value::U32(N_CTX));
    gguf.set("bert.embedding_length", Value::U32(N_EMBD));
    gguf.set("bert.block_count", Value::U32(N_LAYER));
    gguf.set("bert.feed_forward_length", Value::U32(N_FF));
    gguf.set("bert.attention.head_count", Value::U32(N_HEAD));
    gguf.set("bert.attention.layer_norm_epsilon", Value::F32(1e-5));
    gguf.set("bert.attention.causal", Value::Bool(false));
    gguf.set("bert.pooling_type", Value::U32(purpose as u32));
    gguf.set("tokenizer.ggml.token_type_count", Value::U32(1));
    let mut vocabulary = Vocabulary::basic();
    let separator = vocabulary.add_control("<sep>");
    let n_vocab = u64::from(vocabulary.len());
    vocabulary.describe_closed(&mut gguf, separator);
    add_tensors(&mut gguf, n_vocab);
    if purpose == Use::Ranking {
        let mut row = vec![0.0; N_EMBD as usize];
        row[..HEAD.len()].copy_from_slice(&HEAD);
        gguf.tensors.push(rows("cls.output.weight", N_EMBD.into(), vec![row]));
    }
    gguf
}

fn add_tensors(gguf: &mut Gguf, n_vocab: u64) {
    let (n_embd, n_ff) = (u64::from(N_EMBD), u64::from(N_FF));
    let weights = Weights { seed: SEED, kind: Type::F32, gain, keep: |_, _| true };
    let norm = |name: &str| -> [Tensor; 2] {
        [
            constants(&format!("{name}.weight"), n_embd, 1.0),
            constants(&format!("{name}.bias"), n_embd, 0.0),
        ]
    };
    gguf.tensors.push(weights.matrix("token_embd.weight", n_embd, n_vocab));
    gguf.tensors.push(weights.matrix("position_embd.weight", n_embd, N_CTX.into()));
    gguf.tensors.extend(norm("token_embd_norm"));
    for block in 0..N_LAYER {
        let part = |name: &str| format!("blk.{block}.{name}");
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            let name = part(&format!("{name}.weight"));
            gguf.tensors.push(weights.matrix(&name, n_embd, n_embd));
        }
        gguf.tensors.extend(norm(&part("attn_output_norm")));
        gguf.tensors.push(weights.matrix(&part("ffn_up.weight"), n_embd, n_ff));
        gguf.tensors.push(weights.matrix(&part("ffn_down.weight"), n_ff, n_embd));
        gguf.tensors.extend(norm(&part("layer_output_norm")));
    }
}

fn gain(name: &str) -> f32 {
    match name {
        // The root of a row's length is divided out again: tokens are the larger part of the sum.
        "token_embd.weight" => 8.0,
        "position_embd.weight" => 4.0,
        _ => 1.5,
    }
}
