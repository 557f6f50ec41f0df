//! Lets a brake break a step of llama.cpp off: its abort callback, asked after each operation.
//!
//! Only steps on a CPU can be broken off; on GPUs llama.cpp never asks.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use llama_cpp_sys_2 as sys;

use crate::engine::brake::Brake;
use crate::engine::llama::log;

/// Where a context's callback looks: at the brake of the step that is going on, at nothing between steps.
pub(super) struct Watch(Box<AtomicPtr<Brake>>);

impl Watch {
    /// Makes a context ask; the result must live as long as the context.
    pub(super) fn over(context: *mut sys::llama_context) -> Self {
        let watch = Self(Box::new(AtomicPtr::new(null_mut())));
        let asked: *const AtomicPtr<Brake> = &raw const *watch.0;
        // SAFETY: the context lives, and what it asks outlives it.
        unsafe { sys::llama_set_abort_callback(context, Some(on_ask), asked.cast_mut().cast()) };
        watch
    }

    /// Runs a step under a brake.
    pub(super) fn during<T>(&self, brake: &Brake, step: impl FnOnce() -> T) -> T {
        self.0.store(std::ptr::from_ref(brake).cast_mut(), Ordering::Release);
        let result = step();
        self.0.store(null_mut(), Ordering::Release);
        log::expect_errors(false);
        result
    }
}

/// Called by llama.cpp on the thread that decodes, while it does.
unsafe extern "C" fn on_ask(asked: *mut c_void) -> bool {
    // SAFETY: `Watch::over` passes its own slot, which outlives the context.
    let slot = unsafe { &*asked.cast::<AtomicPtr<Brake>>() };
    // SAFETY: what stands there is borrowed by `Watch::during`, which has not returned.
    let brake = unsafe { slot.load(Ordering::Acquire).as_ref() };
    let pulled = brake.is_some_and(Brake::is_pulled);
    if pulled {
        // llama.cpp complains about what it was asked to do.
        log::expect_errors(true);
    }
    pulled
}
