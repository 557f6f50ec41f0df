//! The chain model: the next token is a fixed function of the last one.
//!
//! Attention and feed-forward parts are zero, so the last token's row of the embedding alone decides.
//! The row is one-hot and the logit of the right token lies 58 above all others, so every sampler
//! setting that is not absurd gives the same text on every machine.
//!
//! A prompt is cut into one token per printable ASCII character (byte tokens for the rest), and the
//! completion is chosen by its **last character**; [`PATHS`] has them all. A prompt of `n` ASCII
//! characters has `n + 1` tokens, the first one being the beginning mark.

use std::collections::BTreeMap;

use super::gguf::{Gguf, Type};
use super::llama::{Shape, add_tensors, rows, zeros};
use super::vocabulary::{BEGIN, END, FIRST_BYTE, FIRST_CHAR, FIRST_PIECE, Vocabulary};

/// One token of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A piece of three characters or more, so that no prompt is cut into it.
    Piece(&'static str),
    /// A byte token: part of a character, or no character at all.
    Byte(u8),
}

/// What follows the last step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The end-of-text token.
    End,
    /// The first step again, for ever.
    Again,
}

/// The completion of every prompt that ends with one character.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// Last character of the prompt; `None` stands for every character without a path of its own.
    pub(crate) after: Option<char>,
    /// The tokens. No token occurs in two places, for each has one successor only.
    pub(crate) steps: &'static [Step],
    /// What follows.
    pub(crate) then: Then,
}

use Step::{Byte, Piece};

/// All completions. `N` is made by [`paths`], because it is long.
const PATHS: &[Path] = &[
    // A: accents, an emoji and other characters split over byte tokens; ends.
    Path {
        after: Some('A'),
        steps: &[
            Piece(" Once"),
            Piece(" upon"),
            Piece(" a caf"),
            Byte(0xc3),
            Byte(0xa9),
            Piece(" served"),
            Piece(" robots "),
            Byte(0xf0),
            Byte(0x9f),
            Byte(0x98),
            Byte(0x80),
            Piece(" for 5 "),
            Byte(0xe2),
            Byte(0x82),
            Byte(0xac),
            Piece(" and a "),
            Byte(0xe5),
            Byte(0xad),
            Byte(0x97),
            Piece(". The"),
            Piece(" end."),
        ],
        then: Then::End,
    },
    // L: a loop of plain words.
    Path {
        after: Some('L'),
        steps: &[
            Piece(" one"),
            Piece(" two"),
            Piece(" three"),
            Piece(" four"),
            Piece(" five"),
            Piece(" six"),
            Piece(" seven"),
            Piece(" eight"),
            Piece(" nine"),
            Piece(" ten"),
        ],
        then: Then::Again,
    },
    // U: a loop of characters of two, three and four bytes.
    Path {
        after: Some('U'),
        steps: &[
            Byte(0xd1),
            Byte(0x8f),
            Piece(" 🚀 "),
            Byte(0xe0),
            Byte(0xa4),
            Byte(0xb9),
            Piece(" then"),
            Byte(0xe6),
            Byte(0x9c),
            Byte(0xb1),
        ],
        then: Then::Again,
    },
    // Z: one token repeated for ever.
    Path { after: Some('Z'), steps: &[Piece(" tick")], then: Then::Again },
    // E: an empty completion.
    Path { after: Some('E'), steps: &[], then: Then::End },
    // B: ends in the middle of a character.
    Path { after: Some('B'), steps: &[Piece(" half"), Byte(0xf1), Byte(0xa2)], then: Then::End },
    // I: a byte that is no UTF-8 between two words.
    Path { after: Some('I'), steps: &[Piece(" bad"), Byte(0xff), Piece(" byte")], then: Then::End },
    // S: words that stop strings can lie across.
    Path {
        after: Some('S'),
        steps: &[
            Piece(" alpha"),
            Piece(" beta-"),
            Piece("gamma"),
            Piece(" delta"),
            Piece(" omega"),
        ],
        then: Then::End,
    },
    // Q: a model that goes on as the user, as an anti-prompt stops it.
    Path {
        after: Some('Q'),
        steps: &[Piece(" Fine."), Piece("\n!@>"), Piece(" Human"), Piece(": more"), Piece(" talk")],
        then: Then::End,
    },
    // The colon that ends the prefix of an answer.
    Path { after: Some(':'), steps: &[Piece(" Hello"), Piece(" there!")], then: Then::End },
    Path { after: None, steps: &[Piece(" What"), Piece(" now?")], then: Then::End },
];

/// Words of the path `N`, which ends after this many tokens.
pub(crate) const N_WORDS: usize = 300;

