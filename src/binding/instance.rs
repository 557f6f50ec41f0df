//! One model in one process, as the rest of the program sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::binding::log::GenerationLog;
use crate::binding::queue::ClientKey;
use crate::binding::request::CompletionRequest;
use crate::binding::spawn::Spawner;
use crate::binding::state::{Job, Shared};
use crate::binding::supervise;
use crate::domain::error::{ErrorCode, Failure};
use crate::protocol::command::{Command, Detokenize, Tokenize};
use crate::protocol::event::{Event, Loaded};
use crate::protocol::vectors::{Embed, Vector};

pub use crate::binding::state::{InstanceSpec, Status};

/// Ids of operations, one row for all processes of this program.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

pub(super) fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// One model in one supervised process. Dropping it stops the process.
#[derive(Debug)]
pub struct Instance {
    shared: Arc<Shared>,
}

impl Instance {
    /// Starts the process and the load, and returns at once.
    pub fn start(spawner: Spawner, spec: InstanceSpec) -> Self {
        let shared = Arc::new(Shared::new(spec));
        tokio::spawn(supervise::run(Arc::clone(&shared), spawner));
        Self { shared }
    }

    /// Queues a generation and returns its id; its log tells the rest.
    ///
    /// # Errors
    /// `Busy` when the queue is full; `Unavailable` when the instance was stopped.
    pub fn submit(
        &self,
        client: ClientKey,
        request: CompletionRequest,
        log: Arc<GenerationLog>,
    ) -> Result<u64, Failure> {
        let id = next_id();
        let priority = request.priority;
        let job = Job { id, request: Box::new(request.command(id)), log, resent: false };
        self.shared.submit(client, priority, job)?;
        Ok(id)
    }

    /// Ends a generation as cancelled, at once and in every state; nothing happens when it has ended.
    pub fn cancel(&self, id: u64) {
        self.shared.cancel(id);
    }

    /// Ends everything that waits or runs with a failure.
    pub fn end_all(&self, failure: &Failure) {
        self.shared.end_all(failure);
    }

    /// How the instance is doing.
    pub fn status(&self) -> Status {
        self.shared.statuses.borrow().1.clone()
    }

    /// Generations that wait in the queue.
    pub fn waiting(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// Generations that the process has.
    pub fn in_flight(&self) -> usize {
        self.shared.lock().in_flight.len()
    }

    /// Waits until the model is loaded. A failed instance is tried again.
    ///
    /// # Errors
    /// Why the load failed, or `Unavailable` when the instance was stopped.
    pub async fn ready(&self) -> Result<Loaded, Failure> {
        let mut statuses = self.shared.statuses.subscribe();
        let mut seen = statuses.borrow_and_update().0;
        if matches!(self.status(), Status::Failed(_)) {
            self.shared.demand.notify_one();
        } else {
            // What stands there now counts as news.
            seen = u64::MAX;
        }
        loop {
            let (count, status) = statuses.borrow_and_update().clone();
            if count != seen {
                match status {
                    Status::Ready(loaded) => return Ok(loaded),
                    Status::Failed(failure) => return Err(failure),
                    Status::Stopped => return Err(stopped()),
                    Status::Starting | Status::Loading(_) | Status::Restarting => {}
                }
            }
            statuses.changed().await.map_err(|_| stopped())?;
        }
    }

    /// Cuts text into tokens.
    ///
    /// # Errors
    /// `Unsupported` when the binding cannot, or what the binding says.
    pub async fn tokenize(&self, text: String) -> Result<Vec<i32>, Failure> {
        let id = next_id();
        let tokenize = Tokenize { id, text, add_special: false, parse_special: true };
        let answer = self.ask(id, "tokenize", Command::Tokenize(tokenize)).await?;
        if let Event::Tokens(tokens) = answer {
            Ok(tokens.tokens)
        } else {
            Err(unexpected(&answer))
        }
    }

    /// Joins tokens to text.
    ///
    /// # Errors
    /// `Unsupported` when the binding cannot, or what the binding says: a token outside the vocabulary.
    pub async fn detokenize(&self, tokens: Vec<i32>) -> Result<String, Failure> {
        let id = next_id();
        let detokenize = Detokenize { id, tokens };
        let answer = self.ask(id, "detokenize", Command::Detokenize(detokenize)).await?;
        if let Event::Text(text) = answer { Ok(text.text) } else { Err(unexpected(&answer)) }
    }

    /// Turns text into a vector.
    ///
    /// # Errors
    /// `Unsupported` when the binding cannot, or what the binding says.
    pub async fn embed(&self, text: String) -> Result<Vec<f32>, Failure> {
        let id = next_id();
        let answer = self.ask(id, "embed", Command::Embed(Embed::text(id, text))).await?;
        if let Event::Embedding(embedding) = answer {
            unpack(embedding.vector)
        } else {
            Err(unexpected(&answer))
        }
    }

    async fn ask(&self, id: u64, capability: &str, command: Command) -> Result<Event, Failure> {
        self.ready().await?;
        let answer = self.shared.ask(id, capability, &command)?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
    }
}

fn stopped() -> Failure {
    Failure::new(ErrorCode::Unavailable, "the model was unloaded")
}

fn unexpected(event: &Event) -> Failure {
    tracing::warn!(?event, "A binding answered with another kind of event than was asked for");
    Failure::new(ErrorCode::Unavailable, "the binding answered with something else")
}

fn unpack(vector: Vector) -> Result<Vec<f32>, Failure> {
    use base64::Engine as _;
    let broken =
        |why: &str| Failure::new(ErrorCode::Unavailable, format!("the binding's embedding {why}"));
    let values = match vector {
        Vector::Plain(values) => values,
        Vector::Packed { f32: text } => {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|error| broken(&format!("is no base64: {error}")))?;
            let (words, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(broken("is no whole number of floats"));
            }
            words.iter().map(|word| f32::from_le_bytes(*word)).collect()
        }
    };
    if values.iter().all(|value| value.is_finite()) {
        Ok(values)
    } else {
        Err(broken("holds a value that is no finite number"))
    }
}
