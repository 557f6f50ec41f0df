//! Loads a model and answers for its text: tokenizer, chat template, tokens with a meaning.

use std::ffi::{CString, c_char, c_void};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use crate::domain::prompt::Message;
use crate::engine::llama::bridge;
use crate::engine::llama::chat::Templates;
use crate::engine::llama::ffi::{self, ErrorText};
use crate::engine::llama::log;
use crate::engine::llama::schema::schema_grammar;
use crate::engine::model::{Control, FillMarks, Lexicon, Mark, Marks, ModelError, Special};
use crate::engine::scheduler::Token;
use crate::engine::vocabulary::Vocabulary;

/// A loaded model. Dropped when the last context, sampler and lexicon are gone.
pub struct Model {
    safe: LlamaModel,
    n_vocab: i32,
    /// Held while a context is made: that writes to the model.
    contexts: Mutex<()>,
}

/// What to load.
pub struct LoadRequest<'a> {
    /// The GGUF file.
    pub path: &'a Path,
    /// Layers on GPUs; −1 means all.
    pub gpu_layers: i32,
    /// Reads all tensors and refuses broken ones.
    pub check_tensors: bool,
}

/// Why a load ended without a model.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The progress callback said so.
    #[error("the load was cancelled")]
    Cancelled,
    /// llama.cpp's own words.
    #[error("{0}")]
    Failed(String),
}

/// Loads a model. `progress` is told 0 to 1, often, and may break the load off.
///
/// # Errors
/// [`LoadError`]; its text are the last error lines of llama.cpp.
pub fn load(
    request: &LoadRequest<'_>,
    mut progress: impl FnMut(f32) -> ControlFlow<()>,
) -> Result<Arc<Model>, LoadError> {
    start_backend()?;
    log::forget_errors();
    let path = request.path.to_str().and_then(|path| CString::new(path).ok());
    let path = path.ok_or_else(|| LoadError::Failed("the path is no text".into()))?;
    let mut watch = Watch { progress: &mut progress, cancelled: false };
    let mut err = ErrorText::new();
    // SAFETY: the callback's argument is `watch`, which outlives the call.
    let raw = unsafe {
        ffi::lollmsd_model_load(
            path.as_ptr(),
            request.gpu_layers,
            request.check_tensors,
            on_progress,
            (&raw mut watch).cast(),
            err.as_mut_ptr(),
            err.size(),
        )
    };
    let cancelled = watch.cancelled;
    let Some(raw) = NonNull::new(raw) else {
        return Err(if cancelled { LoadError::Cancelled } else { failed(&err) });
    };
    let model = bridge::adopt(raw);
    let n_vocab = model.vocab().n_tokens();
    if n_vocab < 1 {
        return Err(LoadError::Failed("the model has no vocabulary".into()));
    }
    Ok(Arc::new(Model { safe: model, n_vocab, contexts: Mutex::new(()) }))
}

/// Why something that llama.cpp made is null: its exception, or else what it logged.
fn failed(err: &ErrorText) -> LoadError {
    let thrown = err.text();
    let logged = log::last_errors();
    let reason = match (thrown.is_empty(), logged.is_empty()) {
        (true, true) => "llama.cpp gave no reason".into(),
        (true, false) => logged,
        (false, true) => thrown,
        (false, false) => format!("{thrown}; {logged}"),
    };
    LoadError::Failed(reason)
}

/// The same for what is no load.
pub(super) fn reason(err: &ErrorText) -> ModelError {
    ModelError(failed(err).to_string())
}

/// Starts llama.cpp once; it is never ended, for other threads may use it until the process ends.
fn start_backend() -> Result<(), LoadError> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    log::capture();
    let started = BACKEND.get_or_init(|| LlamaBackend::init().map_err(|error| error.to_string()));
    started.as_ref().map(|_| ()).map_err(|error| LoadError::Failed(error.clone()))
}

struct Watch<'a> {
    progress: &'a mut dyn FnMut(f32) -> ControlFlow<()>,
    cancelled: bool,
}

