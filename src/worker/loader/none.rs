//! A build that runs no model itself.

use std::ops::{ControlFlow, Range};

use crate::domain::error::{ErrorCode, Failure};
use crate::engine::brake::Brake;
use crate::engine::model::{Decoded, Decoder, ModelError, Threads};
use crate::engine::recipe::{Chosen, Recipe};
use crate::engine::scheduler::{Adapters, Entry, SeqIdx, Token};
use crate::protocol::command::Load;
use crate::worker::loader::{LoadFailure, Loader, Parts};

/// Answers every load with an error.
#[derive(Clone, Copy, Debug)]
pub struct NoLoader;

impl Loader for NoLoader {
    type Decoder = Never;

    fn load(
        &self,
        _: &Load,
        _: &mut dyn FnMut(f32) -> ControlFlow<()>,
    ) -> Result<Parts<Never>, LoadFailure> {
        let text = "this build of lollmsd has no llama.cpp in it";
        Err(LoadFailure::Failed(Failure::new(ErrorCode::Unsupported, text)))
    }
}

/// A model that cannot exist.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

impl Decoder for Never {
    type Sampler = Never;

    fn sampler(&mut self, _: &Recipe, _: &[Token]) -> Result<Never, ModelError> {
        match *self {}
    }

    fn decode(&mut self, _: &[Entry], _: &Brake) -> Decoded {
        match *self {}
    }

    fn sample(&mut self, _: &mut Never, _: usize) -> Result<Chosen, ModelError> {
        match *self {}
    }

    fn cut(&mut self, _: SeqIdx, _: usize) -> bool {
        match *self {}
    }

    fn share(&mut self, _: SeqIdx, _: SeqIdx, _: Range<usize>) {
        match *self {}
    }

    fn save(&mut self, _: SeqIdx, _: Range<usize>) -> Option<Vec<u8>> {
        match *self {}
    }

    fn restore(&mut self, _: SeqIdx, _: &[u8], _: Range<usize>) -> bool {
        match *self {}
    }

    fn own(&mut self, _: SeqIdx) -> bool {
        match *self {}
    }

    fn shift(&mut self, _: SeqIdx, _: Range<usize>) {
        match *self {}
    }

    fn adapt(&mut self, _: Adapters) {
        match *self {}
    }

    fn append_bytes(&self, _: Token, _: &mut Vec<u8>) {
        match *self {}
    }

    fn ends_text(&self, _: Token) -> bool {
        match *self {}
    }

    fn set_threads(&mut self, _: Threads) -> Result<(), ModelError> {
        match *self {}
    }

    fn rebuild(&mut self) -> Result<(), ModelError> {
        match *self {}
    }
}
