//! Chooses the tokens of one generation: biases, then the samplers in the order of the recipe.

use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use crate::domain::sampler::SamplerKind;
use crate::domain::sampling::Sampling;
use crate::domain::steering::Probabilities;
use crate::engine::grammar::GrammarError;
use crate::engine::grammar::guide::Guide;
use crate::engine::grammar::mask::Mask;
use crate::engine::llama::ffi::{self, ErrorText};
use crate::engine::llama::model::Model;
use crate::engine::model::ModelError;
use crate::engine::recipe::Recipe;
use crate::engine::scheduler::Token;

/// llama.cpp takes this seed as "choose one"; ours have been chosen already.
const NO_SEED: u32 = u32::MAX;
/// How far back penalties look at most: the ring they need is allocated at once.
const MOST_LAST_N: usize = 65_536;

/// A sampler chain, kept from the first token of a generation to its last.
pub struct Sampler {
    raw: NonNull<ffi::Sampler>,
    probabilities: Option<Probabilities>,
    guide: Option<Guide>,
    /// Parts of a chain may keep a pointer to the vocabulary.
    _model: Arc<Model>,
}

// SAFETY: a chain is used by one thread at a time; it holds no thread-local state.
unsafe impl Send for Sampler {}

impl Sampler {
    /// Makes a chain and shows it the end of the prompt, which penalties count too.
    pub(super) fn new(
        model: &Arc<Model>,
        recipe: &Recipe,
        prompt: &[Token],
        ctx_size: usize,
    ) -> Result<Self, ModelError> {
        let sampling = &recipe.sampling;
        let last_n = look_back(sampling.repeat_last_n, ctx_size);
        let dry_last_n = look_back(sampling.dry_penalty_last_n, ctx_size);
        let order: Vec<i32> = recipe.order.iter().map(|kind| number(*kind)).collect();
        let biases: Vec<_> = recipe
            .biases
            .iter()
            .map(|(token, bias)| sys::llama_logit_bias { token: *token, bias: *bias })
            .collect();
        let breaker_lengths: Vec<usize> = recipe.breakers.iter().map(Vec::len).collect();
        let breaker_tokens: Vec<Token> = recipe.breakers.concat();
        let lists = Lists {
            order: &order,
            biases: &biases,
            breaker_tokens: &breaker_tokens,
            breaker_lengths: &breaker_lengths,
        };
        let settings = settings(sampling, [last_n, dry_last_n], &lists);
        let mut err = ErrorText::new();
        // SAFETY: the vocabulary lives with the model; `settings`, what it points to and `err` outlive
        // the call, which copies what it keeps.
        let raw = unsafe {
            ffi::lollmsd_sampler_new(
                model.raw_vocab(),
                &raw const settings,
                err.as_mut_ptr(),
                err.size(),
            )
        };
        let raw = NonNull::new(raw).ok_or_else(|| ModelError(err.text()))?;
        let mut sampler = Self {
            raw,
            probabilities: recipe.probabilities,
            guide: recipe
                .grammar
                .as_ref()
                .map(Guide::new)
                .transpose()
                .map_err(|error| unfit(&error))?,
            _model: Arc::clone(model),
        };
        let history = recipe.history.as_deref().unwrap_or(prompt);
        for token in &history[history.len().saturating_sub(last_n.max(dry_last_n))..] {
            sampler.remember(*token);
        }
        Ok(sampler)
    }

    /// Tells the chain and the grammar which token was chosen.
    pub(super) fn accept(&mut self, token: Token) -> Result<(), ModelError> {
        self.remember(token);
        self.guide
            .as_mut()
            .map_or(Ok(()), |guide| guide.accept(token))
            .map_err(|error| unfit(&error))
    }

    /// `None` when the grammar allows a token; otherwise the mask of those that it allows.
    pub(super) fn objection(&mut self, token: Token) -> Result<Option<Arc<Mask>>, ModelError> {
        let Some(guide) = &mut self.guide else { return Ok(None) };
        if guide.allows(token).map_err(|error| unfit(&error))? {
            return Ok(None);
        }
        guide.mask().map(Some).map_err(|error| unfit(&error))
    }

    fn remember(&mut self, token: Token) {
        // SAFETY: the chain lives; samplers look tokens up and take no index from them.
        unsafe { ffi::lollmsd_sampler_accept(self.raw.as_ptr(), token) };
    }

    /// What is told about the probability of each token.
    pub(super) fn probabilities(&self) -> Option<Probabilities> {
        self.probabilities
    }

    pub(super) fn raw(&mut self) -> *mut ffi::Sampler {
        self.raw.as_ptr()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: made by lollmsd_sampler_new and freed nowhere else.
        unsafe { ffi::lollmsd_sampler_free(self.raw.as_ptr()) }
    }
}

/// Why a grammar cannot be followed any more.
fn unfit(error: &GrammarError) -> ModelError {
    ModelError(format!("`grammar`: {error}"))
}

