//! Blocks of chats on disk, so that a chat goes on after an unload or a restart without being read again.
//!
//! A file holds one block and is named by a hash of the model, the adapters and all tokens up to its end,
//! so it is found by the prompt alone. llama.cpp trusts a state that it is given: nothing is put back
//! whose checksum and tokens are not those of the prompt. A file that is damaged is removed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use crate::engine::adapters::AdapterSets;
use crate::engine::scheduler::host::{BLOCK, StoredBlock};
use crate::engine::scheduler::{Adapters, Token};

/// First bytes of a file; another version of the format has another name.
const MAGIC: &[u8] = b"lollmsd kv 1\n";
/// Blocks that may wait for the disk. What comes when more wait is not written: it is a cache.
const WAITING: usize = 64;
/// Bytes at either end of a model's file that tell it from others, with its length.
const ENDS: u64 = 4 << 20;

/// Where blocks are kept, and how much of them.
#[derive(Clone, Debug)]
pub struct KvFolder {
    /// The folder; it is made when it is missing.
    pub path: PathBuf,
    /// Most bytes of all files in it.
    pub most_bytes: u64,
    /// Most bytes to read for one prompt.
    pub most_read: usize,
}

/// What states depend on, beside the tokens and the scales of adapters.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The model's file and its adapters'.
    pub files: Vec<PathBuf>,
    /// Type of the cache's numbers.
    pub kind: String,
}

impl Origin {
    /// What all names and fingerprints begin with.
    fn seed(&self) -> io::Result<Sha256> {
        let mut seed = Sha256::new();
        seed.update(MAGIC);
        seed.update(env!("CARGO_PKG_VERSION"));
        seed.update(&self.kind);
        for file in &self.files {
            seed.update(fingerprint(file)?);
        }
        Ok(seed)
    }

    /// A fingerprint of all that a state depends on but its tokens.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn with_scales(&self, scales: &[f32]) -> io::Result<Digest> {
        let mut seed = self.seed()?;
        for scale in scales {
            seed.update(scale.to_le_bytes());
        }
        Ok(seed.finalize().into())
    }
}

/// A checksum or fingerprint.
pub(super) type Digest = [u8; 32];

/// A name of a block.
type Name = Digest;

