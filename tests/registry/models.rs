//! Model files: what is listed, and what a name stands for.

use lollmsd::domain::name::Name;
use lollmsd::registry::models::{ModelError, Models};
use serde_json::json;

use crate::support::Scratch;

fn llama() -> Name {
    Name::parse("llama_cpp").unwrap()
}

#[test]
fn entries_of_every_spelling_become_the_fields_clients_read() {
    let scratch = Scratch::new();
    scratch.write("llama_cpp/here.gguf", "12345");
    scratch.write("llama_cpp/listed.gguf", "1");
    scratch.write("llama_cpp/note.txt", "");
    let listed = json!([
        {"filename": "listed.gguf", "server": "https://x/y", "filesize": "12", "owner": "o"},
        {"title": "aug.gguf", "server": "https://x/y/", "file_size": 7, "license": "MIT"},
        {"name": "gpt", "type": "api", "model_creator": "m", "variants": [{"name": "gpt", "size": 9}]},
        {"description": "no name"}, "text", 3, {"filename": "bad size", "filesize": -4}
    ]);
    let found = Models::new(scratch.path()).list_available(&llama(), &listed);
    let shown: Vec<_> = found
        .iter()
        .map(|entry| {
            (entry.title.as_str(), entry.is_installed, entry.filesize, entry.path.as_str())
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("listed.gguf", true, 12, "https://x/y/listed.gguf"),
            ("aug.gguf", false, 7, "https://x/y/aug.gguf"),
            ("gpt", true, 9, ""),
            ("bad size", false, 0, ""),
            ("here.gguf", true, 5, ""),
        ]
    );
    assert_eq!(found[0].owner, "o");
    assert_eq!(found[0].icon, "/images/default_model.png");
    assert_eq!((found[1].license.as_str(), found[1].owner.as_str()), ("MIT", "unknown"));
    assert_eq!(found[2].owner, "m");
}

#[test]
fn a_name_stands_for_one_file_in_the_bindings_folder() {
    let scratch = Scratch::new();
    scratch.write("llama_cpp/a.gguf", "x");
    scratch.write("other/b.gguf", "x");
    let models = Models::new(scratch.path());
    let path = models.resolve(&llama(), "a.gguf").unwrap();
    assert_eq!(path, scratch.path().join("llama_cpp/a.gguf"));
    let wrong = |name: &str| models.resolve(&llama(), name).unwrap_err();
    for bad in ["../other/b.gguf", "/etc/passwd", "..", "", "a\\b.gguf", "x\0.gguf"] {
        assert!(matches!(wrong(bad), ModelError::Name(_)), "{bad}");
    }
    assert!(matches!(wrong("none.gguf"), ModelError::Missing { .. }));
    assert!(matches!(wrong("a.bin"), ModelError::Ending(_)));
    std::fs::create_dir(scratch.path().join("llama_cpp/dir.gguf")).unwrap();
    assert!(matches!(wrong("dir.gguf"), ModelError::Unreadable { .. }));
}

#[test]
fn a_link_is_refused_and_a_reference_is_followed() {
    let scratch = Scratch::new();
    scratch.write("elsewhere/real.gguf", "x");
    let real = scratch.path().join("elsewhere/real.gguf");
    scratch.link("llama_cpp/link.gguf", &real);
    scratch.write("llama_cpp/good.reference", format!("{}\n", real.display()));
    scratch.write("llama_cpp/gone.reference", "/nowhere/model.gguf");
    scratch.write("llama_cpp/relative.reference", "model.gguf");
    scratch.write("llama_cpp/empty.reference", " \n");
    scratch.write("llama_cpp/long.reference", "/x".repeat(5_000));
    scratch.write("llama_cpp/folder.reference", "/tmp");
    let models = Models::new(scratch.path());
    let error = models.resolve(&llama(), "link.gguf").unwrap_err().to_string();
    assert!(error.contains("`link.reference`"), "{error}");
    assert_eq!(models.resolve(&llama(), "good.reference").unwrap(), real);
    for (name, reason) in [
        ("gone", "No such file"),
        ("relative", "not an absolute path"),
        ("empty", "it is empty"),
        ("folder", "no regular file"),
        ("long", "at most 4096"),
    ] {
        let error = models.resolve(&llama(), &format!("{name}.reference")).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    let listed = models.list_installed(&llama());
    assert!(listed.contains(&"good.reference".to_owned()));
    assert!(!listed.contains(&"link.gguf".to_owned()));
}
