//! The demonstration model: the file is the one that was examined, and what it says about the server is so.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::CommandFactory;
use lollmsd::binding::{DEATH_WINDOW, MAX_DEATHS};
use lollmsd::cli::Cli;
use lollmsd::config::root::Root;
use lollmsd::config::settings::{DEFAULT_PORTS, MIN_KEY_LENGTH, Settings};
use lollmsd::domain::binding::{DEMO_MODEL, LLAMA_CPP};
use lollmsd::protocol::{HELLO_TIMEOUT, MAX_COMMAND_BYTES, MAX_EVENT_BYTES};
use lollmsd::registry::gguf;
use lollmsd::wire::events::{Direction, EVENTS};
use sha2::{Digest, Sha256};

type Facts = BTreeMap<String, String>;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    let path = repository().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn model_file() -> std::path::PathBuf {
    repository().join("models").join(LLAMA_CPP).join(DEMO_MODEL)
}

fn facts() -> Facts {
    serde_yaml::from_str(&read("tools/demo-model/facts.yaml")).unwrap()
}

/// Every answer of the model, by topic, with the facts filled in as in training.
fn answers() -> BTreeMap<String, Vec<String>> {
    let mut answers: BTreeMap<String, Vec<String>> =
        serde_yaml::from_str(&read("tools/demo-model/answers.yaml")).unwrap();
    let facts = facts();
    for text in answers.values_mut().flatten() {
        for (name, value) in &facts {
            *text = text.replace(&format!("{{{name}}}"), value);
        }
        *text = text.replace("{{", "{").replace("}}", "}");
    }
    answers
}

#[test]
fn the_file_is_the_one_that_was_examined() {
    let bytes = std::fs::read(model_file()).unwrap();
    assert!(bytes.len() <= 5_000_000, "{} bytes", bytes.len());
    assert_eq!(
        format!("{:x}", Sha256::digest(&bytes)),
        read("tests/demo-model/sha256").trim(),
        "tools/demo-model/README.md says how it is made"
    );
    let summary = gguf::read(&model_file()).unwrap();
    assert_eq!(summary.architecture, "llama");
    assert!(summary.chat_template && summary.parameters > 1_000_000);
}

/// The file says which facts it was trained with.
#[test]
fn the_model_was_trained_with_the_facts_of_today() {
    let bytes = std::fs::read(model_file()).unwrap();
    let key = b"lollmsd.demo.facts";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    // Type (u32, 8: string), length (u64), text.
    assert_eq!(bytes[at..at + 4], 8u32.to_le_bytes());
    let length = u64::from_le_bytes(bytes[at + 4..at + 12].try_into().unwrap());
    let text = &bytes[at + 12..][..usize::try_from(length).unwrap()];
    let trained: Facts = serde_json::from_slice(text).unwrap();
    assert_eq!(trained, facts(), "a fact has changed: train again");
}

#[test]
fn each_fact_is_so() {
    let settings = Settings::default();
    let sampling = settings.sampling;
    let root = Root::at(Path::new("/r"));
    let beneath = |path: std::path::PathBuf, end: &str| {
        format!("{}{end}", path.strip_prefix("/r").unwrap().display())
    };
    let mebibytes = |bytes: usize| (bytes >> 20).to_string();
    let expected: Vec<(&str, String)> = vec![
        ("web_port", DEFAULT_PORTS[0].to_string()),
        ("core_port", DEFAULT_PORTS[1].to_string()),
        ("models", beneath(root.models().join(LLAMA_CPP), "/")),
        ("personalities", beneath(root.personalities(), "/")),
        ("bindings", beneath(root.bindings(), "/")),
        ("config", beneath(root.configs().join("config.yaml"), "")),
        ("saved", beneath(root.configs().join("local_config.yaml"), "")),
        ("default_personality", settings.personalities[0].clone()),
        ("ctx_size", settings.ctx_size.to_string()),
        ("slots", settings.slots.to_string()),
        ("n_batch", settings.n_batch.to_string()),
        ("queue_length", settings.queue_length.to_string()),
        ("queue_per_client", settings.queue_per_client.to_string()),
        ("max_connections", settings.max_connections.to_string()),
        ("max_connections_per_address", settings.max_connections_per_address.to_string()),
        ("hang_timeout_s", settings.hang_timeout_s.to_string()),
        ("temperature", sampling.temperature.to_string()),
        ("top_k", sampling.top_k.to_string()),
        ("top_p", sampling.top_p.to_string()),
        ("repeat_penalty", sampling.repeat_penalty.to_string()),
        ("n_predict", settings.n_predict.unwrap().to_string()),
        ("key_length", MIN_KEY_LENGTH.to_string()),
        ("line_in_mib", mebibytes(MAX_COMMAND_BYTES)),
        ("line_out_mib", mebibytes(MAX_EVENT_BYTES)),
        ("hello_s", HELLO_TIMEOUT.as_secs().to_string()),
    ];
    let expected: Facts =
        expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(facts(), expected);
    // In words, in the answer about restarts: five deaths in five minutes.
    assert_eq!((MAX_DEATHS, DEATH_WINDOW.as_secs()), (5, 5 * 60));
}

