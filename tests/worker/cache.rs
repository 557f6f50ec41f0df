//! What the cache keeps, shares and brings back never changes a text.

use serde_json::{Value, json};

use crate::greedy;
use crate::models::Kind;
use crate::process::{Completion, Worker, model, text};
use crate::words;

/// A conditioning of 600 tokens and a question.
fn prompt(chat: usize) -> String {
    format!("{} {}", words(0, 140), words(chat + 1, 12))
}

fn say(worker: &mut Worker, id: u64, prompt: &str, n_predict: usize) -> Completion {
    let with = json!({"n_predict": n_predict, "sampling": greedy()});
    worker.generate(id, &text(prompt), &with);
    worker.completion(id)
}

/// Numbers of 32 bits: rounding to 16 would make the width of a step visible in rare near ties.
fn start(kind: Kind, settings: &Value) -> Worker {
    let mut all = json!({"ctx_size": 1024, "slots": 2, "kv_type": "f32"});
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let mut worker = Worker::start();
    worker.load(&model(kind), &all);
    worker
}

fn cached(made: &Completion) -> u64 {
    made.end["cached_tokens"].as_u64().unwrap()
}

fn prompt_tokens(made: &Completion) -> u64 {
    made.started["prompt_tokens"].as_u64().unwrap()
}

/// The texts of ten chats and a second turn of each, with nothing cached.
fn without_any_cache() -> Vec<(String, String)> {
    (0..10)
        .map(|chat| {
            let mut worker = start(Kind::Context, &json!({"cache_ram": 0, "idle_cells": 0}));
            let first = say(&mut worker, 2, &prompt(chat), 20).text;
            let mut worker = start(Kind::Context, &json!({"cache_ram": 0, "idle_cells": 0}));
            let second = say(&mut worker, 2, &format!("{}{first} so", prompt(chat)), 20).text;
            (first, second)
        })
        .collect()
}

#[test]
fn shared_evicted_and_restored_chats_say_what_they_say_without_a_cache() {
    let expected = without_any_cache();
    for settings in [json!({}), json!({"idle_cells": 0}), json!({"idle_cells": 0, "slots": 1})] {
        let mut worker = start(Kind::Context, &settings);
        for (chat, (first, _)) in expected.iter().enumerate() {
            let made = say(&mut worker, 100 + chat as u64, &prompt(chat), 20);
            assert_eq!(&made.text, first, "chat {chat} with {settings}");
            let least = if chat == 0 { 0 } else { 500 };
            assert!(cached(&made) >= least, "chat {chat}: {} with {settings}", made.end);
        }
        for (chat, (first, second)) in expected.iter().enumerate() {
            let next = format!("{}{first} so", prompt(chat));
            let made = say(&mut worker, 200 + chat as u64, &next, 20);
            assert_eq!(&made.text, second, "second turn of chat {chat} with {settings}");
            // The answer's last token was never decoded, and a few are too few to be kept.
            assert!(
                prompt_tokens(&made) - cached(&made) <= 40,
                "chat {chat}: {} {}",
                made.started,
                made.end
            );
        }
        assert!(worker.close().success());
    }
}

#[test]
fn chats_that_arrive_together_read_their_common_beginning_once() {
    let expected = without_any_cache();
    let mut worker = start(Kind::Context, &json!({"slots": 4, "batch": 64}));
    for chat in 0..8 {
        let with = json!({"n_predict": 20, "sampling": greedy()});
        worker.generate(100 + chat, &text(&prompt(usize::try_from(chat).unwrap())), &with);
    }
    let mut read = 0;
    for (chat, (first, _)) in (0..8).zip(&expected) {
        let made = worker.completion(100 + chat);
        assert_eq!(&made.text, first, "chat {chat}");
        read += prompt_tokens(&made) - cached(&made);
    }
    let one = words(0, 140).len() as u64;
    assert!(read < one + 8 * (words(1, 12).len() as u64 + 64), "{read} tokens were read");
}

#[test]
fn the_cache_of_one_chat_is_none_for_another_text() {
    let mut worker = start(Kind::Context, &json!({}));
    let first = say(&mut worker, 2, &prompt(0), 4);
    let other = say(&mut worker, 3, &format!("x{}", prompt(0)), 4);
    assert_eq!((cached(&first), cached(&other)), (0, 0));
    let again = say(&mut worker, 4, &prompt(0), 4);
    let all = prompt_tokens(&first) - 1;
    assert_eq!((&again.text, cached(&again)), (&first.text, all));
}

