//! Files beneath a folder: opened without ever leaving it, read up to a limit.
//!
//! Guarantees: no link is followed below the root's own handle, only regular files are read, and a
//! fifo or device blocks nobody. Linux' `openat2` does it in one call; where the kernel or a sandbox
//! refuses that call, the path is walked one component at a time with `O_NOFOLLOW`.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Most entries that one folder is listed with; the rest is left out.
pub const MAX_ENTRIES: usize = 20_000;

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    handle: OwnedFd,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name. Bytes that are no UTF-8 became U+FFFD: listed so that it is seen, never found by that name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What an [`Entry`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link; never followed.
    Link,
    /// A fifo, socket or device.
    Other,
}

/// Identity of a file's content, as far as the file system tells: changes when the file changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    size: u64,
    /// Modification time in nanoseconds since 1970.
    pub modified_ns: i128,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing there.
    #[error("there is no such file")]
    Missing,
    /// The path goes over a symbolic link, or out of the folder.
    #[error("it is a symbolic link, or lies behind one; links are not followed here")]
    Link,
    /// A folder, fifo, socket or device.
    #[error("it is no regular file")]
    NotAFile,
    /// Larger than the limit.
    #[error("it has {size} bytes; at most {limit} are read")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The operating system refused.
    #[error("it cannot be read: {0}")]
    System(#[from] std::io::Error),
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Missing,
            Errno::LOOP | Errno::XDEV => Self::Link,
            // A socket file cannot be opened at all.
            Errno::NXIO => Self::NotAFile,
            other => Self::System(other.into()),
        }
    }
}

impl Folder {
    /// Opens a root. Links on the way to it are followed: where a root lies is the operator's choice.
    ///
    /// # Errors
    /// When it is missing, is no folder or cannot be read.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { handle: rustix::fs::openat(CWD, path, flags, Mode::empty())? })
    }

    /// Opens a folder beneath this one; `path` has components joined by `/`.
    ///
    /// # Errors
    /// [`ReadError::Link`] when a component is a link or `path` leaves the folder.
    pub fn folder(&self, path: &str) -> Result<Self, ReadError> {
        Ok(Self { handle: self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)? })
    }

    /// Reads a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`ReadError`] names what it is instead.
    pub fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, ReadError> {
        let (file, stat) = self.file(path)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size > limit {
            return Err(ReadError::TooLarge { size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        // It may grow while it is read.
        file.take(limit + 1).read_to_end(&mut bytes)?;
        let size = bytes.len() as u64;
        if size > limit { Err(ReadError::TooLarge { size, limit }) } else { Ok(bytes) }
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// As [`Folder::read`], without a limit.
    pub fn file(&self, path: &str) -> Result<(std::fs::File, Stat), ReadError> {
        // Without O_NONBLOCK the open of a fifo would wait for a writer.
        let handle = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let stat = rustix::fs::fstat(&handle)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ReadError::NotAFile);
        }
        Ok((std::fs::File::from(handle), stat))
    }

    /// Whether there is a regular file.
    pub fn has_file(&self, path: &str) -> bool {
        self.file(path).is_ok()
    }

    /// Whether anything is there, a link included.
    pub fn is_there(&self, path: &str) -> bool {
        let opened = self.open_at(path, OFlags::PATH);
        !matches!(opened, Err(Errno::NOENT | Errno::NOTDIR))
    }

    /// Stamp of a file or folder; `.` is this folder. `None` when it is missing or behind a link.
    pub fn stamp(&self, path: &str) -> Option<Stamp> {
        let handle = self.open_at(path, OFlags::PATH).ok()?;
        let stat = rustix::fs::fstat(handle).ok()?;
        let seconds = i128::from(stat.st_mtime) * 1_000_000_000;
        Some(Stamp {
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified_ns: seconds + i128::from(stat.st_mtime_nsec),
        })
    }

    /// Entries of this folder, sorted by name, at most [`MAX_ENTRIES`].
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, ReadError> {
        let mut found = Vec::new();
        for entry in Dir::read_from(&self.handle)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            let kind = self.kind(&name, entry.file_type());
            found.push(Entry { name, kind });
            if found.len() == MAX_ENTRIES {
                break;
            }
        }
        found.sort();
        Ok(found)
    }

    /// Names of the folders in this folder that are not hidden, sorted.
    ///
    /// # Errors
    /// As [`Folder::entries`].
    pub fn subfolders(&self) -> Result<Vec<String>, ReadError> {
        let visible = |entry: &Entry| {
            entry.kind == Kind::Folder
                && !entry.name.starts_with('.')
                && entry.name != "__pycache__"
        };
        Ok(self.entries()?.into_iter().filter(visible).map(|entry| entry.name).collect())
    }

    fn kind(&self, name: &str, listed: FileType) -> Kind {
        let kind = if listed == FileType::Unknown {
            // Some file systems do not say it in the listing.
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::statat(&self.handle, name, flags)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
        } else {
            listed
        };
        if kind == FileType::Directory {
            Kind::Folder
        } else if kind == FileType::RegularFile {
            Kind::File
        } else if kind == FileType::Symlink {
            Kind::Link
        } else {
            Kind::Other
        }
    }

    fn open_at(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&self.handle, path, flags, Mode::empty(), resolve) {
            // Kernels before 5.6, and sandboxes that do not know the call.
            Err(Errno::NOSYS | Errno::PERM) => walk(self.handle.as_fd(), path, flags),
            opened => refuse_link(opened?),
        }
    }
}

