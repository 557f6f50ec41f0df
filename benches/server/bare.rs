//! llama.cpp's bare decode loop: no server, no text, no sampling but the most likely token.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::{Duration, Instant};

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::sampling::LlamaSampler;

use crate::client::prompt;

/// Flash attention off, as the worker has it on a CPU.
const NO_FLASH_ATTENTION: i32 = 0;

/// A loaded model.
pub(crate) struct Bare {
    backend: LlamaBackend,
    model: LlamaModel,
}

/// What is decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// Sequences at a time.
    pub(crate) streams: usize,
    /// Tokens of each.
    pub(crate) n_tokens: usize,
    /// Threads of a step.
    pub(crate) threads: i32,
    /// Cells in all, as the server has them.
    pub(crate) n_ctx: u32,
}

impl Bare {
    /// Loads a model.
    pub(crate) fn load(file: &Path) -> anyhow::Result<Self> {
        let mut backend = LlamaBackend::init()?;
        backend.void_logs();
        let model = LlamaModel::load_from_file(&backend, file, &LlamaModelParams::default())?;
        Ok(Self { backend, model })
    }

    /// Reads the prompts and makes the tokens; returns the time of both.
    pub(crate) fn run(&self, work: Work) -> anyhow::Result<Duration> {
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(work.n_ctx))
            .with_n_batch(512)
            .with_n_seq_max(u32::try_from(work.streams)?)
            .with_kv_unified(true)
            .with_flash_attention_policy(NO_FLASH_ATTENTION)
            .with_n_threads(work.threads)
            .with_n_threads_batch(work.threads);
        let mut context = self.model.new_context(&self.backend, params)?;
        let mut sampler = LlamaSampler::greedy();
        let began = Instant::now();
        let mut batch = LlamaBatch::new(512, i32::try_from(work.streams)?);
        let mut ends = vec![];
        let mut positions = vec![];
        for stream in 0..work.streams {
            let tokens = self.model.vocab().tokenize(prompt(stream).as_bytes(), true, true);
            batch.add_sequence(&tokens, i32::try_from(stream)?, false)?;
            ends.push(batch.n_tokens() - 1);
            positions.push(i32::try_from(tokens.len())?);
        }
        context.decode(&mut batch)?;
        for step in 1..=work.n_tokens {
            let next: Vec<_> = ends.iter().map(|row| sampler.sample(&context, *row)).collect();
            if step == work.n_tokens {
                break;
            }
            batch.clear();
            for (stream, token) in next.into_iter().enumerate() {
                batch.add(token, positions[stream], &[i32::try_from(stream)?], true)?;
                positions[stream] += 1;
                ends[stream] = i32::try_from(stream)?;
            }
            context.decode(&mut batch)?;
        }
        Ok(began.elapsed())
    }
}
