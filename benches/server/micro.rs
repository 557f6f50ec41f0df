//! What a token costs the server itself, on a model that costs next to nothing.

use std::time::Instant;

use crate::Models;
use crate::bare::{Bare, Work};
use crate::client::{connect_many, generate_all};
use crate::models::Kind;
use crate::process::{Server, Start, cpu_seconds};

/// Tokens of a completion: few, because each token looks at all cells of the cache, and that is not the
/// server's cost.
const N_TOKENS: usize = 128;
const CTX_SIZE: u32 = 256;
const SLOTS: u32 = 16;

/// Prints tokens per second and CPU per token, then requests of one token per second.
pub(crate) async fn run(models: &Models) -> anyhow::Result<()> {
    let file = models.file(Kind::Micro)?;
    let config = format!("slots: {SLOTS}\nctx_size: {CTX_SIZE}\nn_threads: 1\n");
    let server = Server::start(&Start { model: Some(&file), config: &config, files: &[] })?;
    let bare = Bare::load(&file)?;
    println!("\nmicro: front and worker, one thread for decoding");
    println!(
        "streams  bare tok/s   tok/s  front us/tok  worker us/tok  events/s  front us/event  tok/event"
    );
    for streams in [1, 4, 16] {
        let work = Work { streams, n_tokens: N_TOKENS, threads: 1, n_ctx: CTX_SIZE * SLOTS };
        let bare_s = tokio::task::block_in_place(|| bare_seconds(&bare, work))?;
        tokens(&server, streams, bare_s).await?;
    }
    println!("clients  1-token requests/s  front us/request  worker us/request");
    for clients in [1, 16] {
        requests(&server, clients, 4000 / clients).await?;
    }
    Ok(())
}

/// The bare decode loop's best time of some runs.
fn bare_seconds(bare: &Bare, work: Work) -> anyhow::Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        best = best.min(bare.run(work)?.as_secs_f64());
    }
    Ok(best)
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn tokens(server: &Server, streams: usize, bare_s: f64) -> anyhow::Result<()> {
    let clients = connect_many(server.port, streams).await?;
    let (mut clients, _) = generate_all(clients, 64).await?;
    let worker = server.worker()?;
    let before = (cpu_seconds(server.pid())?, cpu_seconds(worker)?);
    let began = Instant::now();
    let (mut rounds, mut events) = (0, 0);
    // CPU time is counted in hundredths of a second, so the run has to be long.
    while began.elapsed().as_secs() < 6 {
        let (back, sum) = generate_all(clients, N_TOKENS).await?;
        clients = back;
        events += sum.chunks;
        rounds += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    let front_us = (cpu_seconds(server.pid())? - before.0) * 1e6;
    let worker_us = (cpu_seconds(worker)? - before.1) * 1e6;
    let made = (rounds * streams * N_TOKENS) as f64;
    println!(
        "{streams:7} {:11.0} {:7.0} {:13.1} {:14.1} {:9.0} {:15.1} {:10.2}",
        (streams * N_TOKENS) as f64 / bare_s,
        made / seconds,
        front_us / made,
        worker_us / made,
        events as f64 / seconds,
        front_us / events as f64,
        made / events as f64,
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn requests(server: &Server, count: usize, each: usize) -> anyhow::Result<()> {
    let clients = connect_many(server.port, count).await?;
    let worker = server.worker()?;
    let before = (cpu_seconds(server.pid())?, cpu_seconds(worker)?);
    let began = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                for _ in 0..each {
                    client.generate("go", 1).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let made = (count * each) as f64;
    println!(
        "{count:7} {:19.0} {:17.1} {:18.1}",
        made / seconds,
        (cpu_seconds(server.pid())? - before.0) * 1e6 / made,
        (cpu_seconds(worker)? - before.1) * 1e6 / made,
    );
    Ok(())
}
