//! The worker over a pair of pipes, with the fake model.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::desk::Ending;
use super::fake::{END, ENDLESS, FakeLoader, LASTS, REFUSED, after};
use super::run_on;

/// A running worker and the front's ends of its pipes.
struct Front {
    to: Option<PipeWriter>,
    from: BufReader<PipeReader>,
    worker: JoinHandle<Ending>,
}

impl Front {
    fn start(loader: FakeLoader) -> Self {
        let (input, to) = pipe().unwrap();
        let (from, output) = pipe().unwrap();
        let worker = std::thread::spawn(move || run_on(loader, input, OwnedFd::from(output)));
        Self { to: Some(to), from: BufReader::new(from), worker }
    }

    /// A worker that has said hello and loaded the fake.
    fn loaded(loader: FakeLoader, settings: &Value) -> Self {
        let mut front = Self::start(loader);
        front.send(&json!({"hello": {"version": 1}}));
        assert!(front.event().get("hello").is_some());
        front.send(&json!({"load": {"id": 1, "model": "fake", "settings": settings}}));
        assert_eq!(front.event()["loaded"]["id"], 1);
        front
    }

    fn send(&mut self, line: &Value) {
        self.raw(&format!("{line}\n"));
    }

    fn raw(&mut self, text: &str) {
        self.to.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The next event that is no statistics.
    fn event(&mut self) -> Value {
        loop {
            let mut line = String::new();
            self.from.read_line(&mut line).unwrap();
            assert!(line.len() <= 1 << 20);
            let event: Value = serde_json::from_str(&line).expect("a line of JSON");
            if event.get("stats").is_none() {
                return event;
            }
        }
    }

    /// The code and message of the next event, which must be an error.
    fn error(&mut self) -> (String, String) {
        let event = self.event();
        let word = |key: &str| event["error"][key].as_str().expect("an error").to_owned();
        (word("code"), word("message"))
    }

    /// Text and end of a generation; other generations' events are dropped.
    fn completion(&mut self, id: u64) -> (String, Value) {
        let mut text = String::new();
        loop {
            let event = self.event();
            let (name, body) = event.as_object().unwrap().iter().next().unwrap();
            if body["id"] != id {
                continue;
            }
            match name.as_str() {
                "piece" => text.push_str(body["text"].as_str().unwrap()),
                "end" => return (text, body.clone()),
                _ => {}
            }
        }
    }

    fn generate(&mut self, id: u64, prompt: &str, n_predict: u32) {
        let prompt = json!({"text": {"text": prompt}});
        self.send(&json!({"generate": {"id": id, "prompt": prompt, "n_predict": n_predict}}));
    }

    /// Closes the worker's input and returns what it said until then.
    fn close(mut self) -> (Ending, Vec<Value>) {
        self.to = None;
        let lines = self.from.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        let events = lines.collect();
        (self.worker.join().unwrap(), events)
    }
}

/// What the fake says to a prompt.
fn says(prompt: &str, most: usize) -> String {
    let mut context: Vec<i32> = prompt.bytes().map(i32::from).collect();
    let mut text = String::new();
    while text.len() < most {
        let token = after(&context);
        if token == END {
            break;
        }
        text.push(char::from(u8::try_from(token).unwrap()));
        context.push(token);
    }
    text
}

#[test]
fn hello_says_what_is_offered_and_end_of_input_ends_the_worker() {
    let mut front = Front::start(FakeLoader::new());
    front.send(&json!({"hello": {"version": 1, "unknown": true}}));
    let hello = front.event();
    assert_eq!(hello["hello"]["version"], 1);
    assert!(hello["hello"]["capabilities"].as_array().unwrap().contains(&json!("generate")));
    assert_eq!(front.close(), (Ending::Closed, vec![]));
}

#[test]
fn a_front_of_another_version_is_told_so() {
    let mut front = Front::start(FakeLoader::new());
    front.send(&json!({"hello": {"version": 99}}));
    let reason = front.event()["fatal"]["reason"].to_string();
    assert!(reason.contains("version 99"), "{reason}");
    assert_eq!(front.close().0, Ending::Malformed);
}

#[test]
fn requests_before_a_load_conflict() {
    let mut front = Front::start(FakeLoader::new());
    front.generate(7, "x", 1);
    let (text, end) = front.completion(7);
    assert_eq!((text.as_str(), &end["code"]), ("", &json!("conflict")));
    front.send(&json!({"tokenize": {"id": 8, "text": "x"}}));
    assert_eq!(front.event()["error"]["code"], "conflict");
    front.send(&json!({"bye": {}}));
    assert_eq!(front.close().0, Ending::Bye);
}

#[test]
fn many_generations_at_once_each_say_what_they_say_alone() {
    let mut front = Front::loaded(FakeLoader::new(), &json!({"slots": 3, "ctx_size": 200}));
    for id in 10..40 {
        front.generate(id, &format!("prompt number {id}"), 25);
    }
    let mut texts = std::collections::HashMap::<u64, String>::new();
    let mut ended = Vec::new();
    while ended.len() < 30 {
        let event = front.event();
        let (name, body) = event.as_object().unwrap().iter().next().unwrap();
        let id = body["id"].as_u64().unwrap();
        assert!(!ended.contains(&id), "nothing follows an end");
        match name.as_str() {
            "piece" => {
                let text = body["text"].as_str().unwrap();
                assert_eq!(body["ends"].as_array().unwrap().last(), Some(&json!(text.len())));
                texts.entry(id).or_default().push_str(text);
            }
            "end" => {
                assert_eq!(
                    (&body["reason"], &body["completion_tokens"]),
                    (&json!("limit"), &json!(25))
                );
                ended.push(id);
            }
            _ => {}
        }
    }
    for id in 10..40 {
        assert_eq!(texts[&id], says(&format!("prompt number {id}"), 25));
    }
}

#[test]
fn a_cancel_is_quick_wherever_the_generation_is() {
    let (loader, permits) = FakeLoader::gated();
    let mut front = Front::loaded(loader, &json!({"slots": 1, "ctx_size": 4096, "batch": 32}));
    front.generate(1, &"long ".repeat(400), 50);
    // Two steps of 32 tokens of a prompt of 2,000: the first is in the middle of its prompt.
    permits.send(()).unwrap();
    permits.send(()).unwrap();
    while front.event().get("reading").is_none() {}
    // Not before: its shorter prompt could be prepared first and take the sequence.
    front.generate(2, "waits", 50);
    front.send(&json!({"cancel": {"id": 2}}));
    front.send(&json!({"cancel": {"id": 999}}));
    front.send(&json!({"cancel": {"id": 1}}));
    // The desk answers in order: with this answer the cancels are on the decode thread's list.
    front.send(&json!({"list_models": {"id": 50}}));
    let (mut ends, mut heard) = (vec![], false);
    while ends.len() < 2 || !heard {
        let event = front.event();
        if let Some(end) = event.get("end") {
            assert_eq!(end["reason"], "cancelled");
            ends.push(end["id"].as_u64().unwrap());
        }
        if event.get("models").is_some() {
            heard = true;
            // The step that is going on ends, and no other begins.
            permits.send(()).unwrap();
        }
        assert!(event.get("piece").is_none());
    }
    ends.sort_unstable();
    assert_eq!(ends, [1, 2]);
    drop(permits);
    front.generate(3, "next", 5);
    assert_eq!(front.completion(3).0, says("next", 5));
}

#[test]
fn unloading_ends_what_runs_and_a_new_load_works() {
    let (loader, permits) = FakeLoader::gated();
    let mut front = Front::loaded(loader, &json!({"slots": 1}));
    for id in 5..9 {
        front.generate(id, "endless", 100_000);
    }
    front.send(&json!({"unload": {"id": 20}}));
    drop(permits);
    // A generation that was still being prepared may end after `unloaded`, and after the next load too.
    let (mut cancelled, mut ready) = (0, false);
    while cancelled < 4 || !ready {
        let event = front.event();
        if let Some(end) = event.get("end") {
            assert_eq!(end["reason"], "cancelled");
            cancelled += 1;
        }
        if event.get("unloaded").is_some() {
            front.send(&json!({"load": {"id": 21, "model": "fake"}}));
        }
        ready |= event.get("loaded").is_some();
    }
    front.generate(30, "again", 3);
    assert_eq!(front.completion(30).0, says("again", 3));
}

#[test]
fn a_load_can_be_cancelled_and_tells_its_progress() {
    let mut front = Front::start(FakeLoader::new());
    front.send(&json!({"load": {"id": 3, "model": ENDLESS}}));
    assert_eq!(front.event(), json!({"progress": {"id": 3, "fraction": 0.5}}));
    front.send(&json!({"load": {"id": 4, "model": "fake"}}));
    while front.event()["error"]["code"] != "conflict" {}
    front.send(&json!({"cancel": {"id": 3}}));
    while front.event()["error"]["code"] != "cancelled" {}
    front.send(&json!({"load": {"id": 5, "model": ""}}));
    assert_eq!(front.event()["error"]["message"], "no such model");
    front.send(&json!({"load": {"id": 6, "model": "fake"}}));
    assert_eq!(front.event()["loaded"]["id"], 6);
}

#[test]
fn a_broken_step_ends_its_generations_and_not_the_worker() {
    let mut front = Front::loaded(FakeLoader::new(), &json!({}));
    front.generate(5, "bad # byte", 5);
    let (_, end) = front.completion(5);
    assert_eq!((&end["reason"], &end["code"]), (&json!("error"), &json!("unavailable")));
    front.generate(6, "good", 5);
    assert_eq!(front.completion(6).0, says("good", 5));
}

#[test]
fn what_cannot_be_done_ends_with_a_reason() {
    let mut front = Front::loaded(FakeLoader::new(), &json!({"ctx_size": 32}));
    front.generate(5, &"x".repeat(32), 5);
    let (_, end) = front.completion(5);
    assert_eq!(end["code"], "context_exceeded");
    assert!(end["message"].as_str().unwrap().contains("32 tokens"), "{end}");
    front.generate(6, "", 5);
    assert_eq!(front.completion(6).1["code"], "invalid_request");
    front.generate(7, "x", 0);
    let (text, end) = front.completion(7);
    assert_eq!((text.as_str(), &end["reason"]), ("", &json!("limit")));
    front
        .raw("{\"generate\":{\"id\":8,\"prompt\":{\"text\":{\"text\":\"x\"}},\"n_predict\":-4}}\n");
    assert_eq!(front.completion(8).1["code"], "invalid_request");
    front.raw("{\"dance\":{\"id\":9}}\n");
    assert_eq!(front.event()["error"]["code"], "unsupported");
    front.raw("{\"tokenize\":{\"id\":10}}\n");
    assert_eq!(front.event()["error"]["code"], "invalid_request");
    front.generate(11, &"x".repeat(31), 50);
    assert_eq!(front.completion(11).1["completion_tokens"], 1);
    front.raw("no line of the protocol\n");
    assert_eq!(front.close().0, Ending::Malformed);
}

#[test]
fn the_end_of_a_text_is_no_part_of_it() {
    let mut front = Front::loaded(FakeLoader::new(), &json!({}));
    front.generate(5, "The end.", 50);
    let (text, end) = front.completion(5);
    assert_eq!((text.as_str(), &end["reason"]), ("", &json!("stop")));
    let prompt = json!({"text": {"text": "go"}});
    let said = says("go", 40);
    let stop = said[10..12].to_owned();
    let first = said.find(&stop).unwrap();
    front.send(&json!({"generate": {"id": 6, "prompt": prompt, "n_predict": 40, "stop": [&stop]}}));
    let (text, end) = front.completion(6);
    assert_eq!((text.as_str(), &end["stop"]), (&said[..first], &json!(stop)));
}

#[test]
fn text_and_tokens_and_vectors() {
    let mut front = Front::loaded(FakeLoader::new(), &json!({}));
    front.send(&json!({"tokenize": {"id": 2, "text": "ab"}}));
    assert_eq!(front.event(), json!({"tokens": {"id": 2, "tokens": [97, 98]}}));
    front.send(&json!({"detokenize": {"id": 3, "tokens": [97, 98]}}));
    assert_eq!(front.event(), json!({"text": {"id": 3, "text": "ab"}}));
    front.send(&json!({"detokenize": {"id": 4, "tokens": [9999]}}));
    assert_eq!(front.event()["error"]["id"], 4);
    front.send(&json!({"embed": {"id": 5, "text": "x"}}));
    assert_eq!(front.event()["embedding"]["vector"]["f32"], "AACAPwAAAAA=");
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}]});
    front.send(&json!({"apply_template": {"id": 6, "chat": chat}}));
    assert_eq!(front.event()["text"]["text"], "!@> Human: Hi\n!@> lollms:");
    front.send(&json!({"detokenize": {"id": 7, "tokens": vec![97; 2 << 20]}}));
    let error = front.event();
    assert!(error["error"]["message"].to_string().contains("1048576"), "{error}");
}

