//! The bindings of a root: cards, model lists, and the programs that drop-in bindings bring.
//!
//! A binding is a folder with `binding_card.yaml`, and `models.yaml` if it lists models; `config.yaml` in
//! the layout of LoLLMs' guide serves as a card too. A card with `command: [program, argument, …]` is a
//! drop-in: its program is code, so [`Catalogue::launch`] hands it out only when the fingerprint of its
//! folder is the one that was trusted.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::domain::binding::LLAMA_CPP;
use crate::domain::name::Name;
use crate::registry::beneath::{Folder, Kind, ReadError};
use crate::registry::catalogue::{Catalogue, Manifest};
use crate::registry::fingerprint::{FingerprintError, fingerprint};
use crate::registry::image::{Image, ImageError, read_image};
use crate::registry::loose::scalar;
use crate::registry::personality::read_mapping;
use crate::registry::problem::Problem;
use crate::registry::yaml;

/// The card of a binding.
const CARD: &str = "binding_card.yaml";
/// The card in the layout of LoLLMs' guide for authors.
const GUIDE_CARD: &str = "config.yaml";
const MODELS: &str = "models.yaml";
/// Most words of a `command`.
const MAX_WORDS: usize = 64;

/// The bindings of a root, kept up to date.
pub type Bindings = Catalogue<BindingEntry>;

/// A binding as its folder describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingEntry {
    /// Its folder's name.
    pub name: Name,
    /// Its card as written.
    pub card: Value,
    /// Its models as written: a list.
    pub models: Value,
    /// How its program is started, as written; `None` for bindings without one.
    pub command: Option<Vec<String>>,
    /// Whether it has a `logo.png`.
    pub has_logo: bool,
}

/// How a drop-in binding is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program: an absolute path, or a bare name to be looked up in `PATH`.
    pub program: String,
    /// Its arguments; names of files in the folder are absolute.
    pub args: Vec<String>,
    /// The folder to start it in.
    ///
    /// Python must not write `__pycache__` there (`PYTHONDONTWRITEBYTECODE=1`), or the folder is no
    /// longer what was trusted.
    pub folder: PathBuf,
}

/// Why a binding is not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No such folder, or its card is broken.
    #[error("there is no usable binding `{0}`")]
    Missing(String),
    /// There is no program to start: the built-in binding, or a card without `command`.
    #[error(
        "binding `{0}` has no `command` in its `binding_card.yaml`, so there is no program to start"
    )]
    NoProgram(String),
    /// Nobody trusted it.
    #[error(
        "binding `{0}` is a program that is not trusted; look at its folder, then run `lollmsd bindings trust {0}`"
    )]
    Untrusted(String),
    /// It was trusted, and is another now.
    #[error(
        "binding `{0}` has changed since it was trusted; look at its folder, then run `lollmsd bindings trust {0}` again"
    )]
    Changed(String),
    /// The folder cannot be checked.
    #[error("binding `{name}` cannot be checked: {source}")]
    Unchecked {
        /// Which binding.
        name: String,
        /// What is in the way.
        #[source]
        source: FingerprintError,
    },
    /// The program does not lie where a card may point.
    #[error(
        "binding `{name}`: `command` begins with `{program}`; expected a file in its folder, a bare program name or an absolute path"
    )]
    Program {
        /// Which binding.
        name: String,
        /// What the card says.
        program: String,
    },
}

impl Manifest for BindingEntry {
    type Place = Name;

    fn places(root: &Folder) -> Result<(Vec<Name>, Vec<Problem>), ReadError> {
        let (mut places, mut problems) = (Vec::new(), Vec::new());
        for entry in root.entries()? {
            if entry.name.starts_with('.') || entry.name == "__pycache__" {
                continue;
            }
            let has = |file: &str| root.is_there(&format!("{}/{file}", entry.name));
            let mut broken = |reason: String| {
                problems.push(Problem::broken(&entry.name, None, reason));
            };
            match (entry.kind, Name::parse(&entry.name)) {
                (Kind::Folder, Ok(name)) if has(CARD) || has(GUIDE_CARD) => places.push(name),
                (Kind::Folder, Ok(_)) => broken(format!("the folder has no `{CARD}`")),
                (Kind::Folder, Err(error)) => broken(error.to_string()),
                (Kind::Link, _) => {
                    broken("it is a symbolic link; links are not followed here".into());
                }
                (Kind::File | Kind::Other, _) => {}
            }
        }
        Ok((places, problems))
    }

    fn path(place: &Name) -> String {
        place.to_string()
    }

    fn watched(place: &Name) -> Vec<String> {
        let files = [CARD, GUIDE_CARD, MODELS].iter().map(|file| format!("{place}/{file}"));
        std::iter::once(place.to_string()).chain(files).collect()
    }

