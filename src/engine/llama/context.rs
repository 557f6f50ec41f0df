//! A context: cache, threads, steps.

use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use crate::engine::llama::batch::{Batch, Ranges};
use crate::engine::llama::ffi::{self, ErrorText};
use crate::engine::llama::log;
use crate::engine::llama::model::{Model, reason};
use crate::engine::llama::sampler::Sampler;
use crate::engine::llama::step::Step;
use crate::engine::model::{Control, Decoded, Decoder, ModelError};
use crate::engine::recipe::{Chosen, Recipe};
use crate::engine::scheduler::{Entry, SeqIdx, Token};

/// How long the threads of a pool look for work before they sleep, in ggml's units of 131,072 looks.
///
/// Measured with two threads on two busy cores: 1 keeps a core busy for 2 ms after the last step and
/// ggml's default of 50 for 100 to 120 ms; 0 puts the threads to sleep between any two steps.
const POLL: u32 = 1;
/// Most sequences of a context (`LLAMA_MAX_SEQ`).
pub const MOST_SEQUENCES: usize = 256;

/// Type of the numbers in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// 32 bits.
    F32,
    /// 16 bits.
    F16,
    /// 8 bits and a scale for each 32.
    Q8,
}

impl KvType {
    /// Reads `f32`, `f16` or `q8_0`.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "f32" => Some(Self::F32),
            "f16" => Some(Self::F16),
            "q8_0" => Some(Self::Q8),
            _ => None,
        }
    }

    fn raw(self) -> i32 {
        let kind = match self {
            Self::F32 => sys::GGML_TYPE_F32,
            Self::F16 => sys::GGML_TYPE_F16,
            Self::Q8 => sys::GGML_TYPE_Q8_0,
        };
        i32::try_from(kind).expect("ggml has some dozen types")
    }
}

/// How to make a context for generations.
#[derive(Clone, Copy, Debug)]
pub struct ContextSettings {
    /// Cells of one sequence.
    pub ctx_size: usize,
    /// Sequences, 1 to [`MOST_SEQUENCES`].
    pub sequences: usize,
    /// Most tokens of a step.
    pub batch: usize,
    /// Threads of a step, at least 1.
    pub threads: u32,
    /// Type of the cache.
    pub kv_type: KvType,
}

/// Threads that compute; they sleep while there is nothing to do.
pub(super) struct Threads(NonNull<sys::ggml_threadpool>);

// SAFETY: ggml's pool may be used from any thread, by one at a time.
unsafe impl Send for Threads {}

impl Threads {
    pub(super) fn new(threads: i32) -> Result<Self, ModelError> {
        // SAFETY: plain arguments.
        let raw = unsafe { ffi::lollmsd_threads_new(threads, POLL) };
        NonNull::new(raw).map(Self).ok_or_else(|| ModelError("no threads could be started".into()))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // SAFETY: made by ggml_threadpool_new; the context that used it is gone.
        unsafe { sys::ggml_threadpool_free(self.0.as_ptr()) }
    }
}

/// A raw context. Fields are dropped in order: the context first, then its threads, then the model.
pub(super) struct RawContext {
    context: OwnedContext,
    _threads: Threads,
    pub(super) model: Arc<Model>,
}

struct OwnedContext(NonNull<sys::llama_context>);

// SAFETY: llama.cpp's context may move between threads; it is used by one at a time.
unsafe impl Send for OwnedContext {}

impl Drop for OwnedContext {
    fn drop(&mut self) {
        // SAFETY: made by llama_init_from_model and freed nowhere else.
        unsafe { sys::llama_free(self.0.as_ptr()) }
    }
}

impl RawContext {
    pub(super) fn new(
        model: &Arc<Model>,
        settings: &ffi::ContextSettings,
    ) -> Result<Self, ModelError> {
        let threads = Threads::new(settings.threads)?;
        log::forget_errors();
        let mut err = ErrorText::new();
        let raw = model.making_context(|raw_model| {
            // SAFETY: model, settings, pool and `err` live through the call; the lock is held.
            unsafe {
                ffi::lollmsd_context_new(
                    raw_model,
                    std::ptr::from_ref(settings),
                    threads.0.as_ptr(),
                    err.as_mut_ptr(),
                    err.size(),
                )
            }
        });
        let context = OwnedContext(NonNull::new(raw).ok_or_else(|| reason(&err))?);
        Ok(Self { context, _threads: threads, model: Arc::clone(model) })
    }

    pub(super) fn raw(&mut self) -> *mut sys::llama_context {
        self.context.0.as_ptr()
    }

