//! From the safe crate's model and vocabulary to llama.cpp's pointers, and back.
//!
//! Holds for `llama-cpp-2` =0.1.160, where both types are `repr(transparent)` over one pointer. That is
//! no public promise: the version is pinned, the sizes are checked when this compiles, and a test
//! compares what both roads answer.

use std::ptr::NonNull;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::vocab::LlamaVocab;
use llama_cpp_sys_2 as sys;

const _: () = assert!(size_of::<LlamaModel>() == size_of::<*mut sys::llama_model>());
const _: () = assert!(size_of::<LlamaVocab<'_>>() == size_of::<*mut sys::llama_vocab>());

/// llama.cpp's own pointer to a model; it lives as long as `model`.
pub(super) fn raw_model(model: &LlamaModel) -> *mut sys::llama_model {
    // SAFETY: LlamaModel is transparent over Ptr, which is transparent over NonNull<llama_model>.
    unsafe { *std::ptr::from_ref(model).cast::<*mut sys::llama_model>() }
}

/// llama.cpp's own pointer to a vocabulary; it lives as long as the model.
pub(super) fn raw_vocab(vocab: &LlamaVocab<'_>) -> *const sys::llama_vocab {
    // SAFETY: LlamaVocab is transparent over Ptr, which is transparent over NonNull<llama_vocab>.
    unsafe { *std::ptr::from_ref(vocab).cast::<*const sys::llama_vocab>() }
}

/// Takes over a model that nobody else owns; dropping the result frees it.
pub(super) fn adopt(model: NonNull<sys::llama_model>) -> LlamaModel {
    // SAFETY: as in `raw_model`; the pointer comes from llama_model_load_from_file.
    unsafe { std::mem::transmute::<NonNull<sys::llama_model>, LlamaModel>(model) }
}
