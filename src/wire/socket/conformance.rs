//! Test mode for the conformance suites of Socket.IO and Engine.IO: echoes, and nothing of the product.
//!
//! Only behind `--socketio-conformance`: the suites want short pings and answers that no product would give.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::{SerializeMap, SerializeSeq, SerializeTuple};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use socketioxide::SocketIo;
use socketioxide::adapter::Adapter;
use socketioxide::extract::{AckSender, SocketRef, TryData};
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::layer::SocketIoLayer;
use socketioxide::socket::Socket;

const PING_INTERVAL: Duration = Duration::from_millis(300);
const PING_TIMEOUT: Duration = Duration::from_millis(200);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_PAYLOAD: u64 = 1_000_000;

/// The Socket.IO layer as the suites want it.
pub fn layer() -> SocketIoLayer {
    let (layer, io) = SocketIo::builder()
        .ping_interval(PING_INTERVAL)
        .ping_timeout(PING_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .max_payload(MAX_PAYLOAD)
        .build_layer();
    io.ns("/", greet);
    io.ns("/custom", greet);
    layer
}

async fn greet(socket: SocketRef, auth: TryData<Json>) {
    let auth = auth.0.ok().filter(|auth| !auth.is_null());
    let auth = auth.unwrap_or_else(|| Json::Object(serde_json::Map::new()));
    socket.on("message", async |socket: SocketRef, echo: Echo| {
        // A suite that has left fails by itself.
        drop(socket.emit("message-back", &echo));
    });
    socket.on("message-with-ack", async |echo: Echo, ack: AckSender| drop(ack.send(&echo)));
    drop(socket.emit("auth", &auth));
}

/// All arguments of an event, attachments included, to be sent back as they came.
struct Echo {
    arguments: Vec<Json>,
    attachments: Vec<Vec<u8>>,
}

impl<A: Adapter> FromMessageParts<A> for Echo {
    type Error = Infallible;

    fn from_message_parts(
        _: &Arc<Socket<A>>,
        value: &mut Value,
        _: &Option<i64>,
    ) -> Result<Self, Infallible> {
        let Value::Str(text, attachments) = value else {
            return Ok(Self { arguments: Vec::new(), attachments: Vec::new() });
        };
        let items: Vec<Json> = serde_json::from_str(text).unwrap_or_default();
        let attachments = attachments.iter().flatten().map(|bytes| bytes.to_vec()).collect();
        Ok(Self { arguments: items.into_iter().skip(1).collect(), attachments })
    }
}

impl Serialize for Echo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A tuple is several arguments to the Socket.IO layer.
        let mut tuple = serializer.serialize_tuple(self.arguments.len())?;
        for value in &self.arguments {
            tuple.serialize_element(&Node { value, attachments: &self.attachments })?;
        }
        tuple.end()
    }
}

/// A value whose placeholders stand for attachments.
struct Node<'a> {
    value: &'a Json,
    attachments: &'a [Vec<u8>],
}

impl Node<'_> {
    fn attachment(&self) -> Option<&[u8]> {
        let object = self.value.as_object()?;
        let number = object.get("_placeholder").and(object.get("num"))?.as_u64()?;
        self.attachments.get(usize::try_from(number).ok()?).map(Vec::as_slice)
    }
}

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(bytes) = self.attachment() {
            return serializer.serialize_bytes(bytes);
        }
        let attachments = self.attachments;
        match self.value {
            Json::Array(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                for value in items {
                    sequence.serialize_element(&Node { value, attachments })?;
                }
                sequence.end()
            }
            Json::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    map.serialize_entry(key, &Node { value, attachments })?;
                }
                map.end()
            }
            plain @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_)) => {
                plain.serialize(serializer)
            }
        }
    }
}