#[test]
fn a_reader_that_stalls_loses_nothing_and_costs_bounded_memory() {
    let mut front = Front::loaded(FakeLoader::new(), &json!({"slots": 2, "ctx_size": 400_000}));
    // Far more than the pipe holds, and nobody reads meanwhile.
    front.generate(5, "one", 300_000);
    front.generate(6, "two", 300_000);
    front.send(&json!({"tokenize": {"id": 7, "text": "later"}}));
    let (text, end) = front.completion(5);
    assert_eq!((text.len(), &end["reason"]), (300_000, &json!("limit")));
}

#[test]
fn a_step_without_a_permit_ends_when_nobody_wants_it() {
    let (loader, permits) = FakeLoader::gated();
    let mut front = Front::loaded(loader, &json!({"slots": 2}));
    front.generate(1, "alone", 5);
    front.send(&json!({"cancel": {"id": 1}}));
    assert_eq!(front.completion(1).1["reason"], "cancelled");
    // Two of them are in one step: it takes the end of both.
    front.generate(2, "first", 5);
    front.generate(3, "second", 5);
    front.send(&json!({"unload": {"id": 4}}));
    let (mut ended, mut unloaded) = (0, false);
    while ended < 2 || !unloaded {
        let event = front.event();
        ended += usize::from(event["end"]["reason"] == "cancelled");
        unloaded |= event.get("unloaded").is_some();
    }
    drop(permits);
}

