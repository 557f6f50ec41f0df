//! Cached prefixes in the host's memory: a tree of blocks of tokens with the state of their cells.
//!
//! A chat that leaves the context goes here, so that chats which begin alike keep their beginning once.
//! What the bytes of a state are is the decoder's business.

use crate::engine::scheduler::sequence::common;
use crate::engine::scheduler::{Adapters, Token};

/// Most tokens of a block. A prompt that leaves a chat inside a block takes the part before from it, so
/// a block is only as large as it must be for its overhead not to matter.
pub const BLOCK: usize = 128;
/// Fewest tokens worth moving: reading so few is as quick.
pub(super) const WORTH_MOVING: usize = 32;

/// Most blocks: each is looked at when one must go.
const MOST_BLOCKS: usize = 4_096;

/// Names a block.
pub(super) type BlockIdx = usize;

/// The tree.
#[derive(Debug)]
pub struct HostCache {
    most_bytes: usize,
    bytes: usize,
    blocks: Vec<Option<Block>>,
    free: Vec<BlockIdx>,
    /// First blocks, of all adapter sets.
    roots: Vec<BlockIdx>,
    uses: u64,
}

#[derive(Debug)]
struct Block {
    adapters: Adapters,
    tokens: Vec<Token>,
    state: Vec<u8>,
    parent: Option<BlockIdx>,
    children: Vec<BlockIdx>,
    last_use: u64,
    /// It is on disk too.
    stored: bool,
}

/// A block on its way to the disk, or from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// All tokens up to its end; those behind the last multiple of [`BLOCK`] are its own.
    pub tokens: Vec<Token>,
    /// What its cells were computed with.
    pub adapters: Adapters,
    /// The state of its cells.
    pub state: Vec<u8>,
}

/// A part of a prompt that a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) block: BlockIdx,
    /// Position behind the last token in common.
    pub(super) end: usize,
}

impl HostCache {
    /// An empty tree that may hold this many bytes; 0 turns it off.
    pub fn new(most_bytes: usize) -> Self {
        let (blocks, free, roots) = (vec![], vec![], vec![]);
        Self { most_bytes, bytes: 0, blocks, free, roots, uses: 0 }
    }

    /// Whether nothing is ever kept.
    pub fn is_off(&self) -> bool {
        self.most_bytes == 0
    }

    /// Bytes of all states and their tokens.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many tokens from the beginning on are here.
    pub fn covered(&self, tokens: &[Token], adapters: Adapters) -> usize {
        self.path(tokens, adapters).last().map_or(0, |found| found.end)
    }

    /// The block with the tokens from position `at` on, if it has enough of them.
    pub(super) fn find(
        &mut self,
        tokens: &[Token],
        adapters: Adapters,
        at: usize,
    ) -> Option<Found> {
        if tokens.len() < at + WORTH_MOVING {
            return None;
        }
        let path = self.path(tokens, adapters);
        path.last().filter(|last| last.end >= at + WORTH_MOVING)?;
        let found = *path.iter().find(|found| found.end > at)?;
        self.uses += 1;
        for passed in path {
            self.block_mut(passed.block).last_use = self.uses;
        }
        Some(found)
    }

    /// The state of a block, of all its tokens.
    pub(super) fn state(&self, block: BlockIdx) -> &[u8] {
        &self.block(block).state
    }

    /// Where a block to be added to the path of `tokens` would begin and end; `None` when all is here.
    pub(super) fn missing(&self, tokens: &[Token], adapters: Adapters) -> Option<(usize, usize)> {
        let start = self.covered(tokens, adapters) / BLOCK * BLOCK;
        let end = tokens.len().min(start + BLOCK);
        let had = self.covered(tokens, adapters);
        (end >= had + WORTH_MOVING).then_some((start, end))
    }

    /// Adds the block that [`HostCache::missing`] asked for; false when it is too large.
    pub(super) fn add(&mut self, tokens: &[Token], adapters: Adapters, state: Vec<u8>) -> bool {
        let Some((start, end)) = self.missing(tokens, adapters) else { return true };
        let path = self.path(&tokens[..start], adapters);
        let parent = path.last().map(|found| found.block);
        let size = cost(end - start, state.len());
        if !self.make_room(size, parent) {
            return false;
        }
        self.uses += 1;
        // A shorter block that says the same is not needed any more.
        let rest = &tokens[start..end];
        let siblings = self.children(parent).to_vec();
        for sibling in siblings {
            let block = self.block(sibling);
            if block.adapters == adapters
                && block.children.is_empty()
                && common(&block.tokens, rest) == block.tokens.len()
            {
                self.remove(sibling);
            }
        }
        let block = Block {
            adapters,
            tokens: rest.to_vec(),
            state,
            parent,
            children: vec![],
            last_use: self.uses,
            stored: false,
        };
        let idx = self.free.pop().unwrap_or_else(|| {
            self.blocks.push(None);
            self.blocks.len() - 1
        });
        self.blocks[idx] = Some(block);
        self.bytes += size;
        match parent {
            Some(parent) => self.block_mut(parent).children.push(idx),
            None => self.roots.push(idx),
        }
        true
    }

