//! What belongs to one connected client: its selection and the history of its conversation.

use crate::app::selection::Selection;
use crate::binding::queue::ClientKey;
use crate::domain::prompt::{Message, Role};

/// Most text that a session's history keeps, in bytes; the oldest messages go first.
pub const MAX_HISTORY_BYTES: usize = 1 << 20;

/// One connected client.
#[derive(Debug)]
pub struct Session {
    /// Tells clients apart in queues.
    pub(super) client: ClientKey,
    pub(super) selection: Selection,
    /// Questions and answers of personality mode, oldest first. It lives as long as the session.
    pub(super) history: Vec<Message>,
}

impl Session {
    pub(super) fn new(client: ClientKey, selection: Selection) -> Self {
        Self { client, selection, history: Vec::new() }
    }

    /// What is selected.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Adds a question and its answer, and forgets the oldest messages beyond [`MAX_HISTORY_BYTES`].
    pub(super) fn remember(&mut self, question: Option<String>, answer: String) {
        let question = question.map(|content| Message { role: Role::User, content });
        self.history.extend(question);
        self.history.push(Message { role: Role::Assistant, content: answer });
        let mut size: usize = self.history.iter().map(|message| message.content.len()).sum();
        let mut dropped = 0;
        while size > MAX_HISTORY_BYTES && dropped + 1 < self.history.len() {
            size -= self.history[dropped].content.len();
            dropped += 1;
        }
        self.history.drain(..dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_bounded_and_keeps_the_newest() {
        let mut session = Session::new(1, Selection::default());
        for turn in 0..10 {
            session.remember(Some(format!("{turn}")), "x".repeat(MAX_HISTORY_BYTES / 4));
        }
        let size: usize = session.history.iter().map(|message| message.content.len()).sum();
        assert!(size <= MAX_HISTORY_BYTES);
        assert_eq!(session.history[session.history.len() - 2].content, "9");
    }
}
