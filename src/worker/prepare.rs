//! Makes tokens of a `generate` command: checks, chat template, cropping, tokenizing.
//!
//! Runs on the preparation threads. Pure but for the model's tokenizer and template.

use crate::domain::error::{ErrorCode, Failure};
use crate::domain::prompt::{Message, PlainFormat, Role, crop};
use crate::domain::sampling::Stops;
use crate::engine::model::{Control, Lexicon, ModelError, Special};
use crate::engine::report::Settings;
use crate::engine::scheduler::{OnFull, Token};
use crate::protocol::command::{Chat, Generate, Plain, Prompt, TextPrompt};
use crate::worker::infill;
use crate::worker::recipe::{invalid, recipe};

/// Most bytes of a prompt for each token of the context: what lies above cannot fit and is not worth
/// tokenizing. Tokens are 3 to 4 bytes of text on average; runs of spaces are the longest.
pub(super) const BYTES_PER_TOKEN: usize = 32;

/// A generation that can go to the decode thread.
#[derive(Debug)]
pub struct Prepared {
    /// What the model is given; 1 to `ctx_size` − 1 tokens.
    pub prompt: Vec<Token>,
    /// What happens when the context is full.
    pub on_full: OnFull,
    /// Most tokens to make; 0 ends it at once.
    pub most: usize,
    /// The rest.
    pub settings: Settings,
}

/// Prepares a generation for a context of `ctx_size` tokens.
///
/// # Errors
/// A setting out of range, a prompt that is empty or does not fit, a template that refuses the messages.
pub fn prepare(
    generate: Generate,
    lexicon: &dyn Lexicon,
    ctx_size: usize,
) -> Result<Prepared, Failure> {
    let stops = Stops { exact: generate.stop, any_case: generate.anti_prompts };
    let stops = stops.checked().map_err(|error| invalid(&error))?;
    let most = generate.n_predict.map_or(usize::MAX, |n| n as usize);
    let (shifts, n_keep) = (generate.context_shift, generate.n_keep);
    let (prompt, dropped) = match generate.prompt {
        Prompt::Text(text) => (text_tokens(&text, lexicon, ctx_size)?, 0),
        Prompt::Chat(chat) => chat_tokens(&chat, lexicon, Room { ctx_size, most })?,
        Prompt::Infill(gap) => (infill::tokens(&gap, lexicon, Room { ctx_size, most })?, 0),
    };
    if prompt.is_empty() {
        return Err(Failure::new(ErrorCode::InvalidRequest, "the prompt is empty"));
    }
    if prompt.len() + 1 > ctx_size {
        return Err(exceeded(prompt.len(), ctx_size));
    }
    let recipe = recipe(generate.sampling, lexicon)?;
    let dropped = u32::try_from(dropped).unwrap_or(u32::MAX);
    let settings = Settings { recipe, stops, dropped, ..Settings::default() };
    let on_full = if shifts {
        // Anything below 0 keeps the whole prompt.
        OnFull::Shift { keep: usize::try_from(n_keep).unwrap_or(prompt.len()) }
    } else {
        OnFull::End
    };
    Ok(Prepared { prompt, on_full, most, settings })
}

/// The text that `generate` would read for a conversation that fits.
///
/// # Errors
/// A role that does not exist, or a template that refuses the messages.
pub fn chat_text(chat: &Chat, lexicon: &dyn Lexicon) -> Result<String, Failure> {
    compose(&messages(chat)?, &plain(&chat.plain), lexicon).map_err(refused)
}

/// Cells for a prompt and its completion.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) ctx_size: usize,
    /// Most tokens of the completion.
    pub(super) most: usize,
}

impl Room {
    /// Tokens that the completion should find; a quarter of the context is enough to make sense.
    pub(super) fn for_completion(self) -> usize {
        self.most.min(self.ctx_size / 4).max(1)
    }
}

fn text_tokens(
    prompt: &TextPrompt,
    lexicon: &dyn Lexicon,
    ctx_size: usize,
) -> Result<Vec<Token>, Failure> {
    let limit = BYTES_PER_TOKEN * ctx_size;
    let mut text = prompt.text.as_str();
    if text.len() > limit {
        if prompt.keep_last.is_none() {
            return Err(too_long("the prompt", text.len(), ctx_size));
        }
        // Only the end is kept anyway.
        let mut start = text.len() - limit;
        while !text.is_char_boundary(start) {
            start += 1;
        }
        text = &text[start..];
    }
    let mut tokens = lexicon.tokenize(text, Special::Add, Control::Parse).map_err(refused)?;
    if let Some(keep) = prompt.keep_last {
        let surplus = tokens.len().saturating_sub(keep as usize);
        tokens.drain(..surplus);
    }
    Ok(tokens)
}

