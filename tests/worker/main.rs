//! The worker process with real models: `lollmsd worker` over its pipes.
#![cfg(feature = "llama")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod cache;
mod grammar;
#[path = "../../tools/models/mod.rs"]
#[expect(dead_code, reason = "shared with the program that writes the models")]
mod models;
mod process;
mod sampling;
mod vectors;

use std::time::{Duration, Instant};

use models::Kind;
use models::chain::Then;
use process::{Worker, model, text};
use serde_json::{Value, json};

/// The most likely token, always.
fn greedy() -> Value {
    json!({"temperature": 0})
}

/// Words that depend on `number`.
fn words(number: usize, count: usize) -> String {
    let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).unwrap());
    let word =
        |n: usize| (0..2 + n % 5).map(|at| letter(n * 7 + at * n * 3 + number * 11)).collect();
    (0..count).map(|n| word(n * 31 + number * 17)).collect::<Vec<String>>().join(" ")
}

#[test]
fn the_chain_models_texts_come_whole() {
    let mut worker = Worker::start();
    worker.load(&model(Kind::Chain), &json!({"ctx_size": 2048}));
    let all = models::chain::completions();
    for (id, completion) in (10..).zip(all.iter().filter(|c| c.then == Then::End)) {
        let prompt = text(&format!("go {}", completion.after.unwrap_or('x')));
        worker.generate(id, &prompt, &json!({"sampling": greedy()}));
        let made = worker.completion(id);
        assert_eq!(made.text, String::from_utf8_lossy(&completion.tokens.concat()));
        assert_eq!((&made.end["reason"], made.tokens), (&json!("stop"), completion.tokens.len()));
        assert_eq!(made.started["prompt_tokens"], 5, "one begin token and four characters");
    }
    assert!(worker.close().success());
}

#[test]
fn stop_strings_lie_over_the_borders_of_tokens() {
    let mut worker = Worker::start();
    worker.load(&model(Kind::Chain), &json!({"ctx_size": 512}));
    let with = json!({"sampling": greedy(), "stop": ["ta-gam"]});
    worker.generate(2, &text("go S"), &with);
    let made = worker.completion(2);
    assert_eq!((made.text.as_str(), &made.end["stop"]), (" alpha be", &json!("ta-gam")));
    let with = json!({"sampling": greedy(), "anti_prompts": ["!@> HUMAN:"]});
    worker.generate(3, &text("go Q"), &with);
    let made = worker.completion(3);
    assert_eq!((made.text.as_str(), &made.end["reason"]), (" Fine.\n", &json!("stop_string")));
    let with = json!({"sampling": greedy(), "stop": ["😀"]});
    worker.generate(4, &text("go A"), &with);
    assert_eq!(worker.completion(4).text, " Once upon a café served robots ");
}

