//! From what a client asks for to a generation on its way.
//!
//! In two steps, so that the events of a session take effect in order: [`App::accept`] fixes what is
//! selected now, [`App::begin`] puts the prompt together once the session's former generation has ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::app::App;
use crate::app::session::Session;
use crate::binding::instance::Instance;
use crate::binding::log::GenerationLog;
use crate::binding::request::{CompletionRequest, PromptSource};
use crate::config::settings::Settings;
use crate::domain::error::{ErrorCode, Failure};
use crate::domain::generation::{Outcome, Priority};
use crate::domain::moment::Moment;
use crate::domain::personality::Personality;
use crate::domain::prompt::{Message, Role};
use crate::domain::sampling::{OutOfRange, Sampling, Stops};

/// Longest prompt, in bytes.
pub const MAX_PROMPT_BYTES: usize = 4 << 20;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerateRequest {
    /// Text to complete, or the user's message when a personality answers.
    pub prompt: String,
    /// Index of a mounted personality; `None` is raw mode: the prompt goes to the model untouched.
    pub personality: Option<usize>,
    /// Most tokens to make.
    pub n_predict: Length,
    /// Raw mode: keeps only the last tokens of the prompt.
    pub keep_last: Option<u32>,
    /// Sampling settings that the client gives.
    pub sampling: SamplingChoice,
    /// Texts that end the completion.
    pub stop: Vec<String>,
}

/// How long a completion may become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Length {
    /// As the personality or the configuration says.
    #[default]
    Default,
    /// As long as the context allows.
    Unlimited,
    /// At most this many tokens.
    Tokens(u32),
}

/// Sampling settings of one request; absent ones are left to the personality and the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplingChoice {
    /// See [`Sampling::temperature`].
    pub temperature: Option<f32>,
    /// See [`Sampling::top_k`].
    pub top_k: Option<i32>,
    /// See [`Sampling::top_p`].
    pub top_p: Option<f32>,
    /// See [`Sampling::min_p`].
    pub min_p: Option<f32>,
    /// See [`Sampling::typical_p`].
    pub typical_p: Option<f32>,
    /// See [`Sampling::repeat_penalty`].
    pub repeat_penalty: Option<f32>,
    /// See [`Sampling::repeat_last_n`].
    pub repeat_last_n: Option<i32>,
    /// See [`Sampling::presence_penalty`].
    pub presence_penalty: Option<f32>,
    /// See [`Sampling::frequency_penalty`].
    pub frequency_penalty: Option<f32>,
    /// See [`Sampling::seed`]; `Some(None)` asks for a fresh one.
    pub seed: Option<Option<u32>>,
}

/// A request that was checked, with what was selected when it arrived.
#[derive(Debug)]
pub struct Accepted {
    instance: Arc<Instance>,
    personality: Option<Arc<Personality>>,
    prompt: String,
    keep_last: Option<u32>,
    n_predict: Option<u32>,
    sampling: Sampling,
    stops: Stops,
}

/// A generation on its way. Dropping it ends it: its client is gone.
#[derive(Debug)]
pub struct Generation {
    /// Names it, for clients and logs.
    pub id: u64,
    /// Its text, phase and end.
    pub log: Arc<GenerationLog>,
    instance: Arc<Instance>,
    /// The question to remember with the answer; `None` in raw mode.
    conversation: Option<Question>,
}

/// What a generation of personality mode answers.
#[derive(Debug)]
enum Question {
    /// A message of the user.
    Said(String),
    /// Nothing new: the model goes on.
    GoOn,
}

impl Generation {
    /// Ends it as cancelled, at once and in every state.
    pub fn cancel(&self) {
        self.instance.cancel(self.id);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.log.outcome().is_none() {
            self.cancel();
        }
    }
}

impl App {
    /// Checks a request against what the session has selected now.
    ///
    /// # Errors
    /// `Conflict` without a model, `NotFound` for a personality that is not mounted, `InvalidRequest`
    /// for a value outside its range.
    pub fn accept(&self, session: &Session, request: GenerateRequest) -> Result<Accepted, Failure> {
        self.check_running()?;
        let settings = self.parts.config.get();
        let personality = request.personality.map(|index| mounted(session, index)).transpose()?;
        if request.prompt.len() > MAX_PROMPT_BYTES {
            let message = format!(
                "the prompt has {} bytes; at most {MAX_PROMPT_BYTES} are allowed",
                request.prompt.len()
            );
            return Err(Failure::new(ErrorCode::InvalidRequest, message));
        }
        let sampling = sampling(&settings, personality.as_deref(), &request.sampling);
        let sampling = sampling.checked().map_err(|error| out_of_range(&error))?;
        let stops = stops(&settings, personality.as_deref(), request.stop);
        Ok(Accepted {
            instance: self.model_of(session)?,
            n_predict: length(&settings, personality.as_deref(), request.n_predict),
            personality,
            prompt: request.prompt,
            keep_last: request.keep_last,
            sampling,
            stops: stops.checked().map_err(|error| out_of_range(&error))?,
        })
    }