fn chat_tokens(
    chat: &Chat,
    lexicon: &dyn Lexicon,
    room: Room,
) -> Result<(Vec<Token>, usize), Failure> {
    let messages = messages(chat)?;
    let plain = plain(&chat.plain);
    let wanted = room.for_completion();
    let mut reserves = vec![wanted];
    if wanted > 1 {
        // Rather a short answer than none.
        reserves.push(1);
    }
    for reserve in reserves {
        let mut last = None;
        let kept = crop(&messages, |kept| {
            let Some(tokens) = tokens_within(kept, &plain, lexicon, room.ctx_size)? else {
                return Ok(false);
            };
            let fits = tokens.len() + reserve <= room.ctx_size;
            if fits {
                last = Some((kept.len(), tokens));
            }
            Ok(fits)
        });
        if let Some((kept, dropped)) = kept.map_err(refused)? {
            // The list asked for last need not be the longest that fits.
            let tokens = match last {
                Some((length, tokens)) if length == kept.len() => tokens,
                Some(_) | None => tokens_within(&kept, &plain, lexicon, room.ctx_size)
                    .map_err(refused)?
                    .unwrap_or_default(),
            };
            return Ok((tokens, dropped));
        }
    }
    Err(newest_exceeds(&messages, &plain, lexicon, room.ctx_size))
}

/// Tokens of a conversation; `None` when it is so long that counting is not worth it.
fn tokens_within(
    messages: &[Message],
    plain: &PlainFormat,
    lexicon: &dyn Lexicon,
    ctx_size: usize,
) -> Result<Option<Vec<Token>>, ModelError> {
    let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
    if bytes > BYTES_PER_TOKEN * ctx_size {
        return Ok(None);
    }
    let text = compose(messages, plain, lexicon)?;
    lexicon.tokenize(&text, Special::Add, Control::Parse).map(Some)
}

/// Why not even the shortest form of a conversation fits.
fn newest_exceeds(
    messages: &[Message],
    plain: &PlainFormat,
    lexicon: &dyn Lexicon,
    ctx_size: usize,
) -> Failure {
    let newest = messages.len().saturating_sub(1);
    let least: Vec<Message> = messages
        .iter()
        .enumerate()
        .filter(|(at, message)| message.role == Role::System || *at == newest)
        .map(|(_, message)| message.clone())
        .collect();
    match tokens_within(&least, plain, lexicon, ctx_size) {
        Ok(Some(tokens)) => exceeded(tokens.len(), ctx_size),
        Ok(None) => {
            let bytes = least.iter().map(|message| message.content.len()).sum();
            too_long("the prompt", bytes, ctx_size)
        }
        Err(error) => refused(error),
    }
}

fn compose(
    messages: &[Message],
    plain: &PlainFormat,
    lexicon: &dyn Lexicon,
) -> Result<String, ModelError> {
    if lexicon.has_template() {
        lexicon.apply_template(messages)
    } else {
        Ok(plain.compose(messages))
    }
}

fn messages(chat: &Chat) -> Result<Vec<Message>, Failure> {
    if chat.messages.is_empty() {
        return Err(Failure::new(ErrorCode::InvalidRequest, "`messages` is empty"));
    }
    let read = |message: &crate::protocol::command::ChatMessage| {
        let role = match message.role.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => {
                let other: String = other.chars().take(40).collect();
                let text =
                    format!("role `{other}` is not known; expected system, user or assistant");
                return Err(Failure::new(ErrorCode::InvalidRequest, text));
            }
        };
        Ok(Message { role, content: message.content.clone() })
    };
    chat.messages.iter().map(read).collect()
}

fn plain(plain: &Plain) -> PlainFormat {
    PlainFormat {
        user_prefix: plain.user_prefix.clone(),
        ai_prefix: plain.ai_prefix.clone(),
        link_text: plain.link_text.clone(),
    }
}

fn exceeded(tokens: usize, ctx_size: usize) -> Failure {
    let text = format!(
        "the prompt has {tokens} tokens; the context holds {ctx_size}, one of them for the answer"
    );
    Failure::new(ErrorCode::ContextExceeded, text)
}

/// What a text is told that is too long for its tokens to be worth counting.
pub(super) fn too_long(what: &str, bytes: usize, ctx_size: usize) -> Failure {
    let limit = BYTES_PER_TOKEN * ctx_size;
    let text =
        format!("{what} has {bytes} bytes; a context of {ctx_size} tokens takes at most {limit}");
    Failure::new(ErrorCode::ContextExceeded, text)
}

