//! The vectors thread: `embed` and `rerank`, away from the threads that generations wait for.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::error::{ErrorCode, Failure};
use crate::engine::brake::{Brake, CancelFlag};
use crate::engine::model::{Control, Lexicon, ModelError, Special};
use crate::engine::scheduler::Token;
use crate::engine::vectors::{NoVectors, Offer, OwnPooling, Pooling, Reading, normalize};
use crate::protocol::event::{ErrorEvent, Event};
use crate::protocol::vectors::{self, Embed, Embedding, Input, Ranks, Rerank, Vector};
use crate::worker::desk::{Ready, Shared};
use crate::worker::pair::Query;
use crate::worker::prepare::{BYTES_PER_TOKEN, too_long};

/// Tasks that may wait for the thread; more are answered `busy`.
pub(super) const TASKS: usize = 64;
/// Most inputs or documents of one operation.
const MOST_TEXTS: usize = 2_048;
/// Most bytes of rows in one line. As base64 they are a third longer, and a line has at most 1 MiB.
const LINE_BYTES: usize = 512 << 10;
/// How often a cancel is looked for while the pipe is full.
const FULL_WAIT: Duration = Duration::from_millis(20);

/// One operation for the thread.
pub(super) struct Task {
    pub(super) ready: Arc<Ready>,
    pub(super) ask: Ask,
    pub(super) cancelled: CancelFlag,
}

/// What is to be done.
pub(super) enum Ask {
    Embed(Embed),
    Rerank(Rerank),
}

impl Ask {
    /// The operation's id.
    pub(super) fn id(&self) -> u64 {
        match self {
            Self::Embed(ask) => ask.id,
            Self::Rerank(ask) => ask.id,
        }
    }
}

/// Runs until nobody can send tasks any more.
pub(super) fn run(tasks: &Receiver<Task>, shared: &Shared) {
    while let Ok(Task { ready, ask, cancelled }) = tasks.recv() {
        let id = ask.id();
        let done = match ask {
            Ask::Embed(ask) => embed(ask, &ready, &cancelled, shared),
            Ask::Rerank(ask) => rerank(&ask, &ready, &cancelled, shared),
        };
        // With its last line the id is free; after an answer there is nothing to end any more.
        shared.asked.finish(id);
        match done {
            Ok(()) => {}
            Err(Refused::For(failure)) => shared.refuse(id, failure),
            Err(Refused::Cancelled) => {
                let message = "the operation was cancelled".into();
                let event = ErrorEvent { id, code: "cancelled".into(), message };
                shared.outbox.send(&Event::Error(event));
            }
        }
    }
}

/// Why an operation has no answer.
enum Refused {
    Cancelled,
    For(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::For(failure)
    }
}

impl From<NoVectors> for Refused {
    fn from(error: NoVectors) -> Self {
        match error {
            NoVectors::Cancelled => Self::Cancelled,
            NoVectors::Failed(error) => Self::For(Failure::new(ErrorCode::Unavailable, error.0)),
        }
    }
}

fn invalid(text: String) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, text)
}

fn unsupported(text: &str) -> Failure {
    Failure::new(ErrorCode::Unsupported, text)
}

fn embed(
    mut ask: Embed,
    ready: &Ready,
    cancelled: &CancelFlag,
    shared: &Shared,
) -> Result<(), Refused> {
    let offer = ready.embedder.offer();
    let pooling = pooling(ask.pooling, &offer)?;
    let unwished = if pooling == Pooling::None { -1 } else { 2 };
    let norm = ask.normalize.unwrap_or(unwished);
    if norm < -1 {
        return Err(invalid(format!("`normalize` is {norm}; expected -1 or more")).into());
    }
    ask.inputs.extend(ask.text.take().map(Input::Text));
    check_count("inputs", ask.inputs.len())?;
    let inputs = Inputs { lexicon: &*ready.lexicon, offer: &offer, truncate: ask.truncate };
    let mut texts = Vec::with_capacity(ask.inputs.len());
    let mut cut = Vec::with_capacity(ask.inputs.len());
    for (at, input) in ask.inputs.iter().enumerate() {
        let (tokens, is_cut) = inputs.tokens(at, input)?;
        texts.push(tokens);
        cut.push(is_cut);
    }
    let form = Form { id: ask.id, pooling, norm, size: offer.size };
    let reading = Reading { texts: &texts, brake: &Brake::of(cancelled) };
    ready.embedder.embed(reading, pooling, &mut |input, rows| {
        let place = Place {
            input,
            tokens: texts[input].len(),
            truncated: cut[input],
            is_last: input + 1 == texts.len(),
        };
        form.lines(&place, rows, &mut |event| send(&event, shared, cancelled));
    })?;
    Ok(())
}

