//! Layers, wrong values, torn files, saves.

use serde_json::{Value, json};

use crate::config::load::{Layers, load};
use crate::config::lollms_map::as_lollms_map;
use crate::config::settings::{Secret, Settings};
use crate::config::store::{ConfigStore, UpdateError};
use crate::config::testing::Scratch;

fn variables(pairs: &[(&str, &str)]) -> Layers {
    let owned = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Layers { variables: owned.collect(), flags: Vec::new() }
}

#[test]
fn later_layers_win() {
    let scratch = Scratch::new();
    assert_eq!(scratch.load().settings, Settings::default());
    scratch.write("config.yaml", "slots: 2\nctx_size: 1000\nn_batch: 64\ntop_k: 9\n");
    scratch.write("local_config.yaml", "ctx_size: 2000\nn_batch: 65\ntop_k: 8\n");
    let mut layers = variables(&[("LOLLMSD_N_BATCH", "66"), ("LOLLMSD_TOP_K", "7"), ("PATH", "x")]);
    layers.flags.push(("top_k".into(), json!(6)));
    let loaded = load(&scratch.root(), layers).unwrap();
    let settings = loaded.settings;
    assert_eq!((settings.slots, settings.ctx_size, settings.n_batch), (2, 2000, 66));
    assert_eq!(settings.sampling.top_k, 6);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn files_of_lollms_are_read_with_their_old_names() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/configs");
    for file in ["core_424e1fd", "webui_15636fd0", "webui_864578cd", "core_HEAD"] {
        let scratch = Scratch::new();
        let text = std::fs::read(corpus.join(format!("{file}.yaml"))).unwrap();
        scratch.write("config.yaml", text);
        let loaded = scratch.load();
        assert_eq!(loaded.warnings, Vec::<String>::new(), "{file}");
        assert_eq!(loaded.settings.listeners(), Settings::default().listeners(), "{file}");
        assert!(loaded.settings.personalities[0].ends_with("generic/lollms"));
    }
    let scratch = Scratch::new();
    scratch.write("config.yaml", "backend: b\nmodel: m\ndefault_personality_id: 0\nseed: -1\n");
    let settings = scratch.load().settings;
    assert_eq!(settings.binding_name.as_deref(), Some("b"));
    assert_eq!(settings.model_name.as_deref(), Some("m"));
    assert_eq!(settings.sampling.seed, None);
}

fn refusal(config: &[u8]) -> String {
    let scratch = Scratch::new();
    scratch.write("config.yaml", config);
    let error = load(&scratch.root(), Layers::default()).unwrap_err().to_string();
    let (_, end) = error.split_once("config.yaml").unwrap();
    end.to_owned()
}

#[test]
fn wrong_values_are_named_with_line_and_key() {
    let cases = [
        ("# x\nslots: many\n", ":2: `slots` is \"many\"; expected a whole number from 1 to 256"),
        ("slots: 0\n", ":1: `slots` is 0; expected"),
        ("ctx_size: [1]\n", ":1: `ctx_size` is [1]; expected"),
        ("temperature: -1\n", ":1: `temperature` is -1; expected a number from 0 to 100"),
        ("top_p: 1.5\n", ":1: `top_p` is 1.5"),
        ("listen: [everywhere]\n", ":1: `listen` is [\"everywhere\"]; expected a list"),
        ("allowed_origins: ['*']\n", ":1: `allowed_origins` is [\"*\"]; expected a list of exact"),
        ("host: example.org\n", ":1: `host` is \"example.org\"; expected `localhost` or"),
        ("port: 70000\n", ":1: `port` is 70000"),
        ("check_tensors: maybe\n", ":1: `check_tensors` is \"maybe\"; expected true or false"),
        ("kv_type: q4\n", ":1: `kv_type` is \"q4\""),
        ("seed: 1e99\n", ":1: `seed` is 1e"),
        ("api_key: short\n", ":1: `api_key` is ***; expected"),
    ];
    for (config, expected) in cases {
        let error = refusal(config.as_bytes());
        assert!(error.starts_with(expected), "{config:?}: {error}");
    }
}

