//! A Socket.IO client over WebSocket that costs next to nothing, so that the figures are the server's.

use anyhow::{Context as _, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A connected client.
#[derive(Debug)]
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What came for one completion.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Completion {
    /// Events that carried text.
    pub(crate) chunks: u64,
    /// Bytes of them.
    pub(crate) bytes: u64,
}

impl Client {
    /// Connects and joins the default namespace.
    pub(crate) async fn connect(port: u16) -> anyhow::Result<Self> {
        let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
        let (socket, _) = tokio_tungstenite::connect_async(url).await?;
        let mut client = Self { socket };
        client.packet().await?;
        client.socket.send(Message::text("40")).await?;
        let joined = client.packet().await?;
        if !joined.starts_with("40") {
            bail!("the server answered {joined:?} to the connection");
        }
        Ok(client)
    }

    /// Sends an event.
    pub(crate) async fn emit(&mut self, name: &str, data: &Value) -> anyhow::Result<()> {
        let event = json!([name, data]);
        self.socket.send(Message::text(format!("42{event}"))).await?;
        Ok(())
    }

    /// Sends an event and returns the next event called `reply`.
    pub(crate) async fn request(
        &mut self,
        name: &str,
        data: &Value,
        reply: &str,
    ) -> anyhow::Result<Value> {
        self.emit(name, data).await?;
        loop {
            let packet = self.packet().await?;
            let Some(event) = packet.strip_prefix("42") else { continue };
            let event: Value = serde_json::from_str(event)?;
            if event[0] == reply {
                return Ok(event[1].clone());
            }
        }
    }

    /// Makes a greedy completion of this many tokens.
    pub(crate) async fn generate(
        &mut self,
        prompt: &str,
        n_tokens: usize,
    ) -> anyhow::Result<Completion> {
        let greedy = json!({ "temperature": 0, "repeat_penalty": 1 });
        let data = json!({ "prompt": prompt, "personality": -1, "n_predicts": n_tokens, "parameters": greedy });
        self.emit("generate_text", &data).await?;
        let mut completion = Completion::default();
        loop {
            let packet = self.packet().await?;
            if packet.starts_with("42[\"text_chunk\"") {
                completion.chunks += 1;
                completion.bytes += packet.len() as u64;
            } else if packet.starts_with("42[\"text_generated\"") {
                return Ok(completion);
            } else if packet.starts_with("42[\"generation_error\"")
                || packet.starts_with("42[\"buzzy\"")
            {
                bail!("the server answered {packet}");
            }
        }
    }

    /// The next packet; pings are answered.
    async fn packet(&mut self) -> anyhow::Result<String> {
        loop {
            match self.socket.next().await.context("the server closed the connection")?? {
                Message::Text(text) if text.as_str() == "2" => {
                    self.socket.send(Message::text("3")).await?;
                }
                Message::Text(text) => return Ok(text.as_str().to_owned()),
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                Message::Close(_) => bail!("the server closed the connection"),
            }
        }
    }
}

/// Connects so many clients.
pub(crate) async fn connect_many(port: u16, count: usize) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(Client::connect(port).await?);
    }
    Ok(clients)
}

/// Lets all clients generate at once and returns the sum of what came; they are handed back.
pub(crate) async fn generate_all(
    clients: Vec<Client>,
    n_tokens: usize,
) -> anyhow::Result<(Vec<Client>, Completion)> {
    let tasks = clients.into_iter().enumerate().map(|(number, mut client)| {
        tokio::spawn(async move {
            let completion = client.generate(&prompt(number), n_tokens).await?;
            anyhow::Ok((client, completion))
        })
    });
    let mut sum = Completion::default();
    let mut back = vec![];
    for task in tasks.collect::<Vec<_>>() {
        let (client, completion) = task.await??;
        sum.chunks += completion.chunks;
        sum.bytes += completion.bytes;
        back.push(client);
    }
    Ok((back, sum))
}

/// A short prompt, another one for each stream.
pub(crate) fn prompt(stream: usize) -> String {
    format!("the story of number {stream}")
}
