//! `lollmsd serve`: puts the parts together and runs until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use axum::middleware::from_fn_with_state;
use clap::Args;
use serde_json::{Value, json};
use socketioxide::SocketIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::app::App;
use crate::app::pool::Pool;
use crate::binding::spawn::Spawner;
use crate::cli::telemetry::{self, LogFormat};
use crate::cli::{find_root, listeners};
use crate::config::load::{Layers, load};
use crate::config::root::Root;
use crate::config::settings::{Secret, Settings};
use crate::config::store::ConfigStore;
use crate::wire::net::flow::Flows;
use crate::wire::net::guard::{Rules, guard};
use crate::wire::net::keys::Keys;
use crate::wire::net::listen::{self, ConnectionLimits, Gate};
use crate::wire::rest;
use crate::wire::socket::{self, SocketParts, conformance};

/// Time that running generations have to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(8);
const DRAIN_STEP: Duration = Duration::from_millis(20);
/// Time for the end of a generation to be sent.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Time for sessions to be closed.
const GOODBYE: Duration = Duration::from_secs(1);

/// Flags of `lollmsd serve`.
#[derive(Debug, Args)]
pub struct ServeFlags {
    /// The folder of personalities, bindings, models, settings.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Listen here; may be given several times.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<String>,
    /// Listen on this address; LoLLMs' own flag.
    #[arg(long, value_name = "ADDR", conflicts_with = "listen")]
    host: Option<String>,
    /// Listen on this port alone; LoLLMs' own flag.
    #[arg(long, value_name = "PORT", conflicts_with = "listen")]
    port: Option<u16>,
    /// A GGUF file to load at the start and select.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Ask every client for this key.
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Ask every client for one of the keys in this file, one a line.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Let pages of this origin use the server; exact, may be given several times.
    #[arg(long, value_name = "URL")]
    allowed_origin: Vec<String>,
    /// How log lines are written.
    #[arg(long, value_enum, default_value_t, env = "LOLLMSD_LOG_FORMAT")]
    log_format: LogFormat,
    /// Only answer the conformance suites of Socket.IO; for tests.
    #[arg(long, hide = true)]
    socketio_conformance: bool,
}

impl ServeFlags {
    /// The flags that are settings.
    fn settings(&self) -> Vec<(String, Value)> {
        let mut flags = Vec::new();
        let mut set = |name: &str, value: Value| flags.push((name.to_owned(), value));
        if !self.listen.is_empty() {
            set("listen", json!(self.listen));
        }
        if let Some(port) = self.port {
            // LoLLMs' flag means one listener, unlike its setting.
            let host = self.host.as_deref().filter(|host| *host != "localhost");
            let hosts = host.map_or_else(|| vec!["127.0.0.1", "::1"], |host| vec![host]);
            let addresses: Vec<String> =
                hosts.into_iter().map(|host| address(host, port)).collect();
            set("listen", json!(addresses));
        } else if let Some(host) = &self.host {
            set("host", json!(host));
        }
        if let Some(key) = &self.api_key {
            set("api_key", json!(key));
        }
        if let Some(file) = &self.api_key_file {
            set("api_key_file", json!(std::path::absolute(file).unwrap_or_else(|_| file.clone())));
        }
        if !self.allowed_origin.is_empty() {
            set("allowed_origins", json!(self.allowed_origin));
        }
        flags
    }
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Runs the server.
///
/// # Errors
/// What keeps it from starting.
pub fn run(flags: ServeFlags) -> anyhow::Result<ExitCode> {
    telemetry::start(flags.log_format);
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(serve(flags))?;
    // What is left are connections of clients and file work; neither is waited for.
    runtime.shutdown_background();
    Ok(code)
}

/// Each connection takes a descriptor, and the usual soft limit is 1,024.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "The limit of descriptors stays as it is");
    }
}

