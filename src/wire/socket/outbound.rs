//! Sends events to one session, never more than it takes.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use socketioxide::extract::{AckSender, SocketRef};
use socketioxide::{SendError, SocketError};

use crate::wire::events::{EventWriter, ServerEvent};
use crate::wire::net::flow::Flow;

/// Wait before a packet that found the queue full is tried again; pings and acks share the queue.
const RETRY: Duration = Duration::from_millis(5);
/// Bytes of a packet besides its name and payload: `42["",]`.
const FRAME_BYTES: usize = 7;
/// Bytes of an acknowledgement with a short id, `437[]`.
const ACK_BYTES: usize = 5;

/// The way to one client.
#[derive(Debug)]
pub struct Outbound {
    socket: SocketRef,
    flow: Arc<Flow>,
}

/// The client is gone, or was dropped because it does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Outbound {
    /// The way to the client of a socket.
    pub fn new(socket: SocketRef, flow: Arc<Flow>) -> Self {
        Self { socket, flow }
    }

    /// Waits until one more packet may be sent.
    ///
    /// # Errors
    /// [`Gone`] when the client has taken nothing for 30 s; it is dropped.
    pub async fn room(&self) -> Result<(), Gone> {
        if self.flow.room().await {
            return Ok(());
        }
        tracing::info!(session.id = %self.socket.id, "A session that does not read is dropped");
        self.drop_client();
        Err(Gone)
    }

    /// Sends an event. Call [`Outbound::room`] before.
    ///
    /// # Errors
    /// [`Gone`] when the client is gone.
    pub async fn send(&self, event: &ServerEvent) -> Result<(), Gone> {
        loop {
            match event.write(Emit(&self.socket)) {
                Ok(()) => {
                    self.flow.emitted(event.write(Measure));
                    return Ok(());
                }
                Err(SendError::Socket(SocketError::InternalChannelFull)) => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(SendError::Socket(SocketError::Closed)) => return Err(Gone),
                Err(error) => {
                    tracing::error!(%error, "An event cannot be written");
                    return Ok(());
                }
            }
        }
    }

    /// Answers the acknowledgement that a client asked for: empty, as LoLLMs does. Call [`Outbound::room`]
    /// before.
    pub fn acknowledge(&self, ack: AckSender) {
        const EMPTY: [u8; 0] = [];
        match ack.send(&EMPTY) {
            Ok(()) => self.flow.emitted(ACK_BYTES),
            Err(error) => tracing::debug!(%error, "An acknowledgement was not sent"),
        }
    }

    /// Ends the session and closes its connection.
    pub fn drop_client(&self) {
        // Its queue may be full; the connection goes in any case.
        drop(self.socket.clone().disconnect());
        self.flow.close();
    }
}

struct Emit<'a>(&'a SocketRef);

impl EventWriter for Emit<'_> {
    type Output = Result<(), SendError>;
    fn write<T: Serialize>(self, name: &'static str, payload: &T) -> Self::Output {
        self.0.emit(name, payload)
    }
}

/// Size of an event as a packet, in bytes.
struct Measure;

impl EventWriter for Measure {
    type Output = usize;
    fn write<T: Serialize>(self, name: &'static str, payload: &T) -> usize {
        let mut counter = Counter(0);
        // A payload that cannot be written was not sent either.
        drop(serde_json::to_writer(&mut counter, payload));
        name.len() + counter.0 + FRAME_BYTES
    }
}

struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
