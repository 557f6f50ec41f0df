//! Writes files so that a crash at any moment leaves the old or the new content, never a mixture.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most broken files that are kept beside each other.
const MAX_ASIDE: u32 = 100;

/// Replaces a file: temp file, fsync, rename, fsync of the folder. Readable by the owner only.
pub(super) fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let temp = temp_name(path);
    // Left behind by a crash; the root's lock means that nobody writes it now.
    remove_if_there(&temp)?;
    let written = write_new(&temp, content).and_then(|()| std::fs::rename(&temp, path));
    if written.is_err() {
        remove_if_there(&temp)?;
    }
    written?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Replaces `to` by the content of `from`.
pub(super) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    replace(to, &std::fs::read(from)?)
}

/// Renames a broken file to `<name>.broken-<n>`, the first number that is free.
pub(super) fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for number in 1..=MAX_ASIDE {
        let aside = path.with_file_name(format!("{name}.broken-{number}"));
        if aside.symlink_metadata().is_err() {
            std::fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(std::io::Error::other(format!("{MAX_ASIDE} broken files are kept already")))
}

/// Whether the file's mode lets others than its owner read it.
pub(super) fn others_can_read(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o044 != 0)
}

fn temp_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    path.with_file_name(format!(".{name}.tmp"))
}

fn write_new(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_of_a_killed_save_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, "old").unwrap();
        std::fs::write(folder.path().join(".a.yaml.tmp"), "half").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_failed_save_leaves_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"new").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(path.is_dir());
    }

    #[test]
    fn broken_files_are_numbered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        for number in 1..=2 {
            std::fs::write(&path, "x").unwrap();
            let aside = set_aside(&path).unwrap();
            assert!(aside.ends_with(format!("a.yaml.broken-{number}")));
        }
        assert!(!path.exists());
    }
}
