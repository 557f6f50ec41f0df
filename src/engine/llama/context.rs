//! A context: cache, threads, steps.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use crate::engine::adapters::AdapterSets;
use crate::engine::brake::Brake;
use crate::engine::llama::adapters::LoraAdapters;
use crate::engine::llama::batch::{Batch, Ranges};
use crate::engine::llama::ffi::{self, ErrorText};
use crate::engine::llama::log;
use crate::engine::llama::model::{Model, reason};
use crate::engine::llama::sampler::Sampler;
use crate::engine::llama::step::Step;
use crate::engine::llama::watch::Watch;
use crate::engine::model::{Control, Decoded, Decoder, ModelError, Threads};
use crate::engine::recipe::{Chosen, Recipe};
use crate::engine::scheduler::{Adapters, Entry, SeqIdx, Token};

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
    /// Most cells of one sequence.
    pub ctx_size: usize,
    /// Cells of all sequences together.
    pub cells: usize,
    /// Sequences, 1 to [`MOST_SEQUENCES`].
    pub sequences: usize,
    /// Most tokens of a step.
    pub batch: usize,
    /// Threads of a step.
    pub threads: Threads,
    /// Most tokens of a step after which one is chosen.
    pub outputs: usize,
    /// Type of the cache.
    pub kv_type: KvType,
    /// Whether states are saved and put back; it takes one more sequence.
    pub moves_states: bool,
}

/// Threads that compute; they sleep while there is nothing to do.
struct ThreadPool(NonNull<sys::ggml_threadpool>);

// SAFETY: ggml's pool may be used from any thread, by one at a time.
unsafe impl Send for ThreadPool {}

impl ThreadPool {
    fn new(threads: Threads) -> Result<Self, ModelError> {
        let most = thread_count(threads.one.max(threads.many));
        // SAFETY: plain arguments.
        let raw = unsafe { ffi::lollmsd_threads_new(most, POLL) };
        NonNull::new(raw).map(Self).ok_or_else(|| ModelError("no threads could be started".into()))
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        // SAFETY: made by ggml_threadpool_new; the context that used it is gone.
        unsafe { sys::ggml_threadpool_free(self.0.as_ptr()) }
    }
}