#[test]
fn a_torn_configuration_is_named_with_its_line() {
    let cut = refusal(b"slots: 2\ntempera");
    assert!(cut.starts_with(":2: ") || cut.starts_with(":3: "), "{cut}");
    assert!(refusal(b"slots: 2\npersonalities: [\"gen").starts_with(":2: "));
    assert!(refusal(b"slots: 2\nuser_name: \xe9\n").starts_with(":2: the text is not UTF-8"));
    assert!(refusal(b"slots: 2\n\0\0\0").starts_with(":2: the text holds a zero byte"));
    assert!(refusal(b"just a text").starts_with(":1: the file holds no"));
    assert!(refusal(&vec![b'#'; 300 << 10]).contains("over 262144 bytes"));
}

#[test]
fn unknown_keys_and_variables_are_warnings() {
    let scratch = Scratch::new();
    scratch.write("config.yaml", "slots: 2\nslotz: 3\nuse_files: true\n");
    let loaded = load(&scratch.root(), variables(&[("LOLLMSD_SLOTZ", "3")])).unwrap();
    assert_eq!(loaded.warnings.len(), 2);
    assert!(loaded.warnings[0].ends_with("config.yaml:2: unknown key `slotz`"));
    assert_eq!(loaded.warnings[1], "variable LOLLMSD_SLOTZ: no such setting");
    assert_eq!(loaded.settings.extra["use_files"], json!(true));
    let error = load(&scratch.root(), variables(&[("LOLLMSD_SLOTS", "x")])).unwrap_err();
    assert!(error.to_string().starts_with("variable LOLLMSD_SLOTS: `slots` is \"x\""));
}

#[test]
fn variables_hold_lists_with_commas() {
    let scratch = Scratch::new();
    let layers = variables(&[
        ("LOLLMSD_LISTEN", "[::1]:1, 127.0.0.1:2"),
        ("LOLLMSD_PERSONALITIES", "[a/b, c/d]"),
        ("LOLLMSD_MODEL_NAME", "1.0"),
    ]);
    let settings = load(&scratch.root(), layers).unwrap().settings;
    assert_eq!(settings.listeners().len(), 2);
    assert_eq!(settings.personalities, ["a/b", "c/d"]);
    assert_eq!(settings.model_name.as_deref(), Some("1.0"));
}

#[test]
fn a_port_given_later_replaces_addresses_given_before() {
    let scratch = Scratch::new();
    scratch.write("config.yaml", "listen: [\"10.0.0.1:80\"]\n");
    let settings = load(&scratch.root(), variables(&[("LOLLMSD_PORT", "81")])).unwrap().settings;
    let shown: Vec<_> = settings.listeners().iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["127.0.0.1:81", "[::1]:81"]);
}

#[test]
fn keys_come_from_a_file_of_their_own() {
    let scratch = Scratch::new();
    scratch.write("config.yaml", "api_key_file: configs/keys\n");
    scratch.write("keys", "# mine\nlong-enough-key\n\nanother-long-key\n");
    let loaded = scratch.load();
    let keys: Vec<_> = loaded.settings.api_keys.iter().map(Secret::expose).collect();
    assert_eq!(keys, ["long-enough-key", "another-long-key"]);
    assert!(loaded.warnings[0].contains("chmod 600"));
    assert!(!as_lollms_map(&loaded.settings).values().any(|v| v.to_string().contains("enough")));
    scratch.write("keys", "short\n");
    let error = load(&scratch.root(), Layers::default()).unwrap_err().to_string();
    assert!(error.contains("keys:1: a key has below 8 characters"), "{error}");
}

#[test]
fn what_the_server_saves_is_there_at_the_next_start_and_other_keys_stay() {
    let scratch = Scratch::new();
    scratch.write("config.yaml", "slots: 2\n");
    scratch.write("local_config.yaml", "user_name: Ada\nmodel: old\nmystery: 1\n");
    let store = ConfigStore::new(scratch.root(), scratch.load().settings);
    store
        .update(|saved| {
            saved.model_name = Some("m.gguf".into());
            saved.personalities.push("work/editor".into());
        })
        .unwrap();
    assert_eq!(store.get().model_name.as_deref(), Some("m.gguf"));
    let text = scratch.read("local_config.yaml");
    assert!(text.contains("mystery: 1") && text.contains("user_name: Ada"), "{text}");
    assert!(!text.contains("slots") && !text.contains("binding_name"), "{text}");
    let settings = scratch.load().settings;
    assert_eq!(settings, *store.get());
    assert_eq!(settings.personalities, ["generic/lollms", "work/editor"]);
}

