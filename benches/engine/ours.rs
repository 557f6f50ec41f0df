//! Our worker: `lollmsd worker` over its pipes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, bail};
use lollmsd::protocol::PROTOCOL_VERSION;
use lollmsd::protocol::command::{
    Ask, Command, Generate, Hello, Load, LoadSettings, Prompt, TextPrompt,
};
use lollmsd::protocol::event::{EndReason, Event};
use lollmsd::protocol::line;
use lollmsd::protocol::sampling::{BiasTarget, BiasValue, SamplingParams};

use crate::running::{Job, Log, Running};
use crate::side::Setup;

/// Generations that have not ended, by id.
type Logs = Arc<Mutex<HashMap<u64, Arc<Log>>>>;

/// A worker with a loaded model; it ends when it is dropped.
pub(crate) struct Worker {
    child: Child,
    to: Arc<Mutex<ChildStdin>>,
    logs: Logs,
    next_id: AtomicU64,
}

impl Worker {
    /// Starts a worker and loads the model.
    pub(crate) fn start(setup: &Setup) -> anyhow::Result<Self> {
        let mut child = Program::new(env!("CARGO_BIN_EXE_lollmsd"))
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let to = Arc::new(Mutex::new(child.stdin.take().context("stdin is a pipe")?));
        let mut from = BufReader::new(child.stdout.take().context("stdout is a pipe")?);
        let logs = Logs::default();
        let worker = Self { child, to, logs: Arc::clone(&logs), next_id: AtomicU64::new(2) };
        send(&worker.to, &Command::Hello(Hello { version: PROTOCOL_VERSION }))?;
        send(&worker.to, &Command::Load(load(setup)))?;
        loop {
            let event = next(&mut from)?.context("the worker ended before the model was loaded")?;
            if let Event::Loaded(_) = event {
                break;
            } else if let Event::Error(error) = event {
                bail!("the worker cannot load: {}", error.message);
            } else if let Event::Fatal(fatal) = event {
                bail!("the worker died: {}", fatal.reason);
            }
        }
        std::thread::spawn(move || read(from, &logs));
        Ok(worker)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a generation off.
    pub(crate) fn generate(&self, job: &Job) -> anyhow::Result<Running> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let bias = |text: &String| (BiasTarget::Text(text.clone()), BiasValue::By(100.0));
        let sampling = SamplingParams {
            temperature: 0.0,
            ignore_eos: true,
            logit_bias: job.only.iter().map(bias).collect(),
            ..SamplingParams::default()
        };
        let prompt = Prompt::Text(TextPrompt { text: job.prompt.clone(), keep_last: None });
        let generate = Generate {
            id,
            prompt,
            n_predict: Some(job.n_tokens),
            sampling,
            stop: vec![],
            anti_prompts: vec![],
            lora: None,
            draft_max: None,
            keep: false,
            context_shift: false,
            n_keep: 0,
        };
        let log = Log::new();
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&log));
        send(&self.to, &Command::Generate(Box::new(generate)))?;
        let to = Arc::clone(&self.to);
        // A worker that is gone has ended it too.
        Ok(Running::new(log, move || drop(send(&to, &Command::Cancel(Ask { id })))))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn load(setup: &Setup) -> Load {
    let usual = LoadSettings::default();
    let settings = LoadSettings {
        ctx_size: setup.ctx_size,
        slots: setup.slots,
        threads: setup.threads,
        batch_threads: setup.threads,
        idle_cells: setup.idle_cells.unwrap_or(usual.idle_cells),
        cache_ram: setup.cache_ram.unwrap_or(usual.cache_ram),
        ..usual
    };
    let path = setup.model.to_string_lossy().into_owned();
    Load { id: 1, model: "model".into(), path: Some(path), settings }
}

fn send(to: &Mutex<ChildStdin>, command: &Command) -> anyhow::Result<()> {
    let line = line::encode(command)?;
    to.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)?;
    Ok(())
}

/// The next event; `None` when the worker has ended.
fn next(from: &mut BufReader<ChildStdout>) -> anyhow::Result<Option<Event>> {
    let mut text = String::new();
    if from.read_line(&mut text)? == 0 {
        return Ok(None);
    }
    Ok(Some(line::decode(text.as_bytes())?))
}

/// Reads events until the worker ends.
fn read(mut from: BufReader<ChildStdout>, logs: &Logs) {
    while let Ok(Some(event)) = next(&mut from) {
        let at = Instant::now();
        let find = |id| logs.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Event::Piece(piece) = event {
            if let Some(log) = find(piece.id) {
                log.piece(at, &piece.text, piece.ends.len().max(1));
            }
        } else if let Event::Started(started) = event {
            if let Some(log) = find(started.id) {
                log.prompt(started.prompt_tokens);
            }
        } else if let Event::End(end) = event {
            let log = logs.lock().unwrap_or_else(PoisonError::into_inner).remove(&end.id);
            let failed = end.reason == EndReason::Error;
            let reason = end.message.unwrap_or_default();
            if let Some(log) = log {
                log.cached(end.cached_tokens);
                log.end(if failed { Err(reason) } else { Ok(()) });
            }
        }
    }
    for (_, log) in logs.lock().unwrap_or_else(PoisonError::into_inner).drain() {
        log.end(Err("the worker ended".into()));
    }
}
