//! Bindings and models: list them, select them, count tokens with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::pool::ModelChoice;
use crate::app::selection::{SelectedModel, Selection};
use crate::app::session::Session;
use crate::app::{App, blocking};
use crate::binding::instance::Instance;
use crate::domain::binding::{LLAMA_CPP, ModelEntry};
use crate::domain::error::{ErrorCode, Failure};
use crate::domain::name::Name;
use crate::registry::bindings::BindingEntry;
use crate::registry::gguf::{self, Summary};

/// Longest text that is tokenized or embedded for a client, in bytes.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Most tokens of one `detokenize`.
pub const MAX_TOKENS: usize = 1 << 20;

impl App {
    /// All bindings, sorted by name.
    ///
    /// # Errors
    /// `Internal` when the server fails while reading.
    pub async fn list_bindings(&self) -> Result<Vec<Arc<BindingEntry>>, Failure> {
        let app = self.clone();
        blocking(move || app.parts.bindings.snapshot().entries.values().cloned().collect()).await
    }

    /// What the session's binding offers, installed or not.
    ///
    /// # Errors
    /// `Conflict` when no binding is selected.
    pub async fn list_available_models(
        &self,
        session: &Session,
    ) -> Result<Vec<ModelEntry>, Failure> {
        self.available_models(session.selection.binding.clone()).await
    }

    /// Names of the models that are installed for the default binding; none without one.
    ///
    /// # Errors
    /// `Internal` when the server fails while reading.
    pub async fn list_installed_models(&self) -> Result<Vec<String>, Failure> {
        let Some(binding) = self.default_selection().binding else { return Ok(Vec::new()) };
        if binding.as_str() == LLAMA_CPP {
            let app = self.clone();
            return blocking(move || app.parts.models.list_installed(&binding)).await;
        }
        let entries = self.available_models(Some(binding)).await?;
        Ok(entries
            .into_iter()
            .filter(|entry| entry.is_installed)
            .map(|entry| entry.title)
            .collect())
    }

    async fn available_models(&self, binding: Option<Name>) -> Result<Vec<ModelEntry>, Failure> {
        let binding =
            binding.ok_or_else(|| Failure::new(ErrorCode::Conflict, "No binding selected"))?;
        let app = self.clone();
        blocking(move || {
            let entry = app.find_binding(&binding)?;
            Ok(app.parts.models.list_available(&binding, &entry.models))
        })
        .await?
    }

    fn find_binding(&self, name: &Name) -> Result<Arc<BindingEntry>, Failure> {
        self.parts.bindings.find(name).ok_or_else(|| {
            Failure::new(ErrorCode::NotFound, format!("there is no binding `{name}`"))
        })
    }

    /// Selects a binding for the session; it becomes the default. Another binding has other models, so
    /// the selected model is let go. Nothing changes when it fails.
    ///
    /// # Errors
    /// `InvalidRequest` or `NotFound` when there is none with this name; `Forbidden` when it is a
    /// program that nobody trusted.
    pub async fn select_binding(&self, session: &mut Session, name: &str) -> Result<(), Failure> {
        let name = parse_name(name)?;
        let app = self.clone();
        let wanted = name.clone();
        blocking(move || app.check_binding(&wanted)).await??;
        if session.selection.binding.as_ref() != Some(&name) {
            session.selection.binding = Some(name);
            session.selection.model = None;
            self.save_model(&session.selection).await;
            self.start_fallback().await;
        }
        Ok(())
    }

    fn check_binding(&self, name: &Name) -> Result<(), Failure> {
        self.find_binding(name)?;
        if name.as_str() != LLAMA_CPP {
            self.launch(name)?;
        }
        Ok(())
    }

    fn launch(&self, name: &Name) -> Result<crate::registry::bindings::Launch, Failure> {
        let forbidden = |reason: String| Failure::new(ErrorCode::Forbidden, reason);
        let trusted = self.parts.trusted.binding(name.as_str());
        let trusted = trusted.map_err(|error| forbidden(error.to_string()))?;
        let launch = self.parts.bindings.launch(name, trusted.as_deref());
        launch.map_err(|error| forbidden(error.to_string()))
    }

