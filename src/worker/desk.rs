//! Takes commands, answers what needs no model, and hands the rest to the other threads.
//!
//! Its thread never tokenizes and never waits for a step, so a cancel is on its way at once.

use std::io::Read;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::domain::error::{ErrorCode, Failure};
use crate::engine::brake::CancelFlag;
use crate::engine::model::{Facts, Lexicon, Threads};
use crate::engine::vectors::Embedder;
use crate::protocol::PROTOCOL_VERSION;
use crate::protocol::command::{Ask, Command, Configure, Generate, Hello, Load};
use crate::protocol::event::{
    Done, End, EndReason, ErrorEvent, Event, Fatal, HelloEvent, Loaded, Models, Progress,
};
use crate::worker::CAPABILITIES;
use crate::worker::decode::{self, ORDERS, Order};
use crate::worker::infill;
use crate::worker::kv_files::{KvFiles, Origin};
use crate::worker::live::Live;
use crate::worker::loader::{LoadFailure, Loader, Parts};
use crate::worker::outbox::Outbox;
use crate::worker::reader::{Line, Lines};
use crate::worker::text::{self, Generation, STACK_BYTES, TASKS, THREADS, Task, Work};
use crate::worker::threads;
use crate::worker::vectors;

/// Time between two `progress` events of a load.
const PROGRESS_AFTER: Duration = Duration::from_millis(50);

/// How the work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The input ended: the front is gone.
    Closed,
    /// The front said `bye`.
    Bye,
    /// A line came that cannot be answered.
    Malformed,
}

/// What all threads share.
pub(super) struct Shared {
    pub(super) outbox: Outbox,
    /// Generations.
    pub(super) live: Live,
    /// Vectors and scores that were asked for.
    pub(super) asked: Live,
}

impl Shared {
    /// The one end of a generation.
    pub(super) fn end(&self, end: End) {
        let id = end.id;
        if self.live.finish(id) {
            self.outbox.add(id, &Event::End(end));
        }
        self.outbox.forget(id);
    }

    /// Ends a generation that has no sequence with an error, now.
    pub(super) fn fail(&self, id: u64, code: ErrorCode, message: String) {
        let code = Some(code.as_str().into());
        self.end(End { code, message: Some(message), ..ended(id, EndReason::Error) });
        self.outbox.flush();
    }

    /// Ends a generation that has no sequence as cancelled, now.
    pub(super) fn cancelled(&self, id: u64) {
        self.end(ended(id, EndReason::Cancelled));
        self.outbox.flush();
    }

    /// Answers an operation with an error.
    pub(super) fn refuse(&self, id: u64, failure: Failure) {
        let code = failure.code.as_str().into();
        self.outbox.send(&Event::Error(ErrorEvent { id, code, message: failure.message }));
    }
}

fn ended(id: u64, reason: EndReason) -> End {
    End {
        id,
        reason,
        stop: None,
        code: None,
        message: None,
        completion_tokens: 0,
        guessed_tokens: 0,
        cached_tokens: 0,
        prompt_ms: 0.0,
        completion_ms: 0.0,
    }
}

/// A loaded model, as the other threads see it.
pub(super) struct Ready {
    pub(super) lexicon: Arc<dyn Lexicon>,
    pub(super) embedder: Arc<dyn Embedder>,
    pub(super) facts: Facts,
    pub(super) orders: SyncSender<Order>,
    /// What its states depend on.
    pub(super) origin: Origin,
    /// Blocks of chats on disk, if any are kept.
    pub(super) kv_files: Option<Arc<KvFiles>>,
    /// What was last asked for.
    threads: Mutex<Threads>,
}

/// The model, in one of its states.
enum Model {
    None,
    Loading { id: u64, cancelled: CancelFlag },
    Ready { ready: Arc<Ready>, decode: JoinHandle<()> },
}

/// The desk. See the module.
pub struct Desk<L> {
    loader: Arc<L>,
    shared: Arc<Shared>,
    model: Arc<Mutex<Model>>,
    tasks: Option<SyncSender<Task>>,
    vectors: Option<SyncSender<vectors::Task>>,
    threads: Vec<JoinHandle<()>>,
    tickets: u64,
}

