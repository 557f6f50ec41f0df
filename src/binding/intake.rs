//! Feeds the events of a process into the state of its instance.

use tokio::time::Instant;

use crate::binding::state::{Shared, State, Status};
use crate::domain::error::{ErrorCode, Failure};
use crate::domain::generation::{Finish, Outcome, Phase};
use crate::protocol::command::{Ask, Command};
use crate::protocol::event::{End, EndReason, ErrorEvent, Event, Piece, Started, Stats};

/// What the supervisor must know of an event.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    /// Nothing.
    Nothing,
    /// The load failed.
    LoadFailed(Failure),
}

impl Shared {
    /// Takes one event. Never waits.
    pub(super) fn take(&self, event: Event) -> Told {
        match event {
            Event::Piece(piece) => self.lock().take_piece(&piece),
            Event::Started(started) => self.lock().take_started(started),
            Event::Reading(reading) => {
                let mut state = self.lock();
                state.active_at = Instant::now();
                if let Some(flight) = state.in_flight.get(&reading.id) {
                    let (done, total) = (reading.done, reading.total);
                    flight.log.set_phase(Phase::Reading { done, total });
                }
            }
            Event::End(end) => {
                self.lock().take_end(end);
                self.pump();
            }
            Event::Progress(progress) => {
                self.lock().active_at = Instant::now();
                self.set_status(Status::Loading(progress.fraction.clamp(0.0, 1.0)));
            }
            Event::Loaded(loaded) => {
                self.lock().active_at = Instant::now();
                self.set_status(Status::Ready(loaded));
            }
            Event::Stats(Stats { steps, .. }) => {
                let mut state = self.lock();
                if state.steps != steps {
                    state.steps = steps;
                    state.active_at = Instant::now();
                }
            }
            Event::Fatal(fatal) => self.lock().fatal = Some(fatal.reason),
            Event::Error(error) => return self.lock().take_error(error),
            Event::Tokens(_)
            | Event::Text(_)
            | Event::Embedding(_)
            | Event::Ranks(_)
            | Event::Configured(_)
            | Event::State(_)
            | Event::Models(_) => self.lock().answer(event),
            // `hello` is read by the supervisor; nothing waits for `unloaded`.
            Event::Hello(_) | Event::Unloaded(_) => {}
        }
        Told::Nothing
    }
}

impl State {
    fn take_piece(&mut self, piece: &Piece) {
        self.active_at = Instant::now();
        let Some(flight) = self.in_flight.get_mut(&piece.id) else { return };
        // A binding may leave `started` out; text shows as well that it was admitted.
        flight.waiting = None;
        if flight.log.append(&piece.text) || flight.log.outcome().is_some() {
            return;
        }
        let failure = Failure::new(ErrorCode::Internal, "the completion is larger than 16 MiB");
        flight.log.finish(Outcome::Failed(failure));
        self.control(&Command::Cancel(Ask { id: piece.id }));
    }

    fn take_started(&mut self, started: Started) {
        self.active_at = Instant::now();
        let Some(flight) = self.in_flight.get_mut(&started.id) else { return };
        flight.waiting = None;
        flight.log.set_usage(|usage| {
            usage.prompt_tokens = started.prompt_tokens;
            usage.cached_tokens = started.cached_tokens;
            usage.dropped_messages = started.dropped;
        });
        let (done, total) = (started.cached_tokens, started.prompt_tokens);
        flight.log.set_phase(Phase::Reading { done, total });
        self.tell_waiting();
    }

    fn take_end(&mut self, end: End) {
        self.active_at = Instant::now();
        let Some(flight) = self.in_flight.remove(&end.id) else { return };
        flight.log.set_usage(|usage| {
            usage.completion_tokens = end.completion_tokens;
            usage.cached_tokens = usage.cached_tokens.max(end.cached_tokens);
        });
        flight.log.finish(match end.reason {
            EndReason::Stop => Outcome::Finished(Finish::Stop),
            EndReason::StopString => Outcome::Finished(Finish::StopString),
            EndReason::Limit => Outcome::Finished(Finish::Limit),
            EndReason::Cancelled => Outcome::Cancelled,
            EndReason::Error => Outcome::Failed(failure(end.code.as_deref(), end.message)),
        });
    }

    fn take_error(&mut self, error: ErrorEvent) -> Told {
        let failure = failure(Some(&error.code), Some(error.message));
        if error.id == self.load_id {
            return Told::LoadFailed(failure);
        }
        if let Some(reply) = self.questions.remove(&error.id) {
            // Whoever asked may have left.
            drop(reply.send(Err(failure)));
        } else if let Some(flight) = self.in_flight.remove(&error.id) {
            flight.log.finish(Outcome::Failed(failure));
        }
        Told::Nothing
    }

    fn answer(&mut self, event: Event) {
        let Some(id) = event.answered() else { return };
        self.active_at = Instant::now();
        if let Some(reply) = self.questions.remove(&id) {
            // Whoever asked may have left.
            drop(reply.send(Ok(event)));
        }
    }
}

fn failure(code: Option<&str>, message: Option<String>) -> Failure {
    let code = code.and_then(ErrorCode::from_word).unwrap_or(ErrorCode::Unavailable);
    Failure::new(code, message.unwrap_or_else(|| "the binding gave no reason".into()))
}
