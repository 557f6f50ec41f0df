//! The task of one session: takes its events in the order sent, tells it of its generations.
//!
//! Nothing here waits for the client: while it does not read, events and text wait, merged and bounded. A
//! cancel is the one event that does not wait its turn: it ends whatever was asked for before it, at once.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::FutureExt;
use serde_json::Value;
use socketioxide::extract::AckSender;
use tokio::sync::oneshot;

use crate::app::App;
use crate::app::generate::{Accepted, Generation};
use crate::app::session::Session;
use crate::domain::error::{ErrorCode, Failure};
use crate::wire::events::generation::GenerateText;
use crate::wire::events::{ClientEvent, ClientEventKind, ServerEvent};
use crate::wire::socket::handle::{handle, refuse};
use crate::wire::socket::inbox::{self, Arrival, Arrivals, Weight};
use crate::wire::socket::outbound::{Gone, Outbound};
use crate::wire::socket::stream::{self, Next, Stream};

/// Events taken from the inbox that wait for an earlier one; more wait in the inbox. As many as the inbox
/// holds, so that a cancel among them is seen at once.
const MAX_PENDING: usize = inbox::MAX_EVENTS;
/// Events to be sent; while there are more, no new one is handled.
const MAX_REPLIES: usize = 64;

/// An event that is being handled. It owns the session meanwhile.
type Operation = Pin<Box<dyn Future<Output = (Session, ServerEvent, Option<AckSender>)> + Send>>;

/// Something to be sent.
enum Reply {
    Event(ServerEvent),
    Ack(AckSender),
}

struct Actor {
    app: App,
    out: Outbound,
    /// `None` while an operation has it.
    session: Option<Session>,
    operation: Option<Operation>,
    /// Ends the running operation early, if it can be.
    abort: Option<oneshot::Sender<()>>,
    pending: VecDeque<Box<Arrival>>,
    /// Generations that wait for an earlier one, with the weight of their prompts.
    waiting: VecDeque<(Accepted, Weight)>,
    stream: Option<Stream>,
    /// Generations that have ended and are not yet in the history.
    ended: Vec<Generation>,
    replies: VecDeque<Reply>,
}

/// Runs a session until its client is gone. What it was generating ends then.
pub async fn run(app: App, out: Outbound, mut arrivals: Arrivals) {
    let session = Some(app.open_session());
    let mut actor = Actor {
        app,
        out,
        session,
        operation: None,
        abort: None,
        pending: VecDeque::new(),
        waiting: VecDeque::new(),
        stream: None,
        ended: Vec::new(),
        replies: VecDeque::new(),
    };
    while actor.turn(&mut arrivals).await.is_ok() {
        actor.advance();
    }
    if !arrivals.is_gone() {
        // It was ended from here; a session without its task would answer nothing.
        actor.out.drop_client();
    }
}

impl Actor {
    /// Waits for one thing to happen and takes it.
    async fn turn(&mut self, arrivals: &mut Arrivals) -> Result<(), Gone> {
        let takes = self.pending.len() < MAX_PENDING && self.replies.len() < MAX_PENDING;
        let tells = !self.replies.is_empty() || self.stream.as_ref().is_some_and(Stream::is_dirty);
        tokio::select! {
            biased;
            arrival = arrival(arrivals, takes) => self.arrived(arrival.ok_or(Gone)?),
            (session, event, ack) = running(&mut self.operation) => {
                self.operation = None;
                self.abort = None;
                self.session = Some(session);
                self.replies.push_back(Reply::Event(event));
                self.replies.extend(ack.map(Reply::Ack));
            }
            room = self.out.room(), if tells => {
                room?;
                self.tell().await?;
            }
            () = changed(&mut self.stream), if !tells => {}
        }
        Ok(())
    }

    /// Sends one event, or one acknowledgement.
    async fn tell(&mut self) -> Result<(), Gone> {
        match self.replies.pop_front() {
            Some(Reply::Event(event)) => return self.out.send(&event).await,
            Some(Reply::Ack(ack)) => {
                self.out.acknowledge(ack);
                return Ok(());
            }
            None => {}
        }
        match self.stream.as_mut().map(Stream::advance) {
            Some(Next::Send(event)) => self.out.send(&event).await,
            Some(Next::End(event)) => {
                self.ended.extend(self.stream.take().map(|stream| stream.generation));
                self.out.send(&event).await
            }
            Some(Next::Wait) | None => Ok(()),
        }
    }

    fn arrived(&mut self, arrival: Box<Arrival>) {
        let cancels = [ClientEventKind::CancelGeneration, ClientEventKind::CancelTextGeneration];
        if cancels.contains(&arrival.kind) {
            self.cancel();
            self.replies.extend(arrival.ack.map(Reply::Ack));
        } else {
            self.pending.push_back(arrival);
        }
    }

