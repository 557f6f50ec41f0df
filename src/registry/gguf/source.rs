//! Little-endian values from a file whose length is known, with the position kept for errors.

use std::io::{BufReader, Read, Seek};

use crate::registry::gguf::error::GgufError;

/// Read ahead in bytes: a vocabulary's strings are read one by one.
const BUFFER: usize = 64 << 10;

/// A file being read from front to back.
pub(super) struct Source<R> {
    input: BufReader<R>,
    /// Position in bytes.
    pub(super) at: u64,
    /// Length of the file in bytes.
    pub(super) length: u64,
}

impl<R: Read + Seek> Source<R> {
    pub(super) fn new(input: R, length: u64) -> Self {
        Self { input: BufReader::with_capacity(BUFFER, input), at: 0, length }
    }

    /// Bytes after the position.
    pub(super) fn left(&self) -> u64 {
        self.length - self.at
    }

    /// Checks that `needs` bytes follow.
    pub(super) fn expect(&self, needs: u64, what: &str) -> Result<(), GgufError> {
        if needs <= self.left() {
            return Ok(());
        }
        Err(GgufError::CutShort { what: what.into(), at: self.at, needs, length: self.length })
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        self.expect(N as u64, what)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(GgufError::Io)?;
        self.at += N as u64;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string of at most `limit` bytes; bytes that are no UTF-8 become U+FFFD.
    pub(super) fn text(&mut self, what: &str, limit: u64) -> Result<String, GgufError> {
        let at = self.at;
        let length = self.u64(what)?;
        if length > limit {
            let found = format!("{what} of {length} bytes");
            return Err(GgufError::wrong(found, at, format!("at most {limit}")));
        }
        self.expect(length, what)?;
        let size = usize::try_from(length).expect("a text's limit fits memory");
        let mut bytes = vec![0; size];
        self.input.read_exact(&mut bytes).map_err(GgufError::Io)?;
        self.at += length;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Goes over a string without keeping it.
    pub(super) fn skip_text(&mut self, what: &str) -> Result<(), GgufError> {
        let length = self.u64(what)?;
        self.skip(length, what)
    }

    /// Goes over bytes that must be there.
    pub(super) fn skip(&mut self, bytes: u64, what: &str) -> Result<(), GgufError> {
        self.expect(bytes, what)?;
        let step = i64::try_from(bytes).map_err(|_| GgufError::CutShort {
            what: what.into(),
            at: self.at,
            needs: bytes,
            length: self.length,
        })?;
        self.input.seek_relative(step).map_err(GgufError::Io)?;
        self.at += bytes;
        Ok(())
    }
}
