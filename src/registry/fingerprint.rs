//! What a folder of code is, as one number: it changes when any file in it does.

use std::fmt::Write as _;
use std::io::Read;

use sha2::{Digest, Sha256};

use crate::registry::beneath::{Folder, Kind, MAX_ENTRIES, ReadError};

/// Most files of a folder that is trusted.
const MAX_FILES: usize = 5_000;
/// Most bytes of a folder that is trusted: 256 MiB, about a second of hashing.
const MAX_BYTES: u64 = 256 << 20;
/// Deepest folder within it.
const MAX_DEPTH: usize = 16;

/// Why a folder has no fingerprint.
#[derive(Debug, thiserror::Error)]
pub enum FingerprintError {
    /// Something in it cannot be read.
    #[error("`{path}`: {source}")]
    Unreadable {
        /// The file or folder, beneath the root.
        path: String,
        /// What is wrong with it.
        #[source]
        source: ReadError,
    },
    /// A link or device: what it leads to could change without the folder changing.
    #[error(
        "`{0}` is no regular file or folder; keep links and environments outside of the folder"
    )]
    NotPlain(String),
    /// Over a limit.
    #[error(
        "it has over {MAX_FILES} files, {MAX_BYTES} bytes or {MAX_DEPTH} levels; keep environments and models outside of the folder"
    )]
    TooLarge,
}

/// SHA-256 over names, sizes and contents of all files of a folder, as 64 hexadecimal digits.
///
/// # Errors
/// [`FingerprintError`] when it holds links, or is over a limit.
pub fn fingerprint(folder: &Folder) -> Result<String, FingerprintError> {
    let mut sum = Sum { hash: Sha256::new(), files: 0, bytes: 0 };
    sum.add_folder(folder, "", 0)?;
    let mut text = String::with_capacity(64);
    for byte in sum.hash.finalize() {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
    }
    Ok(text)
}

struct Sum {
    hash: Sha256,
    files: usize,
    bytes: u64,
}

impl Sum {
    fn add_folder(
        &mut self,
        folder: &Folder,
        path: &str,
        depth: usize,
    ) -> Result<(), FingerprintError> {
        let unreadable = |source| FingerprintError::Unreadable { path: path.to_owned(), source };
        let entries = folder.entries().map_err(unreadable)?;
        if depth > MAX_DEPTH || entries.len() >= MAX_ENTRIES {
            return Err(FingerprintError::TooLarge);
        }
        for entry in entries {
            let shown =
                if path.is_empty() { entry.name.clone() } else { format!("{path}/{}", entry.name) };
            let unreadable = |source| FingerprintError::Unreadable { path: shown.clone(), source };
            match entry.kind {
                Kind::Folder => {
                    let inner = folder.folder(&entry.name).map_err(unreadable)?;
                    self.add_folder(&inner, &shown, depth + 1)?;
                }
                Kind::File => {
                    let (file, stat) = folder.file(&entry.name).map_err(unreadable)?;
                    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                    self.files += 1;
                    self.bytes = self.bytes.saturating_add(size);
                    if self.files > MAX_FILES || self.bytes > MAX_BYTES {
                        return Err(FingerprintError::TooLarge);
                    }
                    self.add_file(&shown, size, file)
                        .map_err(|error| unreadable(ReadError::System(error)))?;
                }
                Kind::Link | Kind::Other => return Err(FingerprintError::NotPlain(shown)),
            }
        }
        Ok(())
    }

    /// Lengths go before texts, so that no two folders make the same stream of bytes.
    fn add_file(&mut self, path: &str, size: u64, file: std::fs::File) -> std::io::Result<()> {
        self.hash.update((path.len() as u64).to_le_bytes());
        self.hash.update(path.as_bytes());
        self.hash.update(size.to_le_bytes());
        let copied = std::io::copy(&mut file.take(size), &mut self.hash)?;
        if copied == size {
            Ok(())
        } else {
            Err(std::io::Error::other("it became shorter while it was read"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::Scratch;

    #[test]
    fn any_change_changes_the_fingerprint() {
        let scratch = Scratch::new();
        let sum = || fingerprint(&Folder::open(scratch.path()).unwrap());
        scratch.write("a/run.py", "print(1)");
        let first = sum().unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(sum().unwrap(), first);
        scratch.write("a/run.py", "print(2)");
        let second = sum().unwrap();
        assert_ne!(second, first);
        scratch.write("a/more.py", "");
        assert_ne!(sum().unwrap(), second);
        std::os::unix::fs::symlink("/etc/hostname", scratch.path().join("link")).unwrap();
        assert!(sum().unwrap_err().to_string().contains("`link`"));
    }

    #[test]
    fn moving_text_between_files_changes_the_fingerprint() {
        let (one, two) = (Scratch::new(), Scratch::new());
        one.write("a", "xy");
        one.write("b", "z");
        two.write("a", "x");
        two.write("b", "yz");
        let sum = |scratch: &Scratch| fingerprint(&Folder::open(scratch.path()).unwrap()).unwrap();
        assert_ne!(sum(&one), sum(&two));
    }
}
