//! The context model: small random weights whose greedy text depends on every token of the context, and
//! on nothing else.
//!
//! In a batch with others, llama.cpp adds numbers up in another order and keeps keys and values in 16
//! bits, and its flash attention even sums in 16 bits. Plain random weights make another text of that now
//! and then. So the attention here is exact whatever the order: values are ±1, and a head either looks at
//! every token alike (a sum of ±1 is exact up to 2,048 tokens) or at exactly one token, by distance (all
//! others get less than the last bit). What follows the attention is random, but sees one token at a time.
//!
//! A missing, doubled or foreign token shows in the sums, a wrong position in the heads that look back.

use super::gguf::{Gguf, Tensor, Type, Value};
use super::llama::{Shape, Weights, add_tensors, rows, zeros};
use super::random::Random;
use super::vocabulary::{FIRST_CHAR, FIRST_PIECE, Vocabulary};

/// A ChatML template in llama.cpp's Jinja dialect.
const CHATML: &str = "{% for message in messages %}\
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const SEED: u64 = 1;
/// Width of the feed-forward part.
const FF: u64 = 512;
const HEAD: usize = 32;
/// Heads that look at all tokens alike; as many look back by 1, 2 and 3 tokens.
const EVEN_HEADS: usize = 3;
const WIDTH: usize = 2 * EVEN_HEADS * HEAD;
/// The coordinate that is 1 for every token.
const ALWAYS: usize = WIDTH - 1;
/// Length of keys and queries: the neighbour of the right token gets e^-16 of its weight.
const SHARPNESS: f32 = 12.0;
/// Makes up for the smallness of a mean of ±1 over some hundred tokens.
const EVEN_GAIN: f32 = 16.0;

/// Whether the context model speaks ChatML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// No template; a completion never ends by itself.
    Plain,
    /// ChatML; `<|im_end|>` can be made like any character, so some completions end by themselves.
    ChatMl,
    /// No template, but the tokens for filling in ([`FILL`]); `<|fim_pad|>` ends some completions.
    Fill,
}

