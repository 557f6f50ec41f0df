//! Models of plain random weights: `micro` and `bench`.

use super::gguf::{Gguf, Type};
use super::llama::{Shape, Weights, add_tensors};
use super::vocabulary::{FIRST_CHAR, FIRST_PIECE, Vocabulary};

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

fn printable_rows(name: &str, row: u64) -> bool {
    name != "output.weight" || (u64::from(FIRST_CHAR)..u64::from(FIRST_PIECE)).contains(&row)
}

fn text_rows(name: &str, row: u64) -> bool {
    name != "output.weight" || row >= u64::from(FIRST_CHAR)
}
