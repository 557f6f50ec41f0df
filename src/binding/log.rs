//! The append-only record of one generation: its text, its phase, its end.
//!
//! The reader of a binding process appends; clients, REST answers and later the store are cursors into
//! it. Appending never waits, so a slow reader delays nobody: it finds more text at once when it comes back.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::generation::{Outcome, Phase};

/// Largest completion that is kept, in bytes; a binding that writes more has its generation ended.
pub const MAX_TEXT_BYTES: usize = 16 << 20;

/// Counts of one generation, for usage reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// How many of them came from the cache.
    pub cached_tokens: u32,
    /// Tokens made.
    pub completion_tokens: u32,
    /// Messages that were cropped away to fit the context.
    pub dropped_messages: u32,
}

/// The record of one generation.
#[derive(Debug)]
pub struct GenerationLog {
    entry: Mutex<Entry>,
    /// Counts changes; cursors wait for it to move.
    version: watch::Sender<u64>,
}

#[derive(Debug)]
struct Entry {
    text: String,
    phase: Phase,
    usage: Usage,
    outcome: Option<Outcome>,
}

/// What a cursor finds in a log.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Text after the cursor, at most as much as was asked for; whole characters.
    pub text: String,
    /// Whether more text than that is there already.
    pub more: bool,
    /// Where the generation is.
    pub phase: Phase,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
}

impl Default for GenerationLog {
    fn default() -> Self {
        let entry = Entry {
            text: String::new(),
            phase: Phase::Queued { position: 1 },
            usage: Usage::default(),
            outcome: None,
        };
        Self { entry: Mutex::new(entry), version: watch::channel(0).0 }
    }
}

impl GenerationLog {
    /// Adds text. Returns whether it was taken: not after the end, not beyond [`MAX_TEXT_BYTES`].
    pub fn append(&self, text: &str) -> bool {
        let mut entry = self.lock();
        if entry.outcome.is_some() || entry.text.len() + text.len() > MAX_TEXT_BYTES {
            return false;
        }
        entry.text.push_str(text);
        entry.phase = Phase::Writing;
        drop(entry);
        self.changed();
        true
    }

    /// Notes where the generation is; ignored after its end.
    pub fn set_phase(&self, phase: Phase) {
        let mut entry = self.lock();
        if entry.outcome.is_some() || entry.phase == phase {
            return;
        }
        entry.phase = phase;
        drop(entry);
        self.changed();
    }

    /// Notes counts.
    pub fn set_usage(&self, change: impl FnOnce(&mut Usage)) {
        change(&mut self.lock().usage);
    }

    /// Ends the generation. Returns false when it has ended before: the first end counts.
    pub fn finish(&self, outcome: Outcome) -> bool {
        let mut entry = self.lock();
        if entry.outcome.is_some() {
            return false;
        }
        entry.outcome = Some(outcome);
        entry.phase = Phase::Finished;
        drop(entry);
        self.changed();
        true
    }

    /// What is there after byte `cursor`, at most `most` bytes of text (at least one character).
    pub fn view(&self, cursor: usize, most: usize) -> View {
        let entry = self.lock();
        let rest = entry.text.get(cursor..).unwrap_or_default();
        let mut end = rest.len().min(most);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        if end == 0 {
            end = rest.chars().next().map_or(0, char::len_utf8);
        }
        View {
            text: rest[..end].to_owned(),
            more: end < rest.len(),
            phase: entry.phase,
            outcome: entry.outcome.clone(),
        }
    }

    /// The text so far.
    pub fn text(&self) -> String {
        self.lock().text.clone()
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.lock().outcome.clone()
    }

    /// The counts so far.
    pub fn usage(&self) -> Usage {
        self.lock().usage
    }

    /// Tells of every change from now on; the value itself means nothing.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Waits for the end.
    pub async fn ended(&self) -> Outcome {
        let mut changes = self.subscribe();
        loop {
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            // The sender lives in `self`, so this cannot fail while we are here.
            if changes.changed().await.is_err() {
                return Outcome::Cancelled;
            }
        }
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, Entry> {
        // Every change leaves the entry whole, so a panic elsewhere does not spoil it.
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::generation::Finish;

    #[test]
    fn a_cursor_sees_every_byte_once_and_whole_characters() {
        let log = GenerationLog::default();
        assert!(log.append("aé€😀b"));
        let (mut cursor, mut seen) = (0, String::new());
        loop {
            let view = log.view(cursor, 2);
            if view.text.is_empty() {
                break;
            }
            cursor += view.text.len();
            seen.push_str(&view.text);
        }
        assert_eq!(seen, "aé€😀b");
    }

    #[test]
    fn the_first_end_counts_and_nothing_follows_it() {
        let log = GenerationLog::default();
        assert!(log.finish(Outcome::Cancelled));
        assert!(!log.finish(Outcome::Finished(Finish::Stop)));
        assert!(!log.append("late"));
        log.set_phase(Phase::Writing);
        assert_eq!((log.view(0, 10).text, log.view(0, 10).phase), (String::new(), Phase::Finished));
    }

    #[test]
    fn a_flood_is_refused_not_kept() {
        let log = GenerationLog::default();
        let piece = "x".repeat(MAX_TEXT_BYTES / 2);
        assert!(log.append(&piece) && log.append(&piece));
        assert!(!log.append("x"));
        assert_eq!(log.text().len(), MAX_TEXT_BYTES);
    }

    #[tokio::test]
    async fn waiting_for_the_end_returns_it() {
        let log = std::sync::Arc::new(GenerationLog::default());
        let waiting = tokio::spawn({
            let log = std::sync::Arc::clone(&log);
            async move { log.ended().await }
        });
        log.finish(Outcome::Finished(Finish::Limit));
        assert_eq!(waiting.await.unwrap(), Outcome::Finished(Finish::Limit));
    }
}
