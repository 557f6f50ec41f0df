//! The model's chat template, by llama.cpp's own Jinja engine.

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;

use crate::domain::prompt::{Message, Role};
use crate::engine::llama::ffi::{self, ErrorText};
use crate::engine::model::ModelError;

/// Parsed templates of a model. Immutable, so any thread may use them.
pub(super) struct Templates {
    raw: NonNull<ffi::Templates>,
}

// SAFETY: applying a template reads the parsed program and changes nothing in it.
unsafe impl Send for Templates {}
// SAFETY: as above.
unsafe impl Sync for Templates {}

impl Templates {
    /// The model's templates; `None` when it brings none, or none that can be read (said in the log).
    pub(super) fn of(model: *const llama_cpp_sys_2::llama_model) -> Option<Self> {
        let mut err = ErrorText::new();
        // SAFETY: the caller's model lives; `err` outlives the call.
        let raw = unsafe { ffi::lollmsd_templates_new(model, err.as_mut_ptr(), err.size()) };
        let reason = err.text();
        if !reason.is_empty() {
            tracing::warn!("the model's chat template cannot be read: {reason}");
        }
        NonNull::new(raw).map(|raw| Self { raw })
    }

    pub(super) fn apply(&self, messages: &[Message]) -> Result<String, ModelError> {
        let roles: Vec<&CStr> = messages.iter().map(|m| role(m.role)).collect();
        let roles: Vec<*const c_char> = roles.iter().map(|role| role.as_ptr()).collect();
        let contents: Vec<*const c_char> =
            messages.iter().map(|m| m.content.as_ptr().cast()).collect();
        let lengths: Vec<usize> = messages.iter().map(|m| m.content.len()).collect();
        let mut length = 0;
        let mut err = ErrorText::new();
        // SAFETY: the arrays have `messages.len()` entries each and outlive the call.
        let text = unsafe {
            ffi::lollmsd_templates_apply(
                self.raw.as_ptr(),
                roles.as_ptr(),
                contents.as_ptr(),
                lengths.as_ptr(),
                messages.len(),
                &raw mut length,
                err.as_mut_ptr(),
                err.size(),
            )
        };
        if text.is_null() {
            let reason = err.text();
            return Err(ModelError(format!("the chat template refused the messages: {reason}")));
        }
        // SAFETY: the shim returned `length` bytes, which are ours until freed below.
        let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
        let prompt = String::from_utf8_lossy(bytes).into_owned();
        // SAFETY: allocated by the shim, freed once.
        unsafe { ffi::lollmsd_text_free(text) };
        Ok(prompt)
    }
}

impl Drop for Templates {
    fn drop(&mut self) {
        // SAFETY: made by lollmsd_templates_new and freed nowhere else.
        unsafe { ffi::lollmsd_templates_free(self.raw.as_ptr()) }
    }
}

fn role(role: Role) -> &'static CStr {
    match role {
        Role::System => c"system",
        Role::User => c"user",
        Role::Assistant => c"assistant",
    }
}
