//! Memory that lies still: the front, a worker, a socket that says nothing.

use std::time::Duration;

use crate::Models;
use crate::client::{Client, connect_many};
use crate::models::Kind;
use crate::process::{Server, Start, memory_kb};

const SOCKETS: usize = 1000;

/// Prints resident memory, and Pss, which counts shared pages once.
pub(crate) async fn run(models: &Models) -> anyhow::Result<()> {
    println!("\nidle: memory in kB, resident (Pss)");
    let server = Server::start(&Start::default())?;
    drop(Client::connect(server.port).await?);
    settle().await;
    let (front, front_pss) = memory_kb(server.pid())?;
    println!("front without a model: {front} ({front_pss})");
    drop(server);
    for kind in [Kind::Micro, Kind::Bench] {
        let file = models.file(kind)?;
        let config = "slots: 4\nctx_size: 4096\n";
        let server = Server::start(&Start { model: Some(&file), config, files: &[] })?;
        Client::connect(server.port).await?.generate("go", 1).await?;
        settle().await;
        let (front, front_pss) = memory_kb(server.pid())?;
        let (worker, worker_pss) = memory_kb(server.worker()?)?;
        println!("{kind:?}: front {front} ({front_pss}), worker {worker} ({worker_pss})");
    }
    sockets().await
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn sockets() -> anyhow::Result<()> {
    let server = Server::start(&Start::default())?;
    // The first ones make what is shared by all.
    let warm = connect_many(server.port, 20).await?;
    settle().await;
    let (before, _) = memory_kb(server.pid())?;
    let clients = connect_many(server.port, SOCKETS).await?;
    settle().await;
    let (after, _) = memory_kb(server.pid())?;
    let each = after.saturating_sub(before) as f64 / SOCKETS as f64;
    println!("{SOCKETS} idle sockets: {before} before, {after} with them, {each:.1} each");
    drop((warm, clients));
    settle().await;
    let (gone, _) = memory_kb(server.pid())?;
    println!("after they left: {gone}, descriptors {}", server.descriptors()?);
    Ok(())
}

/// Lets what was started come to rest.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1500)).await;
}
