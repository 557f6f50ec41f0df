//! The `AsyncAPI` document, built from the event table alone.

use serde_json::{Map, Value, json};

use crate::wire::events::{Direction, EVENTS};

/// `AsyncAPI` 3.0: every event with its payload.
pub fn asyncapi() -> Value {
    let mut messages = Map::new();
    let mut operations = Map::new();
    for event in EVENTS {
        // Some names go both ways with different payloads, so the direction is part of the key. In AsyncAPI 3 the
        // action is told from the side of the application, which is the server.
        let (side, action) = match event.direction {
            Direction::Client => ("client", "receive"),
            Direction::Server => ("server", "send"),
        };
        let key = format!("{side}.{}", event.name);
        let message = json!({
            "name": event.name,
            "summary": event.summary,
            "payload": (event.schema)(),
        });
        messages.insert(key.clone(), message);
        let operation = json!({
            "action": action,
            "channel": {"$ref": "#/channels/root"},
            "summary": event.summary,
            "messages": [{"$ref": format!("#/channels/root/messages/{key}")}],
        });
        operations.insert(key, operation);
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "lollmsd events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Socket.IO events of lollmsd, on the namespace `/` at `/socket.io/`.",
            "license": {"name": "Apache-2.0"},
        },
        "channels": {"root": {"address": "/", "messages": messages}},
        "operations": operations,
    })
}
