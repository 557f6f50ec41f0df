//! Reads commands, line by line.

use std::io::{self, BufRead, BufReader, Read};

use serde_json::Value;

use crate::protocol::command::Command;
use crate::protocol::{MAX_COMMAND_BYTES, line};

/// What a line was.
#[derive(Debug)]
pub(super) enum Line {
    /// A command.
    Command(Box<Command>),
    /// No command of ours, or one with a wrong field; its operation, id and what is wrong.
    Refused { op: String, id: u64, reason: String },
    /// Nothing that could be answered.
    Malformed(String),
    /// The input ended; a last line without a line break does not count.
    Closed,
}

/// Lines of an input.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(64 << 10, input), line: Vec::new() }
    }

    /// Waits for the next line that is not empty.
    pub(super) fn next(&mut self) -> io::Result<Line> {
        loop {
            self.line.clear();
            // A single huge prompt must not keep its memory for ever.
            self.line.shrink_to(1 << 20);
            let limit = MAX_COMMAND_BYTES as u64;
            self.input.by_ref().take(limit).read_until(b'\n', &mut self.line)?;
            if self.line.last() != Some(&b'\n') {
                if self.line.len() < MAX_COMMAND_BYTES {
                    return Ok(Line::Closed);
                }
                return Ok(Line::Malformed(format!(
                    "a line is longer than {MAX_COMMAND_BYTES} bytes"
                )));
            }
            let line = self.line.trim_ascii();
            if !line.is_empty() {
                return Ok(read(line));
            }
        }
    }
}

fn read(bytes: &[u8]) -> Line {
    match line::decode::<Command>(bytes) {
        Ok(command) => Line::Command(Box::new(command)),
        Err(error) => {
            let whole = serde_json::from_slice::<Value>(bytes).ok();
            let only = whole.as_ref().and_then(Value::as_object).filter(|map| map.len() == 1);
            let op = only.and_then(|map| map.iter().next());
            let id = op.and_then(|(_, body)| body.get("id")).and_then(Value::as_u64);
            match (op, id) {
                (Some((op, _)), Some(id)) => {
                    Line::Refused { op: op.clone(), id, reason: error.to_string() }
                }
                _ => Line::Malformed(format!("a line is no command: {error}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> Line {
        Lines::new(text.as_bytes()).next().unwrap()
    }

    #[test]
    fn commands_are_read_and_empty_lines_skipped() {
        assert!(
            matches!(first("\n\r\n{\"bye\":{}}\n"), Line::Command(c) if matches!(*c, Command::Bye(_)))
        );
    }

    #[test]
    fn a_torn_last_line_is_the_end() {
        assert!(matches!(first("{\"bye\":{}}"), Line::Closed));
        assert!(matches!(first(""), Line::Closed));
    }

    #[test]
    fn what_has_an_id_can_be_answered() {
        let unknown = first("{\"rerank\":{\"id\":4,\"query\":\"x\"}}\n");
        assert!(matches!(unknown, Line::Refused { op, id: 4, .. } if op == "rerank"));
        let wrong = first("{\"tokenize\":{\"id\":5,\"text\":7}}\n");
        assert!(matches!(wrong, Line::Refused { op, id: 5, .. } if op == "tokenize"));
    }

    #[test]
    fn what_has_none_cannot() {
        for text in
            ["hello\n", "{\"generate\":\n", "[1]\n", "{\"x\":{}}\n", "{\"a\":{},\"b\":{}}\n"]
        {
            assert!(matches!(first(text), Line::Malformed(_)), "{text}");
        }
    }

    #[test]
    fn a_line_without_an_end_does_not_fill_the_memory() {
        let endless = std::io::repeat(b'x');
        assert!(matches!(Lines::new(endless).next().unwrap(), Line::Malformed(_)));
    }
}