#[test]
fn a_full_context_ends_the_text_or_goes_on_when_asked() {
    let mut worker = start(Kind::Context, &json!({"ctx_size": 256, "slots": 2}));
    let ask = words(5, 40);
    let made = say(&mut worker, 2, &ask, 2_000);
    assert_eq!(made.end["reason"], "limit");
    assert_eq!(prompt_tokens(&made) + made.tokens as u64, 256);
    // A neighbour shares the beginning and must not notice that the other one's cells move.
    let neighbour = json!({"n_predict": 30, "sampling": greedy()});
    let alone = say(&mut worker, 3, &format!("{ask} neighbour"), 30).text;
    let shifts =
        json!({"n_predict": 700, "context_shift": true, "n_keep": 20, "sampling": greedy()});
    worker.generate(4, &text(&ask), &shifts);
    let mut ids = 10..;
    for id in ids.by_ref().take(12) {
        worker.generate(id, &text(&format!("{ask} neighbour")), &neighbour);
        assert_eq!(worker.completion(id).text, alone, "neighbour {id}");
    }
    let shifted = worker.completion(4);
    assert_eq!((&shifted.end["reason"], shifted.tokens), (&json!("limit"), 700));
    assert!(shifted.text.starts_with(&made.text), "the same until the context was full");
    assert_eq!(say(&mut worker, 5, &ask, 2_000).text, made.text, "nothing shifted is left behind");
}

#[test]
fn fewer_cells_than_all_could_fill_make_the_youngest_wait_and_fail_nobody() {
    let asks: Vec<String> = (0..3).map(|n| words(n * 5 + 2, 50)).collect();
    let alone: Vec<String> = asks
        .iter()
        .map(|ask| {
            let mut worker = start(Kind::Context, &json!({"ctx_size": 512}));
            say(&mut worker, 2, ask, 280).text
        })
        .collect();
    let settings = json!({"ctx_size": 512, "slots": 3, "cells": 768});
    let mut worker = start(Kind::Context, &settings);
    for (id, ask) in (2..).zip(&asks) {
        worker.generate(id, &text(ask), &json!({"n_predict": 280, "sampling": greedy()}));
    }
    for (id, text) in (2..).zip(&alone) {
        let made = worker.completion(id);
        assert_eq!((&made.text, &made.end["reason"]), (text, &json!("limit")), "generation {id}");
    }
}

#[test]
fn sets_of_adapters_in_any_order_do_not_touch_each_other() {
    let path = |kind| model(kind).to_string_lossy().into_owned();
    let adapters =
        json!([{"path": path(Kind::Adapter), "scale": 0}, {"path": path(Kind::OtherAdapter)}]);
    let sets = [
        json!(null),
        json!([]),
        json!([{"id": 0, "scale": 1.5}]),
        json!([{"id": 0, "scale": 0.5}, {"id": 1, "scale": 1}]),
    ];
    let with = |set: &Value| json!({"n_predict": 24, "sampling": greedy(), "lora": set});
    let asks: Vec<String> = (0..3).map(prompt).collect();
    let mut alone = vec![];
    for set in &sets {
        for ask in &asks {
            let nothing = json!({"adapters": adapters, "cache_ram": 0, "idle_cells": 0});
            let mut worker = start(Kind::Context, &nothing);
            worker.generate(2, &text(ask), &with(set));
            alone.push(worker.completion(2).text);
        }
    }
    let different: std::collections::BTreeSet<&String> = alone.iter().collect();
    assert_eq!(different.len(), alone.len(), "each set says something else");
    let settings = json!({"adapters": adapters, "slots": 4, "idle_cells": 300});
    let mut worker = start(Kind::Context, &settings);
    for round in 1..4_u64 {
        let ids: Vec<(u64, usize)> =
            (0..24).map(|n| (round * 100 + n, usize::try_from(n).unwrap() * 7 % 12)).collect();
        for (id, which) in &ids {
            worker.generate(*id, &text(&asks[which % 3]), &with(&sets[which / 3]));
        }
        for (id, which) in ids {
            let made = worker.completion(id);
            assert_eq!(
                made.text,
                alone[which],
                "round {round}, set {}, prompt {}",
                which / 3,
                which % 3
            );
        }
    }
    worker.generate(9_000, &text("x"), &with(&json!([{"id": 2, "scale": 1}])));
    let end = worker.completion(9_000).end;
    assert_eq!(end["message"], "`lora` names adapter 2; adapters 0 to 1 were loaded");
}

#[test]
fn an_adapter_that_does_not_fit_is_refused_with_its_name() {
    for path in [model(Kind::Micro), model(Kind::Context), "/nowhere/a.gguf".into()] {
        let mut worker = Worker::start();
        let settings = json!({"ctx_size": 64, "adapters": [{"path": path}]});
        let answer = worker.try_load(&model(Kind::Context), &settings);
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("adapter `") && message.len() > 40, "{answer}");
    }
}

#[test]
fn a_step_may_be_smaller_than_the_number_of_sequences() {
    let mut worker = start(Kind::Context, &json!({"batch": 1, "slots": 1, "ctx_size": 256}));
    let one = say(&mut worker, 2, &words(3, 20), 8).text;
    let mut worker = start(Kind::Context, &json!({"batch": 64, "slots": 16, "ctx_size": 256}));
    assert_eq!(say(&mut worker, 2, &words(3, 20), 8).text, one);
}

