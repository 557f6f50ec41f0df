//! Folders that change, and folders that were made to do harm.

use lollmsd::domain::name::{Name, PersonalityId};
use lollmsd::registry::personalities::{FindError, Personalities, check_folder};
use lollmsd::registry::problem::Weight;

use crate::support::Scratch;

const GOOD: &str = "name: Good\npersonality_conditioning: Be good.\n";

fn names(zoo: &Personalities) -> Vec<String> {
    zoo.fresh().entries.keys().cloned().collect()
}

#[test]
fn a_folder_that_is_dropped_in_is_listed_and_gone_when_removed() {
    let scratch = Scratch::new();
    scratch.write("a/one/config.yaml", GOOD);
    let zoo = Personalities::new(scratch.path());
    assert_eq!(names(&zoo), ["a/one"]);
    scratch.write("b/two/config.yaml", GOOD);
    scratch.write("b/two/assets/logo.png", b"\x89PNG\r\n\x1a\n");
    assert_eq!(names(&zoo), ["a/one", "b/two"]);
    let two = zoo.find_path("b/two").unwrap();
    assert_eq!(two.avatar.as_deref(), Some("assets/logo.png"));
    assert!(two.has_logo);
    assert_eq!(zoo.logo(&two).unwrap().mime, "image/png");
    std::fs::remove_dir_all(scratch.path().join("b")).unwrap();
    assert_eq!(names(&zoo), ["a/one"]);
}

#[test]
fn the_last_good_version_outlives_a_broken_manifest() {
    let scratch = Scratch::new();
    scratch.write("a/one/config.yaml", GOOD);
    let zoo = Personalities::new(scratch.path());
    assert_eq!(zoo.fresh().entries["a/one"].name, "Good");
    scratch.write("a/one/config.yaml", "name: 'torn\n");
    let snapshot = zoo.fresh();
    assert_eq!(snapshot.entries["a/one"].name, "Good");
    let problem = &snapshot.problems[0];
    assert_eq!((problem.path.as_str(), problem.weight), ("a/one/config.yaml", Weight::Broken));
    assert!(problem.line.is_some());
    assert!(problem.reason.ends_with("its last good version stays in use"));
    scratch.write("a/one/config.yaml", "name: Better\n");
    let snapshot = zoo.fresh();
    assert_eq!(snapshot.entries["a/one"].name, "Better");
    assert_eq!(snapshot.problems, []);
}

#[test]
fn an_edit_of_the_same_length_at_once_is_seen() {
    let scratch = Scratch::new();
    let zoo = Personalities::new(scratch.path());
    for round in 0..20 {
        let name = format!("name: {round:03}\n");
        scratch.write("a/one/config.yaml", &name);
        assert_eq!(zoo.fresh().entries["a/one"].name, name[6..].trim(), "{round}");
    }
}

#[test]
fn hostile_folders_are_problems_and_the_others_are_listed() {
    let scratch = Scratch::new();
    scratch.write("outside/config.yaml", "name: stolen\n");
    scratch.write("zoo/good/one/config.yaml", GOOD);
    scratch.write("zoo/bad/huge/config.yaml", vec![b'x'; 20 << 20]);
    scratch.write("zoo/bad/brackets/config.yaml", "[".repeat(60_000));
    scratch.write("zoo/bad/list/config.yaml", "- 1\n");
    scratch.write("zoo/bad/binary/config.yaml", b"name: \xff\xfe\n");
    scratch.write("zoo/bad/tagged/config.yaml", "name: !!python/object:os.system x\n");
    scratch.write("zoo/bad/cycle/config.yaml", "name: &a [*a]\n");
    std::fs::create_dir_all(scratch.path().join("zoo/bad/fifo")).unwrap();
    let fifo = scratch.path().join("zoo/bad/fifo/config.yaml");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, fifo, kind, rustix::fs::Mode::RUSR, 0).unwrap();
    scratch.link("zoo/bad/linked/config.yaml", scratch.path().join("outside/config.yaml"));
    scratch.link("zoo/bad/folder", scratch.path().join("outside"));
    scratch.link("zoo/loop", scratch.path().join("zoo"));
    let zoo = Personalities::new(scratch.path().join("zoo"));
    let snapshot = zoo.snapshot();
    let listed: Vec<&str> = snapshot.entries.keys().map(String::as_str).collect();
    // A tag is data: nothing is made of it.
    assert_eq!(listed, ["bad/tagged", "good/one"]);
    assert_eq!(snapshot.entries["bad/tagged"].name, "x");
    let reasons: Vec<String> = snapshot.problems.iter().map(ToString::to_string).collect();
    for named in ["huge", "brackets", "list", "binary", "cycle", "fifo", "linked", "folder", "loop"]
    {
        assert!(reasons.iter().any(|reason| reason.contains(named)), "{named}: {reasons:#?}");
    }
}

#[test]
fn clients_name_personalities_and_never_paths() {
    let scratch = Scratch::new();
    scratch.write("outside/one/config.yaml", GOOD);
    scratch.write("zoo/a/one/config.yaml", GOOD);
    let zoo = Personalities::new(scratch.path().join("zoo"));
    for bad in
        ["../outside/one", "/etc/passwd", "a\\one", "a/../a/one", "a//one", "", "a", "a/b/c/d"]
    {
        assert!(matches!(zoo.find_path(bad), Err(FindError::NotAPath { .. })), "{bad}");
    }
    assert!(matches!(zoo.find_path("a/two"), Err(FindError::Missing(_))));
    assert!(zoo.find(&PersonalityId::parse("a/one").unwrap()).is_some());
    assert_eq!(zoo.list_names(&Name::parse("none").unwrap()), None);
    let one = zoo.find_path("a/one").unwrap();
    assert!(zoo.asset(&one, &Name::parse("config.yaml").unwrap()).is_err());
}

#[test]
fn a_broken_personality_says_why_when_it_is_asked_for() {
    let scratch = Scratch::new();
    scratch.write("a/one/config.yaml", "name: [\n");
    let zoo = Personalities::new(scratch.path());
    let error = zoo.find_path("a/one").unwrap_err();
    assert!(matches!(error, FindError::Broken { .. }));
    assert!(error.to_string().contains("a/one/config.yaml:"), "{error}");
}

#[test]
fn a_missing_root_is_a_problem_and_no_failure() {
    let zoo = Personalities::new("/nowhere/at/all");
    assert!(zoo.snapshot().problems[0].reason.contains("no such file"));
    assert_eq!(zoo.list_categories(), Vec::<String>::new());
}

#[test]
fn a_folder_is_checked_wherever_it_lies() {
    let scratch = Scratch::new();
    scratch.write("x/mine/config.yaml", "name: Mine\nmodel_temperature: hot\n");
    let (found, odd) = check_folder(&scratch.path().join("x/mine")).unwrap();
    assert_eq!(found.name, "Mine");
    assert_eq!(odd[0].reason, "`model_temperature` is a text; expected a number");
    assert!(check_folder(&scratch.path().join("x/none")).is_err());
}