    /// Ends every generation that was asked for so far; each has its own end, and there is one answer even
    /// when there was none.
    fn cancel(&mut self) {
        let mut count = self.waiting.len();
        self.waiting.clear();
        if let Some(stream) = self.stream.take() {
            stream.generation.cancel();
            self.ended.push(stream.generation);
            count += 1;
        }
        for arrival in std::mem::take(&mut self.pending) {
            if arrival.kind == ClientEventKind::GenerateText {
                self.replies.extend(arrival.ack.map(Reply::Ack));
                count += 1;
            } else {
                self.pending.push_back(arrival);
            }
        }
        if let Some(abort) = self.abort.take() {
            // An operation that has just ended does not hear it.
            let _heard = abort.send(());
        }
        let answers = std::iter::repeat_with(|| Reply::Event(stream::canceled()));
        self.replies.extend(answers.take(count.max(1)));
    }

    /// Starts what can be started now.
    fn advance(&mut self) {
        if let Some(session) = &mut self.session {
            for mut generation in self.ended.drain(..) {
                self.app.remember(session, &mut generation);
            }
        }
        while self.operation.is_none() && self.replies.len() < MAX_REPLIES {
            let Some(arrival) = self.pending.pop_front() else { break };
            self.start(*arrival);
        }
        while self.stream.is_none() {
            let Some(session) = &self.session else { break };
            let Some((accepted, _)) = self.waiting.pop_front() else { break };
            match self.app.begin(session, accepted) {
                Ok(generation) => self.stream = Some(Stream::new(generation)),
                Err(failure) => self.refuse_generation(failure),
            }
        }
    }

    fn start(&mut self, arrival: Arrival) {
        let Arrival { kind, payload, ack, weight } = arrival;
        let name =
            payload.as_ref().map_or_else(|_| String::new(), |payload| selected(kind, payload));
        let event =
            payload.and_then(|payload| kind.parse(payload).map_err(|error| error.to_string()));
        let reply = match event {
            Ok(ClientEvent::GenerateText(text)) => {
                self.accept(text, weight);
                self.replies.extend(ack.map(Reply::Ack));
                return;
            }
            Ok(event) => match self.session.take() {
                Some(session) => return self.operate(session, event, ack),
                // `advance` starts nothing while an operation has the session.
                None => refuse(kind, internal(), &name),
            },
            Err(message) => refuse(kind, Failure::new(ErrorCode::InvalidRequest, message), &name),
        };
        self.replies.push_back(Reply::Event(reply));
        self.replies.extend(ack.map(Reply::Ack));
    }

    fn accept(&mut self, text: GenerateText, weight: Weight) {
        let most = self.app.most_waiting();
        if self.waiting.len() >= most {
            let message = format!("{most} generations of this connection are waiting already");
            return self.refuse_generation(Failure::new(ErrorCode::Busy, message));
        }
        let Some(session) = &self.session else { return self.refuse_generation(internal()) };
        let accepted = text.into_request().and_then(|request| self.app.accept(session, request));
        match accepted {
            Ok(accepted) => self.waiting.push_back((accepted, weight)),
            Err(failure) => self.refuse_generation(failure),
        }
    }

    fn refuse_generation(&mut self, failure: Failure) {
        if failure.code == ErrorCode::Busy {
            self.replies.extend(stream::busy(&failure).map(Reply::Event));
        } else {
            self.replies.push_back(Reply::Event(stream::failed(failure)));
        }
    }

    /// Handles an event on the side, so that text goes on meanwhile. A panic in it ends that event only.
    fn operate(&mut self, mut session: Session, event: ClientEvent, ack: Option<AckSender>) {
        let app = self.app.clone();
        let (abort, aborted) = oneshot::channel();
        self.abort = Some(abort);
        let kind = event.kind();
        self.operation = Some(Box::pin(async move {
            let handled = handle(&app, &mut session, event, heard(aborted));
            let handled = AssertUnwindSafe(handled).catch_unwind().await;
            let reply = handled.unwrap_or_else(|_| refuse(kind, internal(), ""));
            (session, reply, ack)
        }));
    }
}

fn internal() -> Failure {
    Failure::new(ErrorCode::Internal, "the server failed while handling this event")
}

/// What a payload selects, to be named in the answer even when the payload is wrong elsewhere.
fn selected(kind: ClientEventKind, payload: &Value) -> String {
    let key = if kind == ClientEventKind::SelectBinding {
        "binding_name"
    } else if kind == ClientEventKind::SelectModel {
        "model_name"
    } else {
        return String::new();
    };
    payload.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The next event, or `None` when the client is gone. A session that is full only waits for the latter.
async fn arrival(arrivals: &mut Arrivals, takes: bool) -> Option<Box<Arrival>> {
    if takes {
        return arrivals.next().await;
    }
    arrivals.gone().await;
    None
}

async fn heard(abort: oneshot::Receiver<()>) {
    if abort.await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn running(operation: &mut Option<Operation>) -> (Session, ServerEvent, Option<AckSender>) {
    match operation {
        Some(operation) => operation.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn changed(stream: &mut Option<Stream>) {
    match stream {
        Some(stream) => stream.changed().await,
        None => std::future::pending().await,
    }
}
