//! Tokens per second through Socket.IO against the bare decode loop, in turns.

use std::time::Instant;

use crate::Models;
use crate::bare::{Bare, Work};
use crate::client::{connect_many, generate_all};
use crate::models::Kind;
use crate::process::{Server, Start};

const ROUNDS: usize = 5;
const SLOTS: usize = 16;
const CTX_SIZE: u32 = 512;

/// Prints one line for each number of threads and streams; the figures are medians of the rounds.
pub(crate) async fn run(models: &Models) -> anyhow::Result<()> {
    let file = models.file(Kind::Bench)?;
    let bare = Bare::load(&file)?;
    println!("\nspeed: bench model, {ROUNDS} rounds in turns, medians");
    println!("threads streams  bare tok/s  server tok/s  ratio (lowest to highest of the rounds)");
    for threads in [1, 2] {
        let config = format!("slots: {SLOTS}\nctx_size: {CTX_SIZE}\nn_threads: {threads}\n");
        let server = Server::start(&Start { model: Some(&file), config: &config, files: &[] })?;
        for streams in [1, 4, 16] {
            let work = Work {
                streams,
                n_tokens: 256 / streams + 48,
                threads,
                n_ctx: CTX_SIZE * u32::try_from(SLOTS)?,
            };
            compare(&bare, &server, work).await?;
        }
    }
    Ok(())
}

async fn compare(bare: &Bare, server: &Server, work: Work) -> anyhow::Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let tokens = (work.streams * work.n_tokens) as f64;
    let mut clients = connect_many(server.port, work.streams).await?;
    let (mut alone, mut through, mut ratios) = (vec![], vec![], vec![]);
    for round in 0..=ROUNDS {
        let bare_s = tokio::task::block_in_place(|| bare.run(work))?.as_secs_f64();
        let began = Instant::now();
        (clients, _) = generate_all(clients, work.n_tokens).await?;
        let server_s = began.elapsed().as_secs_f64();
        // The first round loads the model and warms both.
        if round > 0 {
            alone.push(tokens / bare_s);
            through.push(tokens / server_s);
            ratios.push(bare_s / server_s);
        }
    }
    let [alone, through] = [median(&mut alone), median(&mut through)];
    let middle = median(&mut ratios);
    println!(
        "{:7} {:7} {alone:11.1} {through:13.1}  {middle:.3} ({:.3} to {:.3})",
        work.threads,
        work.streams,
        ratios[0],
        ratios[ratios.len() - 1],
    );
    Ok(())
}

/// The middle value; `values` are sorted.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
