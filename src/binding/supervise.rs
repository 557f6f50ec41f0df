//! The life of an instance's process: start, load, serve, die, start again.

use std::collections::VecDeque;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::binding::instance::next_id;
use crate::binding::intake::Told;
use crate::binding::lines::{Line, LineReader};
use crate::binding::spawn::Spawner;
use crate::binding::state::{Shared, Status};
use crate::domain::error::{ErrorCode, Failure};
use crate::protocol::command::{Ask, Bye, Command, Hello};
use crate::protocol::event::Event;
use crate::protocol::{HELLO_TIMEOUT, PROTOCOL_VERSION};

/// A load shows progress at least this often, or the process is ended. Large files on slow disks need it.
const LOAD_TIMEOUT: Duration = Duration::from_mins(10);
/// Time to end after `bye`, then after SIGTERM.
const BYE_GRACE: Duration = Duration::from_secs(5);
const TERM_GRACE: Duration = Duration::from_secs(2);
/// So many deaths within [`DEATH_WINDOW`], and it is not started again by itself.
pub const MAX_DEATHS: usize = 5;
/// See [`MAX_DEATHS`].
pub const DEATH_WINDOW: Duration = Duration::from_mins(5);
/// Longest wait before a restart; the first restart is at once.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Time for the last lines of a process that has exited.
const DRAIN: Duration = Duration::from_millis(200);

/// How a life ended.
#[derive(Debug)]
enum Ending {
    /// The instance was stopped.
    Stopped,
    /// The model cannot be loaded; a restart would not help.
    LoadFailed(Failure),
    /// The process died or was ended for breaking the rules.
    Died(String),
}

/// Runs an instance until it is stopped.
pub(super) async fn run(shared: Arc<Shared>, spawner: Spawner) {
    let mut stop = shared.stop.subscribe();
    let mut deaths: VecDeque<Instant> = VecDeque::new();
    loop {
        shared.set_status(Status::Starting);
        let ending = live(&shared, &spawner).await;
        let name = &shared.spec.name;
        match ending {
            Ending::Stopped => break,
            Ending::LoadFailed(failure) => {
                tracing::error!(model.name = %name, error = %failure, "The model cannot be loaded");
                fail(&shared, &failure);
                if !wanted_again(&shared, &mut stop).await {
                    break;
                }
            }
            Ending::Died(reason) => {
                let now = Instant::now();
                deaths.retain(|at| now.duration_since(*at) < DEATH_WINDOW);
                deaths.push_back(now);
                let failure = died(&reason);
                tracing::error!(model.name = %name, deaths = deaths.len(), %reason, "A binding process died");
                if deaths.len() >= MAX_DEATHS {
                    fail(&shared, &failure);
                    if !wanted_again(&shared, &mut stop).await {
                        break;
                    }
                } else {
                    shared.lock().settle_death(&failure);
                    shared.set_status(Status::Restarting);
                    if timeout(backoff(deaths.len()), stopped(&mut stop)).await.is_ok() {
                        break;
                    }
                }
            }
        }
    }
    fail_with(
        &shared,
        Status::Stopped,
        &Failure::new(ErrorCode::Unavailable, "the model was unloaded"),
    );
}

fn died(reason: &str) -> Failure {
    Failure::new(ErrorCode::Unavailable, format!("the model's process ended: {reason}"))
}

/// Wait before the restart after the n-th death: 0, 1, 2, 4 … seconds.
fn backoff(deaths: usize) -> Duration {
    match deaths {
        0 | 1 => Duration::ZERO,
        n => Duration::from_secs(1 << (n - 2).min(5)).min(MAX_BACKOFF),
    }
}

fn fail(shared: &Shared, failure: &Failure) {
    fail_with(shared, Status::Failed(failure.clone()), failure);
}

