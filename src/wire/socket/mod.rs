//! LoLLMs' events over Socket.IO.
//!
//! The Socket.IO layer starts a task for each event, in any order; here each session has an inbox and one
//! task ([`session`]) that takes its events in the order sent. [`handle`] answers an event,
//! [`stream`] renders a generation.

use std::sync::Arc;
use std::time::Duration;

use socketioxide::extract::{AckSender, Event, SocketRef, TryData};
use socketioxide::layer::SocketIoLayer;
use socketioxide::socket::DisconnectReason;
use socketioxide::{ParserConfig, SocketIo, SocketIoBuilder};
use tokio::sync::Notify;

use crate::app::App;
use crate::wire::net::conn::Conn;
use crate::wire::net::flow::Flows;
use crate::wire::net::guard::MAX_MESSAGE_BYTES;
use crate::wire::net::keys::{Keys, Verdict, key_of};

pub mod args;
pub mod conformance;
pub mod handle;
pub mod inbox;
pub mod outbound;
pub mod session;
pub mod stream;

use args::Args;
use inbox::{Inbox, Refusal};
use outbound::Outbound;

/// Packets that the Socket.IO layer holds for one session; sessions stay far below it.
const QUEUE_PACKETS: usize = 512;
/// Most binary attachments of one packet.
const MAX_ATTACHMENTS: usize = 10;
/// A peer sends CONNECT within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const PING_INTERVAL: Duration = Duration::from_secs(25);
/// Long, because LoLLMs clients block while they work; a peer that reads nothing is dropped sooner.
const PING_TIMEOUT: Duration = Duration::from_mins(1);

/// What the sessions of the Socket.IO layer share.
#[derive(Clone, Debug)]
pub struct SocketParts {
    /// The product.
    pub app: App,
    /// Who may connect.
    pub keys: Arc<Keys>,
    /// What is on its way to whom.
    pub flows: Arc<Flows>,
}

/// The Socket.IO layer with all events, and the handle that ends its sessions.
pub fn layer(parts: SocketParts) -> (SocketIoLayer, SocketIo) {
    let (layer, io) = builder().build_layer();
    serve(&io, parts);
    (layer, io)
}

/// A builder with the limits of the product.
fn builder() -> SocketIoBuilder {
    let message = usize::try_from(MAX_MESSAGE_BYTES).unwrap_or(usize::MAX);
    SocketIo::builder()
        .max_payload(MAX_MESSAGE_BYTES)
        .ws_max_message_size(message)
        .ws_max_frame_size(message)
        .max_buffer_size(QUEUE_PACKETS)
        .connect_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .ping_timeout(PING_TIMEOUT)
        .with_parser(
            ParserConfig::common()
                .max_incoming_binaries(MAX_ATTACHMENTS)
                .max_incoming_binary_buf_size(message),
        )
}

fn serve(io: &SocketIo, parts: SocketParts) {
    use socketioxide::handler::ConnectHandler;
    // Everything is set up in the middleware, before the client hears that it is connected, so that its first
    // event finds its handler.
    let connect = move |socket: SocketRef, auth: TryData<serde_json::Value>| {
        let parts = parts.clone();
        async move { enter(&socket, auth.0.ok().as_ref(), parts) }
    };
    let connected = |socket: SocketRef| {
        if let Some(Connected(told)) = socket.extensions.get::<Connected>() {
            told.notify_one();
        }
        async {}
    };
    io.ns("/", connected.with(connect));
}

/// Told when the Socket.IO layer takes events for a client.
#[derive(Clone, Debug, Default)]
struct Connected(Arc<Notify>);

/// Why a client may not connect; its text goes into the `CONNECT_ERROR` packet.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("this server needs a key: `auth: {{token: KEY}}`")]
    Key,
    #[error("too many wrong keys came from this address; wait a minute")]
    TooMany,
}

fn enter(
    socket: &SocketRef,
    auth: Option<&serde_json::Value>,
    parts: SocketParts,
) -> Result<(), Refused> {
    let request = socket.req_parts();
    let conn = request.extensions.get::<Arc<Conn>>();
    if let Some(conn) = conn {
        let token = auth.and_then(|auth| auth.get("token")?.as_str());
        match parts.keys.judge(conn.peer.ip(), token.or_else(|| key_of(&request.headers))) {
            Verdict::Pass => {}
            Verdict::Wrong => return Err(Refused::Key),
            Verdict::TooMany => return Err(Refused::TooMany),
        }
    }
    let sid = socket.id.to_string();
    let direct = conn.filter(|_| begun_as_websocket(request.uri.query())).cloned();
    let flow = parts.flows.open(&sid, direct);
    let (inbox, arrivals) = inbox::open();
    attach(socket, &inbox);
    socket.on_disconnect(move |_: SocketRef, reason: DisconnectReason| {
        tracing::debug!(session.id = %sid, ?reason, "A session ended");
        inbox.close();
        async {}
    });
    let connected = Connected::default();
    socket.extensions.insert(connected.clone());
    let out = Outbound::new(socket.clone(), flow);
    tokio::spawn(async move {
        // Nothing can be sent before the client is connected, which is after this.
        tokio::select! {
            () = connected.0.notified() => session::run(parts.app, out, arrivals).await,
            () = arrivals.gone() => {}
        }
    });
    Ok(())
}

fn begun_as_websocket(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|part| part == "transport=websocket"))
}

/// Puts each event into the inbox. The closure runs on the task that reads the connection, in the order
/// of the packets; only the future that it returns runs elsewhere.
fn attach(socket: &SocketRef, inbox: &Inbox) {
    let inbox = inbox.clone();
    socket.on_fallback(move |socket: SocketRef, Event(name): Event, args: Args, ack: AckSender| {
        if let Err(Refusal::Full) = inbox.offer(&name, args, ack) {
            tracing::warn!(session.id = %socket.id, "A session sent more events than it may");
            inbox.close();
            // Its queue may be full; then its next ping ends it.
            drop(socket.disconnect());
        }
        async {}
    });
}
