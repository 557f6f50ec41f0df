//! Generations that were taken over and have not ended, and how to cancel them wherever they are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Set when a generation was cancelled; looked at between the stages of its way.
#[derive(Clone, Debug, Default)]
pub(super) struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The living generations, by id.
#[derive(Debug, Default)]
pub(super) struct Live(Mutex<HashMap<u64, CancelFlag>>);

impl Live {
    /// Takes over a generation; `None` when one with this id lives already.
    pub(super) fn begin(&self, id: u64) -> Option<CancelFlag> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.contains_key(&id) {
            return None;
        }
        let flag = CancelFlag::default();
        map.insert(id, flag.clone());
        Some(flag)
    }

    /// Marks a generation as cancelled; unknown ones are ignored.
    pub(super) fn cancel(&self, id: u64) {
        if let Some(flag) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            flag.set();
        }
    }

    /// Marks all as cancelled.
    pub(super) fn cancel_all(&self) {
        for flag in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            flag.set();
        }
    }

    /// A generation ends; false when it had ended before.
    pub(super) fn finish(&self, id: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
