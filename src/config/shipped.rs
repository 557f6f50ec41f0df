//! What ships inside the executable: bindings, personalities, the demonstration model, the
//! commented configuration.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rust_embed::{Embed, EmbeddedFile};

/// Names what was laid out, so that what is removed later does not come back.
const RECORD: &str = "configs/.laid-out";

// Each folder is named: what lies beside them in a working copy is no part of the program.
#[derive(Embed)]
#[folder = "bindings/"]
#[include = "llama_cpp/*"]
#[include = "example_python/*"]
#[exclude = "*/__pycache__/*"]
struct Bindings;

#[derive(Embed)]
#[folder = "personalities/"]
#[include = "creative/*"]
#[include = "education/*"]
#[include = "generic/*"]
#[include = "work/*"]
struct Personalities;

#[derive(Embed)]
#[folder = "configs/"]
#[include = "config.yaml"]
struct Configs;

#[derive(Embed)]
#[folder = "models/"]
#[include = "llama_cpp/lollmsd-demo.gguf"]
struct Models;

/// Files that ship, by their path beneath the root.
fn files() -> impl Iterator<Item = (String, EmbeddedFile)> {
    fn of<T: Embed>(folder: &'static str) -> impl Iterator<Item = (String, EmbeddedFile)> {
        T::iter().filter_map(move |name| Some((format!("{folder}/{name}"), T::get(&name)?)))
    }
    of::<Configs>("configs")
        .chain(of::<Bindings>("bindings"))
        .chain(of::<Personalities>("personalities"))
        .chain(of::<Models>("models"))
}

/// Lays out what was never laid out in this root and is not there.
pub(super) fn lay_out(root: &Path) -> Result<(), (PathBuf, std::io::Error)> {
    let record = root.join(RECORD);
    let former = std::fs::read_to_string(&record).unwrap_or_default();
    let mut done: BTreeSet<String> = former.lines().map(str::to_owned).collect();
    let before = done.len();
    for (name, file) in files() {
        let path = root.join(&name);
        if !done.contains(&name) {
            place(&path, &file.data).map_err(|error| (path, error))?;
            done.insert(name);
        }
    }
    if done.len() == before {
        return Ok(());
    }
    let mut lines: Vec<&str> = done.iter().map(String::as_str).collect();
    lines.push("");
    crate::config::save::replace(&record, lines.join("\n").as_bytes())
        .map_err(|error| (record, error))
}

/// Puts a file in place, whole or not at all; one that is there stays.
fn place(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut temp = path.as_os_str().to_owned();
    temp.push(".tmp");
    std::fs::write(&temp, content)?;
    std::fs::rename(&temp, path)
}