    fn load(root: &Folder, place: &Name) -> Result<(Self, Vec<Problem>), Problem> {
        let folder = root
            .folder(place.as_str())
            .map_err(|error| Problem::broken(place.as_str(), None, error.to_string()))?;
        let has_card = folder.is_there(CARD);
        let file = if has_card { CARD } else { GUIDE_CARD };
        let mut card = read_mapping(&folder, file, &format!("{place}/{file}"))?;
        if !has_card {
            from_guide(&mut card, place);
        }
        let mut odd = Vec::new();
        let command = command(&card).unwrap_or_else(|reason| {
            odd.push(Problem::odd(format!("{place}/{file}"), reason));
            None
        });
        let models = models(&folder, place, &mut odd);
        let has_logo = folder.has_file("logo.png");
        let card = Value::Object(card);
        Ok((Self { name: place.clone(), card, models, command, has_logo }, odd))
    }
}

/// Gives a card of the guide's layout the keys that clients read.
fn from_guide(card: &mut Map<String, Value>, name: &Name) {
    if let Some(url) = card.get("url").cloned() {
        card.entry("link").or_insert(url);
    }
    for (key, default) in
        [("name", name.as_str()), ("author", "unknown"), ("version", "1.0"), ("description", "")]
    {
        card.entry(key).or_insert_with(|| default.into());
    }
}

/// A broken list leaves the binding usable with an empty one.
fn models(folder: &Folder, name: &Name, odd: &mut Vec<Problem>) -> Value {
    let shown = format!("{name}/{MODELS}");
    let empty = || Value::Array(Vec::new());
    let bytes = match folder.read(MODELS, yaml::MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(ReadError::Missing) => return empty(),
        Err(error) => {
            odd.push(Problem::odd(shown, error.to_string()));
            return empty();
        }
    };
    match yaml::parse(&bytes) {
        Ok(list @ Value::Array(_)) => list,
        Ok(Value::Null) => empty(),
        Ok(other) => {
            let reason = format!("the file holds {}; expected a list", yaml::kind(&other));
            odd.push(Problem::odd(shown, reason));
            empty()
        }
        Err(error) => {
            let mut problem = Problem::odd(shown, error.reason);
            problem.line = error.line;
            odd.push(problem);
            empty()
        }
    }
}

fn command(card: &Map<String, Value>) -> Result<Option<Vec<String>>, String> {
    let words = match card.get("command") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(words)) => words,
        Some(other) => {
            let kind = yaml::kind(other);
            return Err(format!(
                "`command` is {kind}; expected a list of a program and its arguments"
            ));
        }
    };
    let texts: Option<Vec<String>> = words.iter().map(scalar).collect();
    let good = |text: &String| !text.contains('\0');
    match texts {
        Some(texts) if (1..=MAX_WORDS).contains(&texts.len()) && texts.iter().all(good) => {
            Ok(Some(texts))
        }
        _ => Err(format!("`command` has something else than 1 to {MAX_WORDS} texts")),
    }
}

impl Catalogue<BindingEntry> {
    /// The binding with this name.
    pub fn find(&self, name: &Name) -> Option<Arc<BindingEntry>> {
        self.snapshot().entries.get(name.as_str()).cloned()
    }

    /// A binding's `logo.png`.
    ///
    /// # Errors
    /// [`ImageError`] when it is missing or no picture.
    pub fn logo(&self, name: &Name) -> Result<Image, ImageError> {
        read_image(&Folder::open(self.root())?, &format!("{name}/logo.png"))
    }

    /// The fingerprint of a binding's folder, to be trusted or compared.
    ///
    /// # Errors
    /// [`FingerprintError`] when the folder is missing, too large or holds links.
    pub fn fingerprint(&self, name: &Name) -> Result<String, FingerprintError> {
        let root = Folder::open(self.root()).and_then(|root| root.folder(name.as_str()));
        let root =
            root.map_err(|source| FingerprintError::Unreadable { path: name.to_string(), source })?;
        fingerprint(&root)
    }

    /// How to start a drop-in binding whose folder still has the `trusted` fingerprint.
    ///
    /// # Errors
    /// [`LaunchError`] when there is no program, or it is not trusted, or no longer.
    pub fn launch(&self, name: &Name, trusted: Option<&str>) -> Result<Launch, LaunchError> {
        let entry = self.find(name).ok_or_else(|| LaunchError::Missing(name.to_string()))?;
        let no_program = || LaunchError::NoProgram(name.to_string());
        let words = entry.command.as_ref().filter(|_| name.as_str() != LLAMA_CPP);
        let (program, args) = words.and_then(|words| words.split_first()).ok_or_else(no_program)?;
        let trusted = trusted.ok_or_else(|| LaunchError::Untrusted(name.to_string()))?;
        let now = self.fingerprint(name);
        let now =
            now.map_err(|source| LaunchError::Unchecked { name: name.to_string(), source })?;
        if now != trusted {
            return Err(LaunchError::Changed(name.to_string()));
        }
        let folder = self.root().join(name.as_str());
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let open = Folder::open(&folder).map_err(|_| LaunchError::Missing(name.to_string()))?;
        let resolve = |word: &String| {
            let inside = !word.starts_with('-') && open.has_file(word);
            if inside { folder.join(word).to_string_lossy().into_owned() } else { word.clone() }
        };
        let args = args.iter().map(resolve).collect();
        let program = resolve(program);
        if program.contains('/') && !program.starts_with('/') {
            return Err(LaunchError::Program { name: name.to_string(), program });
        }
        Ok(Launch { program, args, folder })
    }
}
