//! The preparation threads: everything about text that needs the model, away from the decode thread.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::error::{ErrorCode, Failure};
use crate::engine::brake::CancelFlag;
use crate::engine::model::{Control, ModelError, Special};
use crate::engine::report::Settings;
use crate::engine::scheduler::Waiting;
use crate::protocol::command::{
    ApplyTemplate, Detokenize, Generate, RestoreState, SaveState, Tokenize,
};
use crate::protocol::event::{Event, Text, Tokens};
use crate::worker::decode::{Order, Submission};
use crate::worker::desk::{Ready, Shared};
use crate::worker::prepare::{Prepared, chat_text, prepare};
use crate::worker::states;

/// Tasks that may wait for a preparation thread; more are answered `busy`.
pub(super) const TASKS: usize = 256;
/// Preparation threads.
pub(super) const THREADS: usize = 2;
/// Their stacks, in bytes: template and grammar parsers recurse.
pub(super) const STACK_BYTES: usize = 16 << 20;

/// One task for a preparation thread.
pub(super) struct Task {
    pub(super) ready: Arc<Ready>,
    pub(super) work: Work,
}

/// What is to be done.
pub(super) enum Work {
    Tokenize(Tokenize),
    Detokenize(Detokenize),
    ApplyTemplate(ApplyTemplate),
    SaveState(SaveState),
    RestoreState(RestoreState),
    Generate(Box<Generation>),
}

/// A generation on its way to the decode thread.
pub(super) struct Generation {
    pub(super) generate: Generate,
    /// Order of arrival.
    pub(super) ticket: u64,
    pub(super) cancelled: CancelFlag,
}

/// Runs until nobody can send tasks any more.
pub(super) fn run(tasks: &Mutex<Receiver<Task>>, shared: &Arc<Shared>) {
    loop {
        let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Task { ready, work }) = task else { return };
        match work {
            Work::Generate(generation) => generate(*generation, &ready, shared),
            Work::Tokenize(ask) => answer(ask.id, tokenize(&ask, &ready), shared),
            Work::Detokenize(ask) => answer(ask.id, detokenize(&ask, &ready), shared),
            Work::ApplyTemplate(ask) => answer(ask.id, apply_template(&ask, &ready), shared),
            Work::SaveState(ask) => answer(ask.id, states::save(&ask, &ready), shared),
            Work::RestoreState(ask) => answer(ask.id, states::restore(&ask, &ready), shared),
        }
    }
}

impl Work {
    /// The operation's id.
    pub(super) fn id(&self) -> u64 {
        match self {
            Self::Tokenize(ask) => ask.id,
            Self::Detokenize(ask) => ask.id,
            Self::ApplyTemplate(ask) => ask.id,
            Self::SaveState(ask) => ask.id,
            Self::RestoreState(ask) => ask.id,
            Self::Generate(generation) => generation.generate.id,
        }
    }
}

fn answer(id: u64, made: Result<Event, Failure>, shared: &Shared) {
    match made {
        Ok(event) => shared.outbox.send(&event),
        Err(failure) => shared.refuse(id, failure),
    }
}

fn tokenize(ask: &Tokenize, ready: &Ready) -> Result<Event, Failure> {
    let special = if ask.add_special { Special::Add } else { Special::Leave };
    let control = if ask.parse_special { Control::Parse } else { Control::Text };
    let tokens = ready.lexicon.tokenize(&ask.text, special, control).map_err(wrong)?;
    Ok(Event::Tokens(Tokens { id: ask.id, tokens }))
}

fn detokenize(ask: &Detokenize, ready: &Ready) -> Result<Event, Failure> {
    let text = ready.lexicon.detokenize(&ask.tokens).map_err(wrong)?;
    Ok(Event::Text(Text { id: ask.id, text }))
}

fn apply_template(ask: &ApplyTemplate, ready: &Ready) -> Result<Event, Failure> {
    let text = chat_text(&ask.chat, &*ready.lexicon)?;
    Ok(Event::Text(Text { id: ask.id, text }))
}

fn wrong(error: ModelError) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, error.0)
}

fn generate(generation: Generation, ready: &Ready, shared: &Arc<Shared>) {
    let Generation { generate, ticket, cancelled } = generation;
    let id = generate.id;
    if cancelled.is_set() {
        return shared.cancelled(id);
    }
    if !ready.facts.writes {
        let text = "this model reads whole texts and writes none; `embed` and `rerank` are for it";
        return shared.fail(id, ErrorCode::Unsupported, text.into());
    }
    if generate.context_shift && !ready.facts.can_shift {
        let text = "this model's context cannot be shifted; leave `context_shift` out";
        return shared.fail(id, ErrorCode::Unsupported, text.into());
    }
    let asked = generate.lora.as_ref().map(|list| {
        list.iter().map(|adapter| (adapter.id as usize, adapter.scale)).collect::<Vec<_>>()
    });
    let adapters = match ready.facts.adapters.number(asked.as_deref()) {
        Ok(adapters) => adapters,
        Err(error) => return shared.fail(id, ErrorCode::InvalidRequest, error.to_string()),
    };
    let most_drafts = ready.facts.draft_max;
    let drafts = generate.draft_max.map_or(most_drafts, |n| most_drafts.min(n as usize));
    let stores = generate.keep && ready.kv_files.is_some();
    match prepare(generate, &*ready.lexicon, ready.facts.limits.ctx_size) {
        Ok(prepared) => {
            let Prepared { prompt, most, on_full, settings } = prepared;
            let waiting = Waiting { id, ticket, prompt, most, adapters, on_full, stores };
            let kept = match &ready.kv_files {
                Some(files) if stores => files.read(&waiting.prompt, adapters),
                Some(_) | None => Vec::new(),
            };
            let submission =
                Submission::new(waiting, Settings { drafts, cancelled, ..settings }, kept, shared);
            // An error means that the model was unloaded; dropping the order ends the generation.
            let _ = ready.orders.send(Order::Submit(Box::new(submission)));
        }
        Err(failure) => shared.fail(id, failure.code, failure.message),
    }
}