async fn serve(flags: ServeFlags) -> anyhow::Result<ExitCode> {
    let root = find_root(flags.root.clone())?;
    root.prepare()?;
    let _lock = root.lock()?;
    let settings = settings(&root, &flags)?;
    let listeners = listeners::bind_all(&settings)?;
    let (stop, stopped) = watch::channel(false);
    let (router, running) = if flags.socketio_conformance {
        if !settings.is_loopback_only() {
            bail!("`--socketio-conformance` has no guard; it listens on this machine only");
        }
        (Router::new().layer(conformance::layer()), None)
    } else {
        let app = build_app(&root, &settings, flags.model).await?;
        let (router, io) = router(&app, &settings);
        (router, Some((app, io)))
    };
    let limits = ConnectionLimits {
        total: settings.max_connections.try_into()?,
        per_address: settings.max_connections_per_address.try_into()?,
    };
    listeners::announce(&listeners)?;
    accept(listeners, &router, limits, &stopped);
    wait_for_signal().await?;
    tracing::info!("Stopping");
    stop.send_replace(true);
    if let Some((app, io)) = running {
        drain(&app, &io).await;
    }
    Ok(ExitCode::SUCCESS)
}

fn settings(root: &Root, flags: &ServeFlags) -> anyhow::Result<Settings> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let layers = Layers { variables: variables.collect(), flags: flags.settings() };
    let loaded = load(root, layers)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let settings = loaded.settings;
    if settings.api_keys.is_empty() && !settings.is_loopback_only() {
        bail!(
            "listening beyond this machine needs a key: add `--api-key KEY` or `--api-key-file FILE`, \
             or listen on 127.0.0.1"
        );
    }
    Ok(settings)
}

async fn build_app(
    root: &Root,
    settings: &Settings,
    model: Option<PathBuf>,
) -> anyhow::Result<App> {
    let own_program = std::env::current_exe().context("this program's own file cannot be found")?;
    let pool = Pool::new(Spawner::start()?, own_program);
    let app = App::new(root, ConfigStore::new(root.clone(), settings.clone()), pool);
    match model {
        Some(path) => {
            let path = std::path::absolute(path)?;
            app.use_model_file(path).map_err(|failure| anyhow::anyhow!("--model: {failure}"))?;
        }
        None => app.load_default_model().await,
    }
    tokio::spawn(app.clone().follow_models());
    Ok(app)
}

/// Everything that is served, the guard outermost.
fn router(app: &App, settings: &Settings) -> (Router, SocketIo) {
    let keys = Arc::new(Keys::new(settings.api_keys.iter().map(Secret::expose)));
    let flows = Arc::new(Flows::default());
    let rules = Arc::new(Rules {
        allowed_hosts: settings.allowed_hosts.clone(),
        allowed_origins: settings.allowed_origins.clone(),
        keys: Arc::clone(&keys),
        flows: Arc::clone(&flows),
    });
    let (sockets, io) = socket::layer(SocketParts { app: app.clone(), keys, flows });
    let routes = rest::routes(app.clone());
    (routes.layer(sockets).layer(from_fn_with_state(rules, guard)), io)
}

fn accept(
    listeners: Vec<TcpListener>,
    router: &Router,
    limits: ConnectionLimits,
    stopped: &watch::Receiver<bool>,
) {
    let gate = Gate::new(limits);
    for listener in listeners {
        let (router, gate, stopped) = (router.clone(), Arc::clone(&gate), stopped.clone());
        tokio::spawn(listen::serve(listener, router, gate, stopped));
    }
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Lets running generations end, for a while, and their last words reach their clients.
async fn drain(app: &App, io: &SocketIo) {
    app.stop_accepting();
    let deadline = Instant::now() + DRAIN;
    while app.busy() > 0 && Instant::now() < deadline {
        sleep(DRAIN_STEP).await;
    }
    app.end_generations();
    sleep(LAST_WORDS).await;
    // A client that does not answer is not waited for.
    drop(timeout(GOODBYE, io.close()).await);
}
