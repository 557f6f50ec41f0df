//! The command line of this bench.

use std::path::PathBuf;

use anyhow::Context as _;

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    /// Parts by name; none means all.
    pub(crate) parts: Vec<String>,
    /// Programs to compare with.
    pub(crate) rivals: Vec<Rival>,
    /// Flags for all of them, behind those of the bench.
    pub(crate) flags: Vec<String>,
    /// How often each figure is taken from each side.
    pub(crate) rounds: usize,
}

/// A `llama-server`.
#[derive(Clone, Debug)]
pub(crate) struct Rival {
    /// Shown in the tables.
    pub(crate) name: String,
    /// The program.
    pub(crate) path: PathBuf,
}

impl Arguments {
    /// Reads the arguments; what cargo adds is left out.
    pub(crate) fn read(mut given: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut read = Self { parts: vec![], rivals: vec![], flags: vec![], rounds: 5 };
        while let Some(argument) = given.next() {
            let mut value = || given.next().with_context(|| format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--bench" => {}
                "--llama-server" => read.rivals.push(Rival::read(&value()?)),
                "--flags" => read.flags = value()?.split_whitespace().map(String::from).collect(),
                "--rounds" => read.rounds = value()?.parse().context("`--rounds` is a number")?,
                part => read.parts.push(part.to_owned()),
            }
        }
        anyhow::ensure!(read.rounds > 0, "`--rounds` is at least 1");
        Ok(read)
    }
}

impl Rival {
    fn read(given: &str) -> Self {
        let (name, path) = given.split_once('=').unwrap_or(("llama-server", given));
        Self { name: name.to_owned(), path: path.into() }
    }
}
