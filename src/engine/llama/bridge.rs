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

#[cfg(test)]
#[path = "../../../tools/models/mod.rs"]
#[expect(dead_code, reason = "shared with the program that writes the models")]
pub(super) mod models;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::llama::{LoadRequest, load};
    use std::ops::ControlFlow;

    #[test]
    fn both_roads_lead_to_the_same_model() {
        let path = std::env::temp_dir().join(format!("lollmsd-bridge-{}.gguf", std::process::id()));
        models::write(models::Kind::Micro, &path).unwrap();
        let request = LoadRequest { path: &path, gpu_layers: 0, check_tensors: true };
        let mut last = 0.0;
        let model = load(&request, |fraction| {
            last = fraction;
            ControlFlow::Continue(())
        });
        let cancelled = load(&request, |_| ControlFlow::Break(()));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(cancelled, Err(crate::engine::llama::LoadError::Cancelled)));
        assert!((last - 1.0).abs() < 0.01);
        let model = model.unwrap();
        let safe = model.safe();
        let raw = raw_model(safe);
        // SAFETY: the model lives.
        let (params, vocab) =
            unsafe { (sys::llama_model_n_params(raw), sys::llama_model_get_vocab(raw)) };
        assert_eq!(params, safe.n_params());
        assert_eq!(vocab, raw_vocab(&safe.vocab()));
        // SAFETY: the vocabulary lives with the model.
        assert_eq!(unsafe { sys::llama_vocab_n_tokens(vocab) }, safe.vocab().n_tokens());
    }
}