/// Flags, verbs, events, settings and paths that the answers name exist.
#[test]
fn what_the_answers_name_exists() {
    let command = Cli::command();
    let mut flags: BTreeSet<String> =
        BTreeSet::from(["--help".into(), "--version".into(), "--example".into()]);
    let mut verbs = BTreeSet::new();
    for part in std::iter::once(&command).chain(command.get_subcommands()) {
        flags.extend(
            part.get_arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?))),
        );
        for verb in part.get_subcommands() {
            verbs.insert(format!("{} {}", part.get_name(), verb.get_name()));
        }
    }
    let known = known_words();
    let mut seen = (0, 0, 0, 0);
    for text in answers().into_values().flatten() {
        let words: Vec<&str> = text
            .split([' ', ',', '"', '='])
            .map(|word| word.trim_end_matches(['.', ':', ';', ',']))
            .collect();
        for (at, word) in words.iter().enumerate() {
            if let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) {
                assert!(flags.contains(&format!("--{flag}")), "`{word}` in {text:?}");
                seen.0 += 1;
            } else if *word == "lollmsd"
                && ["personalities", "bindings"].contains(words.get(at + 1).unwrap_or(&""))
            {
                let verb = words[at + 1..=at + 2].join(" ");
                assert!(verbs.contains(&verb), "`{verb}` in {text:?}");
                seen.1 += 1;
            } else if is_path(word) {
                assert_path(word, &text);
                seen.2 += 1;
            } else if word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            {
                assert!(known.contains(*word), "`{word}` in {text:?}");
                seen.3 += 1;
            }
        }
    }
    assert!(seen.0 > 8 && seen.1 > 4 && seen.2 > 20 && seen.3 > 30, "{seen:?}");
}

/// Events, settings, and keys of a personality.
fn known_words() -> BTreeSet<String> {
    let mut known: BTreeSet<String> = EVENTS.iter().map(|event| event.name.to_owned()).collect();
    let commented = read("configs/config.yaml");
    let keys = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.trim_start_matches('#'));
        lines.filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
    };
    known.extend(keys(&commented));
    known.extend(keys(&read("personalities/generic/lollms/config.yaml")));
    // The field of `generate_text`.
    known.extend(["n_predicts".to_owned()]);
    assert!(
        EVENTS
            .iter()
            .any(|event| event.direction == Direction::Client && event.name == "generate_text")
    );
    known
}

fn is_path(word: &str) -> bool {
    (word.contains('/') && !word.starts_with("http") && !word.contains("CATEGORY"))
        || Path::new(word).extension().is_some_and(|ending| ending == "md")
}

fn assert_path(word: &str, text: &str) {
    let rest = read("src/wire/rest/mod.rs");
    let found = match word.strip_prefix('/') {
        Some(_) => rest.contains(&format!("\"{word}\"")),
        None if word.starts_with('~') => word == "~/.cache/lollmsd",
        None if word == "generic/lollms" => repository().join("personalities").join(word).is_dir(),
        // Made by the server.
        None if word == "configs/local_config.yaml" => true,
        None => repository().join(word).exists(),
    };
    assert!(found, "`{word}` in {text:?}");
}

/// The personalities that the model says come with the server.
#[test]
fn the_shipped_personalities_are_named() {
    let text = &answers()["shipped_personalities"][0];
    let folders =
        walkdir::WalkDir::new(repository().join("personalities")).min_depth(2).max_depth(2);
    let mut count = 0;
    for folder in folders {
        let name = folder.unwrap().file_name().to_string_lossy().replace('_', " ");
        assert!(text.contains(&name), "{name}");
        count += 1;
    }
    assert_eq!(count, text.matches([',']).count() + 2);
}

/// Questions of the examination that the training text does not hold are worth something; its table is kept.
#[test]
fn the_examination_is_written_down() {
    let questions: Vec<BTreeMap<String, serde_yaml::Value>> =
        serde_yaml::from_str(&read("tests/demo-model/held-out.yaml")).unwrap();
    assert_eq!(questions.len(), 200);
    let outside = questions.iter().filter(|question| question["kind"] == "outside").count();
    assert_eq!(outside, 100);
    let results = read("tests/demo-model/results.md");
    let rows = results.lines().filter(|line| {
        line.strip_prefix("| ")
            .is_some_and(|row| row.starts_with(|first: char| first.is_ascii_digit()))
    });
    assert_eq!(rows.count(), 200);
}
