//! Tokens per second through Socket.IO against the bare decode loop, in turns.

use std::time::Instant;

use crate::Models;
use crate::bare::{Bare, Work};
use crate::client::{connect_many, generate_all};
use crate::models::Kind;
use crate::process::{Server, Start, cpu_seconds};

const ROUNDS: usize = 5;
/// Runs on one server: from the second on it holds the cells of finished chats as well, and every token
/// has to look past them.
const RUNS: usize = 3;
const SLOTS: usize = 16;
const CTX_SIZE: u32 = 512;

/// Figures of all rounds of one line.
#[derive(Default)]
struct Line {
    bare: Vec<f64>,
    fresh: Vec<f64>,
    steady: Vec<f64>,
    bare_cpu: Vec<f64>,
    fresh_cpu: Vec<f64>,
    steady_cpu: Vec<f64>,
}

/// One run: tokens per second, and CPU microseconds per token of whoever decodes.
type Figure = (f64, f64);

/// Prints one line for each number of threads and streams; the figures are medians of the rounds.
pub(crate) async fn run(models: &Models) -> anyhow::Result<()> {
    let file = models.file(Kind::Bench)?;
    let bare = Bare::load(&file)?;
    println!("\nspeed: bench model, {ROUNDS} rounds in turns, medians (lowest to highest ratio)");
    println!("`fresh`: first run of a server; `steady`: run {RUNS}, with cells of finished chats");
    println!(
        "threads streams  bare tok/s  fresh ratio             steady ratio            \
         CPU us/tok: bare, fresh, steady"
    );
    for threads in [1, 2] {
        for streams in [1, 4, 16] {
            let n_ctx = CTX_SIZE * u32::try_from(SLOTS)?;
            let work = Work { streams, n_tokens: 256 / streams + 48, threads, n_ctx };
            let mut line = Line::default();
            for _ in 0..ROUNDS {
                line.round(&bare, &file, work).await?;
            }
            line.print(work);
        }
    }
    Ok(())
}

impl Line {
    async fn round(
        &mut self,
        bare: &Bare,
        file: &std::path::Path,
        work: Work,
    ) -> anyhow::Result<()> {
        let config = format!("slots: {SLOTS}\nctx_size: {CTX_SIZE}\nn_threads: {}\n", work.threads);
        let server = Server::start(&Start { model: Some(file), config: &config, files: &[] })?;
        // The first token comes when the model is loaded.
        generate_all(connect_many(server.port, work.streams).await?, 1).await?;
        let worker = server.worker()?;
        for run in 1..=RUNS {
            let (bare_speed, bare_cpu) = tokio::task::block_in_place(|| alone(bare, work))?;
            // Nobody answered pings meanwhile, so the clients are new ones.
            let clients = connect_many(server.port, work.streams).await?;
            let before = cpu_seconds(worker)?;
            let began = Instant::now();
            generate_all(clients, work.n_tokens).await?;
            let (speed, cpu) =
                figure(work, began.elapsed().as_secs_f64(), cpu_seconds(worker)? - before);
            if run == 1 {
                self.bare.push(bare_speed);
                self.bare_cpu.push(bare_cpu);
                self.fresh.push(speed / bare_speed);
                self.fresh_cpu.push(cpu);
            }
            if run == RUNS {
                self.steady.push(speed / bare_speed);
                self.steady_cpu.push(cpu);
            }
        }
        Ok(())
    }

    fn print(&mut self, work: Work) {
        println!(
            "{:7} {:7} {:11.1}  {}  {}  {:.0}, {:.0}, {:.0}",
            work.threads,
            work.streams,
            median(&mut self.bare),
            ratio(&mut self.fresh),
            ratio(&mut self.steady),
            median(&mut self.bare_cpu),
            median(&mut self.fresh_cpu),
            median(&mut self.steady_cpu),
        );
    }
}

fn alone(bare: &Bare, work: Work) -> anyhow::Result<Figure> {
    let before = cpu_seconds(std::process::id())?;
    let seconds = bare.run(work)?.as_secs_f64();
    Ok(figure(work, seconds, cpu_seconds(std::process::id())? - before))
}

fn figure(work: Work, seconds: f64, cpu_s: f64) -> Figure {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let tokens = (work.streams * work.n_tokens) as f64;
    (tokens / seconds, cpu_s * 1e6 / tokens)
}

fn ratio(values: &mut [f64]) -> String {
    let middle = median(values);
    format!("{middle:.3} ({:.3} to {:.3})", values[0], values[values.len() - 1])
}

/// The middle value; `values` are sorted.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