#[test]
fn several_inputs_are_texts_or_tokens_and_come_in_order() {
    let mut front = Front::loaded(FakeLoader::new(), &json!({}));
    let inputs = json!(["ab", [99]]);
    front.send(&json!({"embed": {"id": 5, "inputs": inputs, "normalize": -1, "pooling": "last"}}));
    let (first, second) = (front.event(), front.event());
    let body = |event: &Value| {
        let body = &event["embedding"];
        (body["input"].clone(), body["tokens"].clone(), body["more"] == true)
    };
    assert_eq!(body(&first), (json!(0), json!(2), true));
    assert_eq!(body(&second), (json!(1), json!(1), false));
    assert_eq!(first["embedding"]["pooling"], "last");
    // 98 and 1: the byte and its position.
    assert_eq!(first["embedding"]["vector"]["f32"], "AADEQgAAgD8=");
    front.send(&json!({"embed": {"id": 6, "text": "abc", "pooling": "none"}}));
    assert_eq!(front.event()["embedding"]["rows"], 3);
}

#[test]
fn what_cannot_be_embedded_says_why() {
    let mut front = Front::loaded(FakeLoader::new(), &json!({"ctx_size": 4}));
    let mut refused = |ask: Value| {
        let mut body = json!({"id": 5});
        body.as_object_mut().unwrap().extend(ask.as_object().unwrap().clone());
        front.send(&json!({ "embed": body }));
        front.error()
    };
    let (code, message) = refused(json!({"inputs": ["a", "abcde"]}));
    assert_eq!(code, "context_exceeded");
    assert_eq!(message, "input 1 has 5 tokens; the context holds 4");
    assert!(refused(json!({"text": "a".repeat(1_000)})).1.contains("1000 bytes"));
    assert_eq!(refused(json!({"inputs": []})).0, "invalid_request");
    assert!(refused(json!({"inputs": ["a", ""]})).1.contains("input 1 is empty"));
    assert!(refused(json!({"inputs": [[1, 256]]})).1.contains("input 0"));
    assert!(refused(json!({"text": "a", "normalize": -2})).1.contains("`normalize` is -2"));
    assert!(refused(json!({"text": "a", "pooling": "sum"})).1.contains("`embed`"));
    front.send(&json!({"embed": {"id": 6, "text": "abcde", "truncate": true}}));
    let cut = &front.event()["embedding"];
    assert_eq!((&cut["tokens"], &cut["truncated"]), (&json!(4), &json!(true)));
}

