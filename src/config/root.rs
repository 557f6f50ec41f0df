//! The root folder: where everything of one server lies.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::config::shipped;

/// The root folder of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    path: PathBuf,
}

/// What decides where the root is.
#[derive(Clone, Debug, Default)]
pub struct RootChoice {
    /// `--root`.
    pub flag: Option<PathBuf>,
    /// `LOLLMSD_ROOT`.
    pub variable: Option<PathBuf>,
    /// The current folder.
    pub current: PathBuf,
    /// `XDG_DATA_HOME`.
    pub data_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
}

/// Why a root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// Nothing says where it is.
    #[error("no root folder: `HOME` is not set; say it with `--root DIR`")]
    Nowhere,
    /// A folder or file cannot be made.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another server has it.
    #[error("another lollmsd{} serves {}; end it, or take another folder with `--root DIR`", .pid.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default(), .path.display())]
    Taken {
        /// The root.
        path: PathBuf,
        /// Its process, when it said so.
        pid: Option<String>,
    },
}

/// The right to serve a root; freed when dropped, and by the system when the process ends.
#[derive(Debug)]
pub struct RootLock {
    _file: File,
}

impl Root {
    /// A root at this folder, absolute from here on.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { path: std::path::absolute(&path).unwrap_or(path) }
    }

    /// `--root`, else `LOLLMSD_ROOT`, else the current folder if it holds `configs/` and
    /// `personalities/`, else `lollmsd` in the user's data folder.
    ///
    /// # Errors
    /// [`RootError::Nowhere`] when there is none of these.
    pub fn find(choice: RootChoice) -> Result<Self, RootError> {
        if let Some(path) = choice.flag.or(choice.variable) {
            return Ok(Self::at(path));
        }
        let is_root =
            |path: &Path| path.join("configs").is_dir() && path.join("personalities").is_dir();
        if is_root(&choice.current) {
            return Ok(Self::at(choice.current));
        }
        // The XDG rule: a relative path is no path.
        let data = choice.data_home.filter(|path| path.is_absolute());
        let data = data.or_else(|| Some(choice.home?.join(".local/share")));
        data.map(|data| Self::at(data.join("lollmsd"))).ok_or(RootError::Nowhere)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `configs/`.
    pub fn configs(&self) -> PathBuf {
        self.path.join("configs")
    }

    /// `personalities/`.
    pub fn personalities(&self) -> PathBuf {
        self.path.join("personalities")
    }

    /// `bindings/`.
    pub fn bindings(&self) -> PathBuf {
        self.path.join("bindings")
    }

    /// `models/`.
    pub fn models(&self) -> PathBuf {
        self.path.join("models")
    }

    /// `databases/`.
    pub fn databases(&self) -> PathBuf {
        self.path.join("databases")
    }

    /// `cache/`.
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// `logs/`.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Makes the folders that are missing (mode 0700) and lays out what ships, never over a file that
    /// is there, and never again what was removed since.
    ///
    /// # Errors
    /// [`RootError::Io`] names what cannot be made.
    pub fn prepare(&self) -> Result<(), RootError> {
        let folders = [
            self.path.clone(),
            self.configs(),
            self.personalities(),
            self.bindings(),
            self.models().join("llama_cpp"),
            self.databases(),
            self.cache(),
            self.logs(),
        ];
        for folder in folders {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(|source| RootError::Io { path: folder, source })?;
        }
        shipped::lay_out(&self.path).map_err(|(path, source)| RootError::Io { path, source })
    }

    /// Takes the root for this process.
    ///
    /// # Errors
    /// [`RootError::Taken`] when another process has it.
    pub fn lock(&self) -> Result<RootLock, RootError> {
        let path = self.path.join(".lollmsd.lock");
        let failed = |source| RootError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _unread = (&file).take(20).read_to_string(&mut text);
                let pid = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
                return Err(RootError::Taken { path: self.path.clone(), pid });
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(RootLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_where_it_was_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let current = folder.path().to_owned();
        let choice = |flag: Option<&str>, home: Option<&str>| RootChoice {
            flag: flag.map(PathBuf::from),
            current: current.clone(),
            home: home.map(PathBuf::from),
            ..RootChoice::default()
        };
        let found = |choice| Root::find(choice).unwrap().path().to_owned();
        assert_eq!(found(choice(Some("/r"), None)), Path::new("/r"));
        assert_eq!(found(choice(None, Some("/h"))), Path::new("/h/.local/share/lollmsd"));
        let variable = RootChoice { variable: Some("/v".into()), ..choice(None, Some("/h")) };
        assert_eq!(found(variable), Path::new("/v"));
        assert!(matches!(Root::find(choice(None, None)), Err(RootError::Nowhere)));
        for name in ["configs", "personalities"] {
            std::fs::create_dir(current.join(name)).unwrap();
        }
        assert_eq!(found(choice(None, Some("/h"))), current);
    }

    #[test]
    fn a_second_server_is_told_who_has_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path());
        let lock = root.lock().unwrap();
        let error = root.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(lock);
        assert!(root.lock().is_ok());
    }

    #[test]
    fn what_ships_is_laid_out_once_and_never_over_a_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().join("new"));
        root.prepare().unwrap();
        let default = root.personalities().join("generic/lollms/config.yaml");
        assert!(default.is_file());
        assert!(root.bindings().join("llama_cpp/binding_card.yaml").is_file());
        let mode = std::fs::metadata(root.databases()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let config = root.configs().join("config.yaml");
        std::fs::write(&config, "slots: 2\n").unwrap();
        std::fs::remove_dir_all(root.bindings().join("example_python")).unwrap();
        root.prepare().unwrap();
        assert_eq!(std::fs::read_to_string(&config).unwrap(), "slots: 2\n");
        assert!(!root.bindings().join("example_python").exists());
    }
}
