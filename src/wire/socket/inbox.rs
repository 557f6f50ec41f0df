//! The inbox of a session: its events in the order sent, within limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use socketioxide::extract::AckSender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use crate::wire::events::ClientEventKind;
use crate::wire::socket::args::{Acknowledge, Args};

/// Most events that wait; a session that sends more is dropped.
pub const MAX_EVENTS: usize = 1_024;
/// Most bytes of events that wait, wherever they wait.
pub const MAX_BYTES: usize = 4 << 20;

/// An event that arrived.
pub struct Arrival {
    /// Which event.
    pub kind: ClientEventKind,
    /// Its payload; null when there is none; or what is wrong with its JSON.
    pub payload: Result<Value, String>,
    /// To be answered when the event was handled, if the client asked for that.
    pub ack: Option<AckSender>,
    /// Its share of the session's bytes; to be kept as long as its text is.
    pub weight: Weight,
}

/// A share of [`MAX_BYTES`], given back when dropped.
#[derive(Debug)]
pub struct Weight {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too much is waiting.
    Full,
    /// The session has ended.
    Closed,
}

/// Where events are put. Cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    queue: mpsc::Sender<Box<Arrival>>,
    bytes: Arc<AtomicUsize>,
    closed: Arc<watch::Sender<bool>>,
}

/// Where events are taken out.
pub struct Arrivals {
    queue: mpsc::Receiver<Box<Arrival>>,
    closed: watch::Receiver<bool>,
}

/// A new inbox.
pub fn open() -> (Inbox, Arrivals) {
    // When it is full, `offer` refuses and the session is dropped. Boxes, for idle sessions are many.
    let (sender, receiver) = mpsc::channel(MAX_EVENTS);
    let (close, closed) = watch::channel(false);
    let inbox = Inbox { queue: sender, bytes: Arc::default(), closed: Arc::new(close) };
    (inbox, Arrivals { queue: receiver, closed })
}

impl Inbox {
    /// Takes an event; unknown ones are left out, as LoLLMs does.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    pub fn offer(&self, name: &str, args: Args, ack: AckSender) -> Result<(), Refusal> {
        let Some(kind) = ClientEventKind::find(name) else {
            tracing::debug!(event = %name.escape_debug(), "An unknown event was ignored");
            return Ok(());
        };
        let bytes = args.size;
        let weight = Weight { bytes, all: Arc::clone(&self.bytes) };
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_BYTES {
            return Err(Refusal::Full);
        }
        let ack = Some(ack).filter(|_| args.acknowledge == Acknowledge::Asked);
        let arrival = Arrival { kind, payload: args.payload, ack, weight };
        self.queue.try_send(Box::new(arrival)).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Full,
            TrySendError::Closed(_) => Refusal::Closed,
        })
    }

    /// The client is gone: what waits is not handled any more.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }
}

impl Arrivals {
    /// The next event; `None` when the client is gone.
    pub async fn next(&mut self) -> Option<Box<Arrival>> {
        tokio::select! {
            biased;
            () = closed(&mut self.closed) => None,
            arrival = self.queue.recv() => arrival,
        }
    }

    /// Whether the client is gone.
    pub fn is_gone(&self) -> bool {
        *self.closed.borrow()
    }

    /// Waits until the client is gone.
    pub async fn gone(&self) {
        closed(&mut self.closed.clone()).await;
    }
}

async fn closed(closed: &mut watch::Receiver<bool>) {
    // All senders gone means the same.
    drop(closed.wait_for(|closed| *closed).await);
}
