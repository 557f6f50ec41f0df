//! Model files of a binding: what is in its folder, what it offers, and which file a name stands for.
//!
//! A model is a `*.gguf` file in `models/<binding>/`, or a `*.reference` file there whose content is the
//! absolute path of the real one.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::domain::binding::ModelEntry;
use crate::domain::name::{Name, NameError};
use crate::registry::beneath::{Folder, Kind, ReadError};
use crate::registry::loose::scalar;

/// Longest path in a `.reference` file, in bytes.
const MAX_REFERENCE: u64 = 4_096;

/// Why a name stands for no model file.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The name is no single path component.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Nothing there.
    #[error("there is no model `{model}` in `{folder}`")]
    Missing {
        /// What was asked for.
        model: String,
        /// Where it was looked for.
        folder: String,
    },
    /// Neither `.gguf` nor `.reference`.
    #[error("`{0}` is no model; expected a name that ends with `.gguf` or `.reference`")]
    Ending(String),
    /// A link; the way out is named.
    #[error(
        "`{model}` is a symbolic link; write the path of the real file into `{stem}.reference` instead"
    )]
    Link {
        /// What was asked for.
        model: String,
        /// Its name without the ending.
        stem: String,
    },
    /// A folder, fifo or device, or unreadable.
    #[error("model `{model}`: {source}")]
    Unreadable {
        /// What was asked for.
        model: String,
        /// What is wrong with it.
        #[source]
        source: ReadError,
    },
    /// A `.reference` file that leads nowhere.
    #[error("`{model}` is broken: {reason}")]
    Reference {
        /// What was asked for.
        model: String,
        /// What is wrong with its content.
        reason: String,
    },
}

/// An installed model as its file is now; a file that was changed is another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelFile {
    /// Its name, as clients select it.
    pub name: String,
    /// The file that the name stands for.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// When it was last written to.
    pub modified: Option<SystemTime>,
}

/// The `models/` folder of a root.
#[derive(Clone, Debug)]
pub struct Models {
    root: PathBuf,
}

impl Models {
    /// The models beneath this folder; nothing is read yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of a binding's models. Links on the way to it are followed: where models lie is the
    /// operator's choice.
    pub fn folder(&self, binding: &Name) -> PathBuf {
        self.root.join(binding.as_str())
    }

    /// Names of the files that can be selected, sorted; none when there is no folder.
    pub fn list_installed(&self, binding: &Name) -> Vec<String> {
        let entries = Folder::open(&self.folder(binding)).and_then(|folder| folder.entries());
        let is_model = |name: &str| ending(name).is_some() && Name::parse(name).is_ok();
        let entries = entries.unwrap_or_default().into_iter();
        entries
            .filter(|entry| entry.kind == Kind::File && is_model(&entry.name))
            .map(|entry| entry.name)
            .collect()
    }

    /// The files behind [`Models::list_installed`], in that order; names that lead nowhere are left out.
    pub fn list_files(&self, binding: &Name) -> Vec<ModelFile> {
        let file = |name: String| {
            let path = self.resolve(binding, &name).ok()?;
            let about = std::fs::metadata(&path).ok()?;
            Some(ModelFile { name, path, size: about.len(), modified: about.modified().ok() })
        };
        self.list_installed(binding).into_iter().filter_map(file).collect()
    }

    /// What a binding offers: the entries of its `models.yaml`, then installed files that none of
    /// them names. Entries without a name are left out.
    pub fn list_available(&self, binding: &Name, models: &Value) -> Vec<ModelEntry> {
        let folder = Folder::open(&self.folder(binding)).ok();
        let installed: BTreeSet<String> = self.list_installed(binding).into_iter().collect();
        let listed = models.as_array().map_or(&[] as &[Value], Vec::as_slice);
        let mut entries: Vec<ModelEntry> = listed
            .iter()
            .filter_map(Value::as_object)
            .filter_map(|map| entry(map, &installed))
            .collect();
        let named: BTreeSet<String> = entries.iter().map(|entry| entry.title.clone()).collect();
        for title in installed.difference(&named) {
            let size = folder.as_ref().and_then(|folder| folder.file(title).ok());
            let mut entry = unknown(title);
            entry.is_installed = true;
            entry.filesize =
                size.and_then(|(_, stat)| u64::try_from(stat.st_size).ok()).unwrap_or(0);
            entry.model_type = "gguf".into();
            entries.push(entry);
        }
        entries
    }