/// What the shim's settings point to.
struct Lists<'a> {
    order: &'a [i32],
    biases: &'a [sys::llama_logit_bias],
    breaker_tokens: &'a [Token],
    breaker_lengths: &'a [usize],
}

/// The shim's settings, with how far the penalties and DRY look back. They point into `lists`.
fn settings(sampling: &Sampling, look_back: [usize; 2], lists: &Lists<'_>) -> ffi::Sampling {
    let [last_n, dry_last_n] =
        look_back.map(|count| i32::try_from(count).expect("bounded by MOST_LAST_N"));
    let seed = sampling.seed.unwrap_or_else(fresh_seed);
    ffi::Sampling {
        temperature: sampling.temperature,
        dynatemp_range: sampling.dynatemp_range,
        dynatemp_exponent: sampling.dynatemp_exponent,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        typical_p: sampling.typical_p,
        tfs_z: sampling.tfs_z,
        top_n_sigma: sampling.top_n_sigma,
        xtc_probability: sampling.xtc_probability,
        xtc_threshold: sampling.xtc_threshold,
        repeat_penalty: sampling.repeat_penalty,
        repeat_last_n: last_n,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        penalize_nl: sampling.penalize_nl,
        dry_multiplier: sampling.dry_multiplier,
        dry_base: sampling.dry_base,
        dry_allowed_length: sampling.dry_allowed_length,
        dry_penalty_last_n: dry_last_n,
        adaptive_target: sampling.adaptive_target,
        adaptive_decay: sampling.adaptive_decay,
        mirostat: sampling.mirostat,
        mirostat_tau: sampling.mirostat_tau,
        mirostat_eta: sampling.mirostat_eta,
        min_keep: sampling.min_keep,
        seed: if seed == NO_SEED { seed - 1 } else { seed },
        order: lists.order.as_ptr(),
        n_order: lists.order.len(),
        biases: lists.biases.as_ptr(),
        n_biases: lists.biases.len(),
        breaker_tokens: lists.breaker_tokens.as_ptr(),
        breaker_lengths: lists.breaker_lengths.as_ptr(),
        n_breakers: lists.breaker_lengths.len(),
    }
}

/// How many tokens back a penalty looks; -1 means the whole context.
fn look_back(last_n: i32, ctx_size: usize) -> usize {
    usize::try_from(last_n).unwrap_or(ctx_size).min(MOST_LAST_N)
}

/// The number of a sampler in `sampling.cpp`.
fn number(kind: SamplerKind) -> i32 {
    match kind {
        SamplerKind::Penalties => 0,
        SamplerKind::Dry => 1,
        SamplerKind::TopNSigma => 2,
        SamplerKind::TopK => 3,
        SamplerKind::TfsZ => 4,
        SamplerKind::TypicalP => 5,
        SamplerKind::TopP => 6,
        SamplerKind::MinP => 7,
        SamplerKind::Xtc => 8,
        SamplerKind::Temperature => 9,
        SamplerKind::Infill => 10,
        SamplerKind::AdaptiveP => 11,
    }
}

