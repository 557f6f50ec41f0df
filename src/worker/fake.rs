//! A model for tests: a token is a byte, the next one a function of the whole context, and steps wait for
//! permits where a test wants to look between them.

use std::ops::{ControlFlow, Range};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::domain::error::{ErrorCode, Failure};
use crate::domain::prompt::{Message, Role};
use crate::engine::adapters::AdapterSets;
use crate::engine::brake::Brake;
use crate::engine::model::{
    Control, Decoded, Decoder, Facts, FillMarks, Lexicon, Mark, Marks, ModelError, Special, Threads,
};
use crate::engine::recipe::{Alternative, Chosen, Likely, Recipe};
use crate::engine::scheduler::{Adapters, Cutting, Entry, Limits, SeqIdx, Token};
use crate::engine::vectors::{Embedder, NoVectors, Offer, OwnPooling, Pool, Pooling, Reading};
use crate::engine::vocabulary::Vocabulary;
use crate::protocol::command::Load;
use crate::worker::kv_files::Origin;
use crate::worker::loader::{LoadFailure, Loader, Parts};

/// Ends a text.
pub(super) const END: Token = 256;
/// A prompt with this byte breaks the context when it is read.
pub(super) const BREAKS: u8 = b'#';
/// A number of threads that cannot be had.
pub(super) const REFUSED: u32 = 500;
/// A text with this byte is never read to its end.
pub(super) const LASTS: u8 = b'~';
/// A name of a model that never finishes loading.
pub(super) const ENDLESS: &str = "endless";

/// Whether the fake has a chat template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Template {
    None,
    Tagged,
}

/// Loads the fake.
pub(super) struct FakeLoader {
    pub(super) template: Template,
    /// With a gate each step waits for a permit, or for the sender to go.
    gate: Mutex<Option<Receiver<()>>>,
}

impl FakeLoader {
    pub(super) fn new() -> Self {
        Self { template: Template::None, gate: Mutex::new(None) }
    }

    pub(super) fn gated() -> (Self, SyncSender<()>) {
        let (permits, gate) = sync_channel(1_000);
        (Self { template: Template::None, gate: Mutex::new(Some(gate)) }, permits)
    }
}

impl Loader for FakeLoader {
    type Decoder = FakeDecoder;

    fn load(
        &self,
        load: &Load,
        progress: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<Parts<FakeDecoder>, LoadFailure> {
        let endless = load.model == ENDLESS;
        loop {
            if !endless {
                break;
            }
            let (_keep, tick) = sync_channel::<()>(0);
            let _ = tick.recv_timeout(Duration::from_millis(1));
            if progress(0.5).is_break() {
                return Err(LoadFailure::Cancelled);
            }
        }
        if load.model.is_empty() {
            let failure = Failure::new(ErrorCode::Unavailable, "no such model");
            return Err(LoadFailure::Failed(failure));
        }
        let settings = &load.settings;
        let limits = Limits {
            running: settings.slots as usize,
            sequences: settings.slots as usize + 2,
            batch: settings.batch as usize,
            outputs: (settings.slots * (1 + settings.draft_max)) as usize,
            ctx_size: settings.ctx_size as usize,
            cells: (settings.ctx_size * settings.slots) as usize,
            idle_cells: settings.idle_cells as usize,
            host_bytes: (settings.cache_ram as usize) << 20,
            cutting: Cutting::Anywhere,
        };
        let mixed_step = Duration::from_millis(settings.step_ms.into());
        let adapters = Arc::new(AdapterSets::default());
        let facts = Facts {
            limits,
            mixed_step,
            adapters,
            draft_max: settings.draft_max as usize,
            can_shift: true,
            writes: true,
            threads: Threads { one: 1, many: 1 },
            description: "a fake".into(),
        };
        let gate = self.gate.lock().unwrap().take();
        let decoder =
            FakeDecoder { cache: vec![Vec::new(); limits.sequences], step: Vec::new(), gate };
        let lexicon = Arc::new(FakeLexicon::new(self.template));
        let embedder = Arc::new(FakeEmbedder { ctx_size: limits.ctx_size });
        Ok(Parts { decoder, lexicon, embedder, facts, origin: Origin::default(), kv_files: None })
    }
}

pub(super) struct FakeDecoder {
    cache: Vec<Vec<Token>>,
    /// For each entry of the last step, the token after it.
    step: Vec<Option<Token>>,
    gate: Option<Receiver<()>>,
}

/// The token after a context: a letter, or the end after a dot.
pub(super) fn after(context: &[Token]) -> Token {
    if context.last() == Some(&Token::from(b'.')) {
        return END;
    }
    // The last few and how many: a long text must not take time that grows with its square.
    let last = &context[context.len().saturating_sub(40)..];
    let hash = last.iter().fold(context.len() as u64, |hash, token| {
        hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(7) ^ u64::from(token.unsigned_abs())
    });
    Token::from(b'a') + Token::try_from(hash % 26).unwrap()
}

impl Decoder for FakeDecoder {
    type Sampler = Recipe;

