//! Tokens per second of all streams together.

use crate::models::Kind;
use crate::prompts::fresh;
use crate::running::Job;
use crate::side::{Bench, Server, Setup};
use crate::table::{Goal, Table};

const STREAMS: [u32; 5] = [1, 2, 4, 8, 16];
const PROMPT: usize = 12;
/// Earlier chats and the tokens of their prompts.
const EARLIER: (usize, usize) = (8, 96);

/// The bench model: on a fresh process, and when earlier chats lie idle.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    let model = bench.model(Kind::Bench)?;
    for threads in [1, 2] {
        let title = format!("throughput, bench model, {threads} threads, tokens/s");
        let mut table = Table::new(title, bench.rivals());
        for streams in STREAMS {
            let goal = Goal::RatioFrom(if streams < 4 { 0.98 } else { 1.05 });
            let n_tokens = 32 + 128 / streams;
            bench.turns(|side| {
                let setup = Setup { threads, ..Setup::new(&model, streams, 512) };
                let server = bench.start(side, &setup)?;
                let mut number = 0;
                server.complete_all(&jobs(&mut number, streams, 1))?;
                let figure = server.speed(&jobs(&mut number, streams, n_tokens))?;
                table.put(&format!("{streams} streams, fresh"), goal, (side, figure));
                leave_chats(&server, &mut number)?;
                let figure = server.speed(&jobs(&mut number, streams, n_tokens))?;
                table.put(&format!("{streams} streams, beside idle chats"), goal, (side, figure));
                Ok(())
            })?;
        }
        table.print();
    }
    Ok(())
}

/// The micro model, which leaves the cost of the server alone.
pub(crate) fn run_micro(bench: &Bench) -> anyhow::Result<()> {
    let model = bench.model(Kind::Micro)?;
    let title = "throughput, micro model, 1 thread, tokens/s";
    let mut table = Table::new(title, bench.rivals());
    for streams in [1, 4, 16] {
        bench.turns(|side| {
            let setup = Setup { threads: 1, ..Setup::new(&model, streams, 512) };
            let server = bench.start(side, &setup)?;
            let mut number = 0;
            server.complete_all(&jobs(&mut number, streams, 32))?;
            for _ in 0..3 {
                let figure = server.speed(&jobs(&mut number, streams, 256))?;
                table.put(&format!("{streams} streams"), Goal::RatioFrom(1.5), (side, figure));
            }
            Ok(())
        })?;
    }
    table.print();
    Ok(())
}

fn jobs(number: &mut u64, streams: u32, n_tokens: u32) -> Vec<Job> {
    (0..streams).map(|_| Job::new(fresh(number, PROMPT), n_tokens)).collect()
}

fn leave_chats(server: &Server, number: &mut u64) -> anyhow::Result<()> {
    for _ in 0..EARLIER.0 {
        server.complete(fresh(number, EARLIER.1), 4)?;
    }
    Ok(())
}
