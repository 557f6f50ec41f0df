//! Why a file is not loaded as a model.

/// What is wrong with a model file.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The operating system refused.
    #[error("the file cannot be read: {0}")]
    Io(#[source] std::io::Error),
    /// A folder, fifo or device.
    #[error("it is no regular file")]
    NotAFile,
    /// Nothing in it.
    #[error("the file is empty (0 bytes); expected a GGUF model")]
    Empty,
    /// It is something else.
    #[error("the file is {found}, not a GGUF model; expected the bytes `GGUF` at its beginning")]
    Foreign {
        /// What it seems to be.
        found: &'static str,
    },
    /// A version that cannot be read.
    #[error("GGUF {found} at byte 4; expected version 2 or 3, little-endian")]
    Version {
        /// What was found.
        found: String,
    },
    /// It ends too early.
    #[error(
        "the file ends at byte {length}, within {what}, which needs {needs} bytes from byte {at}: it is cut short or damaged"
    )]
    CutShort {
        /// The part that does not fit.
        what: String,
        /// Where the part begins.
        at: u64,
        /// How many bytes the part needs.
        needs: u64,
        /// Length of the file.
        length: u64,
    },
    /// A value that cannot be.
    #[error("{what} at byte {at}; expected {expected}")]
    Wrong {
        /// What was found.
        what: String,
        /// Where.
        at: u64,
        /// What is allowed.
        expected: String,
    },
    /// Something every model has is not there.
    #[error("the header has no `{0}`")]
    Lacks(&'static str),
}

impl GgufError {
    pub(super) fn wrong(what: impl Into<String>, at: u64, expected: impl Into<String>) -> Self {
        Self::Wrong { what: what.into(), at, expected: expected.into() }
    }
}