    fn sampler(&mut self, recipe: &Recipe, _: &[Token]) -> Result<Recipe, ModelError> {
        Ok(recipe.clone())
    }

    fn decode(&mut self, batch: &[Entry], brake: &Brake) -> Decoded {
        while let Some(gate) = &self.gate {
            match gate.recv_timeout(Duration::from_millis(1)) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if brake.is_pulled() => return Decoded::BrokenOff,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        if batch.iter().any(|entry| entry.token == Token::from(BREAKS)) {
            return Decoded::Broken("a forbidden byte".into());
        }
        self.step.clear();
        for entry in batch {
            let cells = &mut self.cache[entry.seq];
            assert_eq!(cells.len(), entry.position, "positions have no gap");
            cells.push(entry.token);
            self.step.push(entry.wants_logits.then(|| after(cells)));
        }
        Decoded::Done
    }

    fn sample(&mut self, recipe: &mut Recipe, at: usize) -> Result<Chosen, ModelError> {
        let token = self.step[at].ok_or_else(|| ModelError("not asked for".into()))?;
        let likely = recipe.probabilities.map(|asked| {
            let alternative = |log: u8| Alternative {
                token: token + Token::from(log),
                bytes: vec![b'a' + log],
                log: -f32::from(log),
            };
            // The chosen token by its number, so that a test sees whose probability it is.
            let top = (0..u8::try_from(asked.top).unwrap()).map(alternative).collect();
            Likely { log: -f32::from(u16::try_from(token).unwrap()), top }
        });
        Ok(Chosen { token, likely })
    }

    fn cut(&mut self, seq: SeqIdx, from: usize) -> bool {
        self.cache[seq].truncate(from);
        true
    }

    fn share(&mut self, from: SeqIdx, to: SeqIdx, range: Range<usize>) {
        let cells = self.cache[from][range].to_vec();
        self.cache[to].extend(cells);
    }

    fn save(&mut self, seq: SeqIdx, range: Range<usize>) -> Option<Vec<u8>> {
        let start = i32::try_from(range.start).ok()?;
        let tokens = std::iter::once(start).chain(self.cache[seq][range].iter().copied());
        Some(tokens.flat_map(Token::to_le_bytes).collect())
    }

    fn restore(&mut self, seq: SeqIdx, state: &[u8], range: Range<usize>) -> bool {
        let mut words = state.chunks_exact(4).map(|c| Token::from_le_bytes(c.try_into().unwrap()));
        let start = usize::try_from(words.next().unwrap()).unwrap();
        let tokens: Vec<Token> = words.collect();
        self.cache[seq].extend(&tokens[range.start - start..range.end - start]);
        true
    }

    fn own(&mut self, _: SeqIdx) -> bool {
        true
    }

    fn shift(&mut self, seq: SeqIdx, gone: Range<usize>) {
        self.cache[seq].drain(gone);
    }

    fn adapt(&mut self, _: Adapters) {}

    fn append_bytes(&self, token: Token, out: &mut Vec<u8>) {
        out.extend(u8::try_from(token));
    }

    fn ends_text(&self, token: Token) -> bool {
        token == END
    }

    fn set_threads(&mut self, threads: Threads) -> Result<(), ModelError> {
        if threads.one == REFUSED { Err(ModelError("no such threads".into())) } else { Ok(()) }
    }

    fn rebuild(&mut self) -> Result<(), ModelError> {
        self.cache.iter_mut().for_each(Vec::clear);
        Ok(())
    }
}

/// Bytes are tokens.
pub(super) struct FakeLexicon {
    pub(super) template: Template,
    pub(super) marks: Marks,
    /// Template for a query and a document.
    pub(super) pairs: Option<&'static str>,
}

impl FakeLexicon {
    pub(super) const fn new(template: Template) -> Self {
        let none = Mark { token: None, wanted: false };
        let fill =
            FillMarks { prefix: None, suffix: None, middle: None, repository: None, file: None };
        let marks = Marks { begin: none, end: none, separator: none, fill };
        Self { template, marks, pairs: None }
    }
}

impl Lexicon for FakeLexicon {
    fn tokenize(&self, text: &str, _: Special, _: Control) -> Result<Vec<Token>, ModelError> {
        Ok(text.bytes().map(Token::from).collect())
    }

