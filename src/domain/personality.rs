//! What a personality is: the text that conditions a model, and how its author wants it sampled.
//!
//! Pure values; `registry` reads them from folders.

use crate::domain::moment::Moment;
use crate::domain::name::PersonalityId;
use crate::domain::prompt::PlainFormat;

/// A personality as its folder describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Personality {
    /// Category and folder name.
    pub id: PersonalityId,
    /// Its folder beneath `personalities/`: the id, after a language in zoos of three levels.
    pub folder: String,
    /// The language level of a zoo of three levels (`english/generic/lollms`).
    pub language_folder: Option<String>,
    /// What people call it.
    pub name: String,
    /// Who wrote it.
    pub author: String,
    /// Version as written in the manifest: `1.0` stays `1.0`.
    pub version: String,
    /// One or two sentences about it.
    pub description: String,
    /// What the manifest says its category is; the folder decides where it is listed.
    pub category: String,
    /// Language its texts are written in.
    pub language: String,
    /// What the model is told first, with placeholders as written; see [`Personality::conditioning_at`].
    pub conditioning: String,
    /// What it says when a discussion begins, with placeholders as written.
    pub welcome_message: String,
    /// Whether the model sees the welcome message as its own first message.
    pub include_welcome_message: bool,
    /// What it calls the user.
    pub user_name: String,
    /// Prefix of user messages as written.
    pub user_message_prefix: String,
    /// Prefix of answers as written.
    pub ai_message_prefix: String,
    /// Between two messages; a literal `\n` of two characters is a line break already.
    pub link_text: String,
    /// Texts that end a completion, matched without regard to case.
    pub anti_prompts: Vec<String>,
    /// Python packages its scripts would need; shown, never installed.
    pub dependencies: Vec<String>,
    /// Warning to show before use.
    pub disclaimer: String,
    /// How to use it.
    pub help: String,
    /// Commands its scripts offer; shown, not run.
    pub commands: Vec<PersonalityCommand>,
    /// Prompts to choose from.
    pub prompts: Vec<String>,
    /// How its author wants completions sampled.
    pub sampling: SamplingDefaults,
    /// Whether there is a `scripts/processor.py`; scripts are listed, never run.
    pub has_scripts: bool,
    /// Whether there is a logo as LoLLMs counts it: png or gif.
    pub has_logo: bool,
    /// The logo's file beneath the folder, `assets/logo.png`.
    pub avatar: Option<String>,
    /// Files in `assets/`, sorted.
    pub assets: Vec<String>,
    /// Languages with texts of their own: `french` for `languages/french.yaml`.
    pub languages: Vec<String>,
}

/// A command that a personality's scripts offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonalityCommand {
    /// What is shown.
    pub name: String,
    /// What is sent.
    pub value: String,
    /// What it does.
    pub help: String,
}

/// Sampling settings of a manifest; absent ones are left to the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplingDefaults {
    /// `model_temperature`.
    pub temperature: Option<f32>,
    /// `model_top_k`.
    pub top_k: Option<i32>,
    /// `model_top_p`.
    pub top_p: Option<f32>,
    /// `model_repeat_penalty`.
    pub repeat_penalty: Option<f32>,
    /// `model_repeat_last_n`.
    pub repeat_last_n: Option<i32>,
    /// `model_n_predicts`: most tokens of a completion.
    pub n_predict: Option<u32>,
}

impl Personality {
    /// The conditioning with its placeholders filled in.
    pub fn conditioning_at(&self, now: &Moment) -> String {
        now.fill(&self.conditioning)
    }

    /// The welcome message with its placeholders filled in.
    pub fn welcome_at(&self, now: &Moment) -> String {
        now.fill(&self.welcome_message)
    }

    /// How to write a conversation for a model without a chat template.
    ///
    /// Since May 2024 manifests hold bare words (`User`), to which LoLLMs adds its separator and a
    /// colon; older ones hold the whole prefix (`!@> Human: `, `### Human:` and a line break).
    pub fn plain_format(&self) -> PlainFormat {
        PlainFormat {
            user_prefix: whole_prefix(&self.user_message_prefix),
            ai_prefix: whole_prefix(&self.ai_message_prefix),
            link_text: self.link_text.clone(),
        }
    }
}

fn whole_prefix(written: &str) -> String {
    let bare = !written.is_empty()
        && written.chars().all(|c| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.'));
    if bare { format!("!@> {}: ", written.trim()) } else { written.to_owned() }
}

/// Reads `\n` written as two characters as the line break that was meant.
///
/// 239 of 290 manifests of August 2023 have `link_text: '\n'` in single quotes, where YAML knows no
/// escapes.
pub fn line_breaks(written: &str) -> String {
    written.replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_become_prefixes_and_whole_prefixes_stay() {
        assert_eq!(whole_prefix("User"), "!@> User: ");
        assert_eq!(whole_prefix("!@> Human: "), "!@> Human: ");
        assert_eq!(whole_prefix("### Human:\n"), "### Human:\n");
        assert_eq!(whole_prefix(""), "");
    }

    #[test]
    fn two_characters_are_one_line_break() {
        assert_eq!(line_breaks("\\n"), "\n");
        assert_eq!(line_breaks("\n"), "\n");
    }
}
