//! Breaks a running step off when nobody wants anything of it any more.
//!
//! A step is lost for all of its sequences when it is broken off, so that happens only when each of them
//! was cancelled: a generation that is alone, all of them at an unload.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set when an operation was cancelled; looked at between the stages of its way and during its steps.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Cancels; there is no way back.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was cancelled.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The flags of all who have a part in a step.
#[derive(Debug, Default)]
pub struct Brake {
    flags: Vec<CancelFlag>,
}

impl Brake {
    /// A brake for the steps of one operation.
    pub fn of(flag: &CancelFlag) -> Self {
        Self { flags: vec![flag.clone()] }
    }

    /// Nobody has a part any more.
    pub fn clear(&mut self) {
        self.flags.clear();
    }

    /// Adds one who has a part.
    pub fn add(&mut self, flag: &CancelFlag) {
        self.flags.push(flag.clone());
    }

    /// Whether all were cancelled. Cheap: llama.cpp asks after each of a step's thousand operations.
    pub fn is_pulled(&self) -> bool {
        !self.flags.is_empty() && self.flags.iter().all(CancelFlag::is_set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_goes_on_as_long_as_one_wants_it() {
        let (one, other) = (CancelFlag::default(), CancelFlag::default());
        let mut brake = Brake::of(&one);
        brake.add(&other);
        one.set();
        assert!(!brake.is_pulled());
        other.set();
        assert!(brake.is_pulled());
        brake.clear();
        assert!(!brake.is_pulled());
    }
}