/// The blocks of one model on disk.
#[derive(Debug)]
pub struct KvFiles {
    folder: PathBuf,
    /// Hash of what all names begin with.
    seed: Sha256,
    sets: Arc<AdapterSets>,
    /// Most bytes to read for one prompt.
    most_read: usize,
    /// Blocks that the worker read or wrote since it started: it has or had them in memory.
    known: Mutex<HashSet<Name>>,
    /// Absent only while this is dropped.
    to_write: Option<SyncSender<(Name, StoredBlock)>>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for KvFiles {
    /// Waits until everything is written.
    fn drop(&mut self) {
        self.to_write = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl KvFiles {
    /// Opens the folder and starts the thread that writes.
    ///
    /// # Errors
    /// When the folder cannot be made or a file not be read.
    pub fn open(
        folder: &KvFolder,
        origin: &Origin,
        sets: Arc<AdapterSets>,
    ) -> io::Result<Arc<Self>> {
        fs::create_dir_all(&folder.path)?;
        let seed = origin.seed()?;
        let (to_write, blocks) = sync_channel(WAITING);
        let writer = Writer { folder: folder.clone() };
        let thread = std::thread::Builder::new().name("kv-files".into());
        let writer = Some(thread.spawn(move || writer.run(&blocks))?);
        let known = Mutex::new(HashSet::new());
        let (folder, most_read) = (folder.path.clone(), folder.most_read);
        let to_write = Some(to_write);
        Ok(Arc::new(Self { folder, seed, sets, most_read, known, to_write, writer }))
    }

    /// The blocks of a prompt that are on disk and were not in memory since the worker started.
    pub fn read(&self, prompt: &[Token], adapters: Adapters) -> Vec<StoredBlock> {
        let mut found = vec![];
        let mut bytes = 0;
        // The last token is always read by the model.
        let most = prompt.len().saturating_sub(1);
        for (end, name) in self.names(&prompt[..most], adapters) {
            if self.is_known(&name) {
                continue;
            }
            let path = self.path(&name);
            let state = match load(&path, &prompt[end - BLOCK..end]) {
                Ok(Some(state)) => state,
                Ok(None) => {
                    tracing::warn!("{} is damaged and was removed", path.display());
                    let _ = fs::remove_file(&path);
                    break;
                }
                Err(_) => break,
            };
            bytes += state.len();
            if bytes > self.most_read {
                break;
            }
            self.learn(name);
            found.push(StoredBlock { tokens: prompt[..end].to_vec(), adapters, state });
        }
        found
    }

    /// Hands a block to the writer; it is dropped when too many wait.
    pub fn write(&self, block: StoredBlock) {
        let Some((_, name)) = self.names(&block.tokens, block.adapters).pop() else { return };
        self.learn(name);
        if let Some(to_write) = &self.to_write {
            let _ = to_write.try_send((name, block));
        }
    }

    /// The whole blocks of a text: where each ends, and its name.
    fn names(&self, tokens: &[Token], adapters: Adapters) -> Vec<(usize, Name)> {
        let mut hash = self.seed.clone();
        for scale in self.sets.scales(adapters) {
            hash.update(scale.to_le_bytes());
        }
        let mut names = vec![];
        for (at, block) in tokens.chunks_exact(BLOCK).enumerate() {
            for token in block {
                hash.update(token.to_le_bytes());
            }
            names.push(((at + 1) * BLOCK, hash.clone().finalize().into()));
        }
        names
    }

    fn is_known(&self, name: &Name) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    fn learn(&self, name: Name) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.folder.join(file_name(name))
    }
}

fn file_name(name: &Name) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(name.len() + 3);
    for byte in &name[..16] {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text + ".kv"
}

/// Tells one model's file from another's without reading all of it.
fn fingerprint(path: &Path) -> io::Result<Name> {
    use std::io::{Seek, SeekFrom};
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut hash = Sha256::new();
    hash.update(length.to_le_bytes());
    let mut part = vec![];
    (&mut file).take(ENDS).read_to_end(&mut part)?;
    hash.update(&part);
    if length > ENDS {
        file.seek(SeekFrom::Start(length.saturating_sub(ENDS).max(ENDS)))?;
        part.clear();
        (&mut file).take(ENDS).read_to_end(&mut part)?;
        hash.update(&part);
    }
    Ok(hash.finalize().into())
}

/// The state in a file; `None` when it is damaged or of other tokens.
fn load(path: &Path, expected: &[Token]) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![];
    let mut file = File::open(path)?;
    file.read_to_end(&mut bytes)?;
    let head = MAGIC.len() + size_of::<Name>();
    let tokens: Vec<u8> = expected.iter().flat_map(|token| token.to_le_bytes()).collect();
    let good = bytes.len() > head + tokens.len()
        && bytes.starts_with(MAGIC)
        && bytes[MAGIC.len()..head] == Sha256::digest(&bytes[head..])[..]
        && bytes[head..].starts_with(&tokens);
    if !good {
        return Ok(None);
    }
    // What was used last is kept longest. Without it the block goes earlier, no more.
    let _ = file.set_modified(SystemTime::now());
    bytes.drain(..head + tokens.len());
    Ok(Some(bytes))
}

/// The thread that writes.
struct Writer {
    folder: KvFolder,
}

impl Writer {
    fn run(&self, blocks: &Receiver<(Name, StoredBlock)>) {
        let mut failed = false;
        for (name, block) in blocks {
            match self.write(&name, &block) {
                Ok(()) => failed = false,
                // A full disk fails for each block: once is enough.
                Err(_) if failed => {}
                Err(error) => {
                    tracing::warn!(
                        "a chat cannot be kept in {}: {error}",
                        self.folder.path.display()
                    );
                    failed = true;
                }
            }
        }
    }

