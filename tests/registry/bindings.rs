//! Drop-in bindings: read always, started only as they were trusted.

use lollmsd::config::root::Root;
use lollmsd::config::trusted::Trusted;
use lollmsd::domain::name::Name;
use lollmsd::registry::bindings::{Bindings, LaunchError};

use crate::support::Scratch;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn with_program() -> Scratch {
    let scratch = Scratch::new();
    let card = "name: Mine\nversion: 1.0\ncommand: [python3, run.py, --fast, 3]\n";
    scratch.write("bindings/mine/binding_card.yaml", card);
    scratch.write("bindings/mine/run.py", "print()");
    scratch.write("configs/config.yaml", "");
    scratch
}

#[test]
fn a_program_starts_only_as_it_was_trusted() {
    let scratch = with_program();
    let root = Root::at(scratch.path());
    let (bindings, trusted) = (Bindings::new(root.bindings()), Trusted::new(&root));
    let launch = || bindings.launch(&name("mine"), trusted.binding("mine").unwrap().as_deref());
    assert!(matches!(launch(), Err(LaunchError::Untrusted(_))));
    let now = bindings.fingerprint(&name("mine")).unwrap();
    trusted.set_binding("mine", Some(&now)).unwrap();
    let started = launch().unwrap();
    assert_eq!(started.program, "python3");
    let file = root.bindings().join("mine/run.py");
    assert_eq!(started.args, [file.to_str().unwrap(), "--fast", "3"]);
    assert_eq!(started.folder, root.bindings().join("mine"));
    scratch.write("bindings/mine/run.py", "print(1)");
    assert!(matches!(launch(), Err(LaunchError::Changed(_))));
    trusted.set_binding("mine", None).unwrap();
    assert!(matches!(launch(), Err(LaunchError::Untrusted(_))));
}

#[test]
fn a_card_cannot_point_at_programs_beside_its_folder() {
    let scratch = with_program();
    let card = "name: Mine\ncommand: [../other/run]\n";
    scratch.write("bindings/mine/binding_card.yaml", card);
    let bindings = Bindings::new(scratch.path().join("bindings"));
    let now = bindings.fingerprint(&name("mine")).unwrap();
    let error = bindings.launch(&name("mine"), Some(&now)).unwrap_err();
    assert!(matches!(error, LaunchError::Program { .. }), "{error}");
}

#[test]
fn bindings_without_programs_and_broken_ones_are_told_apart() {
    let scratch = with_program();
    scratch.write("bindings/lists/binding_card.yaml", "name: L\n");
    scratch.write("bindings/lists/models.yaml", "not: a list\n");
    scratch.write("bindings/guide/config.yaml", "name: G\nurl: https://example.org\n");
    scratch.write("bindings/torn/binding_card.yaml", "name: 'x\n");
    scratch.write("bindings/odd/binding_card.yaml", "name: O\ncommand: rm -rf\n");
    scratch.write("bindings/__pycache__/x", "");
    scratch.write("bindings/.git/config", "");
    let bindings = Bindings::new(scratch.path().join("bindings"));
    let snapshot = bindings.snapshot();
    let names: Vec<&str> = snapshot.entries.keys().map(String::as_str).collect();
    assert_eq!(names, ["guide", "lists", "mine", "odd"]);
    assert_eq!(snapshot.entries["guide"].card["link"], "https://example.org");
    assert_eq!(snapshot.entries["lists"].models, serde_json::json!([]));
    assert_eq!(snapshot.entries["odd"].command, None);
    let paths: Vec<&str> = snapshot.problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["lists/models.yaml", "odd/binding_card.yaml", "torn/binding_card.yaml"]);
    assert!(matches!(bindings.launch(&name("lists"), None), Err(LaunchError::NoProgram(_))));
    assert!(matches!(bindings.launch(&name("none"), None), Err(LaunchError::Missing(_))));
}

#[test]
fn trust_that_cannot_be_read_is_no_trust() {
    let scratch = with_program();
    scratch.write("configs/trusted.yaml", "bindings: [torn\n");
    let trusted = Trusted::new(&Root::at(scratch.path()));
    assert!(trusted.binding("mine").is_err());
    assert!(trusted.set_binding("mine", Some("x")).is_err());
}