/// A seed that nobody chose. The hasher's keys are random for each process and differ for each call.
fn fresh_seed() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(std::time::Instant::now());
    u32::try_from(bits >> 32).expect("the upper half has 32 bits")
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::domain::sampling::Sampling;
    use crate::engine::llama::models;
    use crate::engine::llama::{LoadRequest, load};

    fn model(name: &str) -> Arc<Model> {
        let file = format!("lollmsd-sampler-{name}-{}.gguf", std::process::id());
        let path = std::env::temp_dir().join(file);
        models::write(models::Kind::Context, &path).unwrap();
        let request = LoadRequest { path: &path, gpu_layers: 0, check_tensors: false };
        let model = load(&request, |_| ControlFlow::Continue(())).unwrap();
        std::fs::remove_file(&path).unwrap();
        model
    }

    /// Only this sampler.
    fn only(kind: SamplerKind, sampling: Sampling) -> Recipe {
        let sampling = Sampling { seed: Some(7), ..sampling };
        Recipe { sampling, order: vec![kind], ..Recipe::default() }
    }

    /// What a chain leaves of candidates with these logits, most likely first.
    fn left(
        model: &Arc<Model>,
        recipe: &Recipe,
        history: &[Token],
        logits: &[f32],
    ) -> Vec<(Token, f32)> {
        let mut sampler = Sampler::new(model, recipe, history, 64).unwrap();
        let mut logits = logits.to_vec();
        let mut ids = vec![0; logits.len()];
        let mut err = ErrorText::new();
        let count = i32::try_from(logits.len()).unwrap();
        // SAFETY: both lists have `count` entries.
        let count = unsafe {
            ffi::lollmsd_sampler_try(
                sampler.raw(),
                logits.as_mut_ptr(),
                ids.as_mut_ptr(),
                count,
                err.as_mut_ptr(),
                err.size(),
            )
        };
        let count = usize::try_from(count).unwrap_or_else(|_| panic!("{}", err.text()));
        let mut left: Vec<_> = ids.into_iter().zip(logits).take(count).collect();
        left.sort_by(|a, b| b.1.total_cmp(&a.1));
        left
    }

    fn ids(left: &[(Token, f32)]) -> Vec<Token> {
        left.iter().map(|(id, _)| *id).collect()
    }

    /// Logits of these probabilities, which add up to 1.
    fn of(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    #[test]
    fn tail_free_sampling_cuts_where_the_curve_is_flat() {
        let model = model("tail");
        // Differences 0.3 0.1 0.06 0.02 0.01, their differences 0.2 0.04 0.04 0.01: shares of 0.69, 0.14,
        // 0.14 and 0.03, reached after 1, 2, 3, 4 tokens.
        let logits = of(&[0.01, 0.52, 0.22, 0.12, 0.06, 0.04, 0.03]);
        let with = |z, min_keep| {
            let sampling = Sampling { tfs_z: z, min_keep, ..Sampling::default() };
            ids(&left(&model, &only(SamplerKind::TfsZ, sampling), &[], &logits))
        };
        assert_eq!(with(1.0, 0).len(), 7, "off");
        assert_eq!(with(0.5, 0), [1], "the likeliest always stays");
        assert_eq!(with(0.75, 0), [1]);
        assert_eq!(with(0.9, 0), [1, 2]);
        assert_eq!(with(0.5, 3), [1, 2, 3]);
        let sampling = Sampling { tfs_z: 0.25, ..Sampling::default() };
        let flat = left(&model, &only(SamplerKind::TfsZ, sampling), &[], &[1.0; 20]);
        assert_eq!(flat.len(), 4, "all tokens are alike: five of 18 reach a quarter");
        let two = left(&model, &only(SamplerKind::TfsZ, sampling), &[], &[2.0, 1.0]);
        assert_eq!(two.len(), 2, "too few for a curve");
    }

    #[test]
    fn the_newline_can_be_spared_by_the_penalties() {
        let model = model("newline");
        // SAFETY: the vocabulary lives with the model.
        let newline = unsafe { sys::llama_vocab_nl(model.raw_vocab()) };
        let logits = vec![2.0; 40];
        let with = |penalize_nl| {
            let sampling = Sampling { repeat_penalty: 2.0, penalize_nl, ..Sampling::default() };
            let recipe = only(SamplerKind::Penalties, sampling);
            left(&model, &recipe, &[newline, 5], &logits)
        };
        let penalized = |left: Vec<(Token, f32)>| {
            let mut ids: Vec<_> =
                left.iter().filter(|(_, x)| *x < 1.5).map(|(id, _)| *id).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(penalized(with(true)), [5, newline]);
        assert_eq!(penalized(with(false)), [5]);
    }

    #[test]
    fn a_repeated_sequence_is_penalized_up_to_a_breaker() {
        let model = model("dry");
        let sampling = Sampling { dry_multiplier: 3.0, ..Sampling::default() };
        let recipe = only(SamplerKind::Dry, sampling);
        let history = [10, 11, 12, 13, 10, 11, 12];
        let lowest = |recipe: &Recipe| *left(&model, recipe, &history, &[1.0; 30]).last().unwrap();
        // Three tokens are repeated, two may be: one more factor of the base.
        assert_eq!(lowest(&recipe), (13, 1.0 - 3.0 * 1.75));
        let broken = Recipe { breakers: vec![vec![11]], ..recipe.clone() };
        assert!(lowest(&broken).1 > 0.9);
        let spread = Recipe { breakers: vec![vec![11, 12]], ..recipe };
        assert!(lowest(&spread).1 > 0.9);
    }

    #[test]
    fn biases_come_first_and_never_means_never() {
        let model = model("bias");
        let never = f32::NEG_INFINITY;
        let biases = vec![(2, 3.0), (3, never), (0, -1.0), (0, -1.0)];
        let sampling = Sampling { top_k: 2, ..Sampling::default() };
        let recipe = Recipe { biases, ..only(SamplerKind::TopK, sampling) };
        let left = left(&model, &recipe, &[], &[1.0, 0.5, 0.0, 9.0]);
        assert_eq!(left, [(2, 3.0), (1, 0.5)]);
    }

    #[test]
    fn the_order_of_samplers_matters() {
        let model = model("order");
        let logits = of(&[0.4, 0.3, 0.2, 0.1]);
        let sampling = Sampling { temperature: 4.0, top_p: 0.6, ..Sampling::default() };
        let with = |order: [SamplerKind; 2]| {
            let recipe = Recipe { order: order.to_vec(), ..only(SamplerKind::TopP, sampling) };
            left(&model, &recipe, &[], &logits).len()
        };
        assert_eq!(with([SamplerKind::TopP, SamplerKind::Temperature]), 2);
        assert_eq!(with([SamplerKind::Temperature, SamplerKind::TopP]), 3);
    }
}