/// Sends a line when the pipe has room; nobody else waits meanwhile.
fn send(event: &Event, shared: &Shared, cancelled: &CancelFlag) {
    while !cancelled.is_set() && !shared.outbox.wait_for_room(FULL_WAIT) {}
    if let Event::Embedding(last) = event
        && !last.more
    {
        shared.asked.finish(last.id);
    }
    shared.outbox.send(event);
}

fn pooling(asked: Option<vectors::Pooling>, offer: &Offer) -> Result<Pooling, Failure> {
    if offer.size == 0 {
        return Err(unsupported("this model makes no vectors"));
    }
    match (asked, offer.pooling) {
        (Some(vectors::Pooling::None), _) => Ok(Pooling::None),
        (Some(vectors::Pooling::Mean), _) | (None, OwnPooling::Unsaid) => Ok(Pooling::Mean),
        (Some(vectors::Pooling::Cls), _) => Ok(Pooling::First),
        (Some(vectors::Pooling::Last), _) => Ok(Pooling::Last),
        (None, OwnPooling::Named(own)) => Ok(own),
        (None, OwnPooling::Ranks) => Err(unsupported(
            "this model scores pairs of texts; name a `pooling` to have its vectors",
        )),
    }
}

fn check_count(name: &str, count: usize) -> Result<(), Failure> {
    if (1..=MOST_TEXTS).contains(&count) {
        return Ok(());
    }
    Err(invalid(format!("`{name}` has {count} entries; expected 1 to {MOST_TEXTS}")))
}

/// Makes tokens of inputs.
struct Inputs<'a> {
    lexicon: &'a dyn Lexicon,
    offer: &'a Offer,
    truncate: bool,
}

impl Inputs<'_> {
    /// The tokens of input number `at`, and whether some had to go.
    fn tokens(&self, at: usize, input: &Input) -> Result<(Vec<Token>, bool), Failure> {
        let most = self.offer.ctx_size;
        let (mut tokens, last) = match input {
            Input::Tokens(tokens) => {
                // Says which one is not in the vocabulary.
                self.lexicon.detokenize(tokens).map_err(|error| of_input(at, &error))?;
                (tokens.clone(), None)
            }
            Input::Text(text) => self.text(at, text)?,
        };
        if tokens.is_empty() {
            return Err(invalid(format!("input {at} is empty")));
        }
        let is_cut = tokens.len() > most;
        if is_cut && !self.truncate {
            return Err(exceeded(&format!("input {at}"), tokens.len(), most));
        }
        tokens.truncate(most);
        if let (true, Some(end), Some(place)) = (is_cut, last, tokens.last_mut()) {
            *place = end;
        }
        Ok((tokens, is_cut))
    }

    /// The tokens of a text, and the one that must stand at its end.
    fn text(&self, at: usize, text: &str) -> Result<(Vec<Token>, Option<Token>), Failure> {
        let limit = BYTES_PER_TOKEN * self.offer.ctx_size;
        let mut kept = text;
        if text.len() > limit {
            if !self.truncate {
                return Err(too_long(&format!("input {at}"), text.len(), self.offer.ctx_size));
            }
            // What lies behind would be cut anyway.
            kept = &text[..text.floor_char_boundary(limit)];
        }
        let tokens = self.lexicon.tokenize(kept, Special::Add, Control::Parse);
        let tokens = tokens.map_err(|error| of_input(at, &error))?;
        let marks = self.lexicon.marks();
        let closes = marks.end.wanted || marks.separator.wanted;
        let last = tokens.last().copied().filter(|_| closes);
        Ok((tokens, last))
    }
}

fn of_input(at: usize, error: &ModelError) -> Failure {
    invalid(format!("input {at}: {error}"))
}

fn exceeded(what: &str, count: usize, most: usize) -> Failure {
    let text = format!("{what} has {count} tokens; the context holds {most}");
    Failure::new(ErrorCode::ContextExceeded, text)
}