impl<L: Loader> Desk<L> {
    /// Starts the threads that are always there.
    pub fn new(loader: L, output: OwnedFd) -> Self {
        let (live, asked) = (Live::default(), Live::default());
        let shared = Arc::new(Shared { outbox: Outbox::new(output), live, asked });
        let (tasks, todo) = sync_channel(TASKS);
        let todo = Arc::new(Mutex::new(todo));
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let (todo, shared) = (Arc::clone(&todo), Arc::clone(&shared));
            threads.push(spawn(&format!("prepare-{number}"), move || text::run(&todo, &shared)));
        }
        let (vectors, asked) = sync_channel(vectors::TASKS);
        let answering = Arc::clone(&shared);
        threads.push(spawn("vectors", move || vectors::run(&asked, &answering)));
        let draining = Arc::clone(&shared);
        threads.push(spawn("drain", move || draining.outbox.drain()));
        Self {
            loader: Arc::new(loader),
            shared,
            model: Arc::new(Mutex::new(Model::None)),
            tasks: Some(tasks),
            vectors: Some(vectors),
            threads,
            tickets: 0,
        }
    }

    /// Takes commands until there are no more.
    pub fn serve(&mut self, input: impl Read) -> Ending {
        let mut lines = Lines::new(input);
        loop {
            let line = match lines.next() {
                Ok(line) => line,
                Err(error) => {
                    tracing::error!("stdin cannot be read: {error}");
                    return Ending::Closed;
                }
            };
            match line {
                Line::Command(command) => {
                    if let ControlFlow::Break(ending) = self.take(*command) {
                        return ending;
                    }
                }
                Line::Refused { op, id, reason } => self.refuse_line(&op, id, &reason),
                Line::Malformed(reason) => {
                    tracing::error!("the front wrote what cannot be answered: {reason}");
                    return Ending::Malformed;
                }
                Line::Closed => return Ending::Closed,
            }
        }
    }

    /// Ends all threads. Not called in a worker process, which just ends.
    pub fn close(mut self) {
        self.shared.live.cancel_all();
        self.shared.asked.cancel_all();
        let model = std::mem::replace(&mut *lock(&self.model), Model::None);
        match model {
            Model::Ready { ready, decode } => {
                let _ = ready.orders.send(Order::Stop);
                let _ = decode.join();
            }
            Model::Loading { cancelled, .. } => cancelled.set(),
            Model::None => {}
        }
        self.tasks = None;
        self.vectors = None;
        self.shared.outbox.flush();
        self.shared.outbox.close();
        for thread in self.threads {
            let _ = thread.join();
        }
    }

    fn take(&mut self, command: Command) -> ControlFlow<Ending> {
        match command {
            Command::Hello(hello) => return self.hello(&hello),
            Command::ListModels(ask) => {
                // The front finds GGUF files itself; this worker loads what it is told.
                let models = Models { id: ask.id, models: Vec::new() };
                self.shared.outbox.send(&Event::Models(models));
            }
            Command::Load(load) => self.load(load),
            Command::Unload(ask) => self.unload(ask),
            Command::Tokenize(ask) => self.hand_on(Work::Tokenize(ask)),
            Command::Detokenize(ask) => self.hand_on(Work::Detokenize(ask)),
            Command::Embed(ask) => self.ask_vectors(vectors::Ask::Embed(ask)),
            Command::Rerank(ask) => self.ask_vectors(vectors::Ask::Rerank(ask)),
            Command::Configure(ask) => self.configure(ask),
            Command::ApplyTemplate(ask) => self.hand_on(Work::ApplyTemplate(ask)),
            Command::SaveState(ask) => self.hand_on(Work::SaveState(ask)),
            Command::RestoreState(ask) => self.hand_on(Work::RestoreState(ask)),
            Command::Generate(generate) => self.generate(*generate),
            Command::Cancel(ask) => self.cancel(ask.id),
            Command::Bye(_) => {
                self.shared.outbox.flush();
                return ControlFlow::Break(Ending::Bye);
            }
        }
        ControlFlow::Continue(())
    }

    fn hello(&self, hello: &Hello) -> ControlFlow<Ending> {
        if hello.version != PROTOCOL_VERSION {
            let reason = format!(
                "the front speaks version {} of the binding protocol, this worker {PROTOCOL_VERSION}",
                hello.version
            );
            self.shared.outbox.send(&Event::Fatal(Fatal { reason }));
            return ControlFlow::Break(Ending::Malformed);
        }
        let event = HelloEvent {
            version: PROTOCOL_VERSION,
            name: concat!("lollmsd worker ", env!("CARGO_PKG_VERSION")).into(),
            capabilities: CAPABILITIES.map(String::from).to_vec(),
        };
        self.shared.outbox.send(&Event::Hello(event));
        ControlFlow::Continue(())
    }

    /// Answers a line that is no command of ours but has an id. A generation must have its one end.
    fn refuse_line(&self, op: &str, id: u64, reason: &str) {
        if op == "generate" {
            if self.shared.live.begin(id).is_some() {
                self.shared.fail(id, ErrorCode::InvalidRequest, format!("`generate`: {reason}"));
            }
            return;
        }
        let op: String = op.chars().take(40).collect();
        let failure = if reason.contains("unknown variant") {
            Failure::new(ErrorCode::Unsupported, format!("operation `{op}` is not known here"))
        } else {
            Failure::new(ErrorCode::InvalidRequest, format!("`{op}`: {reason}"))
        };
        self.shared.refuse(id, failure);
    }

    fn load(&mut self, command: Load) {
        let id = command.id;
        let cancelled = CancelFlag::default();
        {
            let mut model = lock(&self.model);
            if !matches!(*model, Model::None) {
                let text = "a model is loaded or loading; one worker has one model";
                return self.shared.refuse(id, Failure::new(ErrorCode::Conflict, text));
            }
            *model = Model::Loading { id, cancelled: cancelled.clone() };
        }
        let (loader, shared) = (Arc::clone(&self.loader), Arc::clone(&self.shared));
        let model = Arc::clone(&self.model);
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(spawn("load", move || {
            let event = load(&*loader, &command, &Loading { shared: &shared, cancelled, model });
            shared.outbox.send(&event);
        }));
    }

    fn unload(&mut self, ask: Ask) {
        let model = {
            let mut model = lock(&self.model);
            match &*model {
                Model::Ready { .. } => std::mem::replace(&mut *model, Model::None),
                Model::Loading { .. } => {
                    let text = "the model is still loading; cancel the load instead";
                    return self.shared.refuse(ask.id, Failure::new(ErrorCode::Conflict, text));
                }
                Model::None => Model::None,
            }
        };
        if let Model::Ready { ready, decode } = model {
            self.shared.live.cancel_all();
            self.shared.asked.cancel_all();
            // An error means that the thread has ended already.
            let _ = ready.orders.send(Order::Stop);
            let _ = decode.join();
        }
        self.shared.outbox.send(&Event::Unloaded(Done { id: ask.id }));
    }

    fn generate(&mut self, generate: Generate) {
        let id = generate.id;
        let Some(cancelled) = self.shared.live.begin(id) else {
            let text = format!("a generation with id {id} is running");
            return self.shared.refuse(id, Failure::new(ErrorCode::Conflict, text));
        };
        self.tickets += 1;
        let generation = Generation { generate, ticket: self.tickets, cancelled };
        self.hand_on(Work::Generate(Box::new(generation)));
    }

    fn cancel(&self, id: u64) {
        self.shared.live.cancel(id);
        self.shared.asked.cancel(id);
        match &*lock(&self.model) {
            Model::Loading { id: loading, cancelled } if *loading == id => cancelled.set(),
            Model::Ready { ready, .. } => {
                // An error means that the thread has ended, and all generations with it.
                let _ = ready.orders.send(Order::Cancel(id));
            }
            Model::Loading { .. } | Model::None => {}
        }
    }

    /// Gives other threads to the steps that begin after this.
    fn configure(&self, ask: Configure) {
        let made = self.ready().and_then(|ready| {
            let mut now = ready.threads.lock().unwrap_or_else(PoisonError::into_inner);
            let chosen = threads::chosen(*now, ask.threads, ask.batch_threads)?;
            *now = chosen;
            ready.embedder.set_threads(chosen);
            let lost = |_| Failure::new(ErrorCode::Unavailable, "the model was lost");
            ready.orders.send(Order::Configure(ask.id, chosen)).map_err(lost)
        });
        if let Err(failure) = made {
            self.shared.refuse(ask.id, failure);
        }
    }

    /// Gives an operation to the vectors thread; refuses it when there is no model or too much waits.
    fn ask_vectors(&self, ask: vectors::Ask) {
        let id = ask.id();
        let ready = match self.ready() {
            Ok(ready) => ready,
            Err(failure) => return self.shared.refuse(id, failure),
        };
        let Some(cancelled) = self.shared.asked.begin(id) else {
            let text = format!("an operation with id {id} is running");
            return self.shared.refuse(id, Failure::new(ErrorCode::Conflict, text));
        };
        let Some(tasks) = &self.vectors else { return };
        if tasks.try_send(vectors::Task { ready, ask, cancelled }).is_err() {
            self.shared.asked.finish(id);
            let text = format!("{} operations are waiting", vectors::TASKS);
            self.shared.refuse(id, Failure::new(ErrorCode::Busy, text));
        }
    }

    /// The loaded model.
    fn ready(&self) -> Result<Arc<Ready>, Failure> {
        let text = match &*lock(&self.model) {
            Model::Ready { ready, .. } => return Ok(Arc::clone(ready)),
            Model::Loading { .. } => "the model is still loading",
            Model::None => "no model is loaded",
        };
        Err(Failure::new(ErrorCode::Conflict, text))
    }

    /// Gives a task to the preparation threads; refuses it when there is no model or too much waits.
    fn hand_on(&self, work: Work) {
        let ready = match self.ready() {
            Ok(ready) => ready,
            Err(failure) => return self.refuse_work(&work, failure),
        };
        let Some(tasks) = &self.tasks else { return };
        match tasks.try_send(Task { ready, work }) {
            Ok(()) => {}
            Err(TrySendError::Full(task) | TrySendError::Disconnected(task)) => {
                let text = format!("{TASKS} tasks are waiting");
                self.refuse_work(&task.work, Failure::new(ErrorCode::Busy, text));
            }
        }
    }

    fn refuse_work(&self, work: &Work, failure: Failure) {
        match work {
            Work::Generate(generation) => {
                self.shared.fail(generation.generate.id, failure.code, failure.message);
            }
            Work::Tokenize(_)
            | Work::Detokenize(_)
            | Work::ApplyTemplate(_)
            | Work::SaveState(_)
            | Work::RestoreState(_) => {
                self.shared.refuse(work.id(), failure);
            }
        }
    }
}

