//! Vectors and scores, by llama.cpp, in contexts of their own that are made when they are first needed.

use std::sync::{Arc, Mutex, PoisonError};

use llama_cpp_sys_2 as sys;

use crate::engine::llama::batch::{Batch, Ranges};
use crate::engine::llama::context::{RawContext, thread_count};
use crate::engine::llama::ffi;
use crate::engine::llama::model::Model;
use crate::engine::model::{Decoded, ModelError, Threads};
use crate::engine::scheduler::{Entry, Token};
use crate::engine::vectors::{Embedder, NoVectors, Offer, OwnPooling, Pool, Pooling, Reading};

/// Texts that are read side by side.
const SEQUENCES: usize = 16;
/// Most tokens of a step of a model that reads on.
const STEP: usize = 512;
/// Most logits of a step. llama.cpp computes them for every token whose row it makes, wanted or not; a
/// large vocabulary would fill the memory with them. 256 MiB.
const LOGITS: usize = 64 << 20;
/// A step for the largest vocabulary.
const LEAST_STEP: usize = 32;

/// The embedding side of a llama.cpp model.
pub struct LlamaEmbedder {
    model: Arc<Model>,
    offer: Offer,
    /// What the next step is to use.
    threads: Mutex<Threads>,
    readers: Mutex<Readers>,
    /// Most tokens of a step.
    step: usize,
}

#[derive(Default)]
struct Readers {
    /// Gives a row for each token.
    rows: Option<Reader>,
    /// Gives a score for each text.
    scores: Option<Reader>,
}

/// What a reader is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Rows,
    Scores,
}

/// A context that reads whole texts and forgets them.
struct Reader {
    context: RawContext,
    batch: Batch,
    sequences: usize,
    /// Most tokens of a step.
    step: usize,
    /// Most tokens of the texts that are read side by side, unless one alone has more.
    room: usize,
}

/// A token that was read.
struct ReadToken {
    /// The number of its text.
    text: usize,
    /// Its place in the step.
    at: i32,
    /// The sequence of its text.
    seq: i32,
    /// Whether it is the last of its text.
    ends: bool,
}

impl LlamaEmbedder {
    /// The embedding side of `model`, for texts of at most `ctx_size` tokens.
    pub fn new(model: &Arc<Model>, ctx_size: usize, threads: Threads) -> Self {
        let pooling = match model.meta_number("pooling_type") {
            Some(1) => OwnPooling::Named(Pooling::Mean),
            Some(2) => OwnPooling::Named(Pooling::First),
            Some(3) => OwnPooling::Named(Pooling::Last),
            Some(4) => OwnPooling::Ranks,
            // 0 stands for none: no single vector, so nothing that could be the default.
            Some(_) | None => OwnPooling::Unsaid,
        };
        // A model of two halves would have to be read by its first half alone, which llama.cpp's
        // contexts for vectors cannot do.
        let reads = !(model.has_encoder() && model.has_decoder());
        let size = if reads { usize::try_from(model.safe().n_embd_out()).unwrap_or(0) } else { 0 };
        let offer = Offer { size, ctx_size, pooling, ranks: reads && model.has_classifier() };
        Self {
            model: Arc::clone(model),
            offer,
            threads: Mutex::new(threads),
            readers: Mutex::default(),
            step: STEP,
        }
    }

    /// The same with smaller steps, to see that they make no difference.
    #[cfg(test)]
    pub(super) fn in_steps_of(self, step: usize) -> Self {
        Self { step, ..self }
    }