/// What all lines of an operation have in common.
struct Form {
    id: u64,
    pooling: Pooling,
    norm: i32,
    /// Numbers of a row.
    size: usize,
}

/// What the lines of one input have in common.
struct Place {
    input: usize,
    tokens: usize,
    truncated: bool,
    is_last: bool,
}

impl Form {
    /// Makes the lines of one input, as many as its rows need.
    fn lines(&self, place: &Place, mut rows: Vec<f32>, send: &mut dyn FnMut(Event)) {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        for row in rows.chunks_mut(self.size) {
            normalize(row, self.norm);
        }
        let in_line = (LINE_BYTES / (4 * self.size)).max(1);
        let mut first = 0;
        for group in rows.chunks(in_line * self.size) {
            let bytes: Vec<u8> = group.iter().flat_map(|x| x.to_le_bytes()).collect();
            let count = group.len() / self.size;
            let more = !place.is_last || (first + count) * self.size < rows.len();
            send(Event::Embedding(Embedding {
                id: self.id,
                input: narrow(place.input),
                first: narrow(first),
                rows: narrow(count),
                tokens: narrow(place.tokens),
                truncated: place.truncated,
                pooling: Some(said(self.pooling)),
                more,
                vector: Vector::Packed { f32: STANDARD.encode(bytes) },
            }));
            first += count;
        }
    }
}

fn said(pooling: Pooling) -> vectors::Pooling {
    match pooling {
        Pooling::None => vectors::Pooling::None,
        Pooling::Mean => vectors::Pooling::Mean,
        Pooling::First => vectors::Pooling::Cls,
        Pooling::Last => vectors::Pooling::Last,
    }
}

fn rerank(
    ask: &Rerank,
    ready: &Ready,
    cancelled: &CancelFlag,
    shared: &Shared,
) -> Result<(), Refused> {
    let offer = ready.embedder.offer();
    if !offer.ranks {
        let text = "this model cannot rank: it has no classifier head";
        return Err(unsupported(text).into());
    }
    check_count("documents", ask.documents.len())?;
    let most = offer.ctx_size;
    let wrong = |error: ModelError| invalid(error.0);
    let check_bytes = |what: &str, text: &str| {
        let fits = text.len() <= BYTES_PER_TOKEN * most;
        if fits { Ok(()) } else { Err(too_long(what, text.len(), most)) }
    };
    check_bytes("the query", &ask.query)?;
    let query = Query::new(&ask.query, &*ready.lexicon).map_err(wrong)?;
    let mut pairs = Vec::with_capacity(ask.documents.len());
    for (at, document) in ask.documents.iter().enumerate() {
        let what = format!("document {at}");
        let pair = if ask.truncate {
            let end = document.floor_char_boundary(BYTES_PER_TOKEN * most);
            query.within(&document[..end], most)?
        } else {
            check_bytes(&what, document)?;
            query.with(document).map_err(wrong)?
        };
        if pair.is_empty() {
            return Err(invalid(format!("{what} and the query are empty")).into());
        }
        if pair.len() > most {
            let what = format!("{what} together with the query");
            return Err(exceeded(&what, pair.len(), most).into());
        }
        pairs.push(pair);
    }
    let scores = ready.embedder.rank(Reading { texts: &pairs, brake: &Brake::of(cancelled) })?;
    let count = |pair: &Vec<Token>| u32::try_from(pair.len()).unwrap_or(u32::MAX);
    let tokens = pairs.iter().map(count).collect();
    shared.asked.finish(ask.id);
    shared.outbox.send(&Event::Ranks(Ranks { id: ask.id, scores, tokens }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_longer_than_the_protocol_allows() {
        let size = 4_096;
        let form = Form { id: 1, pooling: Pooling::None, norm: -1, size };
        let place = Place { input: 0, tokens: 100, truncated: false, is_last: true };
        let mut events = Vec::new();
        form.lines(&place, vec![0.5; 100 * size], &mut |event| events.push(event));
        let mut rows = 0;
        for event in &events {
            let line = crate::protocol::line::encode(event).unwrap();
            assert!(line.len() <= crate::protocol::MAX_EVENT_BYTES);
            let Event::Embedding(embedding) = event else { panic!("an embedding") };
            assert_eq!(embedding.first, rows);
            rows += embedding.rows;
            assert_eq!(embedding.more, rows < 100);
        }
        assert_eq!(rows, 100);
        assert!(events.len() > 1);
    }
}
