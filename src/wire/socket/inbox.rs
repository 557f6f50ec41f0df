//! The inbox of a session: its events in the order sent, within limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use socketioxide::extract::AckSender;
use tokio::sync::{mpsc, watch};

use crate::wire::events::ClientEventKind;
use crate::wire::socket::args::Args;

/// Most events that wait; a session that sends more is dropped.
pub const MAX_EVENTS: usize = 1_024;
/// Most bytes of events that wait.
pub const MAX_BYTES: usize = 4 << 20;

/// An event that arrived.
pub struct Arrival {
    /// Which event.
    pub kind: ClientEventKind,
    /// Its payload; null when there is none; or what is wrong with its JSON.
    pub payload: Result<Value, String>,
    /// To be answered when the event was handled, if the client asked for that.
    pub ack: Option<AckSender>,
    size: usize,
}

/// Where events are put. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox {
    queue: mpsc::Sender<Arrival>,
    bytes: Arc<AtomicUsize>,
    closed: Arc<watch::Sender<bool>>,
}

/// Where events are taken out.
#[derive(Debug)]
pub struct Arrivals {
    queue: mpsc::Receiver<Arrival>,
    bytes: Arc<AtomicUsize>,
    closed: watch::Receiver<bool>,
}

/// A new inbox.
pub fn open() -> (Inbox, Arrivals) {
    // When it is full, `offer` refuses and the session is dropped.
    let (sender, receiver) = mpsc::channel(MAX_EVENTS);
    let bytes = Arc::new(AtomicUsize::new(0));
    let (close, closed) = watch::channel(false);
    let inbox = Inbox { queue: sender, bytes: Arc::clone(&bytes), closed: Arc::new(close) };
    (inbox, Arrivals { queue: receiver, bytes, closed })
}

impl Inbox {
    /// Takes an event; unknown ones are left out, as LoLLMs does. False when the inbox is full.
    pub fn offer(&self, name: &str, args: Args, ack: AckSender) -> bool {
        let Some(kind) = ClientEventKind::find(name) else {
            tracing::debug!(event = %name.escape_debug(), "An unknown event was ignored");
            return true;
        };
        let size = args.size;
        if self.bytes.fetch_add(size, Ordering::Relaxed) + size > MAX_BYTES {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            return false;
        }
        let arrival = Arrival { kind, payload: args.payload, ack: Some(ack), size };
        self.queue.try_send(arrival).is_ok()
    }

    /// The client is gone: what waits is not handled any more.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }
}

impl Arrivals {
    /// The next event; `None` when the client is gone.
    pub async fn next(&mut self) -> Option<Arrival> {
        tokio::select! {
            biased;
            () = closed(&mut self.closed) => None,
            arrival = self.queue.recv() => {
                let arrival = arrival?;
                self.bytes.fetch_sub(arrival.size, Ordering::Relaxed);
                Some(arrival)
            }
        }
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