    /// The blocks of a text that are here, all of whose tokens are in it.
    pub(super) fn blocks(&self, tokens: &[Token], adapters: Adapters) -> Vec<StoredBlock> {
        let path = self.path(tokens, adapters);
        let mut start = 0;
        let whole = path.iter().take_while(|found| {
            let own = self.block(found.block).tokens.len();
            std::mem::replace(&mut start, found.end) + own == found.end
        });
        whole
            .map(|found| {
                let (tokens, state) =
                    (tokens[..found.end].to_vec(), self.block(found.block).state.clone());
                StoredBlock { tokens, adapters, state }
            })
            .collect()
    }

    /// Takes over a block from the disk, if what comes before it is here and it is not.
    pub(super) fn take_stored(&mut self, block: StoredBlock) {
        let end = block.tokens.len();
        let start = end.saturating_sub(1) / BLOCK * BLOCK;
        if self.missing(&block.tokens, block.adapters) != Some((start, end)) {
            return;
        }
        if self.add(&block.tokens, block.adapters, block.state)
            && let Some(found) = self.path(&block.tokens, block.adapters).last()
        {
            let idx = found.block;
            self.block_mut(idx).stored = true;
        }
    }

    /// The first whole block of a chat that is not on disk yet; it counts as stored from now on.
    pub(super) fn store_next(
        &mut self,
        tokens: &[Token],
        adapters: Adapters,
    ) -> Option<StoredBlock> {
        let path = self.path(tokens, adapters);
        let whole =
            |found: &&Found| found.end.is_multiple_of(BLOCK) && !self.block(found.block).stored;
        let Found { block, end } = *path.iter().find(whole)?;
        let tokens = tokens[..end].to_vec();
        let stored = self.block_mut(block);
        stored.stored = true;
        Some(StoredBlock { tokens, adapters, state: stored.state.clone() })
    }

    /// Forgets a block and all that follow it.
    pub(super) fn remove(&mut self, idx: BlockIdx) {
        let Some(block) = self.blocks[idx].take() else { return };
        self.bytes -= cost(block.tokens.len(), block.state.len());
        self.free.push(idx);
        match block.parent {
            Some(parent) => self.block_mut(parent).children.retain(|child| *child != idx),
            None => self.roots.retain(|root| *root != idx),
        }
        for child in block.children {
            // Its parent is gone already; there is nothing to be taken out of.
            self.remove_below(child);
        }
    }

    fn remove_below(&mut self, idx: BlockIdx) {
        let Some(block) = self.blocks[idx].take() else { return };
        self.bytes -= cost(block.tokens.len(), block.state.len());
        self.free.push(idx);
        for child in block.children {
            self.remove_below(child);
        }
    }

    /// Lets the blocks go that were not used for the longest time, ends of chats before beginnings.
    fn make_room(&mut self, size: usize, keep: Option<BlockIdx>) -> bool {
        if size > self.most_bytes {
            return false;
        }
        while self.bytes + size > self.most_bytes
            || self.blocks.len() - self.free.len() >= MOST_BLOCKS
        {
            let leaves = self.blocks.iter().enumerate().filter_map(|(idx, block)| {
                let block = block.as_ref()?;
                (block.children.is_empty() && Some(idx) != keep).then_some((block.last_use, idx))
            });
            let Some((_, oldest)) = leaves.min() else { return false };
            self.remove(oldest);
        }
        true
    }

    /// The blocks along `tokens`; only the last one may have tokens that are not in common.
    fn path(&self, tokens: &[Token], adapters: Adapters) -> Vec<Found> {
        let mut path: Vec<Found> = vec![];
        let mut at = 0;
        loop {
            let level = self.children(path.last().map(|found| found.block));
            let best = level
                .iter()
                .filter(|idx| self.block(**idx).adapters == adapters)
                .map(|idx| (common(&self.block(*idx).tokens, &tokens[at..]), *idx))
                .max();
            let Some((length, block)) = best.filter(|(length, _)| *length > 0) else { return path };
            at += length;
            path.push(Found { block, end: at });
            if length < BLOCK {
                return path;
            }
        }
    }

    fn children(&self, parent: Option<BlockIdx>) -> &[BlockIdx] {
        parent.map_or(&self.roots, |parent| &self.block(parent).children)
    }

    fn block(&self, idx: BlockIdx) -> &Block {
        self.blocks[idx].as_ref().expect("blocks are named only while they are here")
    }

    fn block_mut(&mut self, idx: BlockIdx) -> &mut Block {
        self.blocks[idx].as_mut().expect("blocks are named only while they are here")
    }
}

fn cost(tokens: usize, state: usize) -> usize {
    size_of::<Block>() + tokens * size_of::<Token>() + state
}
