//! The state of a chat in a file: what a generation left in the cache, to be used again later or elsewhere.
//!
//! The front names the file. llama.cpp trusts a state that it is given: a file is only used when its
//! checksum is right and it was made with this model, these adapters and this type of cache.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

use sha2::{Digest, Sha256};

use crate::domain::error::{ErrorCode, Failure};
use crate::engine::scheduler::host::{BLOCK, StoredBlock};
use crate::engine::scheduler::{Adapters, Token};
use crate::protocol::command::{RestoreState, SaveState};
use crate::protocol::event::{Event, State};
use crate::worker::decode::Order;
use crate::worker::desk::Ready;
use crate::worker::kv_files::Digest as Fingerprint;

/// First bytes of a file; another version of the format has another name.
const MAGIC: &[u8] = b"lollmsd state 1\n";
/// Largest file that is read: more does not fit a machine's memory twice.
const MAX_BYTES: u64 = 64 << 30;

/// What the decode thread is asked for: the blocks of what a generation left.
pub(super) struct Wanted {
    /// The generation.
    pub(super) generation: u64,
    /// Where they go; nothing when its chat is not in the cache any more.
    pub(super) reply: SyncSender<Vec<StoredBlock>>,
}

/// Writes what a generation left to a file.
pub(super) fn save(ask: &SaveState, ready: &Ready) -> Result<Event, Failure> {
    let (reply, blocks) = sync_channel(1);
    let wanted = Wanted { generation: ask.generation, reply };
    ready.orders.send(Order::Save(wanted)).map_err(|_| unloaded())?;
    let blocks = blocks.recv().map_err(|_| unloaded())?;
    let Some(last) = blocks.last() else {
        let text = format!("what generation {} left is not in the cache", ask.generation);
        return Err(Failure::new(ErrorCode::NotFound, text));
    };
    let tokens = last.tokens.len();
    let origin = origin(ready, last.adapters)?;
    let path = Path::new(&ask.path);
    let bytes = write(path, &origin, &blocks).map_err(|error| cannot("written", path, &error))?;
    Ok(Event::State(State { id: ask.id, tokens: narrow(tokens), bytes }))
}

/// Takes a file into the cache, for whoever goes on from what is in it.
pub(super) fn restore(ask: &RestoreState, ready: &Ready) -> Result<Event, Failure> {
    if ready.facts.limits.host_bytes == 0 {
        let text = "states are put back by way of the host's memory, and `cache_ram` is 0";
        return Err(Failure::new(ErrorCode::Unsupported, text));
    }
    let asked = ask.lora.as_ref().map(|list| {
        list.iter().map(|adapter| (adapter.id as usize, adapter.scale)).collect::<Vec<_>>()
    });
    let adapters = ready.facts.adapters.number(asked.as_deref());
    let adapters =
        adapters.map_err(|error| Failure::new(ErrorCode::InvalidRequest, error.to_string()))?;
    let path = Path::new(&ask.path);
    let origin = origin(ready, adapters)?;
    let blocks = read(path, &origin, adapters).map_err(|error| cannot("read", path, &error))?;
    let Some(blocks) = blocks else {
        let text = format!(
            "{} is damaged, or was made with another model, other adapters or another type of cache",
            path.display()
        );
        return Err(Failure::new(ErrorCode::InvalidRequest, text));
    };
    let tokens = blocks.last().map_or(0, |block| block.tokens.len());
    let bytes = blocks.iter().map(|block| block.state.len() as u64).sum();
    ready.orders.send(Order::Restore(blocks)).map_err(|_| unloaded())?;
    Ok(Event::State(State { id: ask.id, tokens: narrow(tokens), bytes }))
}

