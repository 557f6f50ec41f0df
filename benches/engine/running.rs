//! A generation on either server, and what came of it when.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;

/// The longest silence of a server that is waited for.
const PATIENCE: Duration = Duration::from_mins(2);

/// What is to be generated: greedy, the model's end ignored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    /// Text of the prompt.
    pub(crate) prompt: String,
    /// Tokens to make.
    pub(crate) n_tokens: u32,
    /// The completion consists of these texts, each of them one token; empty leaves the choice free.
    pub(crate) only: Vec<String>,
}

/// What came of a generation.
#[derive(Clone, Debug)]
pub(crate) struct Completion {
    /// When it was sent off.
    pub(crate) began: Instant,
    /// When text came.
    pub(crate) arrivals: Vec<Instant>,
    /// When its end came.
    pub(crate) ended: Instant,
    /// Its text.
    pub(crate) text: String,
    /// Tokens that came.
    pub(crate) tokens: u32,
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: u32,
    /// How many of them were not read again.
    pub(crate) cached_tokens: u32,
}

/// A generation that is on its way.
pub(crate) struct Running {
    log: Arc<Log>,
    cancel: Box<dyn Fn() + Send>,
}

/// Where the reader of a server's answers writes.
#[derive(Debug)]
pub(crate) struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    completion: Completion,
    end: Option<Result<(), String>>,
}

impl Job {
    /// A job with a free choice of tokens.
    pub(crate) fn new(prompt: String, n_tokens: u32) -> Self {
        Self { prompt, n_tokens, only: vec![] }
    }
}

impl Completion {
    /// From the start to the first text, in milliseconds.
    pub(crate) fn first_ms(&self) -> f64 {
        let first = self.arrivals.first().copied().unwrap_or(self.ended);
        (first - self.began).as_secs_f64() * 1e3
    }

    /// From the start to the end, in milliseconds.
    pub(crate) fn total_ms(&self) -> f64 {
        (self.ended - self.began).as_secs_f64() * 1e3
    }

    /// Times between two arrivals that lie in a span of time at least in part, in milliseconds.
    pub(crate) fn gaps_ms(&self, from: Instant, to: Instant) -> Vec<f64> {
        let pairs = self.arrivals.windows(2).filter(|pair| pair[1] > from && pair[0] < to);
        pairs.map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3).collect()
    }
}

impl Running {
    /// A generation whose events go to `log`.
    pub(crate) fn new(log: Arc<Log>, cancel: impl Fn() + Send + 'static) -> Self {
        Self { log, cancel: Box::new(cancel) }
    }

    /// Waits until it has written so many tokens.
    pub(crate) fn wait(&self, n_tokens: u32) -> anyhow::Result<()> {
        let state = self.log.until(|state| state.completion.tokens >= n_tokens)?;
        if state.completion.tokens < n_tokens {
            bail!("it ended after {} tokens: {:?}", state.completion.tokens, state.end);
        }
        Ok(())
    }

    /// Tokens that it has written so far.
    pub(crate) fn tokens(&self) -> u32 {
        self.log.lock().completion.tokens
    }

    /// Waits for its end.
    pub(crate) fn join(self) -> anyhow::Result<Completion> {
        let state = self.log.until(|_| false)?;
        match &state.end {
            Some(Err(reason)) => bail!("a generation failed: {reason}"),
            _ => Ok(state.completion.clone()),
        }
    }

    /// Ends it and returns what it had written.
    pub(crate) fn cancel(self) -> anyhow::Result<Completion> {
        (self.cancel)();
        // A connection that is closed here is no failure.
        Ok(self.log.until(|_| false)?.completion.clone())
    }
}

impl Log {
    /// An empty log; the clock starts now.
    pub(crate) fn new() -> Arc<Self> {
        let now = Instant::now();
        let completion = Completion {
            began: now,
            arrivals: vec![],
            ended: now,
            text: String::new(),
            tokens: 0,
            prompt_tokens: 0,
            cached_tokens: 0,
        };
        let state = Mutex::new(State { completion, end: None });
        Arc::new(Self { state, changed: Condvar::new() })
    }

    /// Text came.
    pub(crate) fn piece(&self, at: Instant, text: &str, tokens: usize) {
        let mut state = self.lock();
        state.completion.arrivals.push(at);
        state.completion.text.push_str(text);
        state.completion.tokens += u32::try_from(tokens).unwrap_or(u32::MAX);
        self.changed.notify_all();
    }

    /// The server told how long the prompt is.
    pub(crate) fn prompt(&self, tokens: u32) {
        self.lock().completion.prompt_tokens = tokens;
    }

    /// The server told how much of the prompt it had.
    pub(crate) fn cached(&self, tokens: u32) {
        self.lock().completion.cached_tokens = tokens;
    }

    /// It ended; only the first end counts.
    pub(crate) fn end(&self, how: Result<(), String>) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.completion.ended = Instant::now();
            state.end = Some(how);
        }
        self.changed.notify_all();
    }

    /// Waits for its end or for something before it.
    fn until(&self, done: impl Fn(&State) -> bool) -> anyhow::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        while state.end.is_none() && !done(&state) {
            let waited = self.changed.wait_timeout(state, PATIENCE);
            let (back, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                bail!("nothing came for {PATIENCE:?}");
            }
            state = back;
        }
        Ok(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