const SHAPE: Shape = Shape {
    name: "chain",
    n_ctx: 8192,
    n_embd: 384,
    n_layer: 1,
    n_head: 6,
    n_ff: 32,
    kind: Type::F32,
};

/// A path with its tokens' bytes, as tests want it.
#[derive(Clone, Debug)]
pub(crate) struct Completion {
    /// Last character of the prompt; `None`: any other.
    pub(crate) after: Option<char>,
    /// Bytes of each token.
    pub(crate) tokens: Vec<Vec<u8>>,
    /// What follows.
    pub(crate) then: Then,
}

impl Completion {
    /// Bytes of the first `n_tokens` tokens, fewer when the path ends before.
    pub(crate) fn bytes(&self, n_tokens: usize) -> Vec<u8> {
        match self.then {
            Then::End => self.tokens.iter().take(n_tokens).flatten().copied().collect(),
            Then::Again => self.tokens.iter().cycle().take(n_tokens).flatten().copied().collect(),
        }
    }
}

/// All completions, the long one included.
pub(crate) fn completions() -> Vec<Completion> {
    let bytes = |step: &Step| match *step {
        Piece(text) => text.as_bytes().to_vec(),
        Byte(byte) => vec![byte],
    };
    let mut all: Vec<_> = PATHS
        .iter()
        .map(|path| Completion {
            after: path.after,
            tokens: path.steps.iter().map(bytes).collect(),
            then: path.then,
        })
        .collect();
    let long = (1..=N_WORDS).map(|number| format!(" n{number:03}").into_bytes()).collect();
    all.push(Completion { after: Some('N'), tokens: long, then: Then::End });
    all
}

/// The model.
pub(crate) fn build() -> Gguf {
    let mut vocabulary = Vocabulary::basic();
    let successors = successors(&mut vocabulary);
    let n_vocab = vocabulary.len();
    // Tokens with the same successor share one state, and each state has a dimension of its own.
    let mut states = BTreeMap::new();
    for next in &successors {
        let fresh = states.len();
        states.entry(*next).or_insert(fresh);
    }
    let n_embd = SHAPE.n_embd as usize;
    assert!(states.len() <= n_embd, "{} states need as many dimensions", states.len());
    let one_hot = |state: Option<&usize>, value: f32| {
        let mut row = vec![0.0; n_embd];
        if let Some(state) = state {
            row[*state] = value;
        }
        row
    };
    let embedding: Vec<_> = successors.iter().map(|next| one_hot(states.get(next), 1.0)).collect();
    // A normed one-hot row has the value √384 = 19.6, so the right logit becomes 58.8.
    let output: Vec<_> = (0..n_vocab).map(|token| one_hot(states.get(&token), 3.0)).collect();
    let mut gguf = SHAPE.describe();
    vocabulary.describe(&mut gguf);
    add_tensors(&mut gguf, &SHAPE, n_vocab, &|name, row_len, n_rows| match name {
        "token_embd.weight" => rows(name, row_len, embedding.clone()),
        "output.weight" => rows(name, row_len, output.clone()),
        _ => zeros(name, row_len, n_rows),
    });
    gguf
}

/// The successor of every token, the pieces being added to the vocabulary.
fn successors(vocabulary: &mut Vocabulary) -> Vec<u32> {
    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    let mut otherwise = END;
    for path in completions() {
        let tokens: Vec<u32> = path
            .tokens
            .iter()
            .map(|bytes| match bytes.as_slice() {
                [byte] => FIRST_BYTE + u32::from(*byte),
                _ => vocabulary.add(std::str::from_utf8(bytes).expect("pieces are text")),
            })
            .collect();
        let last = match path.then {
            Then::End => END,
            Then::Again => tokens[0],
        };
        let first = tokens.first().copied().unwrap_or(END);
        match path.after {
            Some(char) => assert!(next.insert(char_token(char), first).is_none()),
            None => otherwise = first,
        }
        for (at, token) in tokens.iter().enumerate() {
            let follower = tokens.get(at + 1).copied().unwrap_or(last);
            assert!(next.insert(*token, follower).is_none(), "token {token} has two successors");
        }
    }
    (0..vocabulary.len())
        .map(|token| match token {
            // A text that is empty but for its beginning mark ends at once.
            BEGIN | END => END,
            _ => next.get(&token).copied().unwrap_or(otherwise),
        })
        .collect()
}

fn char_token(char: char) -> u32 {
    assert!((' '..='~').contains(&char), "{char:?} has no token of its own");
    let token = FIRST_CHAR + u32::from(char) - u32::from(' ');
    assert!(token < FIRST_PIECE);
    token
}