    fn detokenize(&self, tokens: &[Token]) -> Result<String, ModelError> {
        let bytes: Result<Vec<u8>, _> = tokens.iter().map(|token| u8::try_from(*token)).collect();
        let bytes = bytes.map_err(|error| ModelError(error.to_string()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn vocabulary(&self) -> Arc<Vocabulary> {
        let mut vocabulary = Vocabulary::default();
        (0..=u8::MAX).for_each(|byte| vocabulary.push(&[byte], false));
        vocabulary.push(&[], true);
        Arc::new(vocabulary)
    }

    fn schema_grammar(&self, schema: &str) -> Result<String, ModelError> {
        Ok(format!("root ::= \"{}\"", schema.len()))
    }

    fn has_template(&self) -> bool {
        self.template == Template::Tagged
    }

    fn apply_template(&self, messages: &[Message]) -> Result<String, ModelError> {
        let write = |message: &Message| {
            let tag = match message.role {
                Role::System => 's',
                Role::User => 'u',
                Role::Assistant => 'a',
            };
            format!("<{tag}>{}", message.content)
        };
        Ok(messages.iter().map(write).collect::<String>() + "<a>")
    }

    fn marks(&self) -> Marks {
        self.marks
    }

    fn pair_template(&self) -> Option<String> {
        self.pairs.map(String::from)
    }
}

/// Two numbers for each token: the token and its position. A pair's score is its length.
struct FakeEmbedder {
    ctx_size: usize,
}

impl FakeEmbedder {
    fn wait(reading: Reading<'_>) -> Result<(), NoVectors> {
        while reading.texts.iter().flatten().any(|token| *token == Token::from(LASTS)) {
            if reading.brake.is_pulled() {
                return Err(NoVectors::Cancelled);
            }
            std::thread::yield_now();
        }
        Ok(())
    }
}

impl Embedder for FakeEmbedder {
    fn offer(&self) -> Offer {
        Offer { size: 2, ctx_size: self.ctx_size, pooling: OwnPooling::Unsaid, ranks: true }
    }

    fn embed(
        &self,
        reading: Reading<'_>,
        pooling: Pooling,
        found: &mut dyn FnMut(usize, Vec<f32>),
    ) -> Result<(), NoVectors> {
        Self::wait(reading)?;
        for (at, text) in reading.texts.iter().enumerate() {
            let mut pool = Pool::new(pooling);
            for (position, token) in (0_u16..).zip(text) {
                pool.push(&[f32::from(u16::try_from(*token).unwrap()), f32::from(position)]);
            }
            found(at, pool.finish()?);
        }
        Ok(())
    }

    fn rank(&self, pairs: Reading<'_>) -> Result<Vec<f32>, NoVectors> {
        Self::wait(pairs)?;
        Ok(pairs.texts.iter().map(|pair| f32::from(u16::try_from(pair.len()).unwrap())).collect())
    }

    fn set_threads(&self, _: Threads) {}
}
