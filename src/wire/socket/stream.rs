//! Renders one generation as LoLLMs events: its chunks, its state while it keeps the client waiting, its end.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::generate::Generation;
use crate::domain::error::Failure;
use crate::domain::generation::{Outcome, Phase};
use crate::wire::events::ServerEvent;
use crate::wire::events::generation::{
    Busy, GenerationCanceled, GenerationError, GenerationState, TextChunk, TextGenerated,
};

/// Most text of one chunk, in bytes; what a slow reader has missed comes in several.
const CHUNK_BYTES: usize = 8 * 1024;
/// A wait shorter than this is not told of.
const FIRST_STATE: Duration = Duration::from_millis(100);
/// Time between two states.
const NEXT_STATE: Duration = Duration::from_millis(250);

/// A generation and how far its client has been told.
#[derive(Debug)]
pub struct Stream {
    /// The generation.
    pub generation: Generation,
    cursor: usize,
    changes: watch::Receiver<u64>,
    /// There may be something to tell.
    dirty: bool,
    told: Option<Phase>,
    state_due: Option<Instant>,
}

/// What to do next for a stream.
#[derive(Debug)]
pub enum Next {
    /// Send this and ask again.
    Send(ServerEvent),
    /// Send this; the generation has ended.
    End(ServerEvent),
    /// Nothing, until something changes.
    Wait,
}

impl Stream {
    /// Follows a generation from its beginning.
    pub fn new(generation: Generation) -> Self {
        let changes = generation.log.subscribe();
        let state_due = Some(Instant::now() + FIRST_STATE);
        Self { generation, cursor: 0, changes, dirty: true, told: None, state_due }
    }

    /// Whether [`Stream::advance`] may have something.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Waits until there may be something to tell.
    pub async fn changed(&mut self) {
        let due = self.state_due;
        let state = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The log lives as long as the generation, so its sender does too.
            changed = self.changes.changed() => drop(changed),
            () = state => {}
        }
        self.dirty = true;
    }

    /// The next event.
    pub fn advance(&mut self) -> Next {
        self.changes.mark_unchanged();
        let view = self.generation.log.view(self.cursor, CHUNK_BYTES);
        if !view.text.is_empty() {
            self.cursor += view.text.len();
            self.state_due = None;
            return Next::Send(ServerEvent::TextChunk(TextChunk::new(view.text)));
        }
        if let Some(outcome) = view.outcome {
            return Next::End(self.end(outcome));
        }
        if self.state_due.is_some_and(|due| due <= Instant::now()) {
            self.state_due = Some(Instant::now() + NEXT_STATE);
            if self.told != Some(view.phase) {
                self.told = Some(view.phase);
                return Next::Send(state(self.generation.id, view.phase));
            }
        }
        self.dirty = false;
        Next::Wait
    }

    fn end(&self, outcome: Outcome) -> ServerEvent {
        match outcome {
            Outcome::Finished(_) => {
                ServerEvent::TextGenerated(TextGenerated { text: self.generation.log.text() })
            }
            Outcome::Cancelled => canceled(),
            Outcome::Failed(failure) => failed(failure),
        }
    }
}

/// The answer to a cancel.
pub fn canceled() -> ServerEvent {
    // Clients of LoLLMs know this sentence.
    let message = "Generation is canceled.".into();
    ServerEvent::GenerationCanceled(GenerationCanceled { message })
}

/// The end of a generation that failed.
pub fn failed(failure: Failure) -> ServerEvent {
    ServerEvent::GenerationError(GenerationError {
        success: false,
        error: failure.message,
        code: failure.code.as_str().into(),
    })
}

/// Both events that say that the queue is full.
pub fn busy(failure: &Failure) -> [ServerEvent; 2] {
    // Clients of LoLLMs know these sentences; the second spelling came later.
    let with = |message: &str| Busy {
        message: message.into(),
        success: false,
        error: failure.message.clone(),
    };
    [
        ServerEvent::Buzzy(with("I am buzzy. Come back later.")),
        ServerEvent::Busy(with("I am busy. Come back later.")),
    ]
}

fn state(id: u64, phase: Phase) -> ServerEvent {
    let mut state = GenerationState {
        id,
        state: "writing",
        position: None,
        percent: None,
        done: None,
        total: None,
    };
    match phase {
        Phase::Queued { position } => {
            state.state = "queued";
            state.position = Some(position);
        }
        Phase::Loading { fraction } => {
            state.state = "loading";
            state.percent = Some((fraction * 1000.0).round() / 10.0);
        }
        Phase::Reading { done, total } => {
            state.state = "reading";
            state.done = Some(done);
            state.total = Some(total);
        }
        Phase::Writing | Phase::Finished => {}
    }
    ServerEvent::GenerationState(state)
}