/// Called by llama.cpp during a load; a panic ends the load, it does not cross into C++.
unsafe extern "C" fn on_progress(fraction: f32, user_data: *mut c_void) -> bool {
    // SAFETY: `load` passes its own `watch` and waits for the call to end.
    let watch = unsafe { &mut *user_data.cast::<Watch<'_>>() };
    let told = catch_unwind(AssertUnwindSafe(|| (watch.progress)(fraction)));
    watch.cancelled = !matches!(told, Ok(ControlFlow::Continue(())));
    !watch.cancelled
}

impl Model {
    pub(super) fn n_vocab(&self) -> i32 {
        self.n_vocab
    }

    pub(super) fn safe(&self) -> &LlamaModel {
        &self.safe
    }

    pub(super) fn raw_vocab(&self) -> *const llama_cpp_sys_2::llama_vocab {
        bridge::raw_vocab(&self.safe.vocab())
    }

    /// Runs `make` with the model's pointer while nobody else makes a context from it.
    pub(super) fn making_context<T>(
        &self,
        make: impl FnOnce(*mut llama_cpp_sys_2::llama_model) -> T,
    ) -> T {
        let _lock = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        make(bridge::raw_model(&self.safe))
    }

    /// Tokens that the model was trained to look back.
    pub fn trained_context(&self) -> u32 {
        self.safe.n_ctx_train()
    }

    /// Whether its sequences can only be forgotten as a whole.
    pub fn is_recurrent(&self) -> bool {
        self.safe.is_recurrent() || self.safe.is_hybrid()
    }

    /// Whether one half of it reads and another writes.
    pub(super) fn has_encoder(&self) -> bool {
        // SAFETY: the model lives.
        unsafe { llama_cpp_sys_2::llama_model_has_encoder(bridge::raw_model(&self.safe)) }
    }

    /// Whether it can write; of two halves, whether there is one that writes.
    pub(super) fn has_decoder(&self) -> bool {
        // SAFETY: the model lives.
        unsafe { llama_cpp_sys_2::llama_model_has_decoder(bridge::raw_model(&self.safe)) }
    }

    /// Whether it has a head that scores pairs of texts.
    pub(super) fn has_classifier(&self) -> bool {
        // SAFETY: the model lives.
        unsafe { ffi::lollmsd_has_classifier(bridge::raw_model(&self.safe)) }
    }

    /// A number of its metadata, by the name behind the architecture's.
    pub(super) fn meta_number(&self, name: &str) -> Option<u32> {
        let text = |key: &str| self.safe.meta_val_str(key).ok();
        let architecture = text("general.architecture")?;
        text(&format!("{architecture}.{name}"))?.parse().ok()
    }

    /// Architecture, parameters, size: for people.
    pub fn description(&self) -> String {
        let text = |key| self.safe.meta_val_str(key).unwrap_or_default();
        let name = text("general.name");
        let millions = self.safe.n_params() / 1_000_000;
        let mib = self.safe.size() >> 20;
        let what = format!("{}, {millions} M parameters, {mib} MiB", text("general.architecture"));
        if name.is_empty() { what } else { format!("{name}: {what}") }
    }

    /// Appends the bytes of a token; `names` says whether control tokens have any.
    pub(super) fn append_bytes(&self, token: Token, names: Control, out: &mut Vec<u8>) {
        if !(0..self.n_vocab).contains(&token) {
            return;
        }
        let start = out.len();
        out.resize(start + 64, 0);
        let special = names == Control::Parse;
        let fill = |out: &mut Vec<u8>| {
            let room = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
            let buffer: *mut c_char = out[start..].as_mut_ptr().cast();
            // SAFETY: the buffer has `room` bytes; the token is in the vocabulary.
            unsafe { ffi::lollmsd_token_bytes(self.raw_vocab(), token, buffer, room, special) }
        };
        let mut length = fill(out);
        if length < 0 {
            out.resize(start + usize::try_from(-i64::from(length)).unwrap_or(0), 0);
            length = fill(out);
        }
        out.truncate(start + usize::try_from(length).unwrap_or(0));
    }

    pub(super) fn ends_text(&self, token: Token) -> bool {
        (0..self.n_vocab).contains(&token) && self.safe.vocab().is_eog(LlamaToken(token))
    }

    fn tokenize(
        &self,
        text: &str,
        special: Special,
        control: Control,
    ) -> Result<Vec<Token>, ModelError> {
        let length = i32::try_from(text.len())
            .map_err(|_| ModelError(format!("a text of {} bytes is too long", text.len())))?;
        // Rarely more tokens than bytes: begin and end tokens, a space in front.
        let mut tokens = vec![0; text.len() + 8];
        loop {
            let capacity = i32::try_from(tokens.len()).unwrap_or(i32::MAX);
            let mut err = ErrorText::new();
            // SAFETY: text and tokens have the lengths given; the vocabulary lives with the model.
            let count = unsafe {
                ffi::lollmsd_tokenize(
                    self.raw_vocab(),
                    text.as_ptr().cast(),
                    length,
                    tokens.as_mut_ptr(),
                    capacity,
                    special == Special::Add,
                    control == Control::Parse,
                    err.as_mut_ptr(),
                    err.size(),
                )
            };
            let thrown = err.text();
            if !thrown.is_empty() {
                return Err(ModelError(format!("the tokenizer failed: {thrown}")));
            }
            if let Ok(count) = usize::try_from(count) {
                tokens.truncate(count);
                return Ok(tokens);
            }
            let needed = usize::try_from(-i64::from(count)).unwrap_or(usize::MAX);
            if needed <= tokens.len() || needed >= i32::MAX as usize {
                return Err(ModelError("the text has too many tokens".into()));
            }
            tokens.resize(needed, 0);
        }
    }
}

/// The text side of a llama.cpp model.
pub struct LlamaLexicon {
    model: Arc<Model>,
    templates: Option<Templates>,
    vocabulary: OnceLock<Arc<Vocabulary>>,
}

impl LlamaLexicon {
    /// The text side of `model`.
    pub fn new(model: &Arc<Model>) -> Self {
        let templates = Templates::of(bridge::raw_model(&model.safe));
        Self { model: Arc::clone(model), templates, vocabulary: OnceLock::new() }
    }
}

impl Lexicon for LlamaLexicon {
    fn tokenize(
        &self,
        text: &str,
        special: Special,
        control: Control,
    ) -> Result<Vec<Token>, ModelError> {
        self.model.tokenize(text, special, control)
    }

    fn detokenize(&self, tokens: &[Token]) -> Result<String, ModelError> {
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        for token in tokens {
            if !(0..self.model.n_vocab).contains(token) {
                let last = self.model.n_vocab - 1;
                return Err(ModelError(format!("token {token} is not in 0 to {last}")));
            }
            self.model.append_bytes(*token, Control::Parse, &mut bytes);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn vocabulary(&self) -> Arc<Vocabulary> {
        Arc::clone(self.vocabulary.get_or_init(|| {
            let mut vocabulary = Vocabulary::default();
            let mut bytes = Vec::new();
            for token in 0..self.model.n_vocab {
                bytes.clear();
                self.model.append_bytes(token, Control::Text, &mut bytes);
                vocabulary.push(&bytes, self.model.ends_text(token));
            }
            Arc::new(vocabulary)
        }))
    }

    fn schema_grammar(&self, schema: &str) -> Result<String, ModelError> {
        schema_grammar(schema)
    }

    fn has_template(&self) -> bool {
        self.templates.is_some()
    }

    fn apply_template(&self, messages: &[Message]) -> Result<String, ModelError> {
        let none = || ModelError("the model has no chat template".into());
        self.templates.as_ref().ok_or_else(none)?.apply(messages)
    }

    fn marks(&self) -> Marks {
        use llama_cpp_sys_2 as sys;
        type Ask = unsafe extern "C" fn(*const sys::llama_vocab) -> i32;
        type Wants = unsafe extern "C" fn(*const sys::llama_vocab) -> bool;
        let vocab = self.model.raw_vocab();
        // SAFETY: the vocabulary lives with the model; each of these only reads a number from it.
        let token = |ask: Ask| Some(unsafe { ask(vocab) }).filter(|token| *token >= 0);
        // SAFETY: as above.
        let mark = |ask, wants: Wants| Mark { token: token(ask), wanted: unsafe { wants(vocab) } };
        Marks {
            begin: mark(sys::llama_vocab_bos, sys::llama_vocab_get_add_bos),
            end: mark(sys::llama_vocab_eos, sys::llama_vocab_get_add_eos),
            separator: mark(sys::llama_vocab_sep, sys::llama_vocab_get_add_sep),
            fill: FillMarks {
                prefix: token(sys::llama_vocab_fim_pre),
                suffix: token(sys::llama_vocab_fim_suf),
                middle: token(sys::llama_vocab_fim_mid),
                repository: token(sys::llama_vocab_fim_rep),
                file: token(sys::llama_vocab_fim_sep),
            },
        }
    }

    fn pair_template(&self) -> Option<String> {
        self.model.safe.meta_val_str("tokenizer.chat_template.rerank").ok()
    }
}
