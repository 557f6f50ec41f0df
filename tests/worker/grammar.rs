//! Grammars, schemas and lazy triggers with real models, and what is sent to do harm.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::models::Kind;
use crate::models::vocabulary::FIRST_BYTE;
use crate::process::{Completion, Worker, model, text};

struct Asked {
    worker: Worker,
    id: u64,
}

impl Asked {
    fn new(kind: Kind) -> Self {
        let mut worker = Worker::start();
        worker.load(&model(kind), &json!({"ctx_size": 1024, "kv_type": "f32"}));
        Self { worker, id: 10 }
    }

    fn completion(&mut self, prompt: &str, sampling: &Value) -> Completion {
        self.id += 1;
        let with = json!({"sampling": sampling, "n_predict": 400});
        self.worker.generate(self.id, &text(prompt), &with);
        self.worker.completion(self.id)
    }

    fn refusal(&mut self, sampling: &Value) -> String {
        let made = self.completion("Once", sampling);
        assert_eq!(made.end["code"], "invalid_request", "{sampling:.200}: {}", made.end);
        made.end["message"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_text_fits_its_grammar_and_ends_with_it() {
    let mut asked = Asked::new(Kind::Context);
    for seed in 0..6 {
        let grammar = "root ::= \"yes\" | \"no, \" [a-z]{3} | \"€\" \"?\"{2}";
        let with =
            json!({"grammar": grammar, "seed": seed, "temperature": 1.5, "ignore_eos": true});
        let made = asked.completion("Once", &with);
        let said = made.text.as_str();
        let letters = said.strip_prefix("no, ").is_some_and(|rest| rest.len() == 3);
        assert!(said == "yes" || said == "€??" || letters, "{said}");
        assert_eq!(made.end["reason"], "stop");
    }
    let greedy = json!({"grammar": "root ::= [0-9]{4} \"\\n\"", "temperature": 0, "n_probs": 3});
    let made = asked.completion("Once", &greedy);
    let digits = made.text.strip_suffix('\n').unwrap();
    assert!(digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()), "{digits}");
    assert_eq!(made.probs.len(), 5);
    assert_eq!(asked.completion("Once", &greedy).text, made.text);
}

#[test]
fn words_of_several_characters_are_used_where_they_fit() {
    let mut asked = Asked::new(Kind::Chain);
    let with =
        json!({"grammar": "root ::= \" alpha\" \" beta-\" \"gamma\" | \"x\"", "temperature": 0});
    let made = asked.completion("go S", &with);
    assert_eq!((made.text.as_str(), made.tokens), (" alpha beta-gamma", 3));
    // What the model would say next is not allowed, so it says something else.
    let with = json!({"grammar": "root ::= \" alpha\" \" be\" [^t] \"!\"", "temperature": 0});
    let made = asked.completion("go S", &with);
    assert!(made.text.starts_with(" alpha be") && made.text.ends_with('!'), "{}", made.text);
}

#[test]
fn json_fits_its_schema() {
    let mut asked = Asked::new(Kind::Context);
    let schema = json!({
        "type": "object", "required": ["n", "ok", "tag"], "additionalProperties": false, "properties": {
            "n": {"type": "integer", "minimum": 10, "maximum": 250},
            "ok": {"type": "boolean"},
            "tag": {"enum": ["red", "gre\"en", "bl😀ue"]},
            "list": {"type": "array", "items": {"type": "null"}, "maxItems": 3}
        }
    });
    for seed in 0..6 {
        let made = asked.completion("Once", &json!({"json_schema": schema, "seed": seed}));
        assert_eq!(made.end["reason"], "stop", "{}", made.text);
        let value: Value = serde_json::from_str(&made.text).expect("the text is JSON");
        assert!((10..=250).contains(&value["n"].as_i64().unwrap()), "{value}");
        assert!(value["ok"].is_boolean());
        assert!(["red", "gre\"en", "bl😀ue"].contains(&value["tag"].as_str().unwrap()));
    }
}

#[test]
fn a_lazy_grammar_waits_for_its_trigger() {
    let mut asked = Asked::new(Kind::Chain);
    let grammar = "root ::= \"gamma\" \" \" [0-9]{3}";
    for trigger in [json!({"word": "gamma"}), json!({"pattern": "be.a-(g.mma)"})] {
        let with = json!({
            "grammar": grammar, "grammar_lazy": true, "grammar_triggers": [trigger], "temperature": 0
        });
        let made = asked.completion("go S", &with);
        let number = made.text.strip_prefix(" alpha beta-gamma ").expect(&made.text);
        assert!(number.len() == 3 && number.bytes().all(|b| b.is_ascii_digit()), "{number}");
        assert_eq!(made.end["reason"], "stop");
    }
    let never = json!({
        "grammar": grammar, "grammar_lazy": true, "grammar_triggers": [{"word": "omicron"}],
        "temperature": 0
    });
    assert_eq!(asked.completion("go S", &never).text, " alpha beta-gamma delta omega");
    let error = asked.refusal(&json!({"grammar": grammar, "grammar_lazy": true}));
    assert!(error.contains("needs triggers"), "{error}");
    let wrong =
        json!({"grammar": grammar, "grammar_lazy": true, "grammar_triggers": [{"token": 99_999}]});
    assert!(asked.refusal(&wrong).contains("token 99999"));
}

#[test]
fn a_dead_end_is_the_end_of_one_generation_only() {
    let mut asked = Asked::new(Kind::Context);
    let alone = asked.completion("Twice", &json!({"temperature": 0}));
    asked.worker.generate(
        5,
        &text("Twice"),
        &json!({"sampling": {"temperature": 0}, "n_predict": 400}),
    );
    // Digits as characters, and as the byte tokens that the model has too.
    let mut biases = vec![json!(["0123456789", false])];
    biases.extend((b'0'..=b'9').map(|byte| json!([u32::from(byte) + FIRST_BYTE, false])));
    let with = json!({"grammar": "root ::= \"a\" [0-9]+", "logit_bias": biases});
    let made = asked.completion("Once", &with);
    assert_eq!((made.text.as_str(), &made.end["reason"]), ("a", &json!("error")));
    assert!(made.end["message"].as_str().unwrap().contains("no token is left"), "{}", made.end);
    assert_eq!(asked.worker.completion(5).text, alone.text);
}

#[test]
fn what_is_wrong_is_said() {
    let mut asked = Asked::new(Kind::Chain);
    for (with, text) in [
        (json!({"grammar": "root ::= (\"a\""}), "`grammar`: line 1: expected `)`"),
        (json!({"grammar": "root ::= nothing"}), "there is no rule `nothing`"),
        (json!({"grammar": "root ::= root \"a\" | \"b\""}), "left recursion"),
        (json!({"json_schema": {"type": "banana"}}), "`json_schema`: "),
        (json!({"json_schema": {"type": "string", "pattern": "^(a$"}}), "unbalanced parentheses"),
        (json!({"json_schema": {"$ref": "#/nowhere"}}), "leads nowhere"),
        (json!({"json_schema": [1, 2]}), "`json_schema`: "),
        (json!({"json_schema": {}, "grammar": "root ::= \"a\""}), "exclude each other"),
    ] {
        let error = asked.refusal(&with);
        assert!(error.contains(text), "{error}");
    }
    assert_eq!(asked.completion("go S", &json!({"grammar": "", "temperature": 0})).tokens, 5);
}

/// Settings that would take the time, the memory or the stack of a careless reader.
fn hostile() -> Vec<Value> {
    let grammar = |text: String| json!({"grammar": text, "temperature": 1});
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let chain = |count: usize, line: &dyn Fn(usize) -> String| {
        (0..count).map(|n| line(n) + "\n").collect::<String>()
    };
    let mut deep = json!({"type": "string"});
    for _ in 0..50 {
        deep = json!({"type": ["object", "array"], "properties": {"a": deep}});
    }
    let optional: serde_json::Map<String, Value> =
        (0..1_000).map(|n| (format!("p{n}"), json!({"type": "string"}))).collect();
    let words: Vec<String> = (0..8_000).map(|n| format!("w{n}")).collect();
    vec![
        grammar(format!("root ::= {}", nested("(", "\"a\"", ")", 30_000))),
        grammar(format!("root ::= {}", nested("(", "\"a\"", ")*", 199))),
        grammar("root ::= \"x\"{0,100000}".into()),
        grammar("root ::= ((\"x\"{0,2000}){0,2000}){0,2000}".into()),
        grammar(format!("root ::= \"{}\"{{2000}}", "a".repeat(60_000))),
        grammar("root ::= root".into()),
        grammar("root ::= n root \"b\" | \"c\"\nn ::= m\nm ::= \"x\" | \"\"".into()),
        grammar("root ::= [a-z] root \"b\" | [a-z] root \"c\" | [a-z]".into()),
        grammar(format!(
            "root ::= r0\n{}r40 ::= [a-z] r40 | \"x\"",
            chain(40, &|n| { format!("r{n} ::= r{0} \"a\" | r{0} \"b\"", n + 1) })
        )),
        grammar(format!(
            "{}r3000 ::= \"x\"\nroot ::= r0",
            chain(3_000, &|n| format!("r{n} ::= r{}", n + 1))
        )),
        grammar("(".repeat(60_000)),
        grammar("\u{0}\u{1}root ::= [\u{10FFFF}-\u{0}]".into()),
        grammar("root ::= ".to_owned() + &"\"a\"?".repeat(10_000)),
        json!({"json_schema": deep}),
        json!({"json_schema": {"type": "object", "properties": optional}}),
        json!({"json_schema": {"enum": words}}),
        json!({"json_schema": {"$ref": "#/a", "a": {"$ref": "#/a"}}}),
        json!({"json_schema": {"allOf": [{"$ref": "#/a"}], "a": {"allOf": [{"$ref": "#/a"}]}}}),
        json!({"json_schema": {"type": "string", "pattern": format!("^{}$", nested("(", "a", ")*", 90))}}),
        json!({"json_schema": {"type": "string", "pattern": format!("^{}$", "(a{0,9999}){0,9999}".repeat(50))}}),
        json!({"json_schema": {"type": "string", "minLength": 2_000_000_000}}),
        json!({"json_schema": {"type": "integer", "minimum": -9.3e18, "maximum": 9.3e18}}),
        json!({"json_schema": {"properties": {"é".repeat(20_000): {}}}}),
        json!({"grammar": "root ::= \"a\"", "grammar_lazy": true, "grammar_triggers": [{"pattern": "(a*)*$"}]}),
        json!({"grammar": "root ::= \"a\"", "grammar_lazy": true, "grammar_triggers": [{"pattern": "((a{999}){999}){999}"}]}),
    ]
}

#[test]
fn what_would_do_harm_is_answered_soon_and_the_worker_lives() {
    let mut asked = Asked::new(Kind::Context);
    // Two seconds are the promise; a build without optimization is far slower.
    let most = Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 2 });
    for with in hostile() {
        asked.id += 1;
        let before = Instant::now();
        let body = json!({"sampling": with, "n_predict": 3});
        asked.worker.generate(asked.id, &text("Once"), &body);
        let end = asked.worker.completion(asked.id).end;
        let took = before.elapsed();
        assert!(took < most, "{took:?} for {:.200}", with.to_string());
        assert!(end["reason"] != "error" || end["message"].as_str().unwrap().len() > 10, "{end}");
    }
    assert_eq!(asked.completion("Once", &json!({"temperature": 0})).end["reason"], "limit");
}