    /// Selects a model for the session and waits until it is loaded; it becomes the default. The former
    /// model serves until then, and stays selected when this fails.
    ///
    /// # Errors
    /// `Conflict` without a binding, `NotFound`, `InvalidRequest` for a file that is no model,
    /// `Unavailable` when the load fails, `Conflict` when it was cancelled.
    pub async fn select_model(
        &self,
        session: &mut Session,
        name: &str,
        cancelled: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let binding = session.selection.binding.clone().ok_or_else(no_binding)?;
        // Once the model is loaded, nothing may come between selecting and saving it.
        let model = tokio::select! {
            model = self.load_model(binding, name.to_owned()) => model?,
            () = cancelled => {
                return Err(Failure::new(ErrorCode::Conflict, "the selection was cancelled"));
            }
        };
        session.selection.model = Some(model);
        self.save_model(&session.selection).await;
        Ok(())
    }

    async fn load_model(&self, binding: Name, name: String) -> Result<SelectedModel, Failure> {
        let app = self.clone();
        let wanted = name.clone();
        let choice = blocking(move || app.choose(binding, &wanted)).await??;
        let instance = self.parts.pool.lease(choice, &self.parts.config.get())?;
        instance.ready().await?;
        Ok(SelectedModel { name, instance })
    }

    /// Finds a model and checks its file, before any process sees it.
    fn choose(&self, binding: Name, model: &str) -> Result<ModelChoice, Failure> {
        let entry = self.find_binding(&binding)?;
        if binding.as_str() == LLAMA_CPP {
            let path = self.parts.models.resolve(&binding, model);
            let path =
                path.map_err(|error| Failure::new(ErrorCode::NotFound, error.to_string()))?;
            self.check_file(&path)?;
            return Ok(ModelChoice {
                binding,
                model: model.into(),
                path: Some(path),
                launch: None,
            });
        }
        // The models of a drop-in binding need not be files; it is the one to know them.
        let launch = self.launch(&binding)?;
        parse_name(model)?;
        let path = self.parts.models.resolve(&binding, model).ok();
        Ok(ModelChoice {
            binding: entry.name.clone(),
            model: model.into(),
            path,
            launch: Some(launch),
        })
    }

    /// Reads the header of a model file and checks that the model fits this machine.
    pub(super) fn check_file(&self, path: &Path) -> Result<Summary, Failure> {
        let summary = gguf::read(path).map_err(|error| {
            let message = format!("`{}` cannot be used: {error}", file_name(path));
            Failure::new(ErrorCode::InvalidRequest, message)
        })?;
        let settings = self.parts.config.get();
        let tokens = u64::from(settings.ctx_size).min(summary.context_length.max(1));
        let cache = summary.kv_bytes_per_token.saturating_mul(tokens * u64::from(settings.slots));
        let needed = summary.file_size.saturating_add(cache);
        let Some(memory) = crate::app::status::total_memory() else { return Ok(summary) };
        if settings.gpu_layers == 0 && needed > memory {
            let message = format!(
                "`{}` needs about {} MiB of memory; this machine has {}",
                file_name(path),
                needed >> 20,
                memory >> 20
            );
            return Err(Failure::new(ErrorCode::InvalidRequest, message));
        }
        Ok(summary)
    }

    /// Starts to load the model that the configuration names, or the fallback. Returns once its file is
    /// checked; the load goes on. What fails is logged, and the server runs without a model.
    pub async fn load_default_model(&self) {
        let settings = self.parts.config.get();
        let (Some(binding), Some(name)) =
            (self.default_selection().binding, settings.model_name.clone())
        else {
            return self.start_fallback().await;
        };
        let app = self.clone();
        let wanted = name.clone();
        let choice = blocking(move || app.choose(binding, &wanted)).await.and_then(|found| found);
        match choice.and_then(|choice| self.parts.pool.lease(choice, &settings)) {
            Ok(instance) => {
                self.lock_default().model = Some(SelectedModel { name, instance });
            }
            Err(error) => {
                tracing::error!(model.name = %name, %error, "The configured model cannot be used");
            }
        }
    }

    /// Selects a model file given on the command line, wherever it lies, as the default of this run.
    ///
    /// # Errors
    /// Why the file cannot be a model.
    pub fn use_model_file(&self, path: PathBuf) -> Result<(), Failure> {
        self.check_file(&path)?;
        let name = file_name(&path);
        let instance = self.lease_file(name.clone(), path)?;
        let binding = parse_name(LLAMA_CPP)?;
        let mut default = self.lock_default();
        default.binding = Some(binding);
        default.model = Some(SelectedModel { name, instance });
        Ok(())
    }

