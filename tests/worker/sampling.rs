//! Every setting of sampling, by what it does to the text and the probabilities of real models.

use serde_json::{Value, json};

use crate::models::Kind;
use crate::process::{Worker, model, text};

/// The model's own distribution of the first token, all samplers off, with what is in `with`. The tokens
/// of the prompts are made likely, so that what penalties do is seen.
fn plain(with: &Value) -> Value {
    let mut sampling = json!({
        "temperature": 1, "top_k": 0, "top_p": 1, "seed": 3, "n_probs": 100, "post_sampling_probs": true,
        "logit_bias": [["abcx\n", 8]]
    });
    sampling.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    sampling
}

/// Whether two lists of probabilities are the same, but for the rounding of a step of another width.
fn alike(one: &[(String, f64)], other: &[(String, f64)]) -> bool {
    // Below the first tokens there are many with exactly the same probability.
    let near = |(a, b): (&(String, f64), &(String, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-3;
    one.len() == other.len() && one.iter().zip(other).take(38).all(near)
}

struct Asked {
    worker: Worker,
    id: u64,
}

impl Asked {
    fn new(kind: Kind) -> Self {
        let mut worker = Worker::start();
        worker.load(&model(kind), &json!({"ctx_size": 512, "kv_type": "f32"}));
        Self { worker, id: 10 }
    }

    fn completion(
        &mut self,
        prompt: &str,
        sampling: &Value,
        n_predict: u32,
    ) -> crate::process::Completion {
        self.id += 1;
        let with = json!({"sampling": sampling, "n_predict": n_predict});
        self.worker.generate(self.id, &text(prompt), &with);
        self.worker.completion(self.id)
    }

    /// The likeliest tokens after a prompt, and their logarithms.
    fn top(&mut self, prompt: &str, with: &Value) -> Vec<(String, f64)> {
        let made = self.completion(prompt, &plain(with), 1);
        assert!(made.probs.len() == 1, "{with}: {}", made.end);
        let top = made.probs[0]["top"].as_array().unwrap();
        let read = |x: &Value| (x["text"].as_str().unwrap().into(), x["logprob"].as_f64().unwrap());
        top.iter().map(read).collect()
    }
}

#[test]
fn each_sampler_changes_probabilities_and_its_off_value_does_not() {
    let mut asked = Asked::new(Kind::Context);
    let prompt = "abcax\nabcax\nabca";
    let off = json!({
        "top_k": 0, "top_p": 1, "min_p": 0, "typical_p": 1, "tfs_z": 1, "top_n_sigma": -1,
        "xtc_probability": 0, "xtc_threshold": 0.1, "dynatemp_range": 0, "dynatemp_exponent": 2,
        "repeat_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0, "repeat_last_n": 50,
        "dry_multiplier": 0, "dry_base": 3, "dry_allowed_length": 1, "mirostat": 0, "mirostat_tau": 9,
        "mirostat_eta": 0.5, "adaptive_target": 0.3, "adaptive_decay": 0.5, "min_keep": 3,
        "penalize_nl": false, "penalty_prompt": "zzz"
    });
    let base = asked.top(prompt, &json!({}));
    assert!(alike(&asked.top(prompt, &off), &base));
    assert_eq!(base.len(), 100);
    for with in [
        json!({"top_k": 3}),
        json!({"top_p": 0.5}),
        json!({"min_p": 0.3}),
        json!({"typical_p": 0.5}),
        json!({"tfs_z": 0.5}),
        json!({"top_n_sigma": 1}),
        json!({"xtc_probability": 1, "xtc_threshold": 0.001}),
        json!({"temperature": 2}),
        json!({"dynatemp_range": 0.8}),
        json!({"repeat_penalty": 1.5}),
        json!({"presence_penalty": 1}),
        json!({"frequency_penalty": 1}),
        json!({"dry_multiplier": 0.5}),
        json!({"mirostat": 1, "mirostat_tau": 0.5}),
        json!({"mirostat": 2, "mirostat_tau": 0.5}),
        json!({"samplers": ["adaptive_p"], "adaptive_target": 0.02}),
        json!({"samplers": ["infill"]}),
        json!({"logit_bias": [["q", 5]]}),
        json!({"logit_bias": [["abc", false]]}),
    ] {
        let changed = asked.top(prompt, &with);
        assert!(!alike(&changed, &base), "{with}");
        let sum: f64 = changed.iter().map(|(_, log)| log.exp()).sum();
        assert!((0.2..1.0001).contains(&sum), "{with}: {sum}");
        assert!(changed.iter().all(|(_, log)| (-1e30..=0.0).contains(log)), "{with}");
    }
}

#[test]
fn settings_that_refine_others_change_what_these_do() {
    let mut asked = Asked::new(Kind::Context);
    let prompt = "abcax\nabcax\nabca";
    for (with, refined) in [
        (json!({"dynatemp_range": 0.8}), json!({"dynatemp_exponent": 3})),
        (json!({"xtc_probability": 1, "xtc_threshold": 0.001}), json!({"min_keep": 354})),
        (json!({"xtc_probability": 1, "xtc_threshold": 0.001}), json!({"xtc_threshold": 0.6})),
        (json!({"top_p": 0.01}), json!({"min_keep": 5})),
        (json!({"presence_penalty": 3}), json!({"repeat_last_n": 1})),
        (json!({"presence_penalty": 3}), json!({"repeat_last_n": 0})),
        (json!({"presence_penalty": 3}), json!({"penalize_nl": false})),
        (json!({"presence_penalty": 3}), json!({"penalty_prompt": "xyz"})),
        (json!({"presence_penalty": 3}), json!({"penalty_prompt": [300, 301]})),
        (json!({"dry_multiplier": 0.5}), json!({"dry_base": 3})),
        (json!({"dry_multiplier": 0.5}), json!({"dry_allowed_length": 9})),
        (json!({"dry_multiplier": 0.5}), json!({"dry_penalty_last_n": 2})),
        (json!({"dry_multiplier": 0.5}), json!({"dry_sequence_breakers": ["c"]})),
        (
            json!({"dry_multiplier": 0.5, "dry_sequence_breakers": []}),
            json!({"dry_sequence_breakers": ["bc"]}),
        ),
        (json!({"mirostat": 2, "mirostat_tau": 0.5}), json!({"mirostat_tau": 20})),
        (json!({"top_k": 3}), json!({"samplers": []})),
        (
            json!({"samplers": ["adaptive_p"], "adaptive_target": 0.02}),
            json!({"adaptive_target": 0.5}),
        ),
    ] {
        let mut both = with.clone();
        both.as_object_mut().unwrap().extend(refined.as_object().unwrap().clone());
        let (before, after) = (asked.top(prompt, &with), asked.top(prompt, &both));
        assert!(!alike(&before, &after), "{both}");
    }
}

#[test]
fn what_is_learned_over_tokens_changes_the_text() {
    let mut asked = Asked::new(Kind::Context);
    for (one, other) in [
        (json!({"mirostat": 2, "mirostat_eta": 0}), json!({"mirostat": 2, "mirostat_eta": 5})),
        (json!({"mirostat": 1, "mirostat_eta": 0}), json!({"mirostat": 1, "mirostat_eta": 5})),
        (
            json!({"samplers": ["adaptive_p"], "adaptive_target": 0.1, "adaptive_decay": 0}),
            json!({"samplers": ["adaptive_p"], "adaptive_target": 0.1, "adaptive_decay": 0.99}),
        ),
    ] {
        let texts = [one, other].map(|with| asked.completion("Once", &plain(&with), 40).text);
        assert_ne!(texts[0], texts[1]);
    }
}

#[test]
fn what_is_forbidden_is_never_made() {
    let mut asked = Asked::new(Kind::Context);
    let vowels = json!([["aeiou", false]]);
    for with in [json!({"logit_bias": vowels}), json!({"logit_bias": vowels, "temperature": 0})] {
        let made = asked.completion("Once", &plain(&with), 100);
        assert!(!made.text.contains(['a', 'e', 'i', 'o', 'u']), "{}", made.text);
        assert_eq!(made.tokens, 100);
    }
    let all: Vec<Value> = (0..354).map(|token| json!([token, false])).collect();
    let made = asked.completion("Once", &plain(&json!({"logit_bias": all})), 10);
    assert_eq!(made.end["message"], "no token is left to choose from");
    assert_eq!(asked.completion("Once", &json!({}), 10).end["reason"], "limit", "others go on");
}

#[test]
fn a_text_that_may_not_end_goes_on() {
    let mut asked = Asked::new(Kind::Chain);
    let made = asked.completion("go S", &json!({"temperature": 0}), 50);
    assert_eq!(
        (made.text.as_str(), &made.end["reason"]),
        (" alpha beta-gamma delta omega", &json!("stop"))
    );
    let made = asked.completion("go S", &json!({"temperature": 0, "ignore_eos": true}), 50);
    assert_eq!((made.tokens, &made.end["reason"]), (50, &json!("limit")));
}

#[test]
fn probabilities_belong_to_their_tokens() {
    let mut asked = Asked::new(Kind::Context);
    let made =
        asked.completion("Once", &json!({"seed": 5, "n_probs": 100, "temperature": 1.5}), 50);
    assert_eq!((made.probs.len(), made.tokens), (50, 50));
    for (at, probability) in made.probs.iter().enumerate() {
        let said = &made.text[at..=at];
        let top = probability["top"].as_array().unwrap();
        let own = top.iter().find(|other| other["text"] == said).expect("among the likeliest");
        assert_eq!(own["logprob"], probability["logprob"]);
        let logs: Vec<f64> = top.iter().map(|other| other["logprob"].as_f64().unwrap()).collect();
        assert!(logs.is_sorted_by(|a, b| a >= b) && logs[0] <= 0.0);
    }
    // Greedy: of what the samplers left, the chosen one is certain.
    let with = json!({"temperature": 0, "n_probs": 5, "post_sampling_probs": true});
    let made = asked.completion("Once", &with, 3);
    for probability in &made.probs {
        assert_eq!(
            (&probability["logprob"], probability["top"].as_array().unwrap().len()),
            (&json!(0.0), 1)
        );
    }
    let with = json!({"temperature": 0, "n_probs": 5});
    let made = asked.completion("Once", &with, 3);
    assert!(
        made.probs
            .iter()
            .all(|p| p["logprob"] == p["top"][0]["logprob"] && p["top"][4].is_object())
    );
    assert!(asked.completion("Once", &json!({}), 3).probs.is_empty());
}

#[test]
fn probabilities_of_held_back_text_come_with_it() {
    let mut asked = Asked::new(Kind::Chain);
    asked.id += 1;
    let sampling = json!({"temperature": 0, "n_probs": 2});
    let with = json!({"sampling": sampling, "stop": ["ta-gam", "delta omega!"]});
    asked.worker.generate(asked.id, &text("go S"), &with);
    let made = asked.worker.completion(asked.id);
    assert_eq!((made.text.as_str(), made.probs.len()), (" alpha be", 2));
    assert_eq!(made.probs[1]["top"][0]["text"], " beta-");
    // Characters of several tokens.
    asked.id += 1;
    asked.worker.generate(asked.id, &text("go A"), &json!({"sampling": sampling}));
    let made = asked.worker.completion(asked.id);
    assert_eq!(made.probs.len(), made.tokens);
    assert!(made.probs.iter().any(|p| p["top"][0]["bytes"].is_array()), "half characters");
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let mut asked = Asked::new(Kind::Chain);
    for (with, name) in [
        (json!({"xtc_probability": -0.1}), "`xtc_probability` is -0.1"),
        (json!({"dry_multiplier": 1e20}), "`dry_multiplier`"),
        (json!({"samplers": ["top_k", "nonsense"]}), "`nonsense`"),
        (json!({"mirostat": 7}), "`mirostat` is 7"),
        (json!({"logit_bias": [[99_999, 1]]}), "token 99999"),
        (json!({"min_keep": -1}), "`min_keep`"),
        (json!({"n_probs": 5_000}), "`n_probs`"),
        (json!({"dry_sequence_breakers": vec!["x"; 65]}), "`dry_sequence_breakers`"),
        (json!({"tfs_z": Value::Null}), "f32"),
    ] {
        let made = asked.completion("go S", &with, 5);
        assert_eq!(made.end["code"], "invalid_request", "{with}");
        assert!(made.end["message"].as_str().unwrap().contains(name), "{}", made.end);
    }
}
