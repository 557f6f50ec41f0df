//! Test models, made in seconds and the same on every machine.
//!
//! Shared by the `make-model` example, the tests and the benches through `#[path]`.

pub(crate) mod broken;
pub(crate) mod chain;
mod context;
pub(crate) mod encoder;
pub(crate) mod gguf;
mod llama;
mod random;
mod random_models;
pub(crate) mod vocabulary;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A test model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Exact texts: [`chain`].
    Chain,
    /// Text that depends on the whole context.
    Context,
    /// The same with a ChatML template and an end.
    ContextChat,
    /// The same without a template, with the tokens for filling in.
    ContextFill,
    /// Vectors of whole texts.
    Encoder,
    /// Scores of pairs of texts.
    Ranker,
    /// Next to no work.
    Micro,
    /// For figures of speed.
    Bench,
    /// A LoRA adapter for the context model.
    Adapter,
    /// Another one.
    OtherAdapter,
}

/// All of them, by the name on the command line.
pub(crate) const KINDS: &[(&str, Kind)] = &[
    ("chain", Kind::Chain),
    ("context", Kind::Context),
    ("context-chat", Kind::ContextChat),
    ("context-fill", Kind::ContextFill),
    ("encoder", Kind::Encoder),
    ("ranker", Kind::Ranker),
    ("micro", Kind::Micro),
    ("bench", Kind::Bench),
    ("adapter", Kind::Adapter),
    ("other-adapter", Kind::OtherAdapter),
];

/// The file of a model, not written yet.
pub(crate) fn build(kind: Kind) -> gguf::Gguf {
    match kind {
        Kind::Chain => chain::build(),
        Kind::Context => context::build(context::Dialect::Plain),
        Kind::ContextChat => context::build(context::Dialect::ChatMl),
        Kind::ContextFill => context::build(context::Dialect::Fill),
        Kind::Encoder => encoder::build(encoder::Use::Vectors),
        Kind::Ranker => encoder::build(encoder::Use::Ranking),
        Kind::Micro => random_models::micro(),
        Kind::Bench => random_models::bench(),
        Kind::Adapter => context::adapter(11),
        Kind::OtherAdapter => context::adapter(12),
    }
}

/// Writes a model to a file; a half-written one never stands under its name.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(kind: Kind, path: &Path) -> io::Result<()> {
    let part = path.with_extension(format!("part{}", std::process::id()));
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&part)?);
    build(kind).write(&mut out)?;
    out.flush()?;
    std::fs::rename(&part, path)
}