    /// Leases a checked file for the built-in binding.
    pub(super) fn lease_file(
        &self,
        model: String,
        path: PathBuf,
    ) -> Result<Arc<Instance>, Failure> {
        let binding = parse_name(LLAMA_CPP)?;
        let choice = ModelChoice { binding, model, path: Some(path), launch: None };
        self.parts.pool.lease(choice, &self.parts.config.get())
    }

    /// The model of the default selection, or the fallback.
    pub(super) fn default_model(&self) -> Option<SelectedModel> {
        let chosen = self.lock_default().model.clone();
        chosen.or_else(|| self.fallback())
    }

    /// What runs the session's model; where nothing is chosen, what the server would choose now.
    ///
    /// # Errors
    /// `Conflict` when there is none.
    pub(super) fn model_of(&self, session: &Session) -> Result<Arc<Instance>, Failure> {
        if let Some(chosen) = &session.selection.model {
            return Ok(Arc::clone(&chosen.instance));
        }
        let same_binding = session.selection.binding == self.lock_default().binding;
        let model = same_binding.then(|| self.default_model()).flatten();
        Ok(model.ok_or_else(|| self.no_model())?.instance)
    }

    fn no_model(&self) -> Failure {
        let message = match &self.parts.config.get().model_name {
            Some(name) => format!(
                "`{name}`, which the configuration names, cannot be used; send `select_model` with the name of another"
            ),
            None => "no model is selected; copy a GGUF file into models/llama_cpp/ or send `select_model`".into(),
        };
        Failure::new(ErrorCode::Conflict, message)
    }

    /// The default model's name, with its index among the installed ones.
    ///
    /// # Errors
    /// `Internal` when the server fails while reading.
    pub async fn active_model(&self) -> Result<Option<(String, Option<usize>)>, Failure> {
        let Some(model) = self.default_model() else { return Ok(None) };
        let names = self.list_installed_models().await?;
        let index = names.iter().position(|name| *name == model.name);
        Ok(Some((model.name, index)))
    }

    /// Text to tokens, by the session's model.
    ///
    /// # Errors
    /// `Conflict` without a model; what the binding says.
    pub async fn tokenize(&self, session: &Session, text: String) -> Result<Vec<i32>, Failure> {
        check_length(&text)?;
        self.model_of(session)?.tokenize(text).await
    }

    /// Tokens to text, by the session's model.
    ///
    /// # Errors
    /// As [`App::tokenize`].
    pub async fn detokenize(&self, session: &Session, tokens: Vec<i32>) -> Result<String, Failure> {
        if tokens.len() > MAX_TOKENS {
            let message = format!("{} tokens; at most {MAX_TOKENS} are allowed", tokens.len());
            return Err(Failure::new(ErrorCode::InvalidRequest, message));
        }
        self.model_of(session)?.detokenize(tokens).await
    }

    /// Text to a vector, by the session's model.
    ///
    /// # Errors
    /// As [`App::tokenize`].
    pub async fn embed(&self, session: &Session, text: String) -> Result<Vec<f32>, Failure> {
        check_length(&text)?;
        self.model_of(session)?.embed(text).await
    }

    /// Makes a part of a session's selection the default, and saves it.
    pub(super) fn adopt(&self, selection: &Selection, part: Adopt) {
        let mut default = self.lock_default();
        match part {
            Adopt::Model => {
                default.binding.clone_from(&selection.binding);
                default.model.clone_from(&selection.model);
            }
            Adopt::Personalities => {
                default.mounted.clone_from(&selection.mounted);
                default.active = selection.active;
            }
        }
    }
}

/// Which part of a selection becomes the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adopt {
    Model,
    Personalities,
}

fn no_binding() -> Failure {
    // Clients of LoLLMs know this sentence.
    Failure::new(ErrorCode::Conflict, "Please select a binding first")
}

fn parse_name(text: &str) -> Result<Name, Failure> {
    Name::parse(text).map_err(|error| Failure::new(ErrorCode::InvalidRequest, error.to_string()))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn check_length(text: &str) -> Result<(), Failure> {
    if text.len() > MAX_TEXT_BYTES {
        let message =
            format!("the text has {} bytes; at most {MAX_TEXT_BYTES} are allowed", text.len());
        return Err(Failure::new(ErrorCode::InvalidRequest, message));
    }
    Ok(())
}
