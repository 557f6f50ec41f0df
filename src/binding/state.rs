//! What an instance knows: its status, who waits, what is with the process, what is to be written.
//!
//! Behind one lock, held for moments only; no method waits. [`super::supervise`] runs the life of the
//! process, [`super::intake`] feeds its events in, [`super::instance`] is what the rest of the program calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use crate::binding::log::GenerationLog;
use crate::binding::outgoing::Outgoing;
use crate::binding::queue::{ClientKey, FairQueue, Limits};
use crate::binding::request::LoadRequest;
use crate::binding::spawn::Program;
use crate::domain::error::{ErrorCode, Failure};
use crate::domain::generation::{Outcome, Phase, Priority};
use crate::protocol;
use crate::protocol::command::{Ask, Command, Generate};
use crate::protocol::event::{Event, Loaded};

/// Questions that may be with a process at once; one more is refused as busy.
pub(super) const MAX_QUESTIONS: usize = 256;

/// Which program to run, which model to load in it, and within which limits.
#[derive(Clone, Debug)]
pub struct InstanceSpec {
    /// For logs and messages: `binding/model`.
    pub name: String,
    /// The program.
    pub program: Program,
    /// The model.
    pub load: LoadRequest,
    /// Of the queue.
    pub limits: Limits,
    /// A process that makes no step for this long while it has work is ended.
    pub hang_timeout: Duration,
}

/// How an instance is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// The process is being started.
    Starting,
    /// The model is being loaded; done so far, 0 to 1.
    Loading(f32),
    /// Generations run.
    Ready(Loaded),
    /// The process died; it will be started again in a moment.
    Restarting,
    /// It does not work; tried again when something asks for it.
    Failed(Failure),
    /// It was stopped for good.
    Stopped,
}

/// A generation on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) request: Box<Generate>,
    pub(super) log: Arc<GenerationLog>,
    /// It was with a process that died before admitting it; that happens once.
    pub(super) resent: bool,
}

/// A generation that the process has.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) log: Arc<GenerationLog>,
    /// Kept until the process says `started`, to be sent again should it die before.
    pub(super) waiting: Option<Job>,
}

type Reply = oneshot::Sender<Result<Event, Failure>>;

#[derive(Debug)]
pub(super) struct State {
    pub(super) status: Status,
    pub(super) queue: FairQueue<Job>,
    pub(super) in_flight: HashMap<u64, InFlight>,
    pub(super) questions: HashMap<u64, Reply>,
    pub(super) outgoing: Outgoing,
    pub(super) capabilities: Vec<String>,
    /// When the process last showed that it works.
    pub(super) active_at: Instant,
    pub(super) steps: u64,
    /// What a `fatal` line said.
    pub(super) fatal: Option<String>,
    /// The id of the running `load`.
    pub(super) load_id: u64,
}

