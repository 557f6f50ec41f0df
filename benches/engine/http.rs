//! The little of HTTP that a `llama-server` on this machine needs: one request for each connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context as _, bail};
use rustix::net::sockopt::set_tcp_quickack;

/// An answer's body, chunks joined.
#[derive(Debug)]
pub(crate) struct Body {
    from: BufReader<TcpStream>,
    framing: Framing,
}

#[derive(Debug)]
enum Framing {
    /// Bytes that are left of this chunk.
    Chunked(u64),
    /// It ends with the connection.
    Open,
    /// The last chunk was read.
    Ended,
}

/// Sends a request and reads the head of the answer.
///
/// # Errors
/// When the answer is no 200, with its body.
pub(crate) fn post(stream: TcpStream, path: &str, body: &[u8]) -> anyhow::Result<Body> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (&stream).write_all(&[head.as_bytes(), body].concat())?;
    let mut from = BufReader::new(stream);
    let mut status = String::new();
    from.read_line(&mut status)?;
    let mut framing = Framing::Open;
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if line.starts_with("transfer-encoding:") && line.ends_with("chunked") {
            framing = Framing::Chunked(0);
        }
    }
    let mut body = Body { from, framing };
    let code = status.split_whitespace().nth(1).context("the answer has no status")?;
    if code != "200" {
        let mut text = String::new();
        body.read_to_string(&mut text)?;
        bail!("llama-server answered {}: {text}", status.trim());
    }
    Ok(body)
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // The server leaves Nagle's algorithm on; acknowledged late, its text would come in lumps.
        set_tcp_quickack(self.from.get_ref(), true)?;
        match self.framing {
            Framing::Ended => Ok(0),
            Framing::Open => self.from.read(into),
            Framing::Chunked(0) => {
                let left = self.chunk()?;
                self.framing = if left == 0 { Framing::Ended } else { Framing::Chunked(left) };
                self.read(into)
            }
            Framing::Chunked(left) => {
                let n = (&mut self.from).take(left).read(into)? as u64;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.framing = Framing::Chunked(left - n);
                if left == n {
                    self.from.read_line(&mut String::new())?;
                }
                usize::try_from(n).map_err(io::Error::other)
            }
        }
    }
}

impl Body {
    /// Reads the head of a chunk: its length.
    fn chunk(&mut self) -> io::Result<u64> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)
    }
}
