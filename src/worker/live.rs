//! Operations that were taken over and have not ended, and how to cancel them wherever they are.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::engine::brake::CancelFlag;

/// Living operations of one kind, by id.
#[derive(Debug, Default)]
pub(super) struct Live(Mutex<HashMap<u64, CancelFlag>>);

impl Live {
    /// Takes over an operation; `None` when one with this id lives already.
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

    /// An operation ends; false when it had ended before.
    pub(super) fn finish(&self, id: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
