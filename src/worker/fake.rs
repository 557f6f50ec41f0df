//! A model for tests: a token is a byte, the next one a function of the whole context, and steps wait for
//! permits where a test wants to look between them.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::domain::error::{ErrorCode, Failure};
use crate::domain::prompt::{Message, Role};
use crate::engine::model::{Control, Decoded, Decoder, Facts, Lexicon, ModelError, Special};
use crate::engine::recipe::{Alternative, Chosen, Likely, Recipe};
use crate::engine::scheduler::{Cutting, Entry, SeqIdx, Token};
use crate::engine::vocabulary::Vocabulary;
use crate::protocol::command::Load;
use crate::worker::loader::{LoadFailure, Loader, Parts};

/// Ends a text.
pub(super) const END: Token = 256;
/// A prompt with this byte breaks the context when it is read.
pub(super) const BREAKS: u8 = b'#';
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
        let facts = Facts {
            ctx_size: load.settings.ctx_size as usize,
            sequences: load.settings.slots as usize,
            batch: load.settings.batch as usize,
            cutting: Cutting::Anywhere,
            description: "a fake".into(),
        };
        let gate = self.gate.lock().unwrap().take();
        let decoder =
            FakeDecoder { cache: vec![Vec::new(); facts.sequences], step: Vec::new(), gate };
        Ok(Parts { decoder, lexicon: Arc::new(FakeLexicon(self.template)), facts })
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

    fn decode(&mut self, batch: &[Entry]) -> Decoded {
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
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

    fn append_bytes(&self, token: Token, out: &mut Vec<u8>) {
        out.extend(u8::try_from(token));
    }

    fn ends_text(&self, token: Token) -> bool {
        token == END
    }

    fn rebuild(&mut self) -> Result<(), ModelError> {
        self.cache.iter_mut().for_each(Vec::clear);
        Ok(())
    }
}

/// Bytes are tokens.
pub(super) struct FakeLexicon(pub(super) Template);

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
        self.0 == Template::Tagged
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

    fn embed(&self, text: &str) -> Result<Vec<f32>, ModelError> {
        if text.is_empty() { Err(ModelError("empty".into())) } else { Ok(vec![0.6, 0.8]) }
    }
}