/// What a load needs beside its command.
struct Loading<'a> {
    shared: &'a Arc<Shared>,
    cancelled: CancelFlag,
    model: Arc<Mutex<Model>>,
}

/// Loads a model and starts its decode thread; returns the answer.
fn load<L: Loader>(loader: &L, command: &Load, loading: &Loading<'_>) -> Event {
    let id = command.id;
    let mut told = Instant::now();
    let made = loader.load(command, &mut |fraction| {
        if loading.cancelled.is_set() {
            return ControlFlow::Break(());
        }
        let now = Instant::now();
        if now - told >= PROGRESS_AFTER && fraction.is_finite() {
            told = now;
            loading.shared.outbox.send(&Event::Progress(Progress { id, fraction }));
        }
        ControlFlow::Continue(())
    });
    let mut model = lock(&loading.model);
    let failure = match made {
        Ok(_) if loading.cancelled.is_set() => LoadFailure::Cancelled,
        Ok(parts) => {
            let (state, event) = start(id, parts, loading.shared);
            *model = state;
            return event;
        }
        Err(failure) => failure,
    };
    *model = Model::None;
    let (code, message) = match failure {
        LoadFailure::Cancelled => ("cancelled", "the load was cancelled".into()),
        LoadFailure::Failed(failure) => (failure.code.as_str(), failure.message),
    };
    Event::Error(ErrorEvent { id, code: code.into(), message })
}