pub(super) fn refused(error: ModelError) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, error.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::ChatMessage;
    use crate::protocol::sampling::SamplingParams;
    use crate::worker::fake::{FakeLexicon, Template};

    const PLAIN: FakeLexicon = FakeLexicon::new(Template::None);
    const TAGGED: FakeLexicon = FakeLexicon::new(Template::Tagged);

    fn generate(prompt: Prompt) -> Generate {
        Generate {
            id: 1,
            prompt,
            n_predict: Some(8),
            sampling: SamplingParams::default(),
            stop: vec![],
            anti_prompts: vec![],
            lora: None,
            draft_max: None,
            keep: false,
            context_shift: false,
            n_keep: 0,
        }
    }

    fn text(text: &str, keep_last: Option<u32>) -> Prompt {
        Prompt::Text(TextPrompt { text: text.into(), keep_last })
    }

    fn chat(messages: &[(&str, &str)]) -> Prompt {
        let read = |(role, content): &(&str, &str)| ChatMessage {
            role: (*role).into(),
            content: (*content).into(),
        };
        Prompt::Chat(Chat {
            messages: messages.iter().map(read).collect(),
            plain: Plain::default(),
        })
    }

    /// The prompt as text (the fake's tokens are bytes), and how many messages were dropped.
    fn prepared(prompt: Prompt, lexicon: &FakeLexicon, ctx_size: usize) -> (String, u32) {
        let made = prepare(generate(prompt), lexicon, ctx_size).unwrap();
        (lexicon.detokenize(&made.prompt).unwrap(), made.settings.dropped)
    }

    fn refused(prompt: Prompt, ctx_size: usize) -> (ErrorCode, String) {
        let failure = prepare(generate(prompt), &PLAIN, ctx_size).unwrap_err();
        (failure.code, failure.message)
    }

    #[test]
    fn a_chat_is_written_by_the_template_or_else_with_prefixes() {
        let two = || chat(&[("system", "Be."), ("user", "Hi")]);
        assert_eq!(prepared(two(), &TAGGED, 100).0, "<s>Be.<u>Hi<a>");
        assert_eq!(prepared(two(), &PLAIN, 100).0, "Be.\n!@> Human: Hi\n!@> lollms:");
    }

    #[test]
    fn old_messages_go_so_that_the_answer_has_room() {
        let long = chat(&[
            ("system", "S"),
            ("user", "1111111111"),
            ("assistant", "2222222222"),
            ("user", "3333333333"),
            ("assistant", "4444444444"),
            ("user", "5"),
        ]);
        // 4 + 13 + 13 + 4 + 3 tokens for the last three, and 8 for the answer.
        assert_eq!(
            prepared(long, &TAGGED, 45),
            ("<s>S<u>3333333333<a>4444444444<u>5<a>".into(), 2)
        );
    }

    #[test]
    fn rather_a_short_answer_than_none() {
        assert_eq!(prepared(chat(&[("user", "1234")]), &TAGGED, 11).0, "<u>1234<a>");
    }

    #[test]
    fn what_does_not_fit_says_both_numbers() {
        let (code, message) = refused(text("123456789", None), 9);
        assert_eq!(code, ErrorCode::ContextExceeded);
        assert!(message.contains("9 tokens") && message.contains("holds 9"), "{message}");
        let (code, message) = refused(text(&"x".repeat(1_000), None), 10);
        assert_eq!(code, ErrorCode::ContextExceeded);
        assert!(message.contains("1000 bytes") && message.contains("320"), "{message}");
        assert_eq!(refused(chat(&[("user", &"x".repeat(99))]), 20).0, ErrorCode::ContextExceeded);
        assert_eq!(refused(chat(&[("user", &"x".repeat(999))]), 20).0, ErrorCode::ContextExceeded);
    }

    #[test]
    fn the_end_of_a_long_text_can_be_kept() {
        assert_eq!(prepared(text("0123456789", Some(4)), &PLAIN, 20).0, "6789");
        let long = "é".repeat(1_000) + "end";
        assert_eq!(prepared(text(&long, Some(5)), &PLAIN, 20).0, "éend");
    }

    #[test]
    fn wrong_requests_are_named() {
        assert_eq!(refused(text("", None), 20).0, ErrorCode::InvalidRequest);
        assert!(refused(chat(&[]), 20).1.contains("`messages` is empty"));
        assert!(refused(chat(&[("robot", "x")]), 20).1.contains("role `robot`"));
        let mut wrong = generate(text("x", None));
        wrong.sampling.top_p = f32::NAN;
        assert!(prepare(wrong, &PLAIN, 20).unwrap_err().message.contains("`top_p`"));
        let mut wrong = generate(text("x", None));
        wrong.stop = vec!["x".repeat(2_000)];
        assert!(prepare(wrong, &PLAIN, 20).unwrap_err().message.contains("`stop`"));
    }
}