#[test]
fn documents_are_scored_in_their_order() {
    let mut front = Front::loaded(FakeLoader::new(), &json!({"ctx_size": 6}));
    let ask = |documents: Value, truncate: bool| {
        let body = json!({"id": 5, "query": "q", "documents": documents, "truncate": truncate});
        json!({ "rerank": body })
    };
    front.send(&ask(json!(["ab", "", "abcd"]), false));
    assert_eq!(
        front.event(),
        json!({"ranks": {"id": 5, "scores": [3.0, 1.0, 5.0], "tokens": [3, 1, 5]}})
    );
    front.send(&ask(json!(["ab", "abcdef"]), false));
    let (code, message) = front.error();
    assert_eq!(code, "context_exceeded");
    assert!(message.contains("document 1") && message.contains("7 tokens"), "{message}");
    front.send(&ask(json!(["abcdef"]), true));
    assert_eq!(front.event()["ranks"]["tokens"], json!([6]));
    front.send(&ask(json!([]), false));
    assert!(front.error().1.contains("`documents` has 0"));
}

#[test]
fn vectors_can_be_cancelled_while_others_are_served() {
    let mut front = Front::loaded(FakeLoader::new(), &json!({}));
    let endless = char::from(LASTS).to_string();
    front.send(&json!({"embed": {"id": 5, "text": endless}}));
    front.send(&json!({"embed": {"id": 5, "text": "twice"}}));
    assert_eq!(front.error().0, "conflict");
    front.generate(6, "meanwhile", 5);
    assert_eq!(front.completion(6).0, says("meanwhile", 5));
    front.send(&json!({"cancel": {"id": 5}}));
    assert_eq!(front.error().0, "cancelled");
    front.send(&json!({"embed": {"id": 5, "text": "again"}}));
    assert_eq!(front.event()["embedding"]["tokens"], 5);
}

#[test]
fn threads_can_be_changed_while_it_runs() {
    let mut front = Front::loaded(FakeLoader::new(), &json!({}));
    front.send(&json!({"configure": {"id": 5, "threads": 3}}));
    assert_eq!(front.event(), json!({"configured": {"id": 5, "threads": 3, "batch_threads": 1}}));
    front.send(&json!({"configure": {"id": 6, "batch_threads": 0}}));
    assert_eq!(front.event()["configured"]["batch_threads"], 3);
    front.send(&json!({"configure": {"id": 7, "threads": 513}}));
    assert!(front.error().1.contains("`threads` is 513"));
    front.send(&json!({"configure": {"id": 8, "threads": REFUSED}}));
    assert_eq!(front.error().0, "unavailable");
}
