//! Text to a vector, in a context of its own.

use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use crate::engine::llama::batch::{Batch, Ranges};
use crate::engine::llama::context::{RawContext, thread_count};
use crate::engine::llama::ffi;
use crate::engine::llama::model::Model;
use crate::engine::model::{Decoded, ModelError};
use crate::engine::scheduler::{Entry, Token};

/// Makes embeddings; its context is made with the first one.
pub(super) struct Embedder {
    ctx_size: u32,
    threads: u32,
    made: Option<(RawContext, Batch)>,
}

impl Embedder {
    pub(super) fn new(ctx_size: u32, threads: u32) -> Self {
        Self { ctx_size, threads, made: None }
    }

    pub(super) fn embed(
        &mut self,
        model: &Arc<Model>,
        tokens: &[Token],
    ) -> Result<Vec<f32>, ModelError> {
        let most = self.ctx_size as usize;
        if tokens.is_empty() || tokens.len() > most {
            let count = tokens.len();
            return Err(ModelError(format!("the text has {count} tokens; 1 to {most} fit")));
        }
        if self.made.is_none() {
            let context = self.make(model)?;
            self.made = Some((context, Batch::new(most)));
        }
        let Some((context, batch)) = &mut self.made else {
            return Err(ModelError("no embedding context".into()));
        };
        let entries: Vec<Entry> = tokens
            .iter()
            .enumerate()
            .map(|(position, token)| Entry { token: *token, position, seq: 0, wants_logits: true })
            .collect();
        batch
            .fill(&entries, Ranges { n_vocab: model.n_vocab(), n_seq_max: 1 })
            .map_err(ModelError)?;
        // SAFETY: the context lives. Models without a cache answer false and need no cutting.
        unsafe { ffi::lollmsd_seq_rm(context.raw(), 0, 0) };
        match context.decode(batch) {
            Decoded::Done => normalised(read(context, model)?),
            Decoded::NoRoom => Err(ModelError("the embedding context has no room".into())),
            Decoded::Broken(reason) => {
                self.made = None;
                Err(ModelError(reason))
            }
        }
    }

    /// A context that pools as the model says, or else takes the mean.
    fn make(&self, model: &Arc<Model>) -> Result<RawContext, ModelError> {
        let with = |pooling| {
            let settings = ffi::ContextSettings {
                n_ctx: self.ctx_size,
                n_batch: self.ctx_size,
                n_seq_max: 1,
                threads: thread_count(self.threads),
                kv_type: i32::try_from(sys::GGML_TYPE_F16).expect("ggml has some dozen types"),
                embeddings: true,
                pooling,
            };
            RawContext::new(model, &settings)
        };
        let mut context = with(sys::LLAMA_POOLING_TYPE_UNSPECIFIED)?;
        // SAFETY: the context lives.
        let pooling = unsafe { sys::llama_pooling_type(context.raw()) };
        match pooling {
            sys::LLAMA_POOLING_TYPE_NONE => {
                drop(context);
                with(sys::LLAMA_POOLING_TYPE_MEAN)
            }
            sys::LLAMA_POOLING_TYPE_RANK => {
                Err(ModelError("this model ranks texts and makes no embeddings".into()))
            }
            _ => Ok(context),
        }
    }
}

fn read(context: &mut RawContext, model: &Model) -> Result<Vec<f32>, ModelError> {
    let length = usize::try_from(model.safe().n_embd_out()).unwrap_or(0);
    // SAFETY: the context lives and has just decoded sequence 0.
    let raw = unsafe { sys::llama_get_embeddings_seq(context.raw(), 0) };
    if raw.is_null() || length == 0 {
        return Err(ModelError("the model made no embedding".into()));
    }
    // SAFETY: llama.cpp keeps `n_embd_out` numbers for each sequence until the next step.
    Ok(unsafe { std::slice::from_raw_parts(raw, length) }.to_vec())
}

/// The vector with length 1.
fn normalised(mut vector: Vec<f32>) -> Result<Vec<f32>, ModelError> {
    let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    if !square.is_finite() {
        return Err(ModelError("the embedding has numbers that are not finite".into()));
    }
    if square > 0.0 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a factor for numbers of this precision"
        )]
        let factor = (1.0 / square.sqrt()) as f32;
        for x in &mut vector {
            *x *= factor;
        }
    }
    Ok(vector)
}