/// Starts the decode thread of a model.
fn start<D>(id: u64, parts: Parts<D>, shared: &Arc<Shared>) -> (Model, Event)
where
    D: crate::engine::model::Decoder<Sampler: Send> + Send + 'static,
{
    let Parts { decoder, lexicon, embedder, facts, origin, kv_files } = parts;
    let offer = embedder.offer();
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let event = Event::Loaded(Loaded {
        id,
        slots: narrow(facts.limits.running),
        ctx_size: narrow(facts.limits.ctx_size),
        chat_template: lexicon.has_template(),
        description: facts.description.clone(),
        embedding_size: narrow(offer.size),
        ranks: offer.ranks,
        infills: facts.writes && infill::can_fill(&*lexicon),
    });
    let (orders, taken) = sync_channel(ORDERS);
    let (shared, known) = (Arc::clone(shared), facts.clone());
    let kept = kv_files.clone();
    let decode = spawn("decode", move || decode::run(decoder, &known, &taken, (&shared, kept)));
    let threads = Mutex::new(facts.threads);
    let ready = Arc::new(Ready { lexicon, embedder, facts, orders, origin, kv_files, threads });
    (Model::Ready { ready, decode }, event)
}

fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(STACK_BYTES)
        .spawn(run)
        .expect("a worker has a handful of threads")
}
