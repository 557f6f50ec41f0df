//! Many loads and many generations: memory, descriptors, processes and files of the front stay flat.

use serde_json::json;

use crate::Models;
use crate::client::{Client, connect_many, generate_all};
use crate::idle::settle;
use crate::models::Kind;
use crate::process::{Server, Start, memory_kb};

const LOADS: usize = 1000;
const GENERATIONS: usize = 10_000;
const CLIENTS: usize = 16;

/// Prints the state of the front before, between and after.
pub(crate) async fn run(models: &Models) -> anyhow::Result<()> {
    let file = models.file(Kind::Micro)?;
    let files = [("one.gguf", file.as_path()), ("two.gguf", file.as_path())];
    let config = "binding_name: llama_cpp\nslots: 16\nctx_size: 512\nn_threads: 1\n";
    let server = Server::start(&Start { model: None, config, files: &files })?;
    println!("\nendurance: rounds of loading one of two models, then generations of 8 tokens");
    println!("{:>12} {:>10} {:>12} {:>8} {:>6}", "", "front kB", "descriptors", "workers", "files");
    let mut client = Client::connect(server.port).await?;
    for round in 0..=LOADS {
        if round % (LOADS / 5) == 10 || round == LOADS {
            show(&server, &format!("{round} loads")).await?;
        }
        let name = if round % 2 == 0 { "one.gguf" } else { "two.gguf" };
        let said =
            client.request("select_model", &json!({ "model_name": name }), "select_model").await?;
        anyhow::ensure!(said["success"] == true, "round {round}: {said}");
        client.generate("go", 1).await?;
    }
    drop(client);
    let mut clients = connect_many(server.port, CLIENTS).await?;
    for round in 0..=GENERATIONS / CLIENTS {
        if round % (GENERATIONS / CLIENTS / 5) == 10 || round == GENERATIONS / CLIENTS {
            show(&server, &format!("{} texts", round * CLIENTS)).await?;
        }
        (clients, _) = generate_all(clients, 8).await?;
    }
    Ok(())
}

async fn show(server: &Server, when: &str) -> anyhow::Result<()> {
    settle().await;
    let (front, _) = memory_kb(server.pid())?;
    let (descriptors, workers) = (server.descriptors()?, server.workers()?.len());
    println!("{when:>12} {front:>10} {descriptors:>12} {workers:>8} {:>6}", server.files());
    Ok(())
}
