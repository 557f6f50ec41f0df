//! What ships is without a fault.

use std::path::Path;

use lollmsd::config::load::{Layers, load};
use lollmsd::config::root::Root;
use lollmsd::config::settings::Settings;
use lollmsd::registry::bindings::Bindings;
use lollmsd::registry::models::Models;
use lollmsd::registry::personalities::Personalities;

use crate::support::Scratch;

fn repository() -> Root {
    Root::at(Path::new(env!("CARGO_MANIFEST_DIR")))
}

#[test]
fn at_least_eight_personalities_in_four_categories_have_logos_and_no_problem() {
    let zoo = Personalities::new(repository().personalities());
    let snapshot = zoo.snapshot();
    assert_eq!(snapshot.problems, []);
    assert!(snapshot.entries.len() >= 8);
    assert!(zoo.list_categories().len() >= 4);
    for entry in snapshot.entries.values() {
        assert_eq!(entry.avatar.as_deref(), Some("assets/logo.png"), "{}", entry.folder);
        let logo = zoo.logo(entry).unwrap();
        assert!(logo.bytes.len() <= 20_000, "{}", entry.folder);
        assert_eq!(entry.author, "the lollmsd authors");
        assert!(entry.conditioning.len() > 100 && !entry.welcome_message.is_empty());
    }
    assert!(zoo.find_path("generic/lollms").is_ok());
}

#[test]
fn shipped_bindings_are_whole() {
    let bindings = Bindings::new(repository().bindings());
    let snapshot = bindings.snapshot();
    assert_eq!(snapshot.problems, []);
    for name in ["llama_cpp", "example_python"] {
        let entry = &snapshot.entries[name];
        assert!(entry.has_logo, "{name}");
        let models = Models::new("/nowhere").list_available(&entry.name, &entry.models);
        assert_eq!(models.len(), entry.models.as_array().unwrap().len());
    }
}

#[test]
fn a_fresh_root_holds_what_ships_and_every_line_of_its_configuration_is_the_built_in_value() {
    let scratch = Scratch::new();
    let root = Root::at(scratch.path());
    root.prepare().unwrap();
    let laid_out = Personalities::new(root.personalities()).snapshot();
    let source = Personalities::new(repository().personalities()).snapshot();
    let names = |entries: &std::collections::BTreeMap<String, _>| -> Vec<String> {
        entries.keys().cloned().collect()
    };
    assert_eq!(names(&laid_out.entries), names(&source.entries));
    let text = std::fs::read_to_string(root.configs().join("config.yaml")).unwrap();
    let is_setting =
        |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let settings: Vec<&str> = text.lines().filter(is_setting).map(|line| &line[1..]).collect();
    assert!(settings.len() > 25);
    std::fs::write(root.configs().join("config.yaml"), settings.join("\n")).unwrap();
    let loaded = load(&root, Layers::default()).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let built_in = Settings::default();
    assert_eq!(loaded.settings.listeners(), built_in.listeners());
    let comparable = Settings { listen: Vec::new(), port: None, ..loaded.settings };
    assert_eq!(comparable, built_in);
}
