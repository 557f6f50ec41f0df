//! Vectors, scores, gaps and threads, with real models.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::models::Kind;
use crate::models::encoder::{HEAD, N_CTX, N_EMBD};
use crate::process::{Worker, model, text};

/// Tokens of the test vocabulary around every text of an encoder.
const BEGIN: i64 = 1;
const END: i64 = 2;

/// What an `embed` was answered for one input.
#[derive(Debug, Default)]
struct Answer {
    rows: Vec<Vec<f32>>,
    tokens: u64,
    truncated: bool,
    pooling: String,
    lines: usize,
}

impl Answer {
    fn only(&self) -> &[f32] {
        assert_eq!(self.rows.len(), 1);
        &self.rows[0]
    }
}

fn numbers(vector: &Value) -> Vec<f32> {
    let packed = vector["f32"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(packed).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Asks for vectors and collects all lines of the answer.
fn embed(worker: &mut Worker, ask: &Value) -> Vec<Answer> {
    let mut body = json!({"id": 77});
    body.as_object_mut().unwrap().extend(ask.as_object().unwrap().clone());
    worker.send(&json!({ "embed": body }));
    let mut answers: Vec<Answer> = Vec::new();
    loop {
        let event = worker.event().unwrap();
        let line = &event["embedding"];
        assert_eq!(line["id"], 77, "{event}");
        let input = usize::try_from(line["input"].as_u64().unwrap()).unwrap();
        if input == answers.len() {
            answers.push(Answer::default());
        }
        let answer = answers.last_mut().unwrap();
        assert_eq!(line["first"].as_u64().unwrap_or(0), answer.rows.len() as u64);
        let all = numbers(&line["vector"]);
        let rows = usize::try_from(line["rows"].as_u64().unwrap_or(1)).unwrap();
        answer.rows.extend(all.chunks(all.len() / rows).map(<[f32]>::to_vec));
        answer.tokens = line["tokens"].as_u64().unwrap();
        answer.truncated = line["truncated"] == true;
        answer.pooling = line["pooling"].as_str().unwrap().into();
        answer.lines += 1;
        if line["more"] != true {
            return answers;
        }
    }
}

/// Asks for something that is refused.
fn refused(worker: &mut Worker, command: &Value) -> (String, String) {
    worker.send(command);
    let event = worker.event().unwrap();
    let word = |key: &str| event["error"][key].as_str().unwrap_or_default().to_owned();
    (word("code"), word("message"))
}

fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-4, "they differ by {worst}");
}

fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    let count = f32::from(u16::try_from(rows.len()).unwrap());
    (0..rows[0].len()).map(|at| rows.iter().map(|row| row[at]).sum::<f32>() / count).collect()
}

fn scaled(row: &[f32], by: f32) -> Vec<f32> {
    row.iter().map(|x| x / by).collect()
}

#[test]
fn every_pooling_is_made_of_the_rows_of_the_tokens() {
    let mut worker = Worker::start();
    let loaded = worker.try_load(&model(Kind::Encoder), &json!({"ctx_size": N_CTX}));
    assert_eq!(loaded["loaded"]["embedding_size"], N_EMBD, "{loaded}");
    let words = "What is pooled is made of rows.";
    let mut ask = |pooling: Value, normalize: i32| {
        let ask = json!({"text": words, "pooling": pooling, "normalize": normalize});
        embed(&mut worker, &ask).remove(0)
    };
    let rows = ask(json!("none"), -1);
    assert_eq!((rows.rows.len(), rows.tokens), (words.len() + 2, words.len() as u64 + 2));
    assert_close(ask(json!("mean"), -1).only(), &mean(&rows.rows));
    assert_close(ask(json!("cls"), -1).only(), &rows.rows[0]);
    assert_close(ask(json!("last"), -1).only(), rows.rows.last().unwrap());
    let own = ask(Value::Null, -1);
    assert_eq!(own.pooling, "mean");
    assert_close(own.only(), &mean(&rows.rows));

    let raw = own.only();
    let largest = raw.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
    let taxicab: f32 = raw.iter().map(|x| x.abs()).sum();
    let euclid = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    let cubes = raw.iter().map(|x| x.abs().powi(3)).sum::<f32>().cbrt();
    assert_close(&scaled(ask(Value::Null, 0).only(), 32_760.0), &scaled(raw, largest));
    assert_close(ask(Value::Null, 1).only(), &scaled(raw, taxicab));
    assert_close(ask(Value::Null, 2).only(), &scaled(raw, euclid));
    assert_close(ask(Value::Null, 3).only(), &scaled(raw, cubes));
}

