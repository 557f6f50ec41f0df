//! A worker process and what it says.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::models::{self, Kind};

/// Writes a test model into the build folder, once for each process.
pub(crate) fn model(kind: Kind) -> PathBuf {
    static WRITTEN: Mutex<Vec<Kind>> = Mutex::new(Vec::new());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("worker-{kind:?}.gguf"));
    let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    if !written.contains(&kind) {
        models::write(kind, &path).unwrap();
        written.push(kind);
    }
    path
}

/// A prompt of plain text.
pub(crate) fn text(text: &str) -> Value {
    json!({"text": {"text": text}})
}

/// What came of a generation.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    pub(crate) text: String,
    pub(crate) tokens: usize,
    /// Probabilities of its tokens, when they were asked for.
    pub(crate) probs: Vec<Value>,
    pub(crate) started: Value,
    pub(crate) end: Value,
}

/// A worker process; killed when dropped.
pub(crate) struct Worker {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    /// Events that belong to generations nobody has asked for yet.
    kept: Vec<Value>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Worker {
    /// Starts a worker and says hello.
    pub(crate) fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lollmsd"))
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().unwrap());
        let mut worker = Self { child, to, from, kept: Vec::new() };
        worker.send(&json!({"hello": {"version": 1}}));
        assert_eq!(worker.event().unwrap()["hello"]["version"], 1);
        worker
    }

    pub(crate) fn send(&mut self, command: &Value) {
        writeln!(self.to.as_mut().unwrap(), "{command}").unwrap();
    }

    /// Closes the worker's input and waits for its end.
    pub(crate) fn close(&mut self) -> std::process::ExitStatus {
        self.to = None;
        self.child.wait().unwrap()
    }

    /// The next event that is no statistics; `None` when the worker has ended.
    pub(crate) fn event(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.from.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            let event: Value = serde_json::from_str(&line).unwrap();
            if event.get("stats").is_none() {
                return Some(event);
            }
        }
    }

    /// The answer to an operation; events of others are kept.
    pub(crate) fn answer(&mut self, id: u64) -> Value {
        loop {
            let event = self.event().expect("an answer before the end");
            let answers = event.as_object().unwrap().values().any(|body| body["id"] == id);
            if answers {
                return event;
            }
            self.kept.push(event);
        }
    }

    /// How many threads the process has.
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }

    /// Loads a model; returns `loaded`, `error` or `fatal`.
    pub(crate) fn try_load(&mut self, path: &Path, settings: &Value) -> Value {
        self.send(&json!({"load": {"id": 1, "model": "m", "path": path, "settings": settings}}));
        loop {
            let event = self.event().expect("an answer before the end");
            if event.get("progress").is_none() {
                return event;
            }
        }
    }

    pub(crate) fn load(&mut self, path: &Path, settings: &Value) {
        let answer = self.try_load(path, settings);
        assert!(answer.get("loaded").is_some(), "{answer}");
    }

    /// Starts a generation.
    pub(crate) fn generate(&mut self, id: u64, prompt: &Value, with: &Value) {
        let mut body = json!({"id": id, "prompt": prompt});
        body.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        self.send(&json!({ "generate": body }));
    }

    /// Waits for the end of a generation; checks the borders of its pieces.
    pub(crate) fn completion(&mut self, id: u64) -> Completion {
        let mut made = Completion::default();
        let kept = std::mem::take(&mut self.kept);
        let mut kept = kept.into_iter();
        loop {
            let event = kept.next().or_else(|| self.event()).expect("an end");
            let (name, body) = event.as_object().unwrap().iter().next().unwrap();
            if body["id"] != id {
                self.kept.push(event);
                continue;
            }
            match name.as_str() {
                "started" => made.started = body.clone(),
                "piece" => {
                    let text = body["text"].as_str().unwrap();
                    let ends = body["ends"].as_array().unwrap();
                    assert_eq!(ends.last().unwrap(), &json!(text.len()));
                    assert_eq!(ends.len(), body["tok"].as_array().unwrap().len());
                    made.text.push_str(text);
                    made.tokens += ends.len();
                    if let Some(probs) = body["probs"].as_array() {
                        assert_eq!(probs.len(), ends.len(), "one for each token");
                        made.probs.extend(probs.iter().cloned());
                    }
                }
                "end" => {
                    made.end = body.clone();
                    self.kept.extend(kept);
                    return made;
                }
                _ => {}
            }
        }
    }
}
