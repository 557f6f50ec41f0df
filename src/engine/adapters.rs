//! Which adapters (LoRA) a model was loaded with, and the sets of them that generations ask for.
//!
//! A set is known by a number, for cells that were computed with one set are no good for another.

use std::sync::{Mutex, PoisonError};

use crate::engine::scheduler::Adapters;

/// Most sets that may be asked for while a model is loaded: each different scale makes one.
pub const MAX_SETS: usize = 1_024;
/// Strongest scale.
pub const MAX_SCALE: f32 = 1_000.0;

/// The sets. Shared by the preparation threads, which ask for them, and the decode thread.
#[derive(Debug, Default)]
pub struct AdapterSets {
    /// Scale of each adapter for generations that ask for nothing.
    usual: Vec<f32>,
    /// Scales of the adapters, by the number of the set.
    known: Mutex<Vec<Vec<f32>>>,
}

/// A set that cannot be had.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoSuchSet {
    /// An adapter that was not loaded.
    #[error("`lora` names adapter {id}; {}", loaded(*.count))]
    Unknown {
        /// The number asked for.
        id: usize,
        /// How many there are.
        count: usize,
    },
    /// A scale out of range.
    #[error("`lora` scales adapter {id} by {scale}; expected a number from -1000 to 1000")]
    Scale {
        /// The adapter.
        id: usize,
        /// The scale asked for.
        scale: f32,
    },
    /// Too many different sets.
    #[error(
        "`lora` asks for yet another set of scales; 1024 are in use since the model was loaded"
    )]
    TooMany,
}

fn loaded(count: usize) -> String {
    match count {
        0 => "the model was loaded without adapters".into(),
        1 => "only adapter 0 was loaded".into(),
        count => format!("adapters 0 to {} were loaded", count - 1),
    }
}

impl AdapterSets {
    /// Sets for adapters whose usual scales these are.
    pub fn new(usual: Vec<f32>) -> Self {
        // Set 0 is the model as it is.
        let none = vec![0.0; usual.len()];
        Self { usual, known: Mutex::new(vec![none]) }
    }

    /// The number of a set: the usual one, or with only these adapters, each with its scale.
    ///
    /// # Errors
    /// [`NoSuchSet`] says what is wrong with it.
    pub fn number(&self, asked: Option<&[(usize, f32)]>) -> Result<Adapters, NoSuchSet> {
        let mut scales = self.usual.clone();
        if let Some(asked) = asked {
            let count = scales.len();
            scales.fill(0.0);
            for (id, scale) in asked {
                if !(-MAX_SCALE..=MAX_SCALE).contains(scale) {
                    return Err(NoSuchSet::Scale { id: *id, scale: *scale });
                }
                let slot = scales.get_mut(*id).ok_or(NoSuchSet::Unknown { id: *id, count })?;
                // Not -0, which would be another set.
                *slot = if *scale == 0.0 { 0.0 } else { *scale };
            }
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().position(|set| *set == scales);
        let number = found.unwrap_or(known.len());
        if found.is_none() {
            if number >= MAX_SETS {
                return Err(NoSuchSet::TooMany);
            }
            known.push(scales);
        }
        Adapters::try_from(number).map_err(|_| NoSuchSet::TooMany)
    }

    /// The scale of each adapter in a set.
    pub fn scales(&self, number: Adapters) -> Vec<f32> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(number as usize).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_have_one_number() {
        let sets = AdapterSets::new(vec![1.0, 0.0]);
        let usual = sets.number(None).unwrap();
        assert_eq!(sets.number(Some(&[])), Ok(0), "no adapter is the model as it is");
        assert_eq!(sets.number(Some(&[(0, 1.0)])), Ok(usual));
        assert_eq!(sets.number(Some(&[(1, -0.0)])), Ok(0));
        let other = sets.number(Some(&[(1, 0.5)])).unwrap();
        assert!(other != usual && other != 0);
        assert_eq!(sets.scales(other), [0.0, 0.5]);
        assert_eq!(AdapterSets::new(vec![]).number(None), Ok(0));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let sets = AdapterSets::new(vec![1.0]);
        let said = |asked: &[(usize, f32)]| sets.number(Some(asked)).unwrap_err().to_string();
        assert_eq!(said(&[(3, 1.0)]), "`lora` names adapter 3; only adapter 0 was loaded");
        assert!(said(&[(0, f32::NAN)]).contains("from -1000 to 1000"));
        for n in 0..2_000_u16 {
            let _ = sets.number(Some(&[(0, f32::from(n) / 4.0)]));
        }
        assert_eq!(sets.number(Some(&[(0, 0.1)])), Err(NoSuchSet::TooMany));
    }
}
