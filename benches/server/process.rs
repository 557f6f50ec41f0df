//! Starts the server of this build and reads what it costs from `/proc`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Clock ticks of `/proc/PID/stat` in a second; Linux shows 100 on every architecture.
const TICKS: f64 = 100.0;

static ROOTS: AtomicU32 = AtomicU32::new(0);

/// How a server is started.
#[derive(Debug, Default)]
pub(crate) struct Start<'a> {
    /// The model that it loads.
    pub(crate) model: Option<&'a Path>,
    /// Lines of `configs/config.yaml`.
    pub(crate) config: &'a str,
    /// Files to put into `models/llama_cpp/`, by name.
    pub(crate) files: &'a [(&'a str, &'a Path)],
}

/// A running server with a root of its own; both end when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    root: PathBuf,
    /// Port of its listener.
    pub(crate) port: u16,
    /// From its start to its line that it listens.
    pub(crate) ready_after: Duration,
}

impl Server {
    /// Starts a server and waits until it listens.
    pub(crate) fn start(how: &Start<'_>) -> anyhow::Result<Self> {
        let number = ROOTS.fetch_add(1, Ordering::Relaxed);
        let name = format!("lollmsd-bench-root-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(root.join("configs"))?;
        fs::write(root.join("configs/config.yaml"), how.config)?;
        for (name, file) in how.files {
            let folder = root.join("models/llama_cpp");
            fs::create_dir_all(&folder)?;
            fs::copy(file, folder.join(name))?;
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_lollmsd"));
        command.arg("serve").arg("--root").arg(&root).args(["--listen", "127.0.0.1:0"]);
        if let Some(model) = how.model {
            command.arg("--model").arg(model);
        }
        let began = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let out = child.stdout.take().context("stdout is a pipe")?;
        BufReader::new(out).read_line(&mut line)?;
        let ready_after = began.elapsed();
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.with_context(|| format!("the server said {line:?}"))?;
        Ok(Self { child, root, port, ready_after })
    }

    /// Process id of the front.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Process ids of its workers.
    pub(crate) fn workers(&self) -> anyhow::Result<Vec<u32>> {
        let own = self.pid().to_string();
        let mut found = vec![];
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process that has just ended has no such file.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let fields: Vec<&str> = after_name(&stat).split_whitespace().collect();
            if fields.get(1) == Some(&own.as_str()) && fields.first() != Some(&"Z") {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Process id of its only worker.
    pub(crate) fn worker(&self) -> anyhow::Result<u32> {
        let workers = self.workers()?;
        ensure!(workers.len() == 1, "one worker was expected, there are {}", workers.len());
        Ok(workers[0])
    }

    /// Files beneath its root.
    pub(crate) fn files(&self) -> usize {
        walkdir::WalkDir::new(&self.root).into_iter().count()
    }

    /// Open descriptors of the front.
    pub(crate) fn descriptors(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is ours and may be ended without a word; its workers follow it.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.root));
    }
}

/// CPU time of a process so far, in seconds, threads included.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = after_name(&stat).split_whitespace().collect();
    // User and system time are fields 14 and 15 of the line; the first two are cut off.
    let ticks = |idx: usize| fields.get(idx).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = (ticks(11).context("user time")?, ticks(12).context("system time")?);
    Ok((user + system) / TICKS)
}

/// Memory of a process in kB: resident, and its share of shared pages counted in part (Pss).
pub(crate) fn memory_kb(pid: u32) -> anyhow::Result<(u64, u64)> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let read = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Ok((read("Rss:").context("Rss")?, read("Pss:").context("Pss")?))
}

/// Lets this process, and the servers that it starts, open as many files as the system allows.
pub(crate) fn raise_descriptors() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

/// What follows the name in a line of `/proc/PID/stat`; the name may hold spaces.
fn after_name(stat: &str) -> &str {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest)
}