#[test]
fn texts_that_are_read_side_by_side_do_not_see_each_other() {
    for kind in [Kind::Encoder, Kind::Context] {
        let mut worker = Worker::start();
        worker.load(&model(kind), &json!({"ctx_size": 640}));
        let words: Vec<String> = (1..40).map(|n| "so many words ".repeat(n % 7 + 1)).collect();
        let all = embed(&mut worker, &json!({ "inputs": words }));
        assert_eq!(all.len(), words.len());
        for (at, words) in words.iter().enumerate().step_by(5) {
            let alone = embed(&mut worker, &json!({ "text": words }));
            assert_close(all[at].only(), alone[0].only());
        }
        let length: f32 = all[3].only().iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-4);
    }
}

#[test]
fn a_text_longer_than_a_step_is_read_in_pieces() {
    let mut worker = Worker::start();
    worker.load(&model(Kind::Context), &json!({"ctx_size": 2_048, "batch": 64}));
    let long = "It goes on and on. ".repeat(80);
    let start = &long[..400];
    let ask = |words: &str| json!({"text": words, "pooling": "none"});
    let whole = embed(&mut worker, &ask(&long)).remove(0);
    let part = embed(&mut worker, &ask(start)).remove(0);
    assert_eq!(whole.rows.len(), long.len() + 1);
    // It looks back only, so a beginning has the rows it would have alone.
    for (a, b) in part.rows.iter().zip(&whole.rows) {
        assert_close(a, b);
    }
    assert!(whole.lines > 1, "1,500 rows of 768 bytes are more than a line");
    let mean_of_long = json!({"text": long, "normalize": -1});
    let pooled = embed(&mut worker, &mean_of_long).remove(0);
    assert_close(pooled.only(), &mean(&whole.rows));
}

#[test]
fn a_text_longer_than_the_context_is_refused_or_cut() {
    let mut worker = Worker::start();
    worker.load(&model(Kind::Encoder), &json!({"ctx_size": 100}));
    let long = "x".repeat(150);
    let (code, message) = refused(&mut worker, &json!({"embed": {"id": 2, "text": long}}));
    assert_eq!(code, "context_exceeded");
    assert_eq!(message, "input 0 has 152 tokens; the context holds 100");
    let cut = embed(&mut worker, &json!({"text": long, "truncate": true})).remove(0);
    assert_eq!((cut.tokens, cut.truncated), (100, true));
    // What the model wants at the end still stands there.
    let x = 3 + 256 + i64::from(b'x' - b' ');
    let mut tokens = vec![x; 100];
    (tokens[0], tokens[99]) = (BEGIN, END);
    let same = embed(&mut worker, &json!({"inputs": [tokens]})).remove(0);
    assert_close(cut.only(), same.only());
    let (_, message) = refused(&mut worker, &json!({"embed": {"id": 3, "inputs": [[99_999]]}}));
    assert!(message.contains("input 0") && message.contains("99999"), "{message}");
}

#[test]
fn scores_are_what_the_head_makes_of_the_first_row() {
    let mut worker = Worker::start();
    let loaded = worker.try_load(&model(Kind::Ranker), &json!({"ctx_size": N_CTX}));
    assert_eq!(loaded["loaded"]["ranks"], true, "{loaded}");
    let documents = ["a cat", "a dog and a cat", "", "something else entirely"];
    let ask = json!({"id": 3, "query": "cat?", "documents": documents});
    worker.send(&json!({ "rerank": ask }));
    let ranks = worker.event().unwrap()["ranks"].clone();
    let letters = |words: &str| -> Vec<i64> {
        words.bytes().map(|byte| 3 + 256 + i64::from(byte - b' ')).collect()
    };
    let separator = 3 + 256 + 95;
    for (at, document) in documents.iter().enumerate() {
        let pair = [&[BEGIN], &letters("cat?")[..], &[END, separator], &letters(document), &[END]]
            .concat();
        assert_eq!(ranks["tokens"][at], pair.len());
        let ask = json!({"inputs": [pair], "pooling": "cls", "normalize": -1});
        let row = embed(&mut worker, &ask).remove(0);
        let expected: f32 = HEAD.iter().zip(row.only()).map(|(a, b)| a * b).sum();
        let score = ranks["scores"][at].as_f64().unwrap();
        assert!((score - f64::from(expected)).abs() < 1e-4, "{score} and {expected}");
    }
    let (code, message) = refused(&mut worker, &json!({"embed": {"id": 4, "text": "x"}}));
    assert!(code == "unsupported" && message.contains("pooling"), "{message}");
    let long = json!({"id": 5, "query": "q", "documents": ["x", "y".repeat(700)]});
    let (code, message) = refused(&mut worker, &json!({ "rerank": long }));
    assert_eq!(code, "context_exceeded");
    assert!(message.contains("document 1") && message.contains("705 tokens"), "{message}");
}