    /// Puts the prompt together with the session's history and queues the generation.
    ///
    /// # Errors
    /// `Busy` when the queue is full.
    pub fn begin(&self, session: &Session, accepted: Accepted) -> Result<Generation, Failure> {
        self.check_running()?;
        let (prompt, conversation) = match accepted.personality {
            None => {
                let keep_last = accepted.keep_last;
                (PromptSource::Text { text: accepted.prompt, keep_last }, None)
            }
            Some(personality) => {
                let chat = chat(session, &personality, &accepted.prompt);
                let question = if accepted.prompt.is_empty() {
                    Question::GoOn
                } else {
                    Question::Said(accepted.prompt)
                };
                (chat, Some(question))
            }
        };
        let request = CompletionRequest {
            prompt,
            n_predict: accepted.n_predict,
            sampling: accepted.sampling,
            stops: accepted.stops,
            priority: Priority::Interactive,
        };
        let log = Arc::new(GenerationLog::default());
        let id = accepted.instance.submit(session.client, request, Arc::clone(&log))?;
        Ok(Generation { id, log, instance: accepted.instance, conversation })
    }

    fn check_running(&self) -> Result<(), Failure> {
        if self.parts.stopping.load(Ordering::Relaxed) {
            return Err(Failure::new(ErrorCode::Unavailable, "the server is stopping"));
        }
        Ok(())
    }

    /// Remembers an ended generation in the session's history. One that failed, or was cancelled before
    /// it wrote anything, leaves no trace, so that asking again does not ask twice.
    pub fn remember(&self, session: &mut Session, generation: &mut Generation) {
        let Some(question) = generation.conversation.take() else { return };
        let failed = matches!(generation.log.outcome(), Some(Outcome::Failed(_)) | None);
        let answer = generation.log.text().trim().to_owned();
        if failed || answer.is_empty() {
            return;
        }
        match question {
            Question::Said(text) => session.remember(Some(text), answer),
            Question::GoOn => session.remember(None, answer),
        }
    }
}

fn mounted(session: &Session, index: usize) -> Result<Arc<Personality>, Failure> {
    let mounted = &session.selection.mounted;
    mounted.get(index).map(|mounted| Arc::clone(&mounted.personality)).ok_or_else(|| {
        let message = format!("no personality has index {index}; {} are mounted", mounted.len());
        Failure::new(ErrorCode::NotFound, message)
    })
}

fn chat(session: &Session, personality: &Personality, prompt: &str) -> PromptSource {
    let conditioning = personality.conditioning_at(&now());
    let mut messages = Vec::with_capacity(session.history.len() + 2);
    if !conditioning.is_empty() {
        messages.push(Message { role: Role::System, content: conditioning });
    }
    messages.extend(session.history.iter().cloned());
    if !prompt.is_empty() {
        messages.push(Message { role: Role::User, content: prompt.into() });
    }
    PromptSource::Chat { messages, plain: personality.plain_format() }
}

/// Now, in local time.
fn now() -> Moment {
    let now = jiff::Zoned::now();
    Moment::from_unix_seconds(now.timestamp().as_second() + i64::from(now.offset().seconds()))
}

/// The configuration, over it the personality unless the configuration forbids that, over both the request.
fn sampling(
    settings: &Settings,
    personality: Option<&Personality>,
    asked: &SamplingChoice,
) -> Sampling {
    let author = personality
        .filter(|_| !settings.override_personality_model_parameters)
        .map(|personality| personality.sampling)
        .unwrap_or_default();
    let base = settings.sampling;
    Sampling {
        temperature: asked.temperature.or(author.temperature).unwrap_or(base.temperature),
        top_k: asked.top_k.or(author.top_k).unwrap_or(base.top_k),
        top_p: asked.top_p.or(author.top_p).unwrap_or(base.top_p),
        min_p: asked.min_p.unwrap_or(base.min_p),
        typical_p: asked.typical_p.unwrap_or(base.typical_p),
        repeat_penalty: asked
            .repeat_penalty
            .or(author.repeat_penalty)
            .unwrap_or(base.repeat_penalty),
        repeat_last_n: asked.repeat_last_n.or(author.repeat_last_n).unwrap_or(base.repeat_last_n),
        presence_penalty: asked.presence_penalty.unwrap_or(base.presence_penalty),
        frequency_penalty: asked.frequency_penalty.unwrap_or(base.frequency_penalty),
        seed: asked.seed.unwrap_or(base.seed),
        ..base
    }
}

fn length(settings: &Settings, personality: Option<&Personality>, asked: Length) -> Option<u32> {
    match asked {
        Length::Tokens(tokens) => Some(tokens),
        Length::Unlimited => None,
        Length::Default => personality
            .filter(|_| !settings.override_personality_model_parameters)
            .and_then(|personality| personality.sampling.n_predict)
            .or(settings.n_predict),
    }
}

/// A personality's answer also ends where the model begins a turn of its own making.
fn stops(settings: &Settings, personality: Option<&Personality>, asked: Vec<String>) -> Stops {
    let any_case = personality.map_or_else(Vec::new, |personality| {
        let separator = settings.discussion_prompt_separator.clone();
        std::iter::once(separator).chain(personality.anti_prompts.iter().cloned()).collect()
    });
    Stops { exact: asked, any_case }
}

fn out_of_range(error: &OutOfRange) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, error.to_string())
}