fn unloaded() -> Failure {
    Failure::new(ErrorCode::Unavailable, "the model was unloaded")
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    let text = format!("{} cannot be {what}: {error}", path.display());
    Failure::new(ErrorCode::Unavailable, text)
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What a state depends on beside its tokens.
fn origin(ready: &Ready, adapters: Adapters) -> Result<Fingerprint, Failure> {
    let scales = ready.facts.adapters.scales(adapters);
    let made = ready.origin.with_scales(&scales);
    made.map_err(|error| cannot("read", Path::new("the model's file"), &error))
}

/// Writes a file whole or not at all; returns its size.
fn write(path: &Path, origin: &Fingerprint, blocks: &[StoredBlock]) -> io::Result<u64> {
    let mut body = Vec::new();
    body.extend_from_slice(origin);
    for block in blocks {
        let end = block.tokens.len();
        let own = &block.tokens[(end - 1) / BLOCK * BLOCK..];
        body.extend_from_slice(&(own.len() as u64).to_le_bytes());
        body.extend_from_slice(&(block.state.len() as u64).to_le_bytes());
        body.extend(own.iter().flat_map(|token| token.to_le_bytes()));
        body.extend_from_slice(&block.state);
    }
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".part{}", std::process::id()));
    let part = PathBuf::from(part);
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(&body))?;
        file.write_all(&body)?;
        file.sync_all()
    });
    let done = written.and_then(|()| fs::rename(&part, path));
    if done.is_err() {
        // Whatever is left of it is of no use.
        let _ = fs::remove_file(&part);
    }
    done.map(|()| (MAGIC.len() + 32 + body.len()) as u64)
}

/// The blocks in a file; `None` when it is damaged or of another origin.
fn read(
    path: &Path,
    origin: &Fingerprint,
    adapters: Adapters,
) -> io::Result<Option<Vec<StoredBlock>>> {
    if fs::metadata(path)?.len() > MAX_BYTES {
        return Ok(None);
    }
    let bytes = fs::read(path)?;
    Ok(parse(&bytes, origin, adapters))
}

fn parse(bytes: &[u8], origin: &Fingerprint, adapters: Adapters) -> Option<Vec<StoredBlock>> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (sum, body) = rest.split_at_checked(32)?;
    if Sha256::digest(body)[..] != *sum {
        return None;
    }
    let mut rest = body.strip_prefix(origin.as_slice())?;
    let mut blocks = vec![];
    let mut tokens: Vec<Token> = vec![];
    while !rest.is_empty() {
        let (count, after) = number(rest)?;
        let (length, after) = number(after)?;
        let (own, after) = after.split_at_checked(count.checked_mul(size_of::<Token>())?)?;
        let (state, after) = after.split_at_checked(length)?;
        if count == 0 || count > BLOCK || !tokens.len().is_multiple_of(BLOCK) {
            return None;
        }
        tokens.extend(
            own.chunks_exact(4).filter_map(|word| word.try_into().ok().map(Token::from_le_bytes)),
        );
        blocks.push(StoredBlock { tokens: tokens.clone(), adapters, state: state.to_vec() });
        rest = after;
    }
    (!blocks.is_empty()).then_some(blocks)
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<8>()?;
    Some((usize::try_from(u64::from_le_bytes(*word)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ORIGIN: Fingerprint = [7; 32];

    fn blocks() -> Vec<StoredBlock> {
        [128, 256, 300]
            .map(|end| StoredBlock { tokens: (0..end).collect(), adapters: 0, state: vec![3; 50] })
            .to_vec()
    }

    fn written() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.state");
        let bytes = write(&path, &ORIGIN, &blocks()).unwrap();
        let all = fs::read(&path).unwrap();
        assert_eq!(all.len() as u64, bytes);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no part is left");
        all
    }

    #[test]
    fn what_was_written_is_read_and_only_where_it_belongs() {
        let bytes = written();
        assert_eq!(parse(&bytes, &ORIGIN, 0), Some(blocks()));
        assert_eq!(parse(&bytes, &[8; 32], 0), None);
        assert_eq!(parse(&[], &ORIGIN, 0), None);
        assert!(write(Path::new("/nowhere/at/all"), &ORIGIN, &blocks()).is_err());
    }

    proptest! {
        #[test]
        fn damage_is_noticed(at in any::<prop::sample::Index>(), cut in any::<bool>()) {
            let mut bytes = written();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 0x10 }
            prop_assert_eq!(parse(&bytes, &ORIGIN, 0), None);
        }

        #[test]
        fn no_bytes_are_a_reason_to_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = MAGIC.to_vec();
            let body = [ORIGIN.to_vec(), body].concat();
            bytes.extend_from_slice(&Sha256::digest(&body));
            bytes.extend_from_slice(&body);
            let _ = parse(&bytes, &ORIGIN, 0);
        }
    }
}