/// Control tokens for filling in, by the names that llama.cpp knows.
const FILL: [&str; 6] = [
    "<|fim_pad|>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// The model.
pub(crate) fn build(dialect: Dialect) -> Gguf {
    let shape = Shape {
        name: match dialect {
            Dialect::Plain => "context",
            Dialect::ChatMl => "context-chat",
            Dialect::Fill => "context-fill",
        },
        n_ctx: 4096,
        n_embd: 192,
        n_layer: 2,
        n_head: 6,
        n_ff: 512,
        kind: Type::F32,
    };
    let mut vocabulary = Vocabulary::basic();
    let control: &[&str] = match dialect {
        Dialect::Plain => &[],
        Dialect::ChatMl => &["<|im_end|>", "<|im_start|>"],
        Dialect::Fill => &FILL,
    };
    for name in control {
        vocabulary.add_control(name);
    }
    let mut gguf = shape.describe();
    let n_vocab = vocabulary.len();
    vocabulary.describe(&mut gguf);
    add_tensors(&mut gguf, &shape, n_vocab, &matrix);
    if dialect == Dialect::ChatMl {
        gguf.set("tokenizer.ggml.eot_token_id", Value::U32(FIRST_PIECE));
        gguf.set("tokenizer.chat_template", Value::Text(CHATML.into()));
    }
    gguf
}

/// A LoRA adapter that changes what the model makes of each token; another seed, another change.
pub(crate) fn adapter(seed: u64) -> Gguf {
    const RANK: u64 = 4;
    let mut gguf = Gguf::default();
    gguf.set("general.type", Value::Text("adapter".into()));
    gguf.set("general.architecture", Value::Text("llama".into()));
    gguf.set("adapter.type", Value::Text("lora".into()));
    gguf.set("adapter.lora.alpha", Value::F32(4.0));
    let random = Weights { seed, kind: Type::F32, gain: |_| 1.0, keep: |_, _| true };
    for block in 0..2 {
        let name = format!("blk.{block}.ffn_down.weight");
        gguf.tensors.push(random.matrix(&format!("{name}.lora_a"), FF, RANK));
        gguf.tensors.push(random.matrix(&format!("{name}.lora_b"), RANK, WIDTH as u64));
    }
    gguf
}

fn matrix(name: &str, row_len: u64, n_rows: u64) -> Tensor {
    let random = Weights { seed: SEED, kind: Type::F32, gain, keep };
    match name {
        "token_embd.weight" => rows(name, row_len, embedding(name, n_rows)),
        "blk.0.attn_q.weight" => rows(name, row_len, queries()),
        "blk.0.attn_k.weight" => rows(name, row_len, keys()),
        "blk.0.attn_v.weight" => rows(name, row_len, values()),
        "blk.0.attn_output.weight" => rows(name, row_len, mixing(name)),
        _ if name.contains("attn") => zeros(name, row_len, n_rows),
        _ => random.matrix(name, row_len, n_rows),
    }
}

/// ±1 by the token, and the coordinate that is always 1.
fn embedding(name: &str, n_rows: u64) -> Vec<Vec<f32>> {
    let mut random = Random::new(SEED, name);
    let mut sign = || if random.next() & 1 == 0 { 1.0 } else { -1.0 };
    let mut row = || {
        let mut row: Vec<f32> = (0..WIDTH).map(|_| sign()).collect();
        row[ALWAYS] = 1.0;
        row
    };
    (0..n_rows).map(|_| row()).collect()
}

/// Each row takes `value` from the coordinate that is always 1.
fn constant(value: impl Fn(usize) -> f32) -> Vec<Vec<f32>> {
    let row = |idx| {
        let mut row = vec![0.0; WIDTH];
        row[ALWAYS] = value(idx);
        row
    };
    (0..WIDTH).map(row).collect()
}

/// Pairs of a key all point to 0°; their rotation by the position is what tells tokens apart.
fn keys() -> Vec<Vec<f32>> {
    constant(|row| if looks_back(row).is_some() && row % 2 == 0 { SHARPNESS } else { 0.0 })
}

/// Pairs of a query point to where a key lies that is so many tokens back.
fn queries() -> Vec<Vec<f32>> {
    constant(|row| {
        let Some(distance) = looks_back(row) else { return 0.0 };
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let pair = (row % HEAD / 2) as f32;
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let angle = -(distance as f32) * 10_000_f32.powf(-2.0 * pair / HEAD as f32);
        SHARPNESS * if row % 2 == 0 { angle.cos() } else { angle.sin() }
    })
}

/// How many tokens back the head of a row looks; `None` for heads that look at all alike.
fn looks_back(row: usize) -> Option<usize> {
    (row / HEAD + 1).checked_sub(EVEN_HEADS).filter(|distance| *distance > 0)
}

/// Each value is one coordinate of the embedding, so that it is ±1.
fn values() -> Vec<Vec<f32>> {
    let row = |idx: usize| {
        let mut row = vec![0.0; WIDTH];
        // 7 and 191 have no common divisor: the heads see different coordinates in a different order.
        row[idx * 7 % ALWAYS] = 1.0;
        row
    };
    (0..WIDTH).map(row).collect()
}

fn mixing(name: &str) -> Vec<Vec<f32>> {
    let mut random = Random::new(SEED, name);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let scale = 1.0 / (WIDTH as f32).sqrt();
    let gain = |column| if column < EVEN_HEADS * HEAD { EVEN_GAIN } else { 1.5 };
    let mut row = || (0..WIDTH).map(|column| random.normal() * scale * gain(column)).collect();
    (0..WIDTH).map(|_| row()).collect()
}

fn gain(name: &str) -> f32 {
    match name {
        "output.weight" => 4.0,
        _ if name.ends_with("ffn_down.weight") => 3.0,
        _ => 1.5,
    }
}

/// Only printable characters are ever made, and the first control token where there is one.
fn keep(name: &str, row: u64) -> bool {
    name != "output.weight" || (row > FIRST_CHAR.into() && row <= FIRST_PIECE.into())
}