    fn wanted_threads(&self) -> Threads {
        *self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the reader for `purpose`.
    fn reader(&self, purpose: Use) -> Result<Reader, ModelError> {
        let (model, ctx_size, threads) = (&self.model, self.offer.ctx_size, self.wanted_threads());
        let n_vocab = usize::try_from(model.n_vocab()).unwrap_or(1).max(1);
        let narrow = (LOGITS / n_vocab).max(LEAST_STEP).min(ctx_size);
        let step = narrow.min(self.step);
        // The cells of recurrent models are whole sequences, and large. For others llama.cpp insists on
        // room for a token of each.
        let sequences = if model.is_recurrent() { 1 } else { SEQUENCES.min(step) };
        let with = |step: usize| {
            let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let settings = ffi::ContextSettings {
                n_ctx: narrow(ctx_size),
                n_batch: narrow(step),
                n_seq_max: narrow(sequences),
                n_outputs: 0,
                threads: thread_count(threads.one),
                kv_type: i32::try_from(sys::GGML_TYPE_F16).expect("ggml has some dozen types"),
                embeddings: true,
                // Rows are pooled here; only the head for scores is llama.cpp's.
                pooling: match purpose {
                    Use::Rows => sys::LLAMA_POOLING_TYPE_NONE,
                    Use::Scores => sys::LLAMA_POOLING_TYPE_RANK,
                },
            };
            RawContext::new(model, &settings, threads)
        };
        let mut context = with(step)?;
        // A head over the mean needs the whole text too.
        let mean = i64::from(sys::LLAMA_POOLING_TYPE_MEAN);
        let head_over_mean = purpose == Use::Scores
            && model.meta_number("classifier.pooling_type").map(i64::from) == Some(mean);
        let whole = !context.reads_on() || head_over_mean;
        if whole && step < ctx_size {
            drop(context);
            context = with(ctx_size)?;
        }
        let (step, room) = if whole { (ctx_size, narrow) } else { (step, ctx_size) };
        Ok(Reader { context, batch: Batch::new(step), sequences, step, room })
    }

    /// Reads texts with the reader for `purpose`; a reader whose context broke is not used again.
    fn read(
        &self,
        purpose: Use,
        reading: Reading<'_>,
        found: &mut dyn FnMut(&mut RawContext, &ReadToken) -> Result<(), ModelError>,
    ) -> Result<(), NoVectors> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match purpose {
            Use::Rows => &mut readers.rows,
            Use::Scores => &mut readers.scores,
        };
        let mut reader = match place.take() {
            Some(reader) => reader,
            None => self.reader(purpose)?,
        };
        let done = reader.read(reading, &|| self.wanted_threads(), found);
        if !matches!(done, Err(NoVectors::Failed(_))) {
            *place = Some(reader);
        }
        done
    }
}

impl Embedder for LlamaEmbedder {
    fn offer(&self) -> Offer {
        self.offer.clone()
    }

    fn embed(
        &self,
        reading: Reading<'_>,
        pooling: Pooling,
        found: &mut dyn FnMut(usize, Vec<f32>),
    ) -> Result<(), NoVectors> {
        let mut pools: Vec<Option<Pool>> =
            reading.texts.iter().map(|_| Some(Pool::new(pooling))).collect();
        self.read(Use::Rows, reading, &mut |context, token| {
            let Some(pool) = &mut pools[token.text] else { return Ok(()) };
            pool.push(row(context, token.at, self.offer.size)?);
            if token.ends
                && let Some(pool) = pools[token.text].take()
            {
                found(token.text, pool.finish()?);
            }
            Ok(())
        })
    }

    fn rank(&self, pairs: Reading<'_>) -> Result<Vec<f32>, NoVectors> {
        let mut scores = Vec::with_capacity(pairs.texts.len());
        self.read(Use::Scores, pairs, &mut |context, token| {
            if token.ends {
                scores.push(score(context, token.seq)?);
            }
            Ok(())
        })?;
        Ok(scores)
    }

    fn set_threads(&self, threads: Threads) {
        *self.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
    }
}

