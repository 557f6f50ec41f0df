//! Runs a test model in llama.cpp alone: `cargo run --example check-model -- FILE.gguf N PROMPT…`.
//!
//! For each prompt prints the greedy text of N tokens, how many tokens the prompt has, and the smallest
//! distance between the best and the second logit as a share of the logits' spread: what rounding may
//! shift before the text becomes another one. It goes past the server, so it tells a broken test model
//! from a broken server.

use std::num::NonZeroU32;

use anyhow::Context as _;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

/// A greedy completion.
struct Run {
    prompt_tokens: usize,
    bytes: Vec<u8>,
    ended: bool,
    margin: f32,
}

#[expect(clippy::print_stdout, reason = "the output of a command")]
fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, count, prompts @ ..] = args.as_slice() else {
        anyhow::bail!("usage: check-model FILE.gguf N PROMPT…");
    };
    let count: usize = count.parse().context("N is a whole number")?;
    let mut backend = LlamaBackend::init()?;
    backend.void_logs();
    let model = LlamaModel::load_from_file(&backend, file, &LlamaModelParams::default())
        .with_context(|| format!("loading `{file}`"))?;
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(model.n_ctx_train()))
        .with_n_batch(model.n_ctx_train())
        .with_n_threads(1)
        .with_n_threads_batch(2);
    for prompt in prompts {
        let context = model.new_context(&backend, params.clone())?;
        let run = complete(&model, context, prompt, count)?;
        let end = if run.ended { "ended" } else { "limit" };
        let text = String::from_utf8_lossy(&run.bytes);
        println!("{:5} tokens, margin {:.5}, {end}: {text:?}", run.prompt_tokens, run.margin);
    }
    Ok(())
}

fn complete(
    model: &LlamaModel,
    mut context: LlamaContext<'_>,
    prompt: &str,
    count: usize,
) -> anyhow::Result<Run> {
    let vocab = model.vocab();
    let tokens = vocab.tokenize(prompt.as_bytes(), true, true);
    let mut batch = LlamaBatch::new(context.n_batch() as usize, 1);
    batch.add_sequence(&tokens, 0, false)?;
    context.decode(&mut batch)?;
    let mut run =
        Run { prompt_tokens: tokens.len(), bytes: vec![], ended: false, margin: f32::INFINITY };
    for step in 0..count {
        let (best, margin) = best(context.get_logits_ith(batch.n_tokens() - 1));
        run.margin = run.margin.min(margin);
        if vocab.is_eog(best) {
            run.ended = true;
            break;
        }
        run.bytes.extend(vocab.token_to_piece(best, true, None));
        batch.clear();
        batch.add(best, i32::try_from(tokens.len() + step)?, &[0], true)?;
        context.decode(&mut batch)?;
    }
    Ok(run)
}

/// The most likely token, and how far it is above the next one.
fn best(logits: &[f32]) -> (LlamaToken, f32) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_unstable_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    let spread = logits[order[0]] - logits[order[order.len() - 1]];
    let token = LlamaToken(i32::try_from(order[0]).expect("vocabularies are small"));
    (token, (logits[order[0]] - logits[order[1]]) / spread)
}
