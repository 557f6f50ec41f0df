//! The arguments of an event: none, one or more, of any type.

use std::convert::Infallible;
use std::sync::Arc;

use serde_json::Value as Json;
use socketioxide::adapter::Adapter;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::Socket;

/// The first argument of an event, which LoLLMs calls `data`; further ones mean nothing.
#[derive(Debug)]
pub struct Args {
    /// The argument, null when there is none; or what is wrong with the packet's JSON.
    pub payload: Result<Json, String>,
    /// Size of the packet, in bytes.
    pub size: usize,
    /// Whether the client asked for an acknowledgement.
    pub acknowledge: Acknowledge,
}

/// Whether a client asked for an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// It did.
    Asked,
    /// It did not.
    NotAsked,
}

impl<A: Adapter> FromMessageParts<A> for Args {
    type Error = Infallible;

    fn from_message_parts(
        _: &Arc<Socket<A>>,
        value: &mut Value,
        ack_id: &Option<i64>,
    ) -> Result<Self, Infallible> {
        let acknowledge = match ack_id {
            Some(_) => Acknowledge::Asked,
            None => Acknowledge::NotAsked,
        };
        let (payload, size) = match value {
            Value::Str(text, _) => (first_argument(text), text.len()),
            Value::Bytes(bytes) => (Err("the packet is binary".into()), bytes.len()),
        };
        Ok(Self { payload, size, acknowledge })
    }
}

/// The element after the event's name in `["name", …]`.
fn first_argument(packet: &str) -> Result<Json, String> {
    let items: Vec<Json> = serde_json::from_str(packet)
        .map_err(|error| format!("the event is no valid JSON: {error}"))?;
    Ok(items.into_iter().nth(1).unwrap_or(Json::Null))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn any_number_of_arguments_is_read() {
        assert_eq!(first_argument(r#"["e"]"#), Ok(Json::Null));
        assert_eq!(first_argument(r#"["e",{"a":1}]"#), Ok(json!({"a": 1})));
        assert_eq!(first_argument(r#"["e",[1],"two",3]"#), Ok(json!([1])));
        assert!(first_argument(r#"["e",{"a":NaN}]"#).unwrap_err().contains("no valid JSON"));
    }
}
