//! Grammars in llama.cpp's GBNF: which token may come next.
//!
//! The language is llama.cpp's; the machine is our own. llama.cpp keeps every way to read a text apart, so
//! that `s ::= "a" s "b" | "a" s "c" | "d"` doubles its work with each letter, within one call that nobody
//! can end, on the thread that all generations share. Here equal parts are kept once ([`machine`]), all
//! work is counted, and what would take too long is an error of that generation alone.
//!
//! Pure: no model, clock or thread. Parsed on a preparation thread, run on the decode thread.

pub mod check;
pub mod guide;
pub mod machine;
pub mod mask;
pub mod parse;
pub mod rules;
pub mod schema;
pub mod trigger;

#[cfg(test)]
mod tests;

/// Longest grammar that a client may send, in bytes.
pub const MAX_BYTES: usize = 64 << 10;
/// Longest grammar that a schema may become, in bytes.
pub const MAX_MADE_BYTES: usize = 512 << 10;
/// Deepest nesting of brackets.
pub const MAX_NESTING: usize = 200;

/// What is wrong with a grammar, a schema or a trigger, or why it cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GrammarError(pub String);

impl GrammarError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
