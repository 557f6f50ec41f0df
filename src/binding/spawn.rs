//! Starts binding processes, all from one thread that lasts as long as the program.
//!
//! One lasting thread, because a child's parent-death signal follows the *thread* that started it: from a
//! pool thread, a child would be killed when the idle thread is reaped. Children get their own process
//! group, a cleared environment with a short pass list, no core files (a core holds chats) and no way to
//! gain privileges.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// Variables that a binding process sees, besides those with one of the [`PASSED_PREFIXES`].
const PASSED: &[&str] = &["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH"];
/// Prefixes of variables that steer GPUs and llama.cpp.
const PASSED_PREFIXES: &[&str] = &["CUDA_", "GGML_", "OMP_", "HIP_", "ROCR_", "HSA_", "VK_"];
/// Starts that may wait for the thread; more wait at the channel.
const WAITING_STARTS: usize = 16;

/// A program to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its file, or a name to look up in `PATH`.
    pub file: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The folder it starts in; `None` means this program's own.
    pub folder: Option<PathBuf>,
}

/// Starts programs; cheap to clone. The thread ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Spawner {
    requests: Arc<SyncSender<Request>>,
}

#[derive(Debug)]
struct Request {
    program: Program,
    reply: oneshot::Sender<io::Result<Child>>,
}

impl Spawner {
    /// Starts the thread. Call it inside the tokio runtime that will watch the children.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start() -> io::Result<Self> {
        let (requests, inbox) = sync_channel(WAITING_STARTS);
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name("spawner".into()).spawn(move || {
            let _context = runtime.enter();
            serve(&inbox);
        })?;
        Ok(Self { requests: Arc::new(requests) })
    }

    /// Starts a program with pipes for stdin, stdout and stderr.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub async fn spawn(&self, program: Program) -> io::Result<Child> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .try_send(Request { program, reply })
            .map_err(|_| io::Error::other("too many processes are being started"))?;
        answer.await.map_err(|_| io::Error::other("the spawner thread has ended"))?
    }
}

fn serve(inbox: &Receiver<Request>) {
    // Both are inherited by every child of this thread and cannot be undone by it.
    let no_core = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, no_core) {
        tracing::warn!(%error, "Core files of binding processes cannot be turned off");
    }
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        tracing::warn!(%error, "Binding processes keep the way to new privileges");
    }
    while let Ok(request) = inbox.recv() {
        // A requester that left drops the child, which `kill_on_drop` ends.
        drop(request.reply.send(start(&request.program)));
    }
}

fn start(program: &Program) -> io::Result<Child> {
    let passed = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        PASSED.contains(&&*name) || PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    });
    let mut command = Command::new(&program.file);
    command
        .args(&program.arguments)
        .env_clear()
        .envs(passed)
        // A trusted folder must stay as it was when it was trusted.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(folder) = &program.folder {
        command.current_dir(folder);
    }
    command.spawn()
}
