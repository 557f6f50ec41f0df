//! LoRA adapters of a model.

use std::ffi::CString;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use crate::engine::llama::bridge;
use crate::engine::llama::context::RawContext;
use crate::engine::llama::ffi::{self, ErrorText};
use crate::engine::llama::log;
use crate::engine::llama::model::{Model, reason};
use crate::engine::model::ModelError;

/// Adapters of one model. llama.cpp frees them with it.
pub struct LoraAdapters {
    raw: Vec<NonNull<sys::llama_adapter_lora>>,
    model: Arc<Model>,
}

// SAFETY: adapters are read-only once loaded.
unsafe impl Send for LoraAdapters {}

impl LoraAdapters {
    /// No adapters yet.
    pub fn of(model: &Arc<Model>) -> Self {
        Self { raw: vec![], model: Arc::clone(model) }
    }

    /// Loads one more.
    ///
    /// # Errors
    /// [`ModelError`] when the file is none, or made for another model.
    pub fn load(&mut self, path: &Path) -> Result<(), ModelError> {
        let shown = path.display();
        let text = path.to_str().and_then(|path| CString::new(path).ok());
        let text = text.ok_or_else(|| ModelError(format!("the path `{shown}` is no text")))?;
        log::forget_errors();
        let mut err = ErrorText::new();
        let model = bridge::raw_model(self.model.safe());
        // SAFETY: the model lives, text and `err` outlive the call. No context of the model exists yet.
        let raw = unsafe {
            ffi::lollmsd_adapter_load(model, text.as_ptr(), err.as_mut_ptr(), err.size())
        };
        let said = |error| ModelError(format!("the adapter `{shown}` cannot be used: {error}"));
        self.raw.push(NonNull::new(raw).ok_or_else(|| said(reason(&err)))?);
        Ok(())
    }

    /// Uses the adapters with these scales from the next step on; 0 leaves one out.
    pub(super) fn apply(&mut self, context: &mut RawContext, scales: &[f32]) {
        if self.raw.is_empty() {
            return;
        }
        let mut scales = scales.to_vec();
        scales.resize(self.raw.len(), 0.0);
        // SAFETY: both arrays have `len` entries; the adapters belong to the context's model.
        unsafe {
            ffi::lollmsd_adapters_set(
                context.raw(),
                self.raw.as_mut_ptr().cast(),
                self.raw.len(),
                scales.as_mut_ptr(),
            );
        }
    }
}
