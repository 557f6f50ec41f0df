//! Chooses the tokens of one generation: penalties, `top_k`, `typical_p`, `top_p`, `min_p`, temperature,
//! seed, in this order.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::domain::sampling::Sampling;
use crate::engine::llama::ffi::{self, ErrorText};
use crate::engine::llama::model::Model;
use crate::engine::model::ModelError;
use crate::engine::scheduler::Token;

/// llama.cpp takes this seed as "choose one"; ours have been chosen already.
const NO_SEED: u32 = u32::MAX;
/// How far back penalties look at most: the ring they need is allocated at once.
const MOST_LAST_N: usize = 65_536;

/// A sampler chain, kept from the first token of a generation to its last.
pub struct Sampler {
    raw: NonNull<ffi::Sampler>,
    /// Parts of a chain may keep a pointer to the vocabulary.
    _model: Arc<Model>,
}

// SAFETY: a chain is used by one thread at a time; it holds no thread-local state.
unsafe impl Send for Sampler {}

impl Sampler {
    /// Makes a chain and shows it the end of the prompt, which penalties count too.
    pub(super) fn new(
        model: &Arc<Model>,
        sampling: &Sampling,
        prompt: &[Token],
        ctx_size: usize,
    ) -> Result<Self, ModelError> {
        let last_n = match usize::try_from(sampling.repeat_last_n) {
            Ok(last_n) => last_n.min(MOST_LAST_N),
            // -1 means the whole context.
            Err(_) => ctx_size.min(MOST_LAST_N),
        };
        let seed = sampling.seed.unwrap_or_else(fresh_seed);
        let settings = ffi::Sampling {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            typical_p: sampling.typical_p,
            repeat_penalty: sampling.repeat_penalty,
            repeat_last_n: i32::try_from(last_n).expect("bounded above"),
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            seed: if seed == NO_SEED { seed - 1 } else { seed },
        };
        let mut err = ErrorText::new();
        // SAFETY: `settings` and `err` outlive the call.
        let raw = unsafe {
            ffi::lollmsd_sampler_new(
                model.n_vocab(),
                &raw const settings,
                err.as_mut_ptr(),
                err.size(),
            )
        };
        let raw = NonNull::new(raw).ok_or_else(|| ModelError(err.text()))?;
        let sampler = Self { raw, _model: Arc::clone(model) };
        for token in &prompt[prompt.len().saturating_sub(last_n)..] {
            // SAFETY: the chain lives; tokens of a prompt are in the vocabulary.
            unsafe { ffi::lollmsd_sampler_accept(sampler.raw.as_ptr(), *token) };
        }
        Ok(sampler)
    }

    pub(super) fn raw(&mut self) -> *mut ffi::Sampler {
        self.raw.as_ptr()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: made by lollmsd_sampler_new and freed nowhere else.
        unsafe { ffi::lollmsd_sampler_free(self.raw.as_ptr()) }
    }
}

/// A seed that nobody chose. The hasher's keys are random for each process and differ for each call.
fn fresh_seed() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(std::time::Instant::now());
    u32::try_from(bits >> 32).expect("the upper half has 32 bits")
}