impl Reader {
    fn read(
        &mut self,
        reading: Reading<'_>,
        threads: &dyn Fn() -> Threads,
        found: &mut dyn FnMut(&mut RawContext, &ReadToken) -> Result<(), ModelError>,
    ) -> Result<(), NoVectors> {
        let Reading { texts, brake } = reading;
        let n_vocab = self.context.model.n_vocab();
        let ranges = Ranges { n_vocab, n_seq_max: self.sequences };
        let mut first = 0;
        while first < texts.len() {
            let count = side_by_side(&texts[first..], self.room, self.sequences);
            let group = &texts[first..first + count];
            self.forget();
            let entries: Vec<Entry> =
                group.iter().enumerate().flat_map(|(seq, text)| entries(seq, text)).collect();
            for step in entries.chunks(self.step) {
                if brake.is_pulled() {
                    return Err(NoVectors::Cancelled);
                }
                self.context.set_threads(threads())?;
                self.batch.fill(step, ranges).map_err(ModelError)?;
                match self.context.decode(&mut self.batch, brake) {
                    Decoded::Done => {}
                    Decoded::BrokenOff => return Err(NoVectors::Cancelled),
                    Decoded::NoRoom => {
                        return Err(ModelError("the embedding context has no room".into()).into());
                    }
                    Decoded::Broken(reason) => return Err(ModelError(reason).into()),
                }
                for (at, entry) in step.iter().enumerate() {
                    let small = "a step has some thousand entries";
                    let token = ReadToken {
                        text: first + entry.seq,
                        at: i32::try_from(at).expect(small),
                        seq: i32::try_from(entry.seq).expect(small),
                        ends: entry.position + 1 == group[entry.seq].len(),
                    };
                    found(&mut self.context, &token)?;
                }
            }
            first += count;
        }
        Ok(())
    }

    /// Forgets what was read before. Models without a cache have nothing to forget.
    fn forget(&mut self) {
        for seq in 0..self.sequences {
            let seq = i32::try_from(seq).expect("there are a few sequences");
            // SAFETY: the context lives.
            unsafe { ffi::lollmsd_seq_rm(self.context.raw(), seq, 0) };
        }
    }
}

/// How many of the next texts are read side by side: as many as fit, and at least one.
fn side_by_side(texts: &[Vec<Token>], room: usize, sequences: usize) -> usize {
    let mut used = 0;
    let fits = |text: &&Vec<Token>| {
        used += text.len();
        used <= room
    };
    texts.iter().take(sequences).take_while(fits).count().max(1)
}

fn entries(seq: usize, text: &[Token]) -> impl Iterator<Item = Entry> {
    let entry = move |(position, token): (usize, &Token)| Entry {
        token: *token,
        position,
        seq,
        wants_logits: true,
    };
    text.iter().enumerate().map(entry)
}

/// The row of an entry of the step decoded last; it is there until the next step.
fn row(context: &mut RawContext, at: i32, size: usize) -> Result<&[f32], ModelError> {
    // SAFETY: the context lives; llama.cpp checks the place.
    let raw = unsafe { sys::llama_get_embeddings_ith(context.raw(), at) };
    if raw.is_null() || size == 0 {
        return Err(ModelError("the model made no vector".into()));
    }
    // SAFETY: llama.cpp keeps `n_embd_out` numbers for each token until the next step, and the context
    // is borrowed as long as the result.
    Ok(unsafe { std::slice::from_raw_parts(raw, size) })
}

/// The score of a sequence whose last token was in the step decoded last.
fn score(context: &mut RawContext, seq: i32) -> Result<f32, ModelError> {
    // SAFETY: the context lives; llama.cpp knows its sequences.
    let raw = unsafe { sys::llama_get_embeddings_seq(context.raw(), seq) };
    if raw.is_null() {
        return Err(ModelError("the model made no score".into()));
    }
    // SAFETY: llama.cpp keeps at least one number for each sequence until the next step.
    let score = unsafe { *raw };
    if score.is_finite() {
        Ok(score)
    } else {
        Err(ModelError("the model made a score that is not finite".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_side_by_side_as_far_as_they_fit() {
        let texts = |lengths: &[usize]| -> Vec<Vec<Token>> {
            lengths.iter().map(|length| vec![0; *length]).collect()
        };
        assert_eq!(side_by_side(&texts(&[3, 3, 3, 3]), 10, 16), 3);
        assert_eq!(side_by_side(&texts(&[3, 3, 3, 3]), 10, 2), 2);
        assert_eq!(side_by_side(&texts(&[30, 3]), 10, 2), 1);
        assert_eq!(side_by_side(&texts(&[5, 5]), 10, 2), 2);
    }
}
