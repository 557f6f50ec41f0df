//! What `shim.cpp` and its neighbours offer.

use std::ffi::{c_char, c_void};

use llama_cpp_sys_2 as sys;

/// Settings of a context, as `lollmsd_context_settings` in `shim.cpp`.
#[repr(C)]
pub(super) struct ContextSettings {
    pub(super) n_ctx: u32,
    pub(super) n_batch: u32,
    pub(super) n_seq_max: u32,
    pub(super) n_outputs: u32,
    pub(super) threads: i32,
    pub(super) kv_type: i32,
    pub(super) embeddings: bool,
    pub(super) pooling: i32,
}

/// Settings of a sampler chain, as `lollmsd_sampling` in `sampling.cpp`.
#[repr(C)]
pub(super) struct Sampling {
    pub(super) temperature: f32,
    pub(super) dynatemp_range: f32,
    pub(super) dynatemp_exponent: f32,
    pub(super) top_k: i32,
    pub(super) top_p: f32,
    pub(super) min_p: f32,
    pub(super) typical_p: f32,
    pub(super) tfs_z: f32,
    pub(super) top_n_sigma: f32,
    pub(super) xtc_probability: f32,
    pub(super) xtc_threshold: f32,
    pub(super) repeat_penalty: f32,
    pub(super) repeat_last_n: i32,
    pub(super) presence_penalty: f32,
    pub(super) frequency_penalty: f32,
    pub(super) penalize_nl: bool,
    pub(super) dry_multiplier: f32,
    pub(super) dry_base: f32,
    pub(super) dry_allowed_length: i32,
    pub(super) dry_penalty_last_n: i32,
    pub(super) adaptive_target: f32,
    pub(super) adaptive_decay: f32,
    pub(super) mirostat: i32,
    pub(super) mirostat_tau: f32,
    pub(super) mirostat_eta: f32,
    pub(super) min_keep: i32,
    pub(super) seed: u32,
    pub(super) order: *const i32,
    pub(super) n_order: usize,
    pub(super) biases: *const sys::llama_logit_bias,
    pub(super) n_biases: usize,
    pub(super) breaker_tokens: *const i32,
    pub(super) breaker_lengths: *const usize,
    pub(super) n_breakers: usize,
}

/// A sampler chain with its list of candidates.
#[repr(C)]
pub(super) struct Sampler {
    private: [u8; 0],
}

/// The chat templates of a model.
#[repr(C)]
pub(super) struct Templates {
    private: [u8; 0],
}

/// Told the progress of a load, 0 to 1; false ends it.
pub(super) type Progress = unsafe extern "C" fn(f32, *mut c_void) -> bool;

