//! The `AsyncAPI` document in `docs/` says what the event table says.

use std::path::Path;

use lollmsd::wire::docs::asyncapi;
use lollmsd::wire::events::EVENTS;

/// `UPDATE_DOCS=1 cargo test` rewrites the document.
#[test]
fn the_committed_document_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/asyncapi.json");
    let fresh = format!("{:#}\n", asyncapi());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == fresh, "docs/asyncapi.json is out of step; run UPDATE_DOCS=1 cargo test");
}

#[test]
fn every_event_has_a_message_and_an_operation() {
    let document = asyncapi();
    let messages = document["channels"]["root"]["messages"].as_object().unwrap();
    let operations = document["operations"].as_object().unwrap();
    assert_eq!(messages.len(), EVENTS.len());
    assert_eq!(operations.len(), EVENTS.len());
    assert!(messages.values().all(|message| message["payload"].is_object()));
}