    /// The file that a name stands for, absolute; a `.reference` is followed.
    ///
    /// # Errors
    /// [`ModelError`] names what is there instead.
    pub fn resolve(&self, binding: &Name, model: &str) -> Result<PathBuf, ModelError> {
        let name = Name::parse(model)?;
        let Some((stem, ending)) = ending(model) else {
            return Err(ModelError::Ending(model.into()));
        };
        let path = self.folder(binding);
        let missing =
            || ModelError::Missing { model: model.into(), folder: format!("models/{binding}") };
        let wrong = |error| match error {
            ReadError::Missing => missing(),
            ReadError::Link => ModelError::Link { model: model.into(), stem: stem.into() },
            source @ (ReadError::NotAFile | ReadError::TooLarge { .. } | ReadError::System(_)) => {
                ModelError::Unreadable { model: model.into(), source }
            }
        };
        let folder = Folder::open(&path).map_err(wrong)?;
        if ending == Ending::Gguf {
            folder.file(name.as_str()).map_err(wrong)?;
            return Ok(std::path::absolute(path.join(model)).unwrap_or_else(|_| path.join(model)));
        }
        let content = folder.read(name.as_str(), MAX_REFERENCE).map_err(wrong)?;
        follow(&content).map_err(|reason| ModelError::Reference { model: model.into(), reason })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Gguf,
    Reference,
}

/// Splits a model's file name; `None` for other files.
fn ending(name: &str) -> Option<(&str, Ending)> {
    let (stem, last) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty())?;
    if last.eq_ignore_ascii_case("gguf") {
        Some((stem, Ending::Gguf))
    } else if last.eq_ignore_ascii_case("reference") {
        Some((stem, Ending::Reference))
    } else {
        None
    }
}

/// The file that the content of a `.reference` names.
fn follow(content: &[u8]) -> Result<PathBuf, String> {
    let text = content.trim_ascii();
    if text.is_empty() {
        return Err("it is empty; expected the absolute path of a model file".into());
    }
    if text.contains(&b'\n') || text.contains(&0) {
        return Err("it has several lines; expected one absolute path".into());
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(text));
    let shown = path.to_string_lossy();
    if !path.is_absolute() {
        return Err(format!("`{shown}` is not an absolute path"));
    }
    // Links are followed here: caches of other programs are made of them, and the operator wrote it.
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(path.to_owned()),
        Ok(_) => Err(format!("`{shown}` is no regular file")),
        Err(error) => Err(format!("`{shown}`: {error}")),
    }
}

fn unknown(title: &str) -> ModelEntry {
    ModelEntry {
        title: title.into(),
        icon: "/images/default_model.png".into(),
        license: "unknown".into(),
        owner: "unknown".into(),
        owner_link: "https://github.com/ParisNeo".into(),
        description: String::new(),
        is_installed: false,
        path: String::new(),
        filesize: 0,
        model_type: String::new(),
    }
}

/// An entry of `models.yaml`, in any spelling that zoos used.
fn entry(map: &Map<String, Value>, installed: &BTreeSet<String>) -> Option<ModelEntry> {
    let text = |names: &[&str]| names.iter().find_map(|name| scalar(map.get(*name)?));
    // `filename"` stands in a list of June 2023.
    let title =
        text(&["filename", "title", "name", "filename\""]).filter(|title| !title.is_empty())?;
    let mut entry = unknown(&title);
    let set = |field: &mut String, names: &[&str]| {
        if let Some(value) = text(names) {
            *field = value;
        }
    };
    set(&mut entry.icon, &["icon"]);
    set(&mut entry.license, &["license"]);
    set(&mut entry.owner, &["owner", "model_creator", "quantizer"]);
    set(&mut entry.owner_link, &["owner_link", "model_creator_link"]);
    set(&mut entry.description, &["description"]);
    set(&mut entry.model_type, &["model_type", "type"]);
    let size = text(&["filesize", "file_size", "size"]).or_else(|| variant_size(map, &title));
    entry.filesize = size.and_then(|size| bytes(&size)).unwrap_or(0);
    if let Some(server) = text(&["server", "url"]).filter(|server| !server.is_empty()) {
        let slash = if server.ends_with('/') { "" } else { "/" };
        entry.path = format!("{server}{slash}{title}");
    }
    entry.is_installed = installed.contains(&title) || entry.model_type.eq_ignore_ascii_case("api");
    Some(entry)
}

/// Size of the variant with the entry's own name.
fn variant_size(map: &Map<String, Value>, title: &str) -> Option<String> {
    let variants = map.get("variants")?.as_array()?;
    let own = |variant: &&Value| variant.get("name").and_then(Value::as_str) == Some(title);
    scalar(variants.iter().find(own)?.get("size")?)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked before")]
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let whole = text.parse().ok();
    whole.or_else(|| {
        let float: f64 = text.parse().ok()?;
        (0.0..1e18).contains(&float).then_some(float as u64)
    })
}
