//! A build that runs no model itself.

use std::ops::ControlFlow;

use crate::domain::error::{ErrorCode, Failure};
use crate::domain::sampling::Sampling;
use crate::engine::brake::Brake;
use crate::engine::model::{Decoded, Decoder, ModelError, Threads};
use crate::engine::scheduler::{Entry, SeqIdx, Token};
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

    fn sampler(&mut self, _: &Sampling, _: &[Token]) -> Result<Never, ModelError> {
        match *self {}
    }

    fn decode(&mut self, _: &[Entry], _: &Brake) -> Decoded {
        match *self {}
    }

    fn sample(&mut self, _: &mut Never, _: usize) -> Result<Token, ModelError> {
        match *self {}
    }

    fn cut(&mut self, _: SeqIdx, _: usize) -> bool {
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
