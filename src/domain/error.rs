//! One code per failure that a client can act on.

/// Stable word sent to clients. Renaming a variant's word is a breaking change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The request itself is wrong: a type, a range, a size.
    InvalidRequest,
    /// Who is asking is not known.
    Unauthorized,
    /// Who is asking is known and may not.
    Forbidden,
    /// No such thing.
    NotFound,
    /// The request clashes with what is there: nothing selected yet, still loading.
    Conflict,
    /// The prompt does not fit the context.
    ContextExceeded,
    /// Too much is waiting; try again later.
    Busy,
    /// The model or its process failed.
    Unavailable,
    /// What was asked for is not offered here.
    Unsupported,
    /// Our fault.
    Internal,
}

impl ErrorCode {
    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::ContextExceeded => "context_exceeded",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
        }
    }

    /// The code with this word, if there is one.
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::InvalidRequest,
            Self::Unauthorized,
            Self::Forbidden,
            Self::NotFound,
            Self::Conflict,
            Self::ContextExceeded,
            Self::Busy,
            Self::Unavailable,
            Self::Unsupported,
            Self::Internal,
        ]
        .into_iter()
        .find(|code| code.as_str() == word)
    }

    /// HTTP status for this code.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::ContextExceeded => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Busy | Self::Unavailable => 503,
            Self::Unsupported => 501,
            Self::Internal => 500,
        }
    }
}

/// A failure as it reaches a client: a code to act on and one sentence to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What a program acts on.
    pub code: ErrorCode,
    /// What a person reads: lower case, no full stop, values in backticks.
    pub message: String,
}

impl Failure {
    /// A failure with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