unsafe extern "C" {
    pub(super) fn lollmsd_text_free(text: *mut c_char);
    pub(super) fn lollmsd_model_load(
        path: *const c_char,
        gpu_layers: i32,
        check_tensors: bool,
        progress: Progress,
        user_data: *mut c_void,
        err: *mut c_char,
        size: usize,
    ) -> *mut sys::llama_model;
    pub(super) fn lollmsd_context_new(
        model: *mut sys::llama_model,
        settings: *const ContextSettings,
        pool: *mut sys::ggml_threadpool,
        err: *mut c_char,
        size: usize,
    ) -> *mut sys::llama_context;
    pub(super) fn lollmsd_adapter_load(
        model: *mut sys::llama_model,
        path: *const c_char,
        err: *mut c_char,
        size: usize,
    ) -> *mut sys::llama_adapter_lora;
    pub(super) fn lollmsd_adapters_set(
        ctx: *mut sys::llama_context,
        adapters: *mut *mut sys::llama_adapter_lora,
        count: usize,
        scales: *mut f32,
    );
    pub(super) fn lollmsd_threads_new(threads: i32, poll: u32) -> *mut sys::ggml_threadpool;
    pub(super) fn lollmsd_decode(
        ctx: *mut sys::llama_context,
        batch: *const sys::llama_batch,
        err: *mut c_char,
        size: usize,
    ) -> i32;
    pub(super) fn lollmsd_seq_rm(ctx: *mut sys::llama_context, seq: i32, from: i32) -> bool;
    pub(super) fn lollmsd_seq_share(
        ctx: *mut sys::llama_context,
        from: i32,
        to: i32,
        start: i32,
        end: i32,
    );
    pub(super) fn lollmsd_seq_shift(ctx: *mut sys::llama_context, seq: i32, start: i32, end: i32);
    pub(super) fn lollmsd_can_shift(ctx: *const sys::llama_context) -> bool;
    pub(super) fn lollmsd_seq_state_size(ctx: *mut sys::llama_context, seq: i32) -> usize;
    pub(super) fn lollmsd_seq_state_get(
        ctx: *mut sys::llama_context,
        seq: i32,
        to: *mut u8,
        size: usize,
    ) -> usize;
    pub(super) fn lollmsd_seq_state_set(
        ctx: *mut sys::llama_context,
        seq: i32,
        from: *const u8,
        size: usize,
    ) -> usize;
    pub(super) fn lollmsd_tokenize(
        vocab: *const sys::llama_vocab,
        text: *const c_char,
        length: i32,
        tokens: *mut i32,
        capacity: i32,
        add_special: bool,
        parse_special: bool,
        err: *mut c_char,
        size: usize,
    ) -> i32;
    pub(super) fn lollmsd_token_bytes(
        vocab: *const sys::llama_vocab,
        token: i32,
        buffer: *mut c_char,
        capacity: i32,
        special: bool,
    ) -> i32;
    pub(super) fn lollmsd_templates_new(
        model: *const sys::llama_model,
        err: *mut c_char,
        size: usize,
    ) -> *mut Templates;
    pub(super) fn lollmsd_templates_free(templates: *mut Templates);
    pub(super) fn lollmsd_templates_apply(
        templates: *const Templates,
        roles: *const *const c_char,
        contents: *const *const c_char,
        content_lengths: *const usize,
        count: usize,
        length: *mut usize,
        err: *mut c_char,
        size: usize,
    ) -> *mut c_char;
    pub(super) fn lollmsd_schema_grammar(
        schema: *const c_char,
        length: usize,
        grammar_length: *mut usize,
        err: *mut c_char,
        size: usize,
    ) -> *mut c_char;
    pub(super) fn lollmsd_sampler_new(
        vocab: *const sys::llama_vocab,
        settings: *const Sampling,
        err: *mut c_char,
        size: usize,
    ) -> *mut Sampler;
    pub(super) fn lollmsd_sampler_free(sampler: *mut Sampler);
    pub(super) fn lollmsd_sampler_accept(sampler: *mut Sampler, token: i32);
    pub(super) fn lollmsd_sample(
        sampler: *mut Sampler,
        ctx: *mut sys::llama_context,
        at: i32,
        mask: *const u64,
        err: *mut c_char,
        size: usize,
    ) -> i32;
    pub(super) fn lollmsd_probabilities(
        sampler: *const Sampler,
        ctx: *mut sys::llama_context,
        at: i32,
        after: bool,
        token: i32,
        top: i32,
        ids: *mut i32,
        logs: *mut f32,
        own: *mut f32,
        err: *mut c_char,
        size: usize,
    ) -> i32;
    #[cfg(test)]
    pub(super) fn lollmsd_sampler_try(
        sampler: *mut Sampler,
        logits: *mut f32,
        ids: *mut i32,
        n: i32,
        err: *mut c_char,
        size: usize,
    ) -> i32;
    pub(super) fn lollmsd_has_classifier(model: *const sys::llama_model) -> bool;
    pub(super) fn lollmsd_exit(code: i32) -> !;
    pub(super) fn lollmsd_crash_install(fd: i32);
    pub(super) fn lollmsd_crash_in_line(in_line: bool);
}

/// Room for the error text of a call.
pub(super) struct ErrorText([u8; 512]);

impl ErrorText {
    pub(super) fn new() -> Self {
        Self([0; 512])
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut c_char {
        self.0.as_mut_ptr().cast()
    }

    pub(super) fn size(&self) -> usize {
        self.0.len()
    }

    /// The text; empty when there was no error.
    pub(super) fn text(&self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        String::from_utf8_lossy(&self.0[..end]).into_owned()
    }
}
