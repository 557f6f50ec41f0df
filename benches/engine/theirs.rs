//! A `llama-server` process, and completions over its HTTP interface.

use std::io::{BufRead, BufReader};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::arguments::Rival;
use crate::http::{self, Body};
use crate::running::{Job, Log, Running};
use crate::side::Setup;

/// A model is loaded by then.
const PATIENCE: Duration = Duration::from_mins(2);
/// Words of the lines at the start that say what it runs with.
const TELLING: [&str; 5] =
    ["build_info", "flash_attn", "kv_unified", "n_threads", "prompt cache is"];

/// A running server with a loaded model; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct LlamaServer {
    child: Child,
    port: u16,
    /// Lines of its log that say what it runs with.
    pub(crate) said: Vec<String>,
}

/// One event of a completion.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    content: String,
    tokens: Vec<i32>,
    stop: bool,
    tokens_evaluated: u32,
    timings: Timings,
    error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Timings {
    cache_n: u32,
}

impl LlamaServer {
    /// Starts a server on a free port of the loopback and waits until it listens.
    pub(crate) fn start(rival: &Rival, flags: &[String], setup: &Setup) -> anyhow::Result<Self> {
        let (log, writer) = std::io::pipe()?;
        let mut command = Command::new(&rival.path);
        command.arg("-m").arg(&setup.model);
        let mut number = |flag: &str, number: u32| {
            command.args([flag, &number.to_string()]);
        };
        number("-c", setup.ctx_size * setup.slots);
        number("-np", setup.slots);
        number("-t", setup.threads);
        number("-tb", setup.threads);
        if let Some(cache_ram) = setup.cache_ram {
            number("--cache-ram", cache_ram);
        }
        command.args(["-b", "512", "-ub", "512", "-fa", "off", "--no-webui"]);
        command.args(["--host", "127.0.0.1", "--port", "0"]).args(flags);
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn().with_context(|| rival.path.display().to_string())?;
        // The writing ends of the pipe are the server's alone now.
        drop(command);
        let mut server = Self { child, port: 0, said: vec![] };
        let (tx, rx) = sync_channel(1);
        std::thread::spawn(move || drain(BufReader::new(log), &tx));
        (server.port, server.said) =
            rx.recv_timeout(PATIENCE).context("llama-server's start")??;
        Ok(server)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a generation off.
    pub(crate) fn generate(&self, job: &Job) -> anyhow::Result<Running> {
        let bias: Vec<Value> = job.only.iter().map(|text| json!([text, 100.0])).collect();
        let body = json!({
            "prompt": job.prompt, "n_predict": job.n_tokens, "temperature": 0, "ignore_eos": true,
            "stream": true, "cache_prompt": true, "logit_bias": bias,
        });
        let body = serde_json::to_vec(&body)?;
        let log = Log::new();
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        let closing = stream.try_clone()?;
        let to = Arc::clone(&log);
        std::thread::spawn(move || {
            let read = http::post(stream, "/completion", &body).and_then(|body| read(body, &to));
            to.end(read.map_err(|error| format!("{error:#}")));
        });
        // A connection that is closed already has ended it too.
        Ok(Running::new(log, move || drop(closing.shutdown(Shutdown::Both))))
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a server says at its start: its port and lines worth showing.
type Said = anyhow::Result<(u16, Vec<String>)>;

/// Reads a server's log until its end, so that it never waits for the pipe.
fn drain(log: impl BufRead, tx: &SyncSender<Said>) {
    let mut listens = false;
    let (mut telling, mut last) = (vec![], String::new());
    for line in log.split(b'\n').map_while(Result::ok) {
        if listens {
            continue;
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        if let Some((_, address)) = line.split_once("listening on ") {
            let port = address.rsplit(':').next().unwrap_or_default();
            let port: String = port.chars().take_while(char::is_ascii_digit).collect();
            let said = port.parse().context("llama-server names no port");
            listens = tx.send(said.map(|port| (port, std::mem::take(&mut telling)))).is_ok();
        } else if TELLING.iter().any(|word| line.contains(word)) {
            telling.push(line.clone());
        }
        last = line;
    }
    if !listens {
        // Nobody waits any more when the time was up.
        drop(tx.send(Err(anyhow::anyhow!("llama-server ended: {last}"))));
    }
}

/// Reads the events of a completion.
fn read(body: Body, log: &Log) -> anyhow::Result<()> {
    let mut lines = BufReader::new(body);
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            bail!("the stream broke off");
        }
        let at = Instant::now();
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let event: Event = serde_json::from_str(data)?;
        if let Some(error) = event.error {
            bail!("llama-server says {error}");
        }
        if event.stop {
            log.prompt(event.tokens_evaluated);
            log.cached(event.timings.cache_n);
            return Ok(());
        }
        if !event.tokens.is_empty() {
            log.piece(at, &event.content, event.tokens.len());
        }
    }
}
