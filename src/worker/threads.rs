//! How many threads a step gets.

use crate::domain::error::{ErrorCode, Failure};
use crate::engine::model::Threads;

/// Most threads that may be asked for; ggml's own limit.
const MOST_THREADS: u32 = 512;

/// The threads that hold before anybody said anything.
pub const UNSET: Threads = Threads { one: 0, many: 0 };

/// The threads after a wish. What is absent stays; 0 lets the worker choose, for steps of several tokens
/// the same as for one.
///
/// # Errors
/// Names the number that is out of range.
pub fn chosen(now: Threads, one: Option<u32>, many: Option<u32>) -> Result<Threads, Failure> {
    for (name, wish) in [("threads", one), ("batch_threads", many)] {
        if let Some(given) = wish.filter(|wish| *wish > MOST_THREADS) {
            let text = format!("`{name}` is {given}; expected 0 to {MOST_THREADS}");
            return Err(Failure::new(ErrorCode::InvalidRequest, text));
        }
    }
    let one = match one {
        Some(0) => default_threads(),
        Some(wish) => wish,
        None => now.one,
    };
    let many = many.unwrap_or(now.many);
    Ok(Threads { one, many: if many == 0 { one } else { many } })
}

/// Threads for decode steps when nobody chose: one less than there are physical cores, so that the
/// front and the sockets have one; steps wait for each other at barriers, so a shared core is worse
/// than one thread fewer.
fn default_threads() -> u32 {
    let usable = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = physical_cores().unwrap_or(usable).min(usable);
    u32::try_from(cores.saturating_sub(1).max(1)).unwrap_or(1)
}

/// Cores, hyper-threads counted once; `None` where Linux does not say.
fn physical_cores() -> Option<usize> {
    let mut cores = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        let siblings = entry.path().join("topology/thread_siblings_list");
        if let Ok(siblings) = std::fs::read_to_string(siblings) {
            cores.insert(siblings);
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_stays_and_zero_is_a_choice_of_the_worker() {
        let now = Threads { one: 3, many: 5 };
        assert_eq!(chosen(now, None, None).unwrap(), now);
        assert_eq!(chosen(now, Some(4), None).unwrap(), Threads { one: 4, many: 5 });
        assert_eq!(chosen(now, Some(4), Some(0)).unwrap(), Threads { one: 4, many: 4 });
        let first = chosen(UNSET, Some(0), Some(0)).unwrap();
        assert!(first.one >= 1 && first.many == first.one);
        let failure = chosen(now, None, Some(513)).unwrap_err();
        assert!(failure.message.contains("`batch_threads` is 513"));
    }
}