/// A raw context. Fields are dropped in order: the context first, then what it uses, then the model.
pub(super) struct RawContext {
    context: OwnedContext,
    watch: Watch,
    pool: ThreadPool,
    /// Former pools: with the next step llama.cpp puts the one to sleep that it used last.
    retired: Vec<ThreadPool>,
    threads: Threads,
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
        threads: Threads,
    ) -> Result<Self, ModelError> {
        let pool = ThreadPool::new(threads)?;
        log::forget_errors();
        let mut err = ErrorText::new();
        let raw = model.making_context(|raw_model| {
            // SAFETY: model, settings, pool and `err` live through the call; the lock is held.
            unsafe {
                ffi::lollmsd_context_new(
                    raw_model,
                    std::ptr::from_ref(settings),
                    pool.0.as_ptr(),
                    err.as_mut_ptr(),
                    err.size(),
                )
            }
        });
        let context = OwnedContext(NonNull::new(raw).ok_or_else(|| reason(&err))?);
        let watch = Watch::over(context.0.as_ptr());
        let model = Arc::clone(model);
        let mut made = Self { context, watch, pool, retired: Vec::new(), threads, model };
        made.use_threads(threads);
        Ok(made)
    }

    /// Changes the threads of later steps.
    pub(super) fn set_threads(&mut self, threads: Threads) -> Result<(), ModelError> {
        if threads == self.threads {
            return Ok(());
        }
        let pool = ThreadPool::new(threads)?;
        // SAFETY: no step is going on, for the context is borrowed; the former pool is kept.
        unsafe { sys::llama_attach_threadpool(self.raw(), pool.0.as_ptr(), pool.0.as_ptr()) };
        self.retired.push(std::mem::replace(&mut self.pool, pool));
        self.use_threads(threads);
        Ok(())
    }

    fn use_threads(&mut self, threads: Threads) {
        self.threads = threads;
        let (one, many) = (thread_count(threads.one), thread_count(threads.many));
        // SAFETY: the context lives; its pool has as many threads as the larger number.
        unsafe { sys::llama_set_n_threads(self.raw(), one, many) };
    }

    /// Whether it reads a text from its beginning to its end, in any number of steps. Others see all of
    /// a text at once.
    pub(super) fn reads_on(&mut self) -> bool {
        // SAFETY: the context lives.
        unsafe {
            sys::llama_get_causal_attn(self.raw()) && !sys::llama_get_memory(self.raw()).is_null()
        }
    }

    pub(super) fn raw(&mut self) -> *mut sys::llama_context {
        self.context.0.as_ptr()
    }

    /// Decodes a batch that was checked by [`Batch::fill`].
    pub(super) fn decode(&mut self, batch: &mut Batch, brake: &Brake) -> Decoded {
        let raw = batch.raw();
        let context = self.raw();
        let mut err = ErrorText::new();
        // SAFETY: the batch's arrays live as long as `batch`, which is borrowed for the call.
        let code = self.watch.during(brake, || unsafe {
            ffi::lollmsd_decode(context, &raw const raw, err.as_mut_ptr(), err.size())
        });
        if code == 0 {
            self.retired.clear();
        }
        match code {
            0 => Decoded::Done,
            1 => Decoded::NoRoom,
            2 => Decoded::BrokenOff,
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
    adapters: LoraAdapters,
    sets: Arc<AdapterSets>,
    /// The set that the next step uses.
    adapted: Adapters,
}

impl LlamaDecoder {
    /// Makes a context.
    ///
    /// # Errors
    /// [`ModelError`] when a number is out of range, or with llama.cpp's words when memory is short.
    pub fn new(
        model: &Arc<Model>,
        settings: ContextSettings,
        adapters: LoraAdapters,
        sets: Arc<AdapterSets>,
    ) -> Result<Self, ModelError> {
        if !(1..=MOST_SEQUENCES).contains(&settings.sequences) {
            let given = settings.sequences;
            return Err(ModelError(format!(
                "{given} sequences; 1 to {MOST_SEQUENCES} are possible"
            )));
        }
        let context = make(model, settings)?;
        let ranges = Ranges { n_vocab: model.n_vocab(), n_seq_max: settings.sequences };
        let batch = Batch::new(settings.batch);
        Ok(Self { context, settings, batch, ranges, adapters, sets, adapted: 0 })
    }

    /// Whether the model makes text, token by token.
    pub fn writes(&mut self) -> bool {
        self.context.reads_on() && !self.context.model.has_encoder()
    }
}

fn make(model: &Arc<Model>, settings: ContextSettings) -> Result<RawContext, ModelError> {
    let cells = u32::try_from(settings.cells)
        .map_err(|_| ModelError(format!("a cache of {} tokens is too large", settings.cells)))?;
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let n_seq_max = settings.sequences + usize::from(settings.moves_states);
    let raw = ffi::ContextSettings {
        n_ctx: cells,
        // llama.cpp gives up on a step that is smaller than the number of sequences.
        n_batch: narrow(settings.batch.max(n_seq_max)),
        n_seq_max: narrow(n_seq_max),
        n_outputs: narrow(settings.outputs.max(n_seq_max)),
        threads: thread_count(settings.threads.one),
        kv_type: settings.kv_type.raw(),
        embeddings: false,
        pooling: sys::LLAMA_POOLING_TYPE_NONE,
    };
    RawContext::new(model, &raw, settings.threads)
}

/// Threads as ggml takes them: at least 1, at most `GGML_MAX_N_THREADS`.
pub(super) fn thread_count(threads: u32) -> i32 {
    i32::try_from(threads).unwrap_or(1).clamp(1, 512)
}

impl LlamaDecoder {
    /// Whether positions can be moved, for a context that goes on when it is full.
    pub fn can_shift(&mut self) -> bool {
        // SAFETY: the context lives.
        unsafe { ffi::lollmsd_can_shift(self.context.raw()) }
    }

    /// The sequence that no generation has: states go through it.
    fn between(&self) -> i32 {
        i32::try_from(self.settings.sequences).expect("there are at most 256")
    }

    fn clear(&mut self, seq: i32) {
        // SAFETY: the context lives; llama.cpp checks the sequence number.
        unsafe { ffi::lollmsd_seq_rm(self.context.raw(), seq, 0) };
    }

    fn share_raw(&mut self, from: i32, to: i32, range: Range<usize>) {
        let (start, end) = (position(range.start), position(range.end));
        // SAFETY: the context lives; both sequences are below `n_seq_max`, which llama.cpp asserts.
        unsafe { ffi::lollmsd_seq_share(self.context.raw(), from, to, start, end) };
    }

    fn state(&mut self, seq: i32) -> Option<Vec<u8>> {
        // SAFETY: the context lives.
        let size = unsafe { ffi::lollmsd_seq_state_size(self.context.raw(), seq) };
        let mut state = Vec::new();
        // A state may be large: no memory for it is no reason to end the process.
        state.try_reserve_exact(size).ok()?;
        state.resize(size, 0);
        // SAFETY: `state` has `size` bytes.
        let written = unsafe {
            ffi::lollmsd_seq_state_get(self.context.raw(), seq, state.as_mut_ptr(), size)
        };
        (written == size && size > 0).then_some(state)
    }

    fn set_state(&mut self, seq: i32, state: &[u8]) -> bool {
        // SAFETY: llama.cpp reads at most `len` bytes.
        let read = unsafe {
            ffi::lollmsd_seq_state_set(self.context.raw(), seq, state.as_ptr(), state.len())
        };
        if read != state.len() {
            self.clear(seq);
        }
        read == state.len()
    }
}

/// A sequence or a position as llama.cpp counts them.
fn position(at: usize) -> i32 {
    i32::try_from(at).expect("a cache has fewer than 2^31 cells")
}

impl Decoder for LlamaDecoder {
    type Sampler = Sampler;

    fn sampler(&mut self, recipe: &Recipe, prompt: &[Token]) -> Result<Sampler, ModelError> {
        Sampler::new(&self.context.model, recipe, prompt, self.settings.ctx_size)
    }

    fn decode(&mut self, batch: &[Entry], brake: &Brake) -> Decoded {
        match self.batch.fill(batch, self.ranges) {
            Ok(()) => self.context.decode(&mut self.batch, brake),
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

    fn share(&mut self, from: SeqIdx, to: SeqIdx, range: Range<usize>) {
        self.share_raw(position(from), position(to), range);
    }

    fn save(&mut self, seq: SeqIdx, range: Range<usize>) -> Option<Vec<u8>> {
        // llama.cpp knows states of whole sequences only.
        let between = self.between();
        self.share_raw(position(seq), between, range);
        let state = self.state(between);
        self.clear(between);
        state
    }

    fn restore(&mut self, seq: SeqIdx, state: &[u8], range: Range<usize>) -> bool {
        let between = self.between();
        let done = self.set_state(between, state);
        if done {
            self.share_raw(between, position(seq), range);
            self.clear(between);
        }
        done
    }

    fn own(&mut self, seq: SeqIdx) -> bool {
        let seq = position(seq);
        let Some(state) = self.state(seq) else {
            self.clear(seq);
            return false;
        };
        self.clear(seq);
        self.set_state(seq, &state)
    }

    fn shift(&mut self, seq: SeqIdx, gone: Range<usize>) {
        let (start, end) = (position(gone.start), position(gone.end));
        // SAFETY: the context lives; llama.cpp checks the sequence number.
        unsafe { ffi::lollmsd_seq_shift(self.context.raw(), position(seq), start, end) };
    }

    fn adapt(&mut self, adapters: Adapters) {
        if adapters != self.adapted {
            self.adapted = adapters;
            self.adapters.apply(&mut self.context, &self.sets.scales(adapters));
        }
    }

    fn append_bytes(&self, token: Token, out: &mut Vec<u8>) {
        self.context.model.append_bytes(token, Control::Text, out);
    }

    fn ends_text(&self, token: Token) -> bool {
        self.context.model.ends_text(token)
    }

    fn set_threads(&mut self, threads: Threads) -> Result<(), ModelError> {
        self.context.set_threads(threads)?;
        self.settings.threads = threads;
        Ok(())
    }

    fn rebuild(&mut self) -> Result<(), ModelError> {
        // The old context is freed only after the new one is there; for a moment both need memory.
        self.context = make(&self.context.model, self.settings)?;
        self.adapted = 0;
        Ok(())
    }
}
