//! Lines to the front. Nobody waits for the pipe.
//!
//! The descriptor is non-blocking. Text that was not sent is merged per generation with its token
//! borders; while the pipe is full one thread sleeps until it has room, and all others only add. At
//! [`FULL_BYTES`] unsent the decode loop stops making steps until half of it is gone.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::domain::error::ErrorCode;
use crate::engine::text::writer::Written;
use crate::protocol::event::{ErrorEvent, Event, Piece};
use crate::protocol::{MAX_EVENT_BYTES, line};
use crate::worker::pieces;
use crate::worker::process::mark_in_line;

/// Unsent bytes at which no more text is made.
pub const FULL_BYTES: usize = 4 << 20;
/// Time between two lines of one generation, unless its first piece or an end is among them. Measured:
/// a wake-up of the front costs ten times what a line does.
pub const FLUSH_AFTER: Duration = Duration::from_micros(500);
/// The way out.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    /// Told when the pipe is full, and when the outbox closes.
    blocked: Condvar,
    /// Told when something went out of a full pipe, and when the outbox closes.
    drained: Condvar,
}

#[derive(Debug)]
struct State {
    output: OwnedFd,
    /// Whole lines; the first `sent` bytes are gone.
    ready: Vec<u8>,
    sent: usize,
    /// Text that is in no line yet.
    unsent: HashMap<u64, Unsent>,
    /// Its size, about.
    unsent_bytes: usize,
    /// Something is to be sent at once.
    urgent: bool,
    last_flush: Instant,
    pipe: Pipe,
    full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pipe {
    /// Takes bytes, as far as anybody knows.
    Open,
    /// Full; the drain thread waits for room.
    Blocked,
    /// The front is gone, or the worker is closing.
    Closed,
}

#[derive(Debug, Default)]
struct Unsent {
    written: Written,
    /// Whether a piece was sent before.
    begun: bool,
}

impl Outbox {
    /// An outbox over one end of a pipe, which is made non-blocking.
    pub fn new(output: OwnedFd) -> Self {
        if let Err(error) = rustix::io::ioctl_fionbio(&output, true) {
            tracing::warn!("stdout stays blocking: {error}");
        }
        let state = State {
            output,
            ready: Vec::with_capacity(64 << 10),
            sent: 0,
            unsent: HashMap::new(),
            unsent_bytes: 0,
            urgent: false,
            last_flush: Instant::now(),
            pipe: Pipe::Open,
            full: false,
        };
        Self { state: Mutex::new(state), blocked: Condvar::new(), drained: Condvar::new() }
    }

    /// Sends an event now. One that does not fit a line becomes an error, never a cut.
    pub fn send(&self, event: &Event) {
        let mut state = self.lock();
        state.line(event);
        self.flush_locked(&mut state);
    }

    /// Adds an event; it goes out with the next [`Outbox::after_step`], after the text of `generation`.
    pub fn add(&self, generation: u64, event: &Event) {
        let mut state = self.lock();
        state.pieces_of(generation);
        state.line(event);
        state.urgent = true;
    }

    /// Adds text to what was not sent yet.
    pub fn text(&self, generation: u64, written: &Written) {
        let mut state = self.lock();
        let unsent = state.unsent.entry(generation).or_default();
        unsent.written.append(written);
        let first = !unsent.begun && !written.text.is_empty();
        state.urgent |= first;
        state.unsent_bytes += pieces::weight(written);
    }

    /// Forgets a generation after its end was added.
    pub fn forget(&self, generation: u64) {
        self.lock().unsent.remove(&generation);
    }

    /// Sends what is due after a step: everything when something is urgent or enough time has passed.
    pub fn after_step(&self, now: Instant) {
        let mut state = self.lock();
        if state.urgent || now.saturating_duration_since(state.last_flush) >= FLUSH_AFTER {
            state.last_flush = now;
            self.flush_locked(&mut state);
        }
        state.weigh();
    }

    /// Sends everything.
    pub fn flush(&self) {
        let mut state = self.lock();
        state.last_flush = Instant::now();
        self.flush_locked(&mut state);
    }

    /// Whether so much is unsent that no more text should be made.
    pub fn is_full(&self) -> bool {
        let mut state = self.lock();
        state.weigh();
        state.full
    }

    /// Waits until less is unsent or nobody reads any more; false when that took longer than `most`.
    pub fn wait_for_room(&self, most: Duration) -> bool {
        let mut state = self.lock();
        let has_room = |state: &mut State| {
            state.weigh();
            !state.full || state.pipe == Pipe::Closed
        };
        if has_room(&mut state) {
            return true;
        }
        let waited = self.drained.wait_timeout(state, most);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        has_room(&mut state)
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.lock().pipe == Pipe::Closed
    }

