//! Cuts a process's stdout into lines, with a limit, and tells protocol lines from stray ones.

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::protocol;
use crate::protocol::event::Event;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Stray text kept for the log, in bytes.
const STRAY_BYTES: usize = 400;

/// What one line means.
#[derive(Debug)]
pub(super) enum Line {
    /// A line of the protocol.
    Event(Box<Event>),
    /// Something else that was printed; shortened, for the log.
    Stray(String),
    /// An event that this version does not know; ignored.
    Unknown(String),
}

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// A line over the limit.
    #[error("it wrote a line longer than {} bytes", protocol::MAX_EVENT_BYTES)]
    TooLong,
    /// A line that begins with `{` and is no event.
    #[error("it wrote a malformed line ({source}): `{start}`")]
    Malformed {
        /// How the line begins.
        start: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// More stray lines than a careless `print` explains.
    #[error("it wrote more than {} lines that are not of the protocol", protocol::MAX_STRAY_LINES)]
    TooManyStray,
    /// The pipe failed.
    #[error("its output cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads lines from a process.
#[derive(Debug)]
pub(super) struct LineReader<R> {
    input: R,
    buffer: Vec<u8>,
    /// Bytes of `buffer` before this place are used up.
    start: usize,
    /// Bytes before this place hold no line break.
    searched: usize,
    stray: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: Vec::with_capacity(READ_BYTES), start: 0, searched: 0, stray: 0 }
    }

    /// The next line that means something, or `None` at the end. A torn last line is dropped.
    ///
    /// # Errors
    /// [`LineError`]: the process does not keep to the protocol, and is to be ended.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, LineError> {
        loop {
            if let Some(length) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') {
                let end = self.searched + length;
                let line = self.read_line(self.start, end)?;
                self.start = end + 1;
                self.searched = self.start;
                match line {
                    Some(line) => return Ok(Some(line)),
                    None => continue,
                }
            }
            self.searched = self.buffer.len();
            if self.buffer.len() - self.start >= protocol::MAX_EVENT_BYTES {
                return Err(LineError::TooLong);
            }
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
            self.buffer.reserve(READ_BYTES);
            if self.input.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn read_line(&mut self, start: usize, end: usize) -> Result<Option<Line>, LineError> {
        let line = self.buffer[start..end].trim_ascii();
        if line.is_empty() {
            return Ok(None);
        }
        if line.len() >= protocol::MAX_EVENT_BYTES {
            return Err(LineError::TooLong);
        }
        if line[0] == b'{' {
            return read_event(line).map(Some);
        }
        self.stray += 1;
        if self.stray > protocol::MAX_STRAY_LINES {
            return Err(LineError::TooManyStray);
        }
        Ok(Some(Line::Stray(shorten(line))))
    }
}

fn read_event(line: &[u8]) -> Result<Line, LineError> {
    match protocol::line::decode::<Event>(line) {
        Ok(event) => Ok(Line::Event(Box::new(event))),
        Err(source) => match unknown_kind(line) {
            Some(kind) => Ok(Line::Unknown(kind)),
            None => Err(LineError::Malformed { start: shorten(line), source }),
        },
    }
}

/// The kind of a well-formed event that this version has no name for.
fn unknown_kind(line: &[u8]) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
    let (kind, payload) = object.iter().next()?;
    let known = protocol::event::KINDS.contains(&kind.as_str());
    (object.len() == 1 && payload.is_object() && !known).then(|| kind.clone())
}

fn shorten(line: &[u8]) -> String {
    let end = line.len().min(STRAY_BYTES);
    String::from_utf8_lossy(&line[..end]).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(input: &[u8]) -> (Vec<Line>, Option<LineError>) {
        let mut reader = LineReader::new(input);
        let mut lines = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => return (lines, None),
                Err(error) => return (lines, Some(error)),
            }
        }
    }

    #[tokio::test]
    async fn events_stray_lines_and_a_torn_end() {
        let input = b"hello from print\n\n{\"unloaded\":{\"id\":1,\"new\":2}}\n{\"later\":{\"id\":1}}\n{\"unl";
        let (lines, error) = read_all(input).await;
        assert!(error.is_none());
        assert!(matches!(&lines[0], Line::Stray(text) if text == "hello from print"));
        assert!(matches!(&lines[1], Line::Event(event) if matches!(**event, Event::Unloaded(_))));
        assert!(matches!(&lines[2], Line::Unknown(kind) if kind == "later"));
        assert_eq!(lines.len(), 3);
    }

    #[tokio::test]
    async fn what_breaks_the_protocol_is_named() {
        let (_, error) = read_all(b"{\"end\":{\"id\":\"x\"}}\n").await;
        assert!(matches!(error, Some(LineError::Malformed { .. })));
        let (_, error) = read_all(b"{not json}\n").await;
        assert!(matches!(error, Some(LineError::Malformed { .. })));
        let long = vec![b'x'; protocol::MAX_EVENT_BYTES + 10];
        assert!(matches!(read_all(&long).await.1, Some(LineError::TooLong)));
        let stray = "noise\n".repeat(protocol::MAX_STRAY_LINES + 1);
        let (lines, error) = read_all(stray.as_bytes()).await;
        assert_eq!(lines.len(), protocol::MAX_STRAY_LINES);
        assert!(matches!(error, Some(LineError::TooManyStray)));
    }
}