fn fail_with(shared: &Shared, status: Status, failure: &Failure) {
    let mut state = shared.lock();
    // Under one lock, so that whoever submits next sees that it is to ask for another try.
    state.status = status.clone();
    state.outgoing.clear();
    state.fail_all(failure);
    drop(state);
    shared.set_status(status);
}

/// Waits until the instance is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the instance's state, which its supervisor holds.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Waits until somebody wants a failed instance again; false when it is to stop.
async fn wanted_again(shared: &Shared, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = shared.demand.notified() => true,
        () = stopped(stop) => false,
    }
}

/// One process from start to end.
async fn live(shared: &Arc<Shared>, spawner: &Spawner) -> Ending {
    let program = shared.spec.program.clone();
    let mut child = match spawner.spawn(program).await {
        Ok(child) => child,
        Err(error) => {
            let file = shared.spec.program.file.display();
            return Ending::Died(format!("`{file}` cannot be started: {error}"));
        }
    };
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Ending::Died("its pipes are missing".into());
    };
    begin(shared);
    let writer = tokio::spawn(write_lines(Arc::clone(shared), stdin));
    let logger = tokio::spawn(log_lines(shared.spec.name.clone(), stderr));
    let ending = serve(shared, &mut child, LineReader::new(stdout)).await;
    finish(shared, &mut child, &ending).await;
    writer.abort();
    // The log of a process ends with the process; a child of its own may hold the pipe open.
    drop(timeout(DRAIN, logger).await);
    ending
}

/// Resets what belongs to one process and writes its first lines.
fn begin(shared: &Shared) {
    let mut state = shared.lock();
    state.fatal = None;
    state.steps = 0;
    state.capabilities.clear();
    state.outgoing.clear();
    state.active_at = Instant::now();
    state.load_id = next_id();
    let id = state.load_id;
    state.control(&Command::Hello(Hello { version: PROTOCOL_VERSION }));
    state.control(&Command::Load(shared.spec.load.command(id)));
    drop(state);
    shared.to_write.notify_one();
}