/// One instance, shared by its supervisor, its writer and its users.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) spec: InstanceSpec,
    state: Mutex<State>,
    /// The status and how often one was set, for those who wait for the next.
    pub(super) statuses: watch::Sender<(u64, Status)>,
    /// There is something to write.
    pub(super) to_write: Notify,
    /// A failed instance is wanted again.
    pub(super) demand: Notify,
    /// The instance is to stop.
    pub(super) stop: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(spec: InstanceSpec) -> Self {
        let state = State {
            status: Status::Starting,
            queue: FairQueue::new(spec.limits),
            in_flight: HashMap::new(),
            questions: HashMap::new(),
            outgoing: Outgoing::default(),
            capabilities: Vec::new(),
            active_at: Instant::now(),
            steps: 0,
            fatal: None,
            load_id: 0,
        };
        Self {
            spec,
            state: Mutex::new(state),
            statuses: watch::channel((0, Status::Starting)).0,
            to_write: Notify::new(),
            demand: Notify::new(),
            stop: watch::channel(false).0,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Each change leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the status, tells those who wait, and sends what may now be sent.
    pub(super) fn set_status(&self, status: Status) {
        let mut state = self.lock();
        state.status = status.clone();
        state.tell_waiting();
        drop(state);
        self.statuses.send_modify(|(count, current)| {
            *count += 1;
            *current = status;
        });
        self.pump();
    }

    /// Sends as many waiting generations as there are credits for.
    pub(super) fn pump(&self) {
        let mut state = self.lock();
        let Status::Ready(loaded) = &state.status else { return };
        let slots = usize::try_from(loaded.slots).unwrap_or(usize::MAX);
        let credits = credits(loaded.slots);
        let mut moved = false;
        while state.in_flight.len() < credits {
            // What nobody waits for takes no place that somebody may want at once.
            if state.queue.is_background_next() && state.in_flight.len() >= slots {
                break;
            }
            let Some(job) = state.queue.pop() else { break };
            moved = true;
            state.send(job);
        }
        if moved {
            state.tell_waiting();
        }
        drop(state);
        self.to_write.notify_one();
    }

    /// Queues a generation.
    pub(super) fn submit(
        &self,
        client: ClientKey,
        priority: Priority,
        job: Job,
    ) -> Result<(), Failure> {
        let mut state = self.lock();
        if state.status == Status::Stopped {
            return Err(Failure::new(ErrorCode::Unavailable, "the model was unloaded"));
        }
        let failed = matches!(state.status, Status::Failed(_));
        let queued = state.queue.push(client, priority, job);
        queued.map_err(|full| Failure::new(ErrorCode::Busy, full.to_string()))?;
        state.tell_waiting();
        drop(state);
        if failed {
            self.demand.notify_one();
        }
        self.pump();
        Ok(())
    }

    /// Ends a generation as cancelled, wherever it is.
    pub(super) fn cancel(&self, id: u64) {
        let mut state = self.lock();
        for job in state.queue.remove(|job| job.id == id) {
            job.log.finish(Outcome::Cancelled);
        }
        if let Some(flight) = state.in_flight.get(&id) {
            flight.log.finish(Outcome::Cancelled);
            if state.outgoing.take_back(id) {
                state.in_flight.remove(&id);
            } else {
                state.control(&Command::Cancel(Ask { id }));
            }
        }
        state.tell_waiting();
        drop(state);
        self.to_write.notify_one();
        self.pump();
    }

    /// Ends everything that waits or runs with a failure; the process goes on.
    pub(super) fn end_all(&self, failure: &Failure) {
        let mut state = self.lock();
        let ids: Vec<u64> = state.in_flight.keys().copied().collect();
        for id in ids {
            if !state.outgoing.take_back(id) {
                state.control(&Command::Cancel(Ask { id }));
            }
        }
        state.fail_all(failure);
        drop(state);
        self.to_write.notify_one();
    }

    /// Puts a question to the process; the answer comes through the returned channel.
    pub(super) fn ask(
        &self,
        id: u64,
        capability: &str,
        command: &Command,
    ) -> Result<oneshot::Receiver<Result<Event, Failure>>, Failure> {
        let mut state = self.lock();
        if !state.capabilities.iter().any(|offered| offered == capability) {
            let message = format!("this binding does not offer `{capability}`");
            return Err(Failure::new(ErrorCode::Unsupported, message));
        }
        if state.questions.len() >= MAX_QUESTIONS {
            let message = format!("{MAX_QUESTIONS} requests are already waiting");
            return Err(Failure::new(ErrorCode::Busy, message));
        }
        let (reply, answer) = oneshot::channel();
        state.begin_work();
        state.questions.insert(id, reply);
        state.control(command);
        drop(state);
        self.to_write.notify_one();
        Ok(answer)
    }
}

impl State {
    /// Adds a control line.
    pub(super) fn control(&mut self, command: &Command) {
        match protocol::line::encode(command) {
            Ok(line) => self.outgoing.control(line),
            // Commands are plain data; a failure would be ours and must be seen.
            Err(error) => tracing::error!(%error, "A command cannot be written"),
        }
    }

    /// An idle process gets its time to answer from now on; a busy one must show steps by itself.
    fn begin_work(&mut self) {
        if self.is_idle() {
            self.active_at = Instant::now();
        }
    }

    /// Whether the process has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.questions.is_empty()
    }

    fn send(&mut self, mut job: Job) {
        let log = Arc::clone(&job.log);
        let command = Command::Generate(job.request);
        let encoded = protocol::line::encode(&command);
        let Command::Generate(request) = command else { return };
        job.request = request;
        match encoded {
            Ok(line) if line.len() <= protocol::MAX_COMMAND_BYTES => {
                self.begin_work();
                let id = job.id;
                self.in_flight.insert(id, InFlight { log, waiting: Some(job) });
                self.outgoing.work(id, line);
            }
            Ok(line) => {
                let message = format!(
                    "the prompt needs {} bytes as a line; at most {} are allowed",
                    line.len(),
                    protocol::MAX_COMMAND_BYTES
                );
                log.finish(Outcome::Failed(Failure::new(ErrorCode::InvalidRequest, message)));
            }
            Err(error) => {
                log.finish(Outcome::Failed(Failure::new(
                    ErrorCode::InvalidRequest,
                    format!("the request cannot be written as JSON: {error}"),
                )));
            }
        }
    }

    /// Tells each waiting generation where it stands.
    pub(super) fn tell_waiting(&self) {
        let fraction = match &self.status {
            Status::Loading(fraction) => Some(*fraction),
            Status::Starting | Status::Restarting => Some(0.0),
            Status::Ready(_) | Status::Failed(_) | Status::Stopped => None,
        };
        // What the process has taken over but not admitted stands before all others.
        let mut handed: Vec<&InFlight> =
            self.in_flight.values().filter(|flight| flight.waiting.is_some()).collect();
        handed.sort_by_key(|flight| flight.waiting.as_ref().map(|job| job.id));
        for (at, flight) in handed.iter().enumerate() {
            flight.log.set_phase(Phase::Queued { position: at + 1 });
        }
        let before = handed.len();
        for (at, job) in self.queue.in_order().into_iter().enumerate() {
            job.log.set_phase(match fraction {
                Some(fraction) => Phase::Loading { fraction },
                None => Phase::Queued { position: before + at + 1 },
            });
        }
    }

    /// Ends everything that waits or runs, and every question.
    pub(super) fn fail_all(&mut self, failure: &Failure) {
        for job in self.queue.remove(|_| true) {
            job.log.finish(Outcome::Failed(failure.clone()));
        }
        for (_, flight) in self.in_flight.drain() {
            flight.log.finish(Outcome::Failed(failure.clone()));
        }
        self.fail_questions(failure);
    }

    /// Ends every question.
    pub(super) fn fail_questions(&mut self, failure: &Failure) {
        for (_, reply) in self.questions.drain() {
            // Whoever asked may have left.
            drop(reply.send(Err(failure.clone())));
        }
    }

    /// Settles what a dead process had: what it had admitted ends with an error, for it may have been
    /// the cause; the rest goes back to the head of the queue, once.
    pub(super) fn settle_death(&mut self, failure: &Failure) {
        self.outgoing.clear();
        let mut back = Vec::new();
        for (_, flight) in self.in_flight.drain() {
            match flight.waiting {
                Some(job) if !job.resent && job.log.outcome().is_none() => back.push(job),
                Some(_) | None => {
                    flight.log.finish(Outcome::Failed(failure.clone()));
                }
            }
        }
        back.sort_by_key(|job| job.id);
        for mut job in back {
            job.resent = true;
            self.queue.put_back(job);
        }
        self.fail_questions(failure);
        self.tell_waiting();
    }
}

/// Generations that may be with a process: its slots and a few more, so that a free slot finds work.
fn credits(slots: u32) -> usize {
    let slots = usize::try_from(slots.max(1)).unwrap_or(usize::MAX);
    slots.saturating_add((slots / 4).max(2))
}