#[test]
fn a_chat_is_written_by_the_models_own_template() {
    let mut worker = Worker::start();
    worker.load(&model(Kind::ContextChat), &json!({"ctx_size": 512}));
    let say = |role: &str, content: &str| json!({"role": role, "content": content});
    let chat = json!({"messages": [say("system", "Be kind."), say("user", "Hi")]});
    worker.send(&json!({"apply_template": {"id": 2, "chat": chat}}));
    assert_eq!(
        worker.event().unwrap()["text"]["text"],
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    // Control tokens are one token each, and the begin token stands there once.
    worker.generate(3, &json!({"chat": chat}), &json!({"n_predict": 1}));
    assert_eq!(
        worker.completion(3).started["prompt_tokens"],
        1 + 5 + "system\nBe kind.\nuser\nHi\nassistant\n".len()
    );
    // 40 messages of 40 characters do not fit 512 tokens; the newest ones stay.
    let mut messages = vec![say("system", "Be kind.")];
    for n in 0..20 {
        messages.push(say("user", &words(n, 8)));
        messages.push(say("assistant", &words(n + 50, 8)));
    }
    messages.push(say("user", "Bye"));
    worker.generate(4, &json!({"chat": {"messages": messages}}), &json!({"n_predict": 4}));
    let made = worker.completion(4);
    assert!(made.started["dropped"].as_u64().unwrap() > 10, "{}", made.started);
    assert!(made.started["prompt_tokens"].as_u64().unwrap() <= 508);
    worker.generate(5, &json!({"chat": {"messages": [say("user", &words(1, 900))]}}), &json!({}));
    assert_eq!(worker.completion(5).end["code"], "context_exceeded");
}

#[test]
fn sixteen_at_once_each_say_what_they_say_alone() {
    let mut worker = Worker::start();
    // Numbers of 32 bits: rounding to 16 would make neighbours visible in rare near ties.
    let settings = json!({"ctx_size": 1024, "slots": 16, "kv_type": "f32"});
    worker.load(&model(Kind::Context), &settings);
    let with = |n: usize| {
        let seeded = json!({"temperature": 0.9, "seed": n, "repeat_penalty": 1.1, "top_k": 30});
        let sampling = if n.is_multiple_of(2) { greedy() } else { seeded };
        json!({"n_predict": 30, "sampling": sampling})
    };
    let prompt = |n: usize| text(&format!("{} {}", words(0, n % 3 * 20), words(n, 5 + n * 4)));
    let alone: Vec<String> = (0..16)
        .map(|n| {
            worker.generate(100 + n as u64, &prompt(n), &with(n));
            worker.completion(100 + n as u64).text
        })
        .collect();
    for round in 1..3_u64 {
        for (n, said) in alone.iter().enumerate() {
            let id = round * 1_000 + n as u64;
            worker.generate(id, &prompt(n), &with(n));
            if n % 3 == 0 {
                worker.generate(id + 500, &text(&words(n + 90, 60)), &json!({"n_predict": 300}));
            }
            if n % 4 == 0 {
                // Later ones arrive while the first are writing.
                assert_eq!(&worker.completion(id).text, said);
            }
            if n % 3 == 0 {
                worker.send(&json!({"cancel": {"id": id + 500}}));
            }
        }
        for n in (0..16_usize).filter(|n| n % 4 != 0) {
            let made = worker.completion(round * 1_000 + n as u64);
            assert_eq!(made.text, alone[n], "round {round}, prompt {n}");
        }
        for n in (0..16).step_by(3) {
            let end = worker.completion(round * 1_000 + 500 + n).end;
            assert_eq!(end["reason"], "cancelled");
        }
    }
}

#[test]
fn a_seed_gives_the_same_text_and_no_seed_another() {
    let mut worker = Worker::start();
    worker.load(&model(Kind::Context), &json!({"ctx_size": 512, "kv_type": "f32"}));
    let mut texts = Vec::new();
    for (id, seed) in (10..).zip([json!(7), json!(7), json!(8), Value::Null, Value::Null]) {
        let mut sampling = json!({"temperature": 1.5});
        if !seed.is_null() {
            sampling["seed"] = seed;
        }
        worker.generate(id, &text("Once"), &json!({"n_predict": 30, "sampling": sampling}));
        texts.push(worker.completion(id).text);
    }
    assert_eq!(texts[0], texts[1]);
    assert!(texts[0] != texts[2] && texts[3] != texts[4]);
}

#[test]
fn a_cancel_in_the_middle_of_a_long_prompt_takes_one_step() {
    let mut worker = Worker::start();
    worker.load(&model(Kind::Context), &json!({"ctx_size": 4096, "slots": 2}));
    // Slow enough to be met in the middle: a token of this model costs some 100 µs.
    worker.generate(2, &text(&"x".repeat(4_000)), &json!({"n_predict": 5}));
    while worker.event().unwrap().get("reading").is_none() {}
    let before = Instant::now();
    worker.send(&json!({"cancel": {"id": 2}}));
    assert_eq!(worker.completion(2).end["reason"], "cancelled");
    assert!(before.elapsed() < Duration::from_secs(5), "a step without writers takes 250 ms");
    // What was read stays as cache.
    worker.generate(3, &text(&"x".repeat(4_000)), &json!({"n_predict": 1}));
    assert!(worker.completion(3).started["cached_tokens"].as_u64().unwrap() >= 32);
}

#[test]
fn a_chat_that_goes_on_is_read_from_where_it_ended() {
    let mut worker = Worker::start();
    worker.load(&model(Kind::Context), &json!({"ctx_size": 1024, "slots": 2}));
    let first = words(3, 60);
    worker.generate(2, &text(&first), &json!({"n_predict": 20, "sampling": greedy()}));
    let made = worker.completion(2);
    let next = format!("{first}{} and then", made.text);
    worker.generate(3, &text(&next), &json!({"n_predict": 1}));
    let started = worker.completion(3).started;
    let (cached, all) = (&started["cached_tokens"], &started["prompt_tokens"]);
    assert!(all.as_u64().unwrap() - cached.as_u64().unwrap() <= 11, "{started}");
}

#[test]
fn broken_files_are_refused_with_a_reason_and_nothing_worse() {
    for broken in models::broken::files() {
        let name = format!("broken-{}-{}.gguf", broken.name, std::process::id());
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, &broken.bytes).unwrap();
        let mut worker = Worker::start();
        let answer = worker.try_load(&path, &json!({"ctx_size": 64}));
        let reason = answer["error"]["message"].as_str().or(answer["fatal"]["reason"].as_str());
        assert!(reason.is_some_and(|reason| reason.len() > 10), "{}: {answer}", broken.name);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn an_embedding_has_length_one() {
    use base64::Engine as _;
    let mut worker = Worker::start();
    worker.load(&model(Kind::Context), &json!({"ctx_size": 256}));
    let mut vectors = Vec::new();
    for (id, words) in [(2, "a text"), (3, "a text"), (4, "another one")] {
        worker.send(&json!({"embed": {"id": id, "text": words}}));
        let answer = worker.event().unwrap();
        let packed = answer["embedding"]["vector"]["f32"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(packed).unwrap();
        let numbers = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        vectors.push(numbers.collect::<Vec<f32>>());
    }
    let length: f32 = vectors[0].iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-4 && vectors[0].len() == 192);
    assert!(vectors[0] == vectors[1] && vectors[0] != vectors[2]);
}