/// Reads what the process says until it ends, breaks a rule or is stopped.
async fn serve(shared: &Shared, child: &mut Child, mut lines: LineReader<ChildStdout>) -> Ending {
    let mut stop = shared.stop.subscribe();
    let mut clock = interval(Duration::from_secs(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let hello_by = Instant::now() + HELLO_TIMEOUT;
    let mut greeted = false;
    loop {
        tokio::select! {
            line = lines.next() => match line {
                Ok(Some(Line::Event(event))) => {
                    if let Some(ending) = take(shared, *event, &mut greeted) {
                        return ending;
                    }
                }
                Ok(Some(Line::Stray(text))) => {
                    tracing::info!(model.name = %shared.spec.name, %text, "A binding process printed");
                }
                Ok(Some(Line::Unknown(kind))) => {
                    tracing::info!(model.name = %shared.spec.name, %kind, "An unknown event was ignored");
                }
                // Its memory is given back only when it is gone, so wait for that.
                Ok(None) => return exited(shared, timeout(TERM_GRACE, child.wait()).await.ok()),
                Err(error) => return Ending::Died(error.to_string()),
            },
            status = child.wait() => {
                drain(shared, &mut lines, &mut greeted).await;
                return exited(shared, Some(status));
            }
            () = stopped(&mut stop) => return Ending::Stopped,
            _ = clock.tick() => {
                if !greeted && Instant::now() > hello_by {
                    return Ending::Died(format!("it said no `hello` within {} s", HELLO_TIMEOUT.as_secs()));
                }
                if let Some(reason) = hangs(shared) {
                    return Ending::Died(reason);
                }
            }
        }
    }
}

/// Reads what is left in the pipe of a process that has exited.
async fn drain(shared: &Shared, lines: &mut LineReader<ChildStdout>, greeted: &mut bool) {
    let rest = async {
        while let Ok(Some(line)) = lines.next().await {
            if let Line::Event(event) = line {
                take(shared, *event, greeted);
            }
        }
    };
    // A child of the process may hold the pipe open; nothing of that is wanted.
    drop(timeout(DRAIN, rest).await);
}

fn take(shared: &Shared, event: Event, greeted: &mut bool) -> Option<Ending> {
    if let Event::Hello(hello) = &event {
        if hello.version != PROTOCOL_VERSION {
            let message = format!(
                "the binding speaks protocol version {}; this program speaks {PROTOCOL_VERSION}",
                hello.version
            );
            return Some(Ending::LoadFailed(Failure::new(ErrorCode::Unavailable, message)));
        }
        *greeted = true;
        shared.lock().capabilities.clone_from(&hello.capabilities);
    } else if !*greeted && !matches!(event, Event::Fatal(_)) {
        return Some(Ending::Died("its first line is not `hello`".into()));
    }
    match shared.take(event) {
        Told::Nothing => None,
        Told::LoadFailed(failure) => Some(Ending::LoadFailed(failure)),
    }
}

/// Why the process counts as hanging, if it does.
fn hangs(shared: &Shared) -> Option<String> {
    let state = shared.lock();
    let idle = state.active_at.elapsed();
    let limit = match &state.status {
        Status::Ready(_) if state.is_idle() => return None,
        Status::Ready(_) => shared.spec.hang_timeout,
        Status::Starting | Status::Loading(_) => LOAD_TIMEOUT,
        Status::Restarting | Status::Failed(_) | Status::Stopped => return None,
    };
    (idle > limit).then(|| format!("it made no step for {} s while it had work", idle.as_secs()))
}

fn exited(shared: &Shared, status: Option<io::Result<ExitStatus>>) -> Ending {
    if let Some(reason) = shared.lock().fatal.take() {
        return Ending::Died(reason);
    }
    Ending::Died(match status {
        Some(Ok(status)) => match status.signal() {
            Some(signal) => format!("it was ended by signal {signal}"),
            None => format!("it exited with code {}", status.code().unwrap_or_default()),
        },
        Some(Err(error)) => format!("it is lost: {error}"),
        None => "it closed its output".into(),
    })
}

/// Makes sure that the process and its children are gone.
async fn finish(shared: &Shared, child: &mut Child, ending: &Ending) {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw)
    else {
        return;
    };
    if !matches!(ending, Ending::Died(_)) {
        say_goodbye(shared);
        if timeout(BYE_GRACE, child.wait()).await.is_ok() {
            return;
        }
        signal(pid, Signal::TERM);
        if timeout(TERM_GRACE, child.wait()).await.is_ok() {
            return;
        }
    }
    signal(pid, Signal::KILL);
    if let Err(error) = child.wait().await {
        tracing::warn!(%error, "A binding process cannot be waited for");
    }
}

fn say_goodbye(shared: &Shared) {
    let mut state = shared.lock();
    let load_id = state.load_id;
    state.outgoing.clear();
    state.control(&Command::Cancel(Ask { id: load_id }));
    state.control(&Command::Bye(Bye {}));
    drop(state);
    shared.to_write.notify_one();
}

fn signal(group: Pid, signal: Signal) {
    // It may be gone already, which is what was wanted.
    let _gone = rustix::process::kill_process_group(group, signal);
}

async fn write_lines(shared: Arc<Shared>, mut stdin: ChildStdin) {
    loop {
        let line = shared.lock().outgoing.next();
        let Some(line) = line else {
            shared.to_write.notified().await;
            continue;
        };
        // A broken pipe is the end of the process; its reader sees that too.
        if stdin.write_all(&line).await.is_err() {
            return;
        }
    }
}

async fn log_lines(name: String, stderr: ChildStderr) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A line without an end is cut, so that it cannot grow without bound.
        let mut limited = tokio::io::AsyncReadExt::take(&mut lines, 8 * 1024);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                tracing::debug!(model.name = %name, text = %text.trim_end().escape_debug(), "A binding process logged");
            }
        }
    }
}
