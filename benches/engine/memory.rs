//! Memory (Pss: shared pages counted in part) with a loaded model, and after chats.

use crate::client::Client;
use crate::models::Kind;
use crate::process::{self, Start, memory_kb};
use crate::prompts::fresh;
use crate::side::{Bench, Setup, Side};
use crate::table::{Goal, Table};

const SLOTS: u32 = 4;
const CTX_SIZE: u32 = 4096;
/// Chats that have ended, and tokens of their prompts.
const CHATS: (usize, usize) = (12, 400);

/// Prints the table.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    let model = bench.model(Kind::Bench)?;
    let setup = Setup::new(&model, SLOTS, CTX_SIZE);
    let title = format!("memory, bench model, {SLOTS} slots of {CTX_SIZE} tokens, Pss in MB");
    let mut table = Table::new(title, bench.rivals());
    bench.turns(|side| {
        let server = bench.start(side, &setup)?;
        let mut number = 0;
        server.complete(fresh(&mut number, 8), 2)?;
        let loaded = mb(server.pid())?;
        table.put("worker alone, loaded", Goal::RatioTo(1.1), (side, loaded));
        for _ in 0..CHATS.0 {
            server.complete(fresh(&mut number, CHATS.1), 4)?;
        }
        let label = format!("worker alone, after {} chats of {} tokens", CHATS.0, CHATS.1);
        table.put(&label, Goal::RatioTo(1.1), (side, mb(server.pid())?));
        drop(server);
        let all = if side == Side::Ours { front_and_worker(&model)? } else { loaded };
        table.put("front and worker, loaded", Goal::RatioTo(1.1), (side, all));
        Ok(())
    })?;
    table.print();
    Ok(())
}

/// The whole program with the same settings, after a short text.
fn front_and_worker(model: &std::path::Path) -> anyhow::Result<f64> {
    let config = format!("slots: {SLOTS}\nctx_size: {CTX_SIZE}\nn_threads: 2\n");
    let server =
        process::Server::start(&Start { model: Some(model), config: &config, files: &[] })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = Client::connect(server.port).await?;
        client.generate("go", 2).await?;
        Ok(mb(server.pid())? + mb(server.worker()?)?)
    })
}

#[expect(clippy::cast_precision_loss, reason = "memory of a process in kB")]
fn mb(pid: u32) -> anyhow::Result<f64> {
    Ok(memory_kb(pid)?.1 as f64 / 1e3)
}
