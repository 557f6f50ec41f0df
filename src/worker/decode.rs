//! The decode thread: takes orders between two steps, and makes steps.
//!
//! It never tokenizes, parses or waits for the pipe. A cancelled generation is in no step that begins
//! after its order arrived.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use crate::domain::error::{ErrorCode, Failure};
use crate::engine::driver::{Driver, Stepped};
use crate::engine::model::{Decoder, Facts, Threads};
use crate::engine::report::{End, Ended, Output, Settings, Started, never_started};
use crate::engine::scheduler::cost::Costs;
use crate::engine::scheduler::host::StoredBlock;
use crate::engine::scheduler::{Scheduler, Waiting};
use crate::engine::text::writer::Written;
use crate::protocol::event::{self, Configured, EndReason, Event, Fatal, Reading, Stats};
use crate::worker::desk::Shared;
use crate::worker::kv_files::KvFiles;
use crate::worker::states::Wanted;

/// Orders that may wait for the thread; it takes them between two steps.
pub(super) const ORDERS: usize = 1_024;
/// Most generations without a sequence. The front's credits keep far below that.
const MOST_WAITING: usize = 512;
/// Time between two `reading` events of one generation.
const READING_AFTER: Duration = Duration::from_millis(50);
/// Time between two `stats` events when something changed …
const STATS_AFTER: Duration = Duration::from_millis(250);
/// … and while there is work.
const STATS_WORKING: Duration = Duration::from_secs(1);
/// How often orders are looked for while the pipe is full.
const FULL_WAIT: Duration = Duration::from_millis(20);

/// What the decode thread is told.
pub(super) enum Order {
    /// A prepared generation.
    Submit(Box<Submission>),
    /// End this generation, if it is here.
    Cancel(u64),
    /// Take other threads from the next step on, and answer the operation with this id.
    Configure(u64, Threads),
    /// Hand out what a generation left.
    Save(Wanted),
    /// Take blocks into the cache.
    Restore(Vec<StoredBlock>),
    /// End all generations, then the thread.
    Stop,
}

/// A prepared generation on its way to the thread. One that gets lost on it, because the model is
/// unloaded meanwhile, ends as cancelled.
pub(super) struct Submission {
    carried: Option<(Waiting, Settings)>,
    /// Blocks of its chat that were on disk.
    kept: Vec<StoredBlock>,
    shared: Arc<Shared>,
}

impl Submission {
    pub(super) fn new(
        waiting: Waiting,
        settings: Settings,
        kept: Vec<StoredBlock>,
        shared: &Arc<Shared>,
    ) -> Self {
        Self { carried: Some((waiting, settings)), kept, shared: Arc::clone(shared) }
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        if let Some((waiting, _)) = self.carried.take() {
            self.shared.cancelled(waiting.id);
        }
    }
}

/// Runs until [`Order::Stop`] or until nobody can order any more.
pub(super) fn run<D: Decoder>(
    decoder: D,
    facts: &Facts,
    orders: &Receiver<Order>,
    (shared, kv_files): (&Arc<Shared>, Option<Arc<KvFiles>>),
) {
    let scheduler = Scheduler::new(facts.limits, Costs::new(facts.mixed_step));
    let driver = Driver::new(decoder, scheduler, facts.limits.sequences);
    let output = Lines { shared: Arc::clone(shared), read: HashMap::new(), kv_files };
    let pushed = Pushed { stats: Stats::default(), at: Instant::now() };
    Thread { driver, output, pushed }.run(orders);
}

struct Thread<D: Decoder> {
    driver: Driver<D>,
    output: Lines,
    pushed: Pushed,
}

