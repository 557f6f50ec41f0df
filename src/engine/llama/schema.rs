//! JSON schemas to grammars, by llama.cpp's own converter.

use crate::engine::llama::ffi::{self, ErrorText};
use crate::engine::model::ModelError;

/// The grammar of a schema that [`crate::engine::grammar::schema::checked`] has let through.
pub(super) fn schema_grammar(schema: &str) -> Result<String, ModelError> {
    let mut length = 0;
    let mut err = ErrorText::new();
    // SAFETY: the text and its length belong together; `err` outlives the call.
    let text = unsafe {
        ffi::lollmsd_schema_grammar(
            schema.as_ptr().cast(),
            schema.len(),
            &raw mut length,
            err.as_mut_ptr(),
            err.size(),
        )
    };
    if text.is_null() {
        let reason = err.text();
        let reason = reason.strip_prefix("JSON schema conversion failed:\n").unwrap_or(&reason);
        return Err(ModelError(reason.trim().to_owned()));
    }
    // SAFETY: the shim returned `length` bytes, which are ours until freed below.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
    let grammar = String::from_utf8_lossy(bytes).into_owned();
    // SAFETY: allocated by the shim, freed once.
    unsafe { ffi::lollmsd_text_free(text) };
    Ok(grammar)
}
