//! A root folder for one test, gone when the test ends.

use crate::config::load::{Layers, Loaded, load};
use crate::config::root::Root;

/// A root folder for one test.
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// Makes a root with the folder `configs` and nothing in it.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("configs")).unwrap();
        Self { folder }
    }

    /// The root.
    pub(crate) fn root(&self) -> Root {
        Root::at(self.folder.path())
    }

    /// Writes a file of `configs/`.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.root().configs().join(name), content).unwrap();
    }

    /// Reads a file of `configs/`; empty when it is missing.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.root().configs().join(name)).unwrap_or_default()
    }

    /// The settings, with no variables and no flags.
    pub(crate) fn load(&self) -> Loaded {
        load(&self.root(), Layers::default()).unwrap()
    }
}
