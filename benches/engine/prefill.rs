//! How fast a prompt is read, alone and beside streams, and what the streams write meanwhile.

use crate::models::Kind;
use crate::prompts::fresh;
use crate::running::{Job, Running};
use crate::side::{Bench, Server, Setup, Side};
use crate::table::{Goal, Table};

const PROMPT: u16 = 1024;

/// Prints the table.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    let setup = Setup::new(&bench.model(Kind::Bench)?, 5, 2048);
    let title = format!("reading a prompt of {PROMPT} tokens, bench model, 2 threads, tokens/s");
    let mut table = Table::new(title, bench.rivals());
    for streams in [0, 1, 4] {
        bench.turns(|side| {
            let server = bench.start(side, &setup)?;
            beside(streams, &server, side, &mut table)
        })?;
    }
    table.print();
    Ok(())
}

fn beside(streams: u32, server: &Server, side: Side, table: &mut Table) -> anyhow::Result<()> {
    let mut number = 0;
    server.complete(fresh(&mut number, 64), 4)?;
    let writing: Vec<_> = (0..streams)
        .map(|_| server.generate(&Job::new(fresh(&mut number, 12), 1900)))
        .collect::<Result<_, _>>()?;
    for stream in &writing {
        stream.wait(8)?;
    }
    let before: u32 = writing.iter().map(Running::tokens).sum();
    let prompt = server.complete(fresh(&mut number, PROMPT.into()), 1)?;
    let seconds = prompt.first_ms() / 1e3;
    let written = writing.iter().map(Running::tokens).sum::<u32>() - before;
    for stream in writing {
        stream.cancel()?;
    }
    let label = if streams == 0 { "alone".into() } else { format!("beside {streams} streams") };
    table.put(&label, Goal::Open, (side, f64::from(PROMPT) / seconds));
    if streams > 0 {
        table.put(
            &format!("  what {streams} write meanwhile"),
            Goal::Open,
            (side, f64::from(written) / seconds),
        );
    }
    Ok(())
}