/// The stats sent last.
struct Pushed {
    stats: Stats,
    at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

impl<D: Decoder> Thread<D> {
    fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            if self.take_orders(orders) == Next::Stop {
                break;
            }
            let outbox = &self.output.shared.outbox;
            if outbox.is_closed() {
                break;
            }
            if outbox.is_full() {
                if self.wait(orders, Some(FULL_WAIT)) == Next::Stop {
                    break;
                }
                continue;
            }
            match self.driver.step(&mut self.output) {
                Stepped::Worked => {
                    let now = Instant::now();
                    self.output.shared.outbox.after_step(now);
                    self.push_stats(now, STATS_AFTER);
                }
                Stepped::Idle => {
                    self.output.shared.outbox.flush();
                    if self.rest(orders) == Next::Stop {
                        break;
                    }
                }
                Stepped::Lost => {
                    let reason = "the model's context could not be made anew".into();
                    self.output.shared.outbox.send(&Event::Fatal(Fatal { reason }));
                    break;
                }
            }
        }
        self.driver.cancel_all(&mut self.output);
        self.push_stats(Instant::now(), Duration::ZERO);
        self.output.shared.outbox.flush();
    }

    /// Waits for an order, and tells the last state of things first.
    fn rest(&mut self, orders: &Receiver<Order>) -> Next {
        let now = Instant::now();
        self.push_stats(now, STATS_AFTER);
        let unsaid = self.stats() != self.pushed.stats;
        let timeout = unsaid.then(|| STATS_AFTER.saturating_sub(now - self.pushed.at));
        self.wait(orders, timeout)
    }

    fn take_orders(&mut self, orders: &Receiver<Order>) -> Next {
        loop {
            match orders.try_recv() {
                Ok(order) => {
                    if self.obey(order) == Next::Stop {
                        return Next::Stop;
                    }
                }
                Err(TryRecvError::Empty) => return Next::GoOn,
                Err(TryRecvError::Disconnected) => return Next::Stop,
            }
        }
    }

    fn wait(&mut self, orders: &Receiver<Order>, timeout: Option<Duration>) -> Next {
        let order = match timeout {
            Some(timeout) => orders.recv_timeout(timeout),
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match order {
            Ok(order) => self.obey(order),
            Err(RecvTimeoutError::Timeout) => Next::GoOn,
            Err(RecvTimeoutError::Disconnected) => Next::Stop,
        }
    }

    fn obey(&mut self, order: Order) -> Next {
        match order {
            Order::Submit(submission) => self.submit(*submission),
            Order::Cancel(id) => {
                self.driver.cancel(id, &mut self.output);
                self.output.shared.outbox.after_step(Instant::now());
            }
            Order::Configure(id, threads) => self.configure(id, threads),
            Order::Save(wanted) => {
                let blocks = self.driver.left_by(wanted.generation);
                // Whoever asked may be gone.
                let _ = wanted.reply.send(blocks);
            }
            Order::Restore(blocks) => self.driver.take_stored(blocks),
            Order::Stop => return Next::Stop,
        }
        Next::GoOn
    }

    fn configure(&mut self, id: u64, threads: Threads) {
        match self.driver.set_threads(threads) {
            Ok(()) => {
                let Threads { one, many } = threads;
                let done = Configured { id, threads: one, batch_threads: many };
                self.output.shared.outbox.send(&Event::Configured(done));
            }
            Err(error) => {
                let failure = Failure::new(ErrorCode::Unavailable, error.0);
                self.output.shared.refuse(id, failure);
            }
        }
    }

    fn submit(&mut self, mut submission: Submission) {
        let Some((waiting, settings)) = submission.carried.take() else { return };
        let id = waiting.id;
        let waits = self.driver.scheduler().waiting();
        if settings.cancelled.is_set() {
            self.output.ended(never_started(id, End::Cancelled));
        } else if waits >= MOST_WAITING {
            self.output.shared.fail(id, ErrorCode::Busy, format!("{waits} generations wait"));
        } else if waiting.most == 0 {
            let prompt = waiting.prompt.len();
            self.output.started(Started { id, prompt, cached: 0, dropped: settings.dropped });
            self.output.ended(never_started(id, End::Limit));
        } else {
            self.driver.take_stored(std::mem::take(&mut submission.kept));
            self.driver.submit(waiting, settings);
        }
    }

    fn stats(&self) -> Stats {
        let totals = self.driver.totals();
        let running = self.driver.scheduler().running();
        let waiting = self.output.shared.live.len().saturating_sub(running);
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Stats {
            active: narrow(running),
            waiting: narrow(waiting),
            steps: totals.steps,
            prompt_tokens: totals.prompt,
            cached_tokens: totals.cached,
            completion_tokens: totals.made,
        }
    }

    /// Pushes stats when something changed, or time has passed while there is work.
    fn push_stats(&mut self, now: Instant, after: Duration) {
        let age = now.saturating_duration_since(self.pushed.at);
        if age < after {
            return;
        }
        let stats = self.stats();
        let working = stats.active + stats.waiting > 0 && age >= STATS_WORKING;
        if stats != self.pushed.stats || working {
            self.output.shared.outbox.send(&Event::Stats(stats.clone()));
            self.pushed = Pushed { stats, at: now };
        }
    }
}

/// Tells the front what happens to generations.
struct Lines {
    shared: Arc<Shared>,
    /// When `reading` was last said, by generation.
    read: HashMap<u64, Instant>,
    kv_files: Option<Arc<KvFiles>>,
}

impl Output for Lines {
    fn started(&mut self, started: Started) {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let event = event::Started {
            id: started.id,
            prompt_tokens: narrow(started.prompt),
            cached_tokens: narrow(started.cached),
            dropped: started.dropped,
        };
        self.shared.outbox.add(started.id, &Event::Started(event));
    }

    fn reading(&mut self, id: u64, done: usize, total: usize) {
        if done == total {
            // The first piece says so.
            self.read.remove(&id);
            return;
        }
        let now = Instant::now();
        if self.read.get(&id).is_some_and(|last| now - *last < READING_AFTER) {
            return;
        }
        self.read.insert(id, now);
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let event = Reading { id, done: narrow(done), total: narrow(total) };
        self.shared.outbox.add(id, &Event::Reading(event));
    }

    fn written(&mut self, id: u64, written: &Written) {
        self.shared.outbox.text(id, written);
    }

    fn stored(&mut self, block: StoredBlock) {
        if let Some(files) = &self.kv_files {
            files.write(block);
        }
    }

    fn ended(&mut self, ended: Ended) {
        self.read.remove(&ended.id);
        let mut end = event::End {
            id: ended.id,
            reason: EndReason::Stop,
            stop: None,
            code: None,
            message: None,
            completion_tokens: ended.made,
            guessed_tokens: ended.guessed,
            cached_tokens: u32::try_from(ended.cached).unwrap_or(u32::MAX),
            prompt_ms: ended.reading.as_secs_f64() * 1_000.0,
            completion_ms: ended.writing.as_secs_f64() * 1_000.0,
        };
        match ended.end {
            End::Stop => {}
            End::StopString(stop) => {
                end.reason = EndReason::StopString;
                end.stop = Some(stop);
            }
            End::Limit => end.reason = EndReason::Limit,
            End::Cancelled => end.reason = EndReason::Cancelled,
            End::Failed(message) => {
                end.reason = EndReason::Error;
                end.code = Some(ErrorCode::Unavailable.as_str().into());
                end.message = Some(message);
            }
        }
        self.shared.end(end);
    }
}