#[test]
fn concurrent_changes_are_all_saved() {
    let scratch = Scratch::new();
    let store = ConfigStore::new(scratch.root(), Settings::default());
    std::thread::scope(|scope| {
        for number in 0..8 {
            let store = store.clone();
            scope.spawn(move || {
                store.update(|saved| saved.personalities.push(format!("a/{number}"))).unwrap();
            });
        }
    });
    assert_eq!(store.get().personalities.len(), 9);
    assert_eq!(scratch.load().settings.personalities.len(), 9);
}

#[test]
fn a_torn_saved_file_is_set_aside_for_the_last_good_one() {
    let scratch = Scratch::new();
    let store = ConfigStore::new(scratch.root(), Settings::default());
    store.update(|saved| saved.model_name = Some("good.gguf".into())).unwrap();
    scratch.write("local_config.yaml", "model_name: 'tor");
    let loaded = scratch.load();
    assert_eq!(loaded.settings.model_name.as_deref(), Some("good.gguf"));
    assert!(loaded.warnings[0].contains("using the last good version"), "{:?}", loaded.warnings);
    assert_eq!(scratch.read("local_config.yaml.broken-1"), "model_name: 'tor");
    assert_eq!(scratch.load().warnings, Vec::<String>::new());
    // Torn while the server runs, with a save after it.
    scratch.write("local_config.yaml", b"\0\0\0\0");
    store.update(|saved| saved.active_personality_id = 3).unwrap();
    let settings = scratch.load().settings;
    assert_eq!(settings.model_name.as_deref(), Some("good.gguf"));
    assert_eq!(settings.active_personality_id, 3);
    assert!(!scratch.read("local_config.yaml.broken-2").is_empty());
}

#[test]
fn a_save_that_fails_changes_nothing() {
    let scratch = Scratch::new();
    let store = ConfigStore::new(scratch.root(), Settings::default());
    std::fs::remove_dir_all(scratch.root().configs()).unwrap();
    let error = store.update(|saved| saved.model_name = Some("m".into())).unwrap_err();
    assert!(matches!(error, UpdateError::Save(_)));
    assert_eq!(store.get().model_name, None);
}

#[test]
fn clients_change_generation_settings_and_never_security() {
    let scratch = Scratch::new();
    let store = ConfigStore::new(scratch.root(), Settings::default());
    store.update_setting("temperature", &json!(0.5)).unwrap();
    store.update_setting("model", &json!("m.gguf")).unwrap();
    assert_eq!(scratch.load().settings.model_name.as_deref(), Some("m.gguf"));
    let wrong = store.update_setting("temperature", &json!("hot")).unwrap_err();
    let expected = "`temperature` is \"hot\"; expected a number from 0 to 100";
    assert_eq!(wrong.to_string(), expected);
    for name in
        ["host", "port", "listen", "api_key", "allowed_origins", "max_connections", "no", ""]
    {
        let refused = store.update_setting(name, &json!("127.0.0.1"));
        assert!(matches!(refused, Err(UpdateError::NotAllowed(_))), "{name}");
    }
}

#[test]
fn the_flat_map_has_the_names_of_all_eras_and_no_secret() {
    let scratch = Scratch::new();
    scratch.write("config.yaml", "api_key: very-secret-key\nmodel_name: m\nauto_speak: true\nlollms_access_keys: [k]\nrag_build_keys_words: true\n");
    let map = Value::Object(as_lollms_map(&scratch.load().settings));
    for (key, value) in [
        ("model", json!("m")),
        ("model_name", json!("m")),
        ("binding", json!(null)),
        ("api_key", json!("***")),
        ("temperature", json!(0.9)),
        ("seed", json!(-1)),
        ("active_personality_id", json!(0)),
        ("default_personality_id", json!(0)),
        ("personality", json!("lollms")),
        ("personality_category", json!("generic")),
        ("personality_language", json!("english")),
        ("auto_speak", json!(true)),
        ("lollms_access_keys", json!("***")),
        ("rag_build_keys_words", json!(true)),
        ("host", json!("localhost")),
        ("port", json!(9600)),
        ("version", json!(11)),
    ] {
        assert_eq!(map[key], value, "{key}");
    }
}
