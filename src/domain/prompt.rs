//! Puts a personality and the messages of a session together as one prompt, and crops by whole messages.
//!
//! Pure. The worker calls it with its tokenizer as the measure; models with a chat template of their
//! own use that instead of [`PlainFormat`], with the same cropping.

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The conditioning of a personality.
    System,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
}

/// One message of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who wrote it.
    pub role: Role,
    /// Its text.
    pub content: String,
}

/// LoLLMs' prefixes, for models without a chat template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainFormat {
    /// Before each message of the user.
    pub user_prefix: String,
    /// Before each answer.
    pub ai_prefix: String,
    /// Between two messages.
    pub link_text: String,
}

impl Default for PlainFormat {
    fn default() -> Self {
        Self {
            user_prefix: "!@> Human: ".into(),
            ai_prefix: "!@> lollms:".into(),
            link_text: "\n".into(),
        }
    }
}

impl PlainFormat {
    /// Writes the conversation as LoLLMs does, ending where the model goes on.
    pub fn compose(&self, messages: &[Message]) -> String {
        let mut text = String::new();
        for message in messages {
            let prefix = match message.role {
                Role::System => "",
                Role::User => &self.user_prefix,
                Role::Assistant => &self.ai_prefix,
            };
            text.push_str(prefix);
            text.push_str(&message.content);
            // Conditionings from YAML blocks end with a line break already.
            if !(message.role == Role::System && text.ends_with(&self.link_text)) {
                text.push_str(&self.link_text);
            }
        }
        text.push_str(&self.ai_prefix);
        text
    }
}

/// Drops the oldest messages until the rest fits; system messages and the newest message stay.
///
/// `fits` says whether a list of messages fits; it is asked O(log n) times and must be monotonic:
/// if a list fits, so does every shorter one. Returns the kept messages and how many were dropped,
/// or `None` when not even the system messages and the newest one fit.
///
/// A kept history never begins with an answer: templates want the user first.
///
/// # Errors
/// Whatever `fits` fails with.
pub fn crop<E>(
    messages: &[Message],
    mut fits: impl FnMut(&[Message]) -> Result<bool, E>,
) -> Result<Option<(Vec<Message>, usize)>, E> {
    let is_system = |message: &Message| message.role == Role::System;
    let turns: Vec<&Message> = messages.iter().filter(|m| !is_system(m)).collect();
    // Places where a history may begin: at any user message, and at the newest message whatever it is.
    let mut starts: Vec<usize> = (0..turns.len())
        .filter(|&at| turns[at].role == Role::User || at + 1 == turns.len())
        .collect();
    if turns.is_empty() || starts.first() != Some(&0) {
        starts.insert(0, 0);
    }
    let keep_from = |start: usize| -> Vec<Message> {
        let system = messages.iter().filter(|m| is_system(m));
        system.chain(turns[start..].iter().copied()).cloned().collect()
    };
    let (mut low, mut high) = (0, starts.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        if fits(&keep_from(starts[middle]))? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(starts.get(low).map(|&start| (keep_from(start), start)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(role: Role, content: &str) -> Message {
        Message { role, content: content.into() }
    }

    #[test]
    fn plain_text_is_what_lollms_writes() {
        let messages = [
            message(Role::System, "Be kind.\n"),
            message(Role::User, "Hi"),
            message(Role::Assistant, "Hello"),
            message(Role::User, "Bye"),
        ];
        assert_eq!(
            PlainFormat::default().compose(&messages),
            "Be kind.\n!@> Human: Hi\n!@> lollms:Hello\n!@> Human: Bye\n!@> lollms:"
        );
    }

    fn size(messages: &[Message]) -> usize {
        messages.iter().map(|m| m.content.len()).sum()
    }

    proptest! {
        #[test]
        fn cropping_keeps_the_most_that_fits(
            lengths in prop::collection::vec(0_usize..40, 1..30),
            system in 0_usize..30,
            room in 0_usize..400,
        ) {
            let mut messages = vec![message(Role::System, &"s".repeat(system))];
            for (at, length) in lengths.iter().enumerate() {
                let role = if at % 2 == 0 { Role::User } else { Role::Assistant };
                messages.push(message(role, &"x".repeat(*length)));
            }
            let cropped = crop(&messages, |kept| Ok::<_, ()>(size(kept) <= room)).unwrap();
            match cropped {
                None => {
                    let newest = lengths.last().unwrap();
                    prop_assert!(system + newest > room);
                }
                Some((kept, dropped)) => {
                    prop_assert!(size(&kept) <= room);
                    prop_assert_eq!(kept.last(), messages.last());
                    prop_assert_eq!(&kept[0], &messages[0]);
                    prop_assert_eq!(kept.len() + dropped, messages.len());
                    // One turn more, question and answer, would not have fitted.
                    if dropped >= 2 && messages.len() > 2 {
                        let more = &messages[1 + dropped - 2..];
                        let starts_well = more[0].role == Role::User;
                        prop_assert!(!starts_well || system + size(more) > room);
                    }
                }
            }
        }
    }
}