    fn write(&self, name: &Name, block: &StoredBlock) -> io::Result<()> {
        let path = self.folder.path.join(file_name(name));
        if path.exists() {
            return Ok(());
        }
        let own = &block.tokens[block.tokens.len() - BLOCK..];
        let tokens: Vec<u8> = own.iter().flat_map(|token| token.to_le_bytes()).collect();
        let mut sum = Sha256::new();
        sum.update(&tokens);
        sum.update(&block.state);
        let size = (MAGIC.len() + size_of::<Name>() + tokens.len() + block.state.len()) as u64;
        self.make_room(size)?;
        let part = path.with_extension(format!("part{}", std::process::id()));
        let written = File::create(&part).and_then(|mut file| {
            file.write_all(MAGIC)?;
            file.write_all(&sum.finalize())?;
            file.write_all(&tokens)?;
            file.write_all(&block.state)
        });
        // No sync: after a crash the checksum tells.
        let done = written.and_then(|()| fs::rename(&part, &path));
        if done.is_err() {
            let _ = fs::remove_file(&part);
        }
        done
    }

    /// Removes the files that were used longest ago until `size` more bytes fit.
    fn make_room(&self, size: u64) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = vec![];
        for entry in fs::read_dir(&self.folder.path)? {
            let entry = entry?;
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == "kv") {
                let about = entry.metadata()?;
                files.push((about.modified()?, about.len(), path));
            }
        }
        let mut bytes: u64 = files.iter().map(|(_, length, _)| length).sum();
        files.sort();
        for (_, length, path) in files {
            if bytes + size <= self.folder.most_bytes {
                break;
            }
            fs::remove_file(path)?;
            bytes -= length;
        }
        if bytes + size > self.folder.most_bytes {
            return Err(io::Error::other("a block is larger than all that may be kept"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path, most_bytes: u64) -> Arc<KvFiles> {
        let model = folder.join("model");
        fs::write(&model, "weights").unwrap();
        let folder = KvFolder { path: folder.join("kv"), most_bytes, most_read: 1 << 20 };
        let origin = Origin { files: vec![model], kind: "f16".into() };
        KvFiles::open(&folder, &origin, Arc::default()).unwrap()
    }

    fn block(count: i32, state: &[u8]) -> StoredBlock {
        StoredBlock { tokens: (0..count * 128).collect(), adapters: 0, state: state.to_vec() }
    }

    /// What is there when the worker has ended.
    fn written(files: Arc<KvFiles>, name: &str, count: usize) {
        let folder = files.folder.clone();
        drop(files);
        let all = fs::read_dir(&folder).unwrap().flatten();
        let blocks = all.filter(|entry| entry.file_name().to_string_lossy().ends_with(".kv"));
        assert_eq!(blocks.count(), count, "{name}");
    }

    #[test]
    fn what_was_written_is_read_by_the_next_worker_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let prompt: Vec<Token> = (0..300).collect();
        let first = files(folder.path(), 1 << 20);
        first.write(block(1, b"one"));
        first.write(block(2, b"two"));
        assert_eq!(first.read(&prompt, 0), [], "it has them in memory");
        written(first, "both", 2);
        let next = files(folder.path(), 1 << 20);
        assert_eq!(next.read(&(5..300).collect::<Vec<_>>(), 0), []);
        assert_eq!(next.read(&prompt, 0), [block(1, b"one"), block(2, b"two")]);
        assert_eq!(next.read(&prompt, 0), []);
    }

    #[test]
    fn a_damaged_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let first = files(folder.path(), 1 << 20);
        first.write(block(1, b"one"));
        let path = first.path(&first.names(&block(1, b"").tokens, 0)[0].1);
        written(first, "it", 1);
        let whole = fs::read(&path).unwrap();
        for damage in [whole[..whole.len() - 1].to_vec(), vec![], b"something else".to_vec(), {
            let mut flipped = whole.clone();
            flipped[60] ^= 1;
            flipped
        }] {
            fs::write(&path, damage).unwrap();
            let next = files(folder.path(), 1 << 20);
            assert_eq!(next.read(&(0..300).collect::<Vec<_>>(), 0), []);
            assert!(!path.exists());
        }
    }

    #[test]
    fn the_oldest_goes_when_all_would_be_too_much() {
        let folder = tempfile::tempdir().unwrap();
        let one = (MAGIC.len() + 32 + 512 + 1_000) as u64;
        let first = files(folder.path(), 2 * one);
        for count in 1..4 {
            first.write(block(count, &[0; 1_000]));
        }
        written(first, "two of three", 2);
    }
}