#[test]
fn a_model_without_a_head_does_not_rank_and_an_encoder_does_not_write() {
    for kind in [Kind::Encoder, Kind::Context] {
        let mut worker = Worker::start();
        worker.load(&model(kind), &json!({"ctx_size": 128}));
        let ask = json!({"rerank": {"id": 2, "query": "q", "documents": ["d"]}});
        let (code, message) = refused(&mut worker, &ask);
        assert!(code == "unsupported" && message.contains("classifier head"), "{message}");
        if kind == Kind::Encoder {
            worker.generate(3, &text("Once"), &json!({}));
            assert_eq!(worker.completion(3).end["code"], "unsupported");
        }
    }
}

#[test]
fn a_gap_is_put_together_with_the_models_own_tokens() {
    let mut worker = Worker::start();
    let loaded = worker.try_load(&model(Kind::ContextFill), &json!({"kv_type": "f32"}));
    assert_eq!(loaded["loaded"]["infills"], true, "{loaded}");
    let with = json!({"n_predict": 20, "sampling": {"temperature": 0}});
    let mut say = |id: u64, prompt: &Value| {
        worker.generate(id, prompt, &with);
        let made = worker.completion(id);
        (made.text, made.started["prompt_tokens"].clone())
    };
    let extra = json!([{"name": "a.h", "text": "int x;"}]);
    let gap = json!({"prefix": "def f(", "suffix": "): pass", "prompt": "q", "extra": extra});
    let filled = say(2, &json!({ "infill": gap }));
    let named = "<|repo_name|>myproject\n<|file_sep|>a.h\nint x;<|file_sep|>filename\n\
        <s><|fim_prefix|>def f(q<|fim_suffix|>): pass<|fim_middle|>";
    // A text begins with the begin token; here it stands before the prefix only.
    let (_, with_begin) = say(3, &text(named));
    assert_eq!(filled.1.as_u64().unwrap() + 1, with_begin.as_u64().unwrap());
    // Both sides of the gap and what it begins with are seen.
    let gaps = [("ab", "yz", ""), ("ac", "yz", ""), ("ab", "yx", ""), ("ab", "yz", "q")];
    let mut said = Vec::new();
    for (id, (prefix, suffix, prompt)) in (4..).zip(gaps) {
        let gap = json!({"prefix": prefix, "suffix": suffix, "prompt": prompt});
        said.push(say(id, &json!({ "infill": gap })).0);
    }
    assert!(said.iter().enumerate().all(|(at, one)| !said[..at].contains(one)), "{said:?}");
    let mut plain = Worker::start();
    plain.load(&model(Kind::Context), &json!({"ctx_size": 128}));
    plain.generate(2, &json!({"infill": {"prefix": "a", "suffix": "b"}}), &json!({}));
    let end = plain.completion(2).end;
    assert_eq!(end["code"], "unsupported");
    assert!(end["message"].as_str().unwrap().contains("no prefix token"), "{end}");
}

#[test]
fn threads_change_between_two_steps_and_the_text_does_not() {
    let mut worker = Worker::start();
    worker.load(&model(Kind::Context), &json!({"ctx_size": 1_024, "threads": 1, "kv_type": "f32"}));
    let with = json!({"n_predict": 200, "sampling": {"temperature": 0}});
    worker.generate(2, &text("Once upon a time"), &with);
    let alone = worker.completion(2).text;
    let before = worker.threads();
    worker.generate(3, &text("Once upon a time"), &with);
    worker.send(&json!({"configure": {"id": 4, "threads": 2, "batch_threads": 4}}));
    let answer = worker.answer(4);
    assert_eq!(answer["configured"], json!({"id": 4, "threads": 2, "batch_threads": 4}));
    assert_eq!(worker.completion(3).text, alone);
    // The thread that decodes is one of the four.
    assert_eq!(worker.threads(), before + 3);
}

#[test]
fn a_cancel_breaks_the_only_prompt_of_a_step_off() {
    let mut worker = Worker::start();
    worker.load(&model(Kind::Context), &json!({"ctx_size": 4_096, "batch": 4_096, "slots": 2}));
    let long = "x".repeat(4_000);
    worker.generate(2, &text(&long), &json!({"n_predict": 5}));
    // The first step is a small one, to see what a token costs; the second takes all the rest.
    let read = loop {
        let event = worker.event().unwrap();
        if let Some(reading) = event.get("reading") {
            break reading["done"].clone();
        }
    };
    worker.send(&json!({"cancel": {"id": 2}}));
    assert_eq!(worker.completion(2).end["reason"], "cancelled");
    worker.generate(3, &text(&long), &json!({"n_predict": 1}));
    let made = worker.completion(3);
    assert_eq!((&made.started["cached_tokens"], &made.end["reason"]), (&read, &json!("limit")));
}