#[test]
fn a_chat_that_is_kept_on_disk_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("kv");
    let settings = json!({"kv_dir": dir});
    let keep = json!({"n_predict": 20, "sampling": greedy(), "keep": true});
    let ask = |worker: &mut Worker, id: u64, prompt: &str| {
        worker.generate(id, &text(prompt), &keep);
        worker.completion(id)
    };
    let files = || std::fs::read_dir(&dir).unwrap().flatten().map(|e| e.path()).collect::<Vec<_>>();

    let mut worker = start(Kind::Context, &settings);
    let first = ask(&mut worker, 2, &prompt(0));
    let next = format!("{}{} so", prompt(0), first.text);
    let second = ask(&mut worker, 3, &next);
    worker.send(&json!({"unload": {"id": 9}}));
    while worker.event().unwrap().get("unloaded").is_none() {}
    assert!(files().len() >= 5, "{:?}", files());
    assert!(worker.close().success());

    let mut worker = start(Kind::Context, &settings);
    let again = ask(&mut worker, 2, &next);
    assert_eq!(again.text, second.text);
    assert!(cached(&again) + 160 > prompt_tokens(&again), "{}", again.end);
    assert!(worker.close().success());

    // Another type of numbers is another state.
    let mut worker = start(Kind::Context, &json!({"kv_dir": dir, "kv_type": "f16"}));
    assert_eq!(cached(&ask(&mut worker, 2, &next)), 0);
    assert!(worker.close().success());

    for (at, file) in files().iter().enumerate() {
        let mut bytes = std::fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes.truncate(bytes.len() - at % 2);
        std::fs::write(file, bytes).unwrap();
    }
    let mut worker = start(Kind::Context, &settings);
    let damaged = ask(&mut worker, 2, &next);
    assert_eq!((&damaged.text, cached(&damaged)), (&second.text, 0));
}

#[test]
fn guessing_ahead_changes_no_text() {
    let repeats = |n: usize| format!("{0} {0} {0}", words(n, 12));
    let sampled = json!({"temperature": 0.4, "seed": 5, "repeat_penalty": 1.1});
    for sampling in [greedy(), sampled] {
        let with = json!({"n_predict": 200, "sampling": sampling});
        let alone: Vec<String> = (0..3)
            .map(|n| {
                let mut worker = start(Kind::Context, &json!({}));
                worker.generate(2, &text(&repeats(n)), &with);
                worker.completion(2).text
            })
            .collect();
        let mut worker = start(Kind::Context, &json!({"draft_max": 8, "slots": 3}));
        for (id, n) in (2..).zip(0..3) {
            worker.generate(id, &text(&repeats(n)), &with);
        }
        let mut guessed = 0;
        for (id, text) in (2..).zip(&alone) {
            let made = worker.completion(id);
            assert_eq!(&made.text, text);
            guessed += made.end["guessed_tokens"].as_u64().unwrap();
        }
        assert!(guessed > 0 || sampling != greedy(), "some texts repeat themselves");
        let none = json!({"n_predict": 40, "sampling": greedy(), "draft_max": 0});
        worker.generate(9, &text(&repeats(0)), &none);
        assert_eq!(worker.completion(9).end["guessed_tokens"], 0);
    }
}

#[test]
fn a_state_that_was_saved_to_a_file_comes_back_in_another_worker() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.state");
    let save =
        |path: &std::path::Path| json!({"save_state": {"id": 7, "generation": 2, "path": path}});
    let mut worker = start(Kind::Context, &json!({}));
    worker.send(&save(&path));
    assert_eq!(worker.event().unwrap()["error"]["code"], "not_found");
    let first = say(&mut worker, 2, &prompt(0), 20);
    let next = format!("{}{} so", prompt(0), first.text);
    worker.send(&save(&path));
    let saved = worker.event().unwrap()["state"].clone();
    assert_eq!(saved["tokens"], prompt_tokens(&first) + 19, "the last token was never read");
    worker.send(&save(&folder.path().join("no/such/folder")));
    assert_eq!(worker.event().unwrap()["error"]["code"], "unavailable");
    let second = say(&mut worker, 3, &next, 20);

    let restore = json!({"restore_state": {"id": 8, "path": path}});
    let mut worker = start(Kind::Context, &json!({}));
    worker.send(&restore);
    assert_eq!(worker.event().unwrap()["state"]["tokens"], saved["tokens"]);
    let again = say(&mut worker, 3, &next, 20);
    assert_eq!(again.text, second.text);
    assert!(prompt_tokens(&again) - cached(&again) <= 40, "{}", again.end);

    for settings in [json!({"kv_type": "f16"}), json!({"cache_ram": 0})] {
        let mut worker = start(Kind::Context, &settings);
        worker.send(&restore);
        let message = worker.event().unwrap()["error"]["message"].to_string();
        let expected = ["type of cache", "`cache_ram` is 0"];
        assert!(expected.iter().any(|words| message.contains(words)), "{message}");
    }
    std::fs::write(&path, b"no state at all").unwrap();
    worker.send(&restore);
    assert!(worker.event().unwrap()["error"]["message"].to_string().contains("damaged"));
}
