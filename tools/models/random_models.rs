//! Models of random weights: `context`, `context-chat`, `micro` and `bench`.

use super::gguf::{Gguf, Type, Value};
use super::llama::{Shape, Weights, add_tensors};
use super::vocabulary::{FIRST_CHAR, FIRST_PIECE, Vocabulary};

/// A ChatML template in llama.cpp's Jinja dialect.
const CHATML: &str = "{% for message in messages %}\
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Whether the context model speaks ChatML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// No template; a completion never ends by itself.
    Plain,
    /// ChatML; `<|im_end|>` is as likely as any character, so an answer has about 100 tokens.
    ChatMl,
}

/// Small random weights whose greedy text depends on every token of the context.
pub(crate) fn context(dialect: Dialect) -> Gguf {
    let shape = Shape {
        name: match dialect {
            Dialect::Plain => "context",
            Dialect::ChatMl => "context-chat",
        },
        n_ctx: 4096,
        n_embd: 192,
        n_layer: 3,
        n_head: 6,
        n_ff: 512,
        kind: Type::F32,
    };
    let mut vocabulary = Vocabulary::basic();
    if dialect == Dialect::ChatMl {
        vocabulary.add_control("<|im_end|>");
        vocabulary.add_control("<|im_start|>");
    }
    let weights = Weights { seed: 1, kind: Type::F32, gain: context_gain, keep: context_keep };
    let mut gguf = assemble(&shape, vocabulary, weights);
    if dialect == Dialect::ChatMl {
        gguf.set("tokenizer.ggml.eot_token_id", Value::U32(FIRST_PIECE));
        gguf.set("tokenizer.chat_template", Value::Text(CHATML.into()));
    }
    gguf
}

/// So small that only the server's own cost is left; never ends by itself.
pub(crate) fn micro() -> Gguf {
    let shape = Shape {
        name: "micro",
        n_ctx: 32_768,
        n_embd: 32,
        n_layer: 1,
        n_head: 1,
        n_ff: 64,
        kind: Type::F32,
    };
    let weights = Weights { seed: 2, kind: Type::F32, gain: |_| 1.0, keep: printable_rows };
    assemble(&shape, Vocabulary::basic(), weights)
}

/// About 124 million parameters in 8 bits, for figures of speed; never ends by itself.
pub(crate) fn bench() -> Gguf {
    let shape = Shape {
        name: "bench",
        n_ctx: 16_384,
        n_embd: 768,
        n_layer: 12,
        n_head: 12,
        n_ff: 1696,
        kind: Type::Q8_0,
    };
    let weights = Weights { seed: 3, kind: Type::Q8_0, gain: |_| 1.0, keep: text_rows };
    assemble(&shape, syllables(32_000), weights)
}

fn assemble(shape: &Shape, vocabulary: Vocabulary, weights: Weights) -> Gguf {
    let mut gguf = shape.describe();
    let n_vocab = vocabulary.len();
    vocabulary.describe(&mut gguf);
    add_tensors(&mut gguf, shape, n_vocab, &|name, row_len, n_rows| {
        weights.matrix(name, row_len, n_rows)
    });
    gguf
}

/// A vocabulary of `n_vocab` tokens: letters, then every piece of two and three letters, with and
/// without a space before it. Each piece is a shorter one and a letter, so a prompt is cut into them.
fn syllables(n_vocab: u32) -> Vocabulary {
    let mut vocabulary = Vocabulary::basic();
    let letters = || ('a'..='z').map(String::from);
    let starts: Vec<String> = letters().map(|letter| format!(" {letter}")).collect();
    let pairs: Vec<String> =
        letters().flat_map(|a| letters().map(move |b| format!("{a}{b}"))).collect();
    let with_space: Vec<String> = pairs.iter().map(|pair| format!(" {pair}")).collect();
    let triples = pairs.iter().flat_map(|pair| letters().map(move |c| format!("{pair}{c}")));
    let long = with_space.iter().flat_map(|pair| letters().map(move |c| format!("{pair}{c}")));
    let all = starts.iter().chain(&pairs).chain(&with_space).cloned().chain(triples).chain(long);
    for piece in all.take((n_vocab - FIRST_PIECE) as usize) {
        vocabulary.add(&piece);
    }
    vocabulary
}

/// A random text is only read once, so the attention must be strong and the token itself weak.
fn context_gain(name: &str) -> f32 {
    match name.rsplit_once('.').map_or(name, |(stem, _)| stem).rsplit('.').next() {
        Some("attn_q" | "attn_k") => 1.6,
        Some("attn_output") => 2.0,
        Some("token_embd" | "output") => 4.0,
        _ => 1.0,
    }
}

fn context_keep(name: &str, row: u64) -> bool {
    match name {
        "output.weight" => row > u64::from(FIRST_CHAR) && row <= u64::from(FIRST_PIECE),
        // The first third of the heads looks at everything alike, so each token of the context counts.
        _ if name.ends_with("attn_q.weight") => row >= 64,
        _ => true,
    }
}

fn printable_rows(name: &str, row: u64) -> bool {
    name != "output.weight" || (u64::from(FIRST_CHAR)..u64::from(FIRST_PIECE)).contains(&row)
}

fn text_rows(name: &str, row: u64) -> bool {
    name != "output.weight" || row >= u64::from(FIRST_CHAR)
}
