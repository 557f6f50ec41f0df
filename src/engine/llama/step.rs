//! The numbers of one entry of a decoded batch: chooses a token from them and tells how likely it was.

use std::ptr;

use crate::domain::steering::Stage;
use crate::engine::grammar::mask::Mask;
use crate::engine::llama::context::RawContext;
use crate::engine::llama::ffi::{self, ErrorText};
use crate::engine::llama::sampler::Sampler;
use crate::engine::model::{Control, ModelError};
use crate::engine::recipe::{Alternative, Likely};
use crate::engine::scheduler::Token;

/// One entry that was asked for numbers.
pub(super) struct Step<'a> {
    pub(super) context: &'a mut RawContext,
    /// The entry's place in the batch.
    pub(super) at: i32,
}

impl Step<'_> {
    /// Chooses a token: first as if there were no grammar, and only when that is refused among those
    /// that the grammar allows, as llama.cpp does. Looking over a vocabulary is dear.
    pub(super) fn choose(&mut self, sampler: &mut Sampler) -> Result<Token, ModelError> {
        let token = self.choose_among(sampler, None)?;
        match sampler.objection(token)? {
            Some(mask) => self.choose_among(sampler, Some(&mask)),
            None => Ok(token),
        }
    }

    fn choose_among(
        &mut self,
        sampler: &mut Sampler,
        mask: Option<&Mask>,
    ) -> Result<Token, ModelError> {
        let mut err = ErrorText::new();
        let bits = mask.map_or(ptr::null(), |mask| mask.words().as_ptr());
        // SAFETY: sampler and context live; a mask has a bit for each token of the vocabulary.
        let token = unsafe {
            ffi::lollmsd_sample(
                sampler.raw(),
                self.context.raw(),
                self.at,
                bits,
                err.as_mut_ptr(),
                err.size(),
            )
        };
        if token < 0 { Err(ModelError(err.text())) } else { Ok(token) }
    }

    /// How likely the token chosen last was, when the recipe asks for that.
    pub(super) fn likely(
        &mut self,
        sampler: &mut Sampler,
        token: Token,
    ) -> Result<Option<Likely>, ModelError> {
        let Some(asked) = sampler.probabilities() else { return Ok(None) };
        let mut ids = vec![0; asked.top as usize];
        let mut logs = vec![0.0; ids.len()];
        let mut own = 0.0;
        let mut err = ErrorText::new();
        // SAFETY: sampler and context live; both lists have room for as many entries as are asked for.
        let count = unsafe {
            ffi::lollmsd_probabilities(
                sampler.raw(),
                self.context.raw(),
                self.at,
                asked.stage == Stage::Samplers,
                token,
                i32::try_from(ids.len()).expect("at most 100"),
                ids.as_mut_ptr(),
                logs.as_mut_ptr(),
                &raw mut own,
                err.as_mut_ptr(),
                err.size(),
            )
        };
        let count = usize::try_from(count).map_err(|_| ModelError(err.text()))?;
        let alternative = |(token, log): (&Token, &f32)| {
            let mut bytes = Vec::new();
            self.context.model.append_bytes(*token, Control::Parse, &mut bytes);
            Alternative { token: *token, bytes, log: *log }
        };
        let top = ids.iter().zip(&logs).take(count).map(alternative).collect();
        Ok(Some(Likely { log: own, top }))
    }
}
