//! Our grammar machine says what llama.cpp's says, where that one can be asked safely: over the whole
//! vocabulary of a model with words, for random grammars and along random texts.

use std::ffi::CString;
use std::ops::ControlFlow;
use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;
use proptest::prelude::*;

use crate::engine::grammar::MAX_BYTES;
use crate::engine::grammar::guide::{Guide, Guided};
use crate::engine::grammar::parse::parse;
use crate::engine::llama::model::Model;
use crate::engine::llama::models;
use crate::engine::llama::{LlamaLexicon, LoadRequest, load};
use crate::engine::model::Lexicon;
use crate::engine::scheduler::Token;
use crate::engine::vocabulary::Vocabulary;

/// llama.cpp's own grammar sampler.
struct Theirs(NonNull<sys::llama_sampler>);

impl Theirs {
    fn new(model: &Model, grammar: &str) -> Option<Self> {
        let grammar = CString::new(grammar).unwrap();
        let vocabulary = model.raw_vocab();
        // SAFETY: the vocabulary lives with the model; both texts end with a zero byte.
        let raw = unsafe {
            sys::llama_sampler_init_grammar(vocabulary, grammar.as_ptr(), c"root".as_ptr())
        };
        NonNull::new(raw).map(Self)
    }

    /// Which of the first `count` tokens it allows.
    fn allowed(&mut self, count: usize) -> Vec<bool> {
        let token = |at: usize| Token::try_from(at).unwrap();
        let mut list: Vec<_> = (0..count)
            .map(|at| sys::llama_token_data { id: token(at), logit: 1.0, p: 0.0 })
            .collect();
        let mut array = sys::llama_token_data_array {
            data: list.as_mut_ptr(),
            size: list.len(),
            selected: -1,
            sorted: false,
        };
        // SAFETY: the array's list lives through the call, which only changes its logits.
        unsafe { sys::llama_sampler_apply(self.0.as_ptr(), &raw mut array) };
        list.iter().map(|x| x.logit > f32::NEG_INFINITY).collect()
    }

    /// Only tokens that it allows: others would end the process.
    fn accept(&mut self, token: Token) {
        // SAFETY: the sampler lives, and the caller asked `allowed`.
        unsafe { sys::llama_sampler_accept(self.0.as_ptr(), token) };
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        // SAFETY: made in `new` and freed nowhere else.
        unsafe { sys::llama_sampler_free(self.0.as_ptr()) };
    }
}

fn model() -> &'static (Arc<Model>, Arc<Vocabulary>) {
    static MODEL: std::sync::OnceLock<(Arc<Model>, Arc<Vocabulary>)> = std::sync::OnceLock::new();
    MODEL.get_or_init(|| {
        let file = format!("lollmsd-agreement-{}.gguf", std::process::id());
        let path = std::env::temp_dir().join(file);
        models::write(models::Kind::Chain, &path).unwrap();
        let request = LoadRequest { path: &path, gpu_layers: 0, check_tensors: false };
        let model = load(&request, |_| ControlFlow::Continue(())).unwrap();
        std::fs::remove_file(&path).unwrap();
        let vocabulary = LlamaLexicon::new(&model).vocabulary();
        (model, vocabulary)
    })
}

/// A part of a rule, which may call what fits the pattern `rules`.
fn part(rules: &'static str) -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        rules,
        "\"( alpha| be|ta|-gamma|é|x)\"",
        "\\[[a-m ][-][n-z]\\]",
        Just("[^a-f\\n]".to_owned()),
        Just(".".to_owned()),
        Just("\"\"".to_owned()),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        let times = "([*+?]|\\{1,3\\}|\\{2\\}|\\{0,\\}|)";
        (prop::collection::vec(inner, 1..4), "( |\\|)", times).prop_map(
            |(parts, between, times)| {
                format!("(\"k\"? {}){times}", parts.join(&format!(" {between} ")))
            },
        )
    })
}

/// A grammar whose rules call only later ones, but for brackets.
fn grammar() -> impl Strategy<Value = String> {
    let side = |rules| prop::collection::vec(part(rules), 1..4).prop_map(|parts| parts.join(" "));
    (side("[b-d]"), side("[cd]"), side("d"), side("\"z\"")).prop_map(|(root, b, c, d)| {
        format!("root ::= {root} | \"(\" root \")\"\nb ::= {b}\nc ::= {c} | \"q\"\nd ::= {d}")
    })
}

proptest! {
    // llama.cpp takes up to a second for some; 300 cases passed.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn both_machines_allow_the_same_tokens(
        grammar in grammar(),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..5),
    ) {
        let (model, vocabulary) = model();
        let rules = parse(&grammar, MAX_BYTES, &|_| None);
        // What llama.cpp takes and we do not makes its machine run for ever.
        prop_assume!(rules.is_ok());
        let guided = Guided {
            rules: Arc::new(rules.unwrap()),
            triggers: None,
            vocabulary: Arc::clone(vocabulary),
        };
        // It takes a repetition of what may be empty for left recursion.
        let theirs = Theirs::new(model, &grammar);
        prop_assume!(theirs.is_some());
        let mut theirs = theirs.unwrap();
        let mut ours = Guide::new(&guided).unwrap();
        for pick in picks {
            let mask = ours.mask();
            let allowed = theirs.allowed(vocabulary.len());
            let mut open = Vec::new();
            for token in vocabulary.tokens() {
                let ends = vocabulary.final_tokens().contains(&token);
                let bytes = vocabulary.bytes(token);
                if bytes.is_empty() && !ends || bytes.first() >= Some(&0xF5) {
                    // llama.cpp reads the names of control tokens as text, and takes bytes that begin no
                    // character for the beginning of one.
                    continue;
                }
                let we = mask.as_ref().is_ok_and(|mask| mask.allows(token));
                let they = allowed[usize::try_from(token).unwrap()];
                prop_assert_eq!(we, they, "{} {:?}", grammar, vocabulary.bytes(token));
                if we && std::str::from_utf8(bytes).is_ok_and(|text| !text.is_empty()) {
                    open.push(token);
                }
            }
            if open.is_empty() {
                break;
            }
            let token = open[pick.index(open.len())];
            ours.accept(token).unwrap();
            theirs.accept(token);
        }
    }
}
