//! The arrays of one decode step, used again for each.

use llama_cpp_sys_2 as sys;

use crate::engine::scheduler::Entry;

/// A batch of fixed capacity. Every entry names one sequence.
pub(super) struct Batch {
    capacity: usize,
    tokens: Vec<i32>,
    positions: Vec<i32>,
    /// Always 1: the number of sequences of each entry.
    counts: Vec<i32>,
    /// The sequence of each entry; never reallocated, for `sequence_pointers` points into it.
    sequences: Vec<i32>,
    sequence_pointers: Vec<*mut i32>,
    wants_logits: Vec<i8>,
}

// SAFETY: the pointers point into a vector of the same value, which moves with it.
unsafe impl Send for Batch {}

/// Ranges that llama.cpp does not check, or checks by ending the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranges {
    pub(super) n_vocab: i32,
    pub(super) n_seq_max: usize,
}

impl Batch {
    pub(super) fn new(capacity: usize) -> Self {
        let mut sequences = vec![0; capacity];
        let sequence_pointers = sequences.iter_mut().map(std::ptr::from_mut).collect();
        Self {
            capacity,
            tokens: Vec::with_capacity(capacity),
            positions: Vec::with_capacity(capacity),
            counts: vec![1; capacity],
            sequences,
            sequence_pointers,
            wants_logits: Vec::with_capacity(capacity),
        }
    }

    /// Takes over the entries of a step.
    ///
    /// # Errors
    /// Says which entry is out of range.
    pub(super) fn fill(&mut self, entries: &[Entry], ranges: Ranges) -> Result<(), String> {
        if entries.is_empty() || entries.len() > self.capacity {
            return Err(format!("a batch of {}; 1 to {} fit", entries.len(), self.capacity));
        }
        self.tokens.clear();
        self.positions.clear();
        self.wants_logits.clear();
        for (at, entry) in entries.iter().enumerate() {
            let sequence = i32::try_from(entry.seq).ok().filter(|_| entry.seq < ranges.n_seq_max);
            let position = i32::try_from(entry.position).ok();
            let (Some(sequence), Some(position)) = (sequence, position) else {
                return Err(format!("entry {at} is out of range: {entry:?}"));
            };
            if !(0..ranges.n_vocab).contains(&entry.token) {
                return Err(format!("token {} of entry {at} does not exist", entry.token));
            }
            self.tokens.push(entry.token);
            self.positions.push(position);
            self.sequences[at] = sequence;
            self.wants_logits.push(i8::from(entry.wants_logits));
        }
        Ok(())
    }

    /// Whether entry `at` was asked for numbers.
    pub(super) fn has_logits(&self, at: usize) -> bool {
        self.wants_logits.get(at).is_some_and(|wants| *wants != 0)
    }

    /// The batch as llama.cpp reads it; valid until `fill` is called again.
    pub(super) fn raw(&mut self) -> sys::llama_batch {
        sys::llama_batch {
            n_tokens: i32::try_from(self.tokens.len()).expect("capacity is a few thousand"),
            token: self.tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: self.positions.as_mut_ptr(),
            n_seq_id: self.counts.as_mut_ptr(),
            seq_id: self.sequence_pointers.as_mut_ptr(),
            logits: self.wants_logits.as_mut_ptr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGES: Ranges = Ranges { n_vocab: 100, n_seq_max: 4 };

    fn entry(token: i32, seq: usize) -> Entry {
        Entry { token, position: 0, seq, wants_logits: false }
    }

    #[test]
    fn what_would_end_the_process_is_refused() {
        let mut batch = Batch::new(2);
        assert!(batch.fill(&[], RANGES).is_err());
        assert!(batch.fill(&[entry(1, 0); 3], RANGES).is_err());
        assert!(batch.fill(&[entry(100, 0)], RANGES).is_err());
        assert!(batch.fill(&[entry(-1, 0)], RANGES).is_err());
        assert!(batch.fill(&[entry(1, 4)], RANGES).is_err());
        assert!(batch.fill(&[entry(1, 3), entry(99, 0)], RANGES).is_ok());
    }

    #[test]
    fn numbers_are_only_there_where_they_were_wanted() {
        let mut batch = Batch::new(2);
        let wanted = Entry { wants_logits: true, ..entry(1, 0) };
        batch.fill(&[entry(1, 0), wanted], RANGES).unwrap();
        assert!(!batch.has_logits(0) && batch.has_logits(1) && !batch.has_logits(2));
    }
}