    /// Decodes a batch that was checked by [`Batch::fill`].
    pub(super) fn decode(&mut self, batch: &mut Batch) -> Decoded {
        let raw = batch.raw();
        let mut err = ErrorText::new();
        // SAFETY: the batch's arrays live as long as `batch`, which is borrowed for the call.
        let code = unsafe {
            ffi::lollmsd_decode(self.raw(), &raw const raw, err.as_mut_ptr(), err.size())
        };
        match code {
            0 => Decoded::Done,
            1 => Decoded::NoRoom,
            2 => Decoded::Broken("llama.cpp broke the step off".into()),
            -1 => Decoded::Broken("llama.cpp refused the batch".into()),
            _ => Decoded::Broken(reason(&err).to_string()),
        }
    }
}

/// The decoding side of a llama.cpp model.
pub struct LlamaDecoder {
    context: RawContext,
    settings: ContextSettings,
    batch: Batch,
    ranges: Ranges,
}

impl LlamaDecoder {
    /// Makes a context.
    ///
    /// # Errors
    /// [`ModelError`] when a number is out of range, or with llama.cpp's words when memory is short.
    pub fn new(model: &Arc<Model>, settings: ContextSettings) -> Result<Self, ModelError> {
        if !(1..=MOST_SEQUENCES).contains(&settings.sequences) {
            let given = settings.sequences;
            return Err(ModelError(format!(
                "{given} sequences; 1 to {MOST_SEQUENCES} are possible"
            )));
        }
        let context = make(model, settings)?;
        let ranges = Ranges { n_vocab: model.n_vocab(), n_seq_max: settings.sequences };
        Ok(Self { context, settings, batch: Batch::new(settings.batch), ranges })
    }
}

fn make(model: &Arc<Model>, settings: ContextSettings) -> Result<RawContext, ModelError> {
    let cells = settings.ctx_size.checked_mul(settings.sequences);
    let cells = cells.and_then(|cells| u32::try_from(cells).ok()).ok_or_else(|| {
        let ContextSettings { ctx_size, sequences, .. } = settings;
        ModelError(format!("a context of {sequences} times {ctx_size} tokens is too large"))
    })?;
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let raw = ffi::ContextSettings {
        n_ctx: cells,
        n_batch: narrow(settings.batch),
        n_seq_max: narrow(settings.sequences),
        threads: thread_count(settings.threads),
        kv_type: settings.kv_type.raw(),
        embeddings: false,
        pooling: sys::LLAMA_POOLING_TYPE_NONE,
    };
    RawContext::new(model, &raw)
}

/// Threads as ggml takes them: at least 1, at most `GGML_MAX_N_THREADS`.
pub(super) fn thread_count(threads: u32) -> i32 {
    i32::try_from(threads).unwrap_or(1).clamp(1, 512)
}

impl Decoder for LlamaDecoder {
    type Sampler = Sampler;

    fn sampler(&mut self, recipe: &Recipe, prompt: &[Token]) -> Result<Sampler, ModelError> {
        Sampler::new(&self.context.model, recipe, prompt, self.settings.ctx_size)
    }

    fn decode(&mut self, batch: &[Entry]) -> Decoded {
        match self.batch.fill(batch, self.ranges) {
            Ok(()) => self.context.decode(&mut self.batch),
            Err(error) => Decoded::Broken(error),
        }
    }

    fn sample(&mut self, sampler: &mut Sampler, at: usize) -> Result<Chosen, ModelError> {
        if !self.batch.has_logits(at) {
            return Err(ModelError(format!("entry {at} of the step was not asked for numbers")));
        }
        let at = i32::try_from(at).expect("a batch has some thousand entries");
        let mut step = Step { context: &mut self.context, at };
        let token = step.choose(sampler)?;
        let likely = step.likely(sampler, token)?;
        sampler.accept(token)?;
        Ok(Chosen { token, likely })
    }

    fn cut(&mut self, seq: SeqIdx, from: usize) -> bool {
        let (Ok(seq), Ok(from)) = (i32::try_from(seq), i32::try_from(from)) else { return false };
        // SAFETY: the context lives; llama.cpp checks the sequence number.
        unsafe { ffi::lollmsd_seq_rm(self.context.raw(), seq, from) }
    }

    fn append_bytes(&self, token: Token, out: &mut Vec<u8>) {
        self.context.model.append_bytes(token, Control::Text, out);
    }

    fn ends_text(&self, token: Token) -> bool {
        self.context.model.ends_text(token)
    }

    fn rebuild(&mut self) -> Result<(), ModelError> {
        // The old context is freed only after the new one is there; for a moment both need memory.
        self.context = make(&self.context.model, self.settings)?;
        Ok(())
    }
}