/// `O_PATH` with `O_NOFOLLOW` opens a link itself instead of failing.
fn refuse_link(handle: OwnedFd) -> Result<OwnedFd, Errno> {
    let stat = rustix::fs::fstat(&handle)?;
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    if is_link { Err(Errno::LOOP) } else { Ok(handle) }
}

/// What `openat2` does, one component at a time.
fn walk(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut components: Vec<&str> = path.split('/').filter(|part| *part != ".").collect();
    if components.iter().any(|part| part.is_empty() || *part == "..") {
        return Err(Errno::XDEV);
    }
    let last = components.pop().unwrap_or(".");
    let mut at: Option<OwnedFd> = None;
    for part in components {
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = Some(refuse_link(rustix::fs::openat(from, part, step, Mode::empty())?)?);
    }
    let from = at.as_ref().map_or(root, AsFd::as_fd);
    refuse_link(rustix::fs::openat(from, last, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::Scratch;

    fn read(folder: &Folder, path: &str) -> String {
        match folder.read(path, 10) {
            Ok(bytes) => String::from_utf8(bytes).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn only_regular_files_beneath_the_root_are_read() {
        let scratch = Scratch::new();
        scratch.write("root/a/file", "inside");
        scratch.write("root/long", "eleven bytes");
        scratch.write("outside", "outside");
        let at = |path: &str| scratch.path().join(path);
        std::os::unix::fs::symlink(at("outside"), at("root/link")).unwrap();
        std::os::unix::fs::symlink(at("root/a"), at("root/folder_link")).unwrap();
        let fifo = at("root/fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("root/socket")).unwrap();
        let folder = Folder::open(&at("root")).unwrap();
        assert_eq!(read(&folder, "a/file"), "inside");
        for path in ["link", "folder_link/file", "../outside", "a/../../outside", "/etc/hostname"] {
            assert!(read(&folder, path).contains("link"), "{path}: {}", read(&folder, path));
        }
        for path in ["fifo", "a", "socket"] {
            assert_eq!(read(&folder, path), "it is no regular file", "{path}");
        }
        assert_eq!(read(&folder, "long"), "it has 12 bytes; at most 10 are read");
        assert_eq!(read(&folder, "none"), "there is no such file");
        assert_eq!(folder.subfolders().unwrap(), ["a"]);
    }

    #[test]
    fn the_walk_for_old_kernels_refuses_the_same() {
        let scratch = Scratch::new();
        scratch.write("root/a/file", "inside");
        scratch.write("outside", "outside");
        let at = |path: &str| scratch.path().join(path);
        std::os::unix::fs::symlink(at("outside"), at("root/link")).unwrap();
        std::os::unix::fs::symlink(at("root/a"), at("root/folder_link")).unwrap();
        let folder = Folder::open(&at("root")).unwrap();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |path: &str| walk(folder.handle.as_fd(), path, flags);
        assert!(open("a/file").is_ok());
        assert!(open(".").is_ok());
        for path in ["link", "folder_link/file", "../outside", "/etc/hostname", "a/../../outside"] {
            assert!(matches!(open(path), Err(Errno::LOOP | Errno::XDEV)), "{path}");
        }
    }

    #[test]
    fn a_stamp_changes_with_the_file() {
        let scratch = Scratch::new();
        scratch.write("file", "one");
        let folder = Folder::open(scratch.path()).unwrap();
        let before = folder.stamp("file").unwrap();
        assert_eq!(folder.stamp("file").unwrap(), before);
        scratch.write("file", "three");
        assert_ne!(folder.stamp("file").unwrap(), before);
        assert_eq!(folder.stamp("none"), None);
    }
}
