//! The two sides: how they are started alike, asked alike, and take turns.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::arguments::Arguments;
use crate::models::{self, Kind};
use crate::ours::Worker;
use crate::running::{Completion, Job, Running};
use crate::theirs::LlamaServer;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Our worker.
    Ours,
    /// The rival of this number.
    Theirs(usize),
}

/// How a server is started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// File of the model.
    pub(crate) model: PathBuf,
    /// Generations at a time.
    pub(crate) slots: u32,
    /// Context of each, in tokens.
    pub(crate) ctx_size: u32,
    /// Threads of every step.
    pub(crate) threads: u32,
    /// Our `idle_cells`; `None` is the default.
    pub(crate) idle_cells: Option<u32>,
    /// MiB of host memory for earlier chats; `None` is the default of each.
    pub(crate) cache_ram: Option<u32>,
}

/// A running server of either side.
pub(crate) enum Server {
    /// Our worker.
    Ours(Worker),
    /// A rival.
    Theirs(LlamaServer),
}

/// What all parts share.
pub(crate) struct Bench {
    /// What was asked for.
    pub(crate) arguments: Arguments,
    folder: tempfile::TempDir,
}

impl Setup {
    /// Slots and contexts of a model with two threads.
    pub(crate) fn new(model: &Path, slots: u32, ctx_size: u32) -> Self {
        let model = model.to_owned();
        Self { model, slots, ctx_size, threads: 2, idle_cells: None, cache_ram: None }
    }
}

impl Bench {
    /// A bench with a folder for its models.
    pub(crate) fn new(arguments: Arguments) -> anyhow::Result<Self> {
        Ok(Self { arguments, folder: tempfile::tempdir()? })
    }

    /// The file of a model, made at its first use.
    pub(crate) fn model(&self, kind: Kind) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(format!("{kind:?}.gguf"));
        if !path.exists() {
            models::write(kind, &path)?;
        }
        Ok(path)
    }

    /// All sides, ours first.
    pub(crate) fn sides(&self) -> impl Iterator<Item = Side> + use<> {
        let rivals = 0..self.arguments.rivals.len();
        std::iter::once(Side::Ours).chain(rivals.map(Side::Theirs))
    }

    /// Names of the rivals.
    pub(crate) fn rivals(&self) -> Vec<String> {
        self.arguments.rivals.iter().map(|rival| rival.name.clone()).collect()
    }

    /// Lets the sides take turns, as many rounds as were asked for.
    pub(crate) fn turns(
        &self,
        mut turn: impl FnMut(Side) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for _ in 0..self.arguments.rounds {
            self.sides().try_for_each(&mut turn)?;
        }
        Ok(())
    }

    /// Starts a server.
    pub(crate) fn start(&self, side: Side, setup: &Setup) -> anyhow::Result<Server> {
        Ok(match side {
            Side::Ours => Server::Ours(Worker::start(setup)?),
            Side::Theirs(number) => {
                let Arguments { rivals, flags, .. } = &self.arguments;
                Server::Theirs(LlamaServer::start(&rivals[number], flags, setup)?)
            }
        })
    }
}

impl Server {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Ours(worker) => worker.pid(),
            Self::Theirs(server) => server.pid(),
        }
    }

    /// Sends a generation off.
    pub(crate) fn generate(&self, job: &Job) -> anyhow::Result<Running> {
        match self {
            Self::Ours(worker) => worker.generate(job),
            Self::Theirs(server) => server.generate(job),
        }
    }

    /// Generates once.
    pub(crate) fn complete(&self, prompt: String, n_tokens: u32) -> anyhow::Result<Completion> {
        self.generate(&Job::new(prompt, n_tokens))?.join()
    }

    /// Generates all at once.
    pub(crate) fn complete_all(&self, jobs: &[Job]) -> anyhow::Result<Vec<Completion>> {
        let running: Vec<_> =
            jobs.iter().map(|job| self.generate(job)).collect::<Result<_, _>>()?;
        running.into_iter().map(Running::join).collect()
    }

    /// Tokens per second of generations that begin at the same moment, prompts included.
    pub(crate) fn speed(&self, jobs: &[Job]) -> anyhow::Result<f64> {
        let began = Instant::now();
        let completions = self.complete_all(jobs)?;
        let ended = completions.iter().map(|completion| completion.ended).max().unwrap_or(began);
        let wanted: u32 = jobs.iter().map(|job| job.n_tokens).sum();
        let tokens: u32 = completions.iter().map(|completion| completion.tokens).sum();
        anyhow::ensure!(tokens == wanted, "{tokens} tokens came instead of {wanted}");
        Ok(f64::from(tokens) / (ended - began).as_secs_f64())
    }
}
