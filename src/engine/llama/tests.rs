//! llama.cpp with the project's own models: what is told of steps holds for vectors and texts alike.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::context::KvType;
use super::model::{LlamaLexicon, Model};
use super::models::{self, Kind};
use super::{ContextSettings, LlamaDecoder, LlamaEmbedder, LoadRequest, LoraAdapters, load};
use crate::domain::sampling::Sampling;
use crate::engine::brake::{Brake, CancelFlag};
use crate::engine::model::{Control, Decoded, Decoder, Lexicon, Special, Threads};
use crate::engine::recipe::Recipe;
use crate::engine::scheduler::{Entry, Token};
use crate::engine::vectors::{Embedder, NoVectors, Pooling, Reading};

const THREADS: Threads = Threads { one: 1, many: 1 };

/// A test model; its file is gone as soon as it is loaded and mapped.
fn loaded(kind: Kind, test: &str) -> Arc<Model> {
    let name = format!("lollmsd-{test}-{}.gguf", std::process::id());
    let path = std::env::temp_dir().join(name);
    models::write(kind, &path).unwrap();
    let request = LoadRequest { path: &path, gpu_layers: 0, check_tensors: false };
    let model = load(&request, |_| ControlFlow::Continue(())).unwrap();
    std::fs::remove_file(&path).unwrap();
    model
}

fn tokens(model: &Arc<Model>, text: &str) -> Vec<Token> {
    LlamaLexicon::new(model).tokenize(text, Special::Add, Control::Text).unwrap()
}

fn rows(embedder: &LlamaEmbedder, texts: &[Vec<Token>], pooling: Pooling) -> Vec<Vec<f32>> {
    let mut found = Vec::new();
    let brake = Brake::default();
    embedder
        .embed(Reading { texts, brake: &brake }, pooling, &mut |at, row| {
            assert_eq!(at, found.len(), "in order");
            found.push(row);
        })
        .unwrap();
    found
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4)
}

#[test]
fn a_text_that_is_read_in_pieces_has_the_same_vector() {
    let model = loaded(Kind::Context, "pieces");
    let long = "A text that is longer than a step, and not by a whole number of them. ".repeat(3);
    let texts = [tokens(&model, &long), tokens(&model, "short"), tokens(&model, &long[7..])];
    let make = |step| LlamaEmbedder::new(&model, 512, THREADS).in_steps_of(step);
    let (whole, pieces) = (make(1_000), make(7));
    for pooling in [Pooling::None, Pooling::Mean, Pooling::First, Pooling::Last] {
        let (whole, pieces) = (rows(&whole, &texts, pooling), rows(&pieces, &texts, pooling));
        assert!(whole.iter().zip(&pieces).all(|(a, b)| close(a, b)), "{pooling:?}");
    }
}

#[test]
fn a_reader_goes_on_after_a_cancel() {
    let model = loaded(Kind::Encoder, "cancel");
    let embedder = LlamaEmbedder::new(&model, 640, THREADS);
    let texts = [tokens(&model, &"some text ".repeat(60))];
    let before = rows(&embedder, &texts, Pooling::Mean);
    let flag = CancelFlag::default();
    flag.set();
    let reading = Reading { texts: &texts, brake: &Brake::of(&flag) };
    let nothing = embedder.embed(reading, Pooling::Mean, &mut |_, _| {
        panic!("it was cancelled");
    });
    assert_eq!(nothing, Err(NoVectors::Cancelled));
    assert!(close(&rows(&embedder, &texts, Pooling::Mean)[0], &before[0]));
}

fn greedy() -> Recipe {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    Recipe { sampling, ..Recipe::default() }
}

fn decoder(model: &Arc<Model>) -> LlamaDecoder {
    let settings = ContextSettings {
        ctx_size: 1_024,
        cells: 1_024,
        outputs: 1,
        moves_states: false,
        sequences: 1,
        batch: 1_024,
        threads: THREADS,
        kv_type: KvType::F32,
    };
    let adapters = LoraAdapters::of(model);
    LlamaDecoder::new(model, settings, adapters, Arc::default()).unwrap()
}

/// The step that reads `tokens` from position `from` on.
fn step(tokens: &[Token], from: usize) -> Vec<Entry> {
    let entry = |(position, token): (usize, &Token)| Entry {
        token: *token,
        position,
        seq: 0,
        wants_logits: position + 1 == tokens.len(),
    };
    tokens.iter().enumerate().skip(from).map(entry).collect()
}

#[test]
fn a_step_that_was_broken_off_leaves_what_was_known() {
    let model = loaded(Kind::Context, "abort");
    let prompt = tokens(&model, &"All of this is to be read. ".repeat(30));
    let known = 100;
    let greedy = greedy();
    let next = |decoder: &mut LlamaDecoder, from: usize| {
        let rest = step(&prompt, from);
        assert_eq!(decoder.decode(&rest, &Brake::default()), Decoded::Done);
        let mut sampler = decoder.sampler(&greedy, &prompt).unwrap();
        decoder.sample(&mut sampler, rest.len() - 1).unwrap().token
    };
    let mut undisturbed = decoder(&model);
    let expected = next(&mut undisturbed, 0);

    let mut disturbed = decoder(&model);
    let first = &step(&prompt, 0)[..known];
    assert_eq!(disturbed.decode(first, &Brake::default()), Decoded::Done);
    let flag = CancelFlag::default();
    let brake = Brake::of(&flag);
    flag.set();
    assert_eq!(disturbed.decode(&step(&prompt, known), &brake), Decoded::BrokenOff);
    assert!(disturbed.cut(0, known));
    assert_eq!(next(&mut disturbed, known), expected);
}

#[test]
fn other_threads_say_the_same() {
    let model = loaded(Kind::Context, "threads");
    let prompt = tokens(&model, "A prompt for one and for many");
    let mut decoder = decoder(&model);
    let mut said = Vec::new();
    for threads in [THREADS, Threads { one: 3, many: 2 }, Threads { one: 1, many: 4 }] {
        decoder.set_threads(threads).unwrap();
        decoder.cut(0, 0);
        let all = step(&prompt, 0);
        assert_eq!(decoder.decode(&all, &Brake::default()), Decoded::Done);
        let mut sampler = decoder.sampler(&greedy(), &prompt).unwrap();
        said.push(decoder.sample(&mut sampler, all.len() - 1).unwrap().token);
    }
    assert!(said.iter().all(|token| *token == said[0]));
}
