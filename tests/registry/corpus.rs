//! Real manifests of LoLLMs' zoos, 2023 to 2025.

use std::collections::BTreeMap;

use lollmsd::domain::name::PersonalityId;
use lollmsd::domain::personality::Personality;
use lollmsd::registry::bindings::Bindings;
use lollmsd::registry::personalities::Personalities;
use lollmsd::registry::yaml;
use serde_json::Value;

use crate::support::corpus;

fn zoo(era: &str) -> Personalities {
    Personalities::new(corpus().join("personalities").join(era))
}

fn expected() -> BTreeMap<String, Value> {
    let text = std::fs::read(corpus().join("personalities/EXPECTED_pyyaml.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn every_manifest_reads_as_pyyaml_reads_it() {
    let expected = expected();
    assert!(expected.len() >= 15);
    for (path, mut golden) in expected {
        let bytes = std::fs::read(corpus().join("personalities").join(&path)).unwrap();
        let read = yaml::parse(&bytes).unwrap();
        // PyYAML makes dates of them and writes these anew; here they stay the text they are.
        for key in ["creation_date", "last_update_date"] {
            if let (Some(theirs), Some(ours)) = (golden.get(key), read.get(key)) {
                assert_eq!(theirs.as_str().unwrap()[..7], ours.as_str().unwrap()[..7], "{path}");
                golden[key] = ours.clone();
            }
        }
        assert_eq!(read, golden, "{path}");
    }
}

#[test]
fn every_personality_takes_its_texts_from_its_manifest() {
    for (path, golden) in expected() {
        let Some(folder) = path.strip_suffix("/config.yaml") else { continue };
        let (era, folder) = folder.split_once('/').unwrap();
        let found = zoo(era).find_path(folder).unwrap();
        assert_eq!(golden["name"].as_str(), Some(found.name.as_str()), "{path}");
        if let Some(text) = golden["personality_conditioning"].as_str() {
            assert_eq!(found.conditioning, text, "{path}");
        }
        if let Some(number) = golden["model_temperature"].as_f64() {
            let read = f64::from(found.sampling.temperature.unwrap());
            assert!((read - number).abs() < 1e-6, "{path}");
        }
        assert!(!found.link_text.contains("\\n"), "{path}");
    }
}

fn find(zoo: &Personalities, id: &str) -> std::sync::Arc<Personality> {
    zoo.find(&PersonalityId::parse(id).unwrap()).unwrap()
}

#[test]
fn zoos_of_two_levels_are_listed_by_category() {
    let zoo = zoo("2023-08-27");
    assert_eq!(zoo.list_categories(), ["generic", "scifi"]);
    let category = lollmsd::domain::name::Name::parse("generic").unwrap();
    assert_eq!(zoo.list_names(&category).unwrap(), ["gpt4all", "lollms"]);
    assert_eq!(zoo.snapshot().problems, []);
    let lollms = find(&zoo, "generic/lollms");
    assert_eq!(lollms.user_message_prefix, "!@> Human:\n");
    assert_eq!(lollms.anti_prompts.len(), 8);
    assert_eq!(lollms.sampling.n_predict, Some(8192));
    assert_eq!(lollms.version, "1.0.0");
}

#[test]
fn a_language_is_put_over_a_personality() {
    let zoo = zoo("2023-08-27");
    assert_eq!(find(&zoo, "generic/lollms").languages, ["french"]);
    let french = zoo.find_path("generic/lollms:french").unwrap();
    assert!(french.welcome_message.starts_with("Bienvenue"));
    let error = zoo.find_path("generic/lollms:klingon").unwrap_err().to_string();
    assert!(error.contains("klingon.yaml"), "{error}");
    assert!(zoo.find_path("generic/lollms:../../x").is_err());
}

#[test]
fn zoos_of_three_levels_are_read_with_their_language() {
    let zoo = zoo("2023-06-28");
    let categories = zoo.list_categories();
    assert!(categories.contains(&"générique".to_owned()), "{categories:?}");
    let lollms = zoo.find_path("english/generic/lollms").unwrap();
    assert_eq!(lollms.language_folder.as_deref(), Some("english"));
    assert_eq!(lollms.id.to_string(), "generic/lollms");
    assert_eq!(find(&zoo, "generic/lollms"), lollms);
    assert!(zoo.find_path("english/coding/c++ specialist").is_ok());
}

#[test]
fn odd_manifests_of_later_zoos_are_read_as_they_were_meant() {
    let zoo = zoo("newest-webui");
    let listed = find(&zoo, "investigation/username_analyst_ai");
    assert_eq!(listed.category, "coding_tools");
    let null_category = find(&zoo, "medical/diabetesassistant");
    assert_eq!(null_category.category, "medical");
    let list_conditioning = find(&zoo, "video_generation/videopromptmaster");
    assert!(list_conditioning.conditioning.starts_with("You are a creative"));
    assert_eq!(find(&zoo, "art_writing/le_poète_délirant").id.category.as_str(), "art_writing");
    assert!(zoo.find_path("helpers/travel guide").is_ok());
    let problems = &zoo.snapshot().problems;
    let without = problems.iter().find(|problem| problem.path == "scifi/Astra-9").unwrap();
    assert!(without.reason.contains("no `config.yaml`"));
    // One level too deep in the zoo; found all the same.
    let deep = "thinking_methodologies/mixture_of_experts_perspective_ai_4/mixture_of_experts_perspective_ai_4";
    assert!(zoo.find_path(deep).is_ok());
}

#[test]
fn a_mount_of_june_works_on_a_zoo_of_august() {
    assert!(zoo("2023-08-27").find_path("english/generic/lollms").is_ok());
}

#[test]
fn cards_and_model_lists_are_passed_through_as_written() {
    let bindings = Bindings::new(corpus().join("bindings"));
    let snapshot = bindings.snapshot();
    assert_eq!(snapshot.problems, []);
    let names: Vec<&str> = snapshot.entries.keys().map(String::as_str).collect();
    assert_eq!(names, ["binding_template", "groq_llm", "llama_cpp_official", "llamacpp"]);
    let groq = &snapshot.entries["groq_llm"];
    assert_eq!(groq.card["name"], "GROQ");
    assert_eq!(groq.card["version"].to_string(), "1.0");
    assert!(groq.models.as_array().unwrap().len() > 3);
    assert_eq!(snapshot.entries["llamacpp"].models, serde_json::json!([]));
}