    /// Lets the drain thread end and drops what was not sent.
    pub fn close(&self) {
        self.lock().pipe = Pipe::Closed;
        self.blocked.notify_all();
        self.drained.notify_all();
    }

    /// The drain thread: sends while the pipe is full, sleeps otherwise. Ends when the outbox closes.
    pub fn drain(&self) {
        loop {
            let mut state = self.lock();
            while state.pipe == Pipe::Open {
                state = self.blocked.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.pipe == Pipe::Closed {
                return;
            }
            // A copy, so that nobody waits for the lock while this thread waits for the pipe.
            let output = state.output.try_clone();
            drop(state);
            let Ok(output) = output else {
                tracing::error!("no descriptor is left to wait for the front");
                return self.close();
            };
            let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
            let _ = poll(&mut [PollFd::new(&output, PollFlags::OUT)], Some(&timeout));
            let mut state = self.lock();
            if state.pipe == Pipe::Blocked {
                state.pipe = Pipe::Open;
                self.flush_locked(&mut state);
                self.drained.notify_all();
            }
        }
    }

    fn flush_locked(&self, state: &mut State) {
        if state.pipe == Pipe::Open {
            state.pieces();
            state.write();
        }
        if state.pipe != Pipe::Open {
            self.blocked.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Appends a line.
    fn line(&mut self, event: &Event) {
        let start = self.ready.len();
        let encoded = serde_json::to_writer(&mut self.ready, event);
        self.ready.push(b'\n');
        let length = self.ready.len() - start;
        if encoded.is_ok() && length <= MAX_EVENT_BYTES {
            return;
        }
        self.ready.truncate(start);
        let reason = format!("the answer has {length} bytes; a line has at most {MAX_EVENT_BYTES}");
        if let Some(id) = event.answered()
            && let Ok(line) = line::encode(&Event::Error(ErrorEvent {
                id,
                code: ErrorCode::InvalidRequest.as_str().into(),
                message: reason.clone(),
            }))
        {
            self.ready.extend_from_slice(&line);
        } else {
            tracing::error!("an event could not be sent: {reason}");
        }
    }

    /// Makes lines of all unsent text.
    fn pieces(&mut self) {
        let mut unsent = std::mem::take(&mut self.unsent);
        for (generation, unsent) in &mut unsent {
            self.lines_of(*generation, unsent);
        }
        self.unsent = unsent;
        self.unsent_bytes = 0;
        self.urgent = false;
    }

    /// Makes lines of the unsent text of one generation.
    fn pieces_of(&mut self, generation: u64) {
        if let Some(mut unsent) = self.unsent.remove(&generation) {
            self.unsent_bytes = self.unsent_bytes.saturating_sub(pieces::weight(&unsent.written));
            self.lines_of(generation, &mut unsent);
            self.unsent.insert(generation, unsent);
        }
    }

    fn lines_of(&mut self, generation: u64, unsent: &mut Unsent) {
        if unsent.written.is_empty() {
            return;
        }
        unsent.begun = true;
        let fits = pieces::fits_a_line(&unsent.written);
        let Written { text, ends, tokens, .. } = &mut unsent.written;
        if fits {
            // The buffers go into the event and come back, so that nothing is allocated.
            let piece = Piece {
                id: generation,
                text: std::mem::take(text),
                ends: std::mem::take(ends),
                tok: std::mem::take(tokens),
                probs: Vec::new(),
            };
            let mut event = Event::Piece(piece);
            self.line(&event);
            if let Event::Piece(piece) = &mut event {
                *text = std::mem::take(&mut piece.text);
                *ends = std::mem::take(&mut piece.ends);
                *tokens = std::mem::take(&mut piece.tok);
            }
        } else {
            for piece in pieces::split(generation, &unsent.written) {
                self.line(&Event::Piece(piece));
            }
        }
        unsent.written.clear();
    }

    /// Writes as much as the pipe takes.
    fn write(&mut self) {
        while self.sent < self.ready.len() {
            match rustix::io::write(&self.output, &self.ready[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.pipe = Pipe::Blocked;
                    break;
                }
                Err(error) => {
                    tracing::warn!("the front reads no more: {error}");
                    self.pipe = Pipe::Closed;
                    break;
                }
            }
        }
        let in_line = self.sent > 0 && self.ready[self.sent - 1] != b'\n';
        mark_in_line(in_line);
        if self.sent == self.ready.len() {
            self.ready.clear();
            self.ready.shrink_to(256 << 10);
            self.sent = 0;
        } else if self.sent > 1 << 20 {
            self.ready.drain(..self.sent - usize::from(in_line));
            self.sent = usize::from(in_line);
        }
    }

    fn weigh(&mut self) {
        let bytes = self.ready.len() - self.sent + self.unsent_bytes;
        let limit = if self.full { FULL_BYTES / 2 } else { FULL_BYTES };
        self.full = bytes >= limit && self.pipe != Pipe::Closed;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};
    use std::sync::Arc;

    use super::*;
    use crate::protocol::event::{Done, Tokens};

    fn outbox() -> (Arc<Outbox>, PipeReader) {
        let (reader, writer) = pipe().unwrap();
        (Arc::new(Outbox::new(OwnedFd::from(writer))), reader)
    }

    fn written(text: &str) -> Written {
        let end = u32::try_from(text.len()).unwrap();
        Written { text: text.into(), ends: vec![end], tokens: vec![1], likely: vec![] }
    }

    /// What has been written so far.
    fn lines(reader: &mut PipeReader) -> Vec<String> {
        let mut bytes = vec![0; 1 << 16];
        let count = reader.read(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap().lines().map(String::from).collect()
    }

    #[test]
    fn a_first_piece_goes_at_once_and_later_ones_are_merged() {
        let (outbox, mut reader) = outbox();
        let now = Instant::now();
        outbox.text(7, &written("a"));
        outbox.after_step(now);
        assert_eq!(lines(&mut reader), [r#"{"piece":{"id":7,"text":"a","ends":[1],"tok":[1]}}"#]);
        for text in ["b", "é", "d"] {
            outbox.text(7, &written(text));
            outbox.after_step(now + Duration::from_micros(100));
        }
        outbox.after_step(now + FLUSH_AFTER);
        let merged = r#"{"piece":{"id":7,"text":"béd","ends":[1,3,4],"tok":[1,1,1]}}"#;
        assert_eq!(lines(&mut reader), [merged]);
    }

    #[test]
    fn an_event_of_a_generation_follows_its_text() {
        let (outbox, mut reader) = outbox();
        outbox.text(7, &written("a"));
        outbox.add(7, &Event::Unloaded(Done { id: 7 }));
        outbox.after_step(Instant::now());
        let lines = lines(&mut reader);
        assert!(lines[0].contains("piece") && lines[1].contains("unloaded"), "{lines:?}");
    }

    #[test]
    fn a_full_pipe_stops_the_making_of_text_and_loses_nothing() {
        let (outbox, mut reader) = outbox();
        let draining = Arc::clone(&outbox);
        let drain = std::thread::spawn(move || draining.drain());
        let text = "0123456789".repeat(100);
        let mut made = 0;
        while !outbox.is_full() {
            outbox.text(7, &written(&text));
            outbox.flush();
            made += text.len();
        }
        assert!((FULL_BYTES..FULL_BYTES + (1 << 20)).contains(&made), "{made}");
        let mut got = String::new();
        let mut rest = Vec::new();
        while got.len() < made {
            let mut bytes = vec![0; 1 << 16];
            let count = reader.read(&mut bytes).unwrap();
            rest.extend_from_slice(&bytes[..count]);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                assert!(line.len() <= MAX_EVENT_BYTES);
                let Event::Piece(piece) = line::decode::<Event>(&line).unwrap() else {
                    panic!("only pieces were sent");
                };
                got.push_str(&piece.text);
            }
            outbox.flush();
        }
        assert!(got.as_bytes().chunks(10).all(|chunk| chunk == b"0123456789"));
        assert!(!outbox.is_full());
        outbox.close();
        drain.join().unwrap();
    }

    #[test]
    fn an_answer_that_fits_no_line_becomes_an_error() {
        let (outbox, mut reader) = outbox();
        outbox.send(&Event::Tokens(Tokens { id: 3, tokens: vec![123_456; 200_000] }));
        let lines = lines(&mut reader);
        assert!(lines[0].starts_with(r#"{"error":{"id":3,"code":"invalid_request""#), "{lines:?}");
    }

    #[test]
    fn a_reader_that_is_gone_closes_the_outbox() {
        let (outbox, reader) = outbox();
        drop(reader);
        outbox.send(&Event::Unloaded(Done { id: 1 }));
        assert!(outbox.is_closed() && !outbox.is_full());
    }
}
