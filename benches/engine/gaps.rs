//! How a long prompt disturbs a text that is being written, and what that costs the prompt.

use std::time::Duration;

use crate::models::Kind;
use crate::prompts::fresh;
use crate::running::Job;
use crate::side::{Bench, Server, Setup, Side};
use crate::table::{Goal, Table, median};

const PROMPT: usize = 1536;

/// Prints the table.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    let setup = Setup::new(&bench.model(Kind::Bench)?, 4, 2048);
    let title =
        format!("one stream while a prompt of {PROMPT} tokens comes in, bench model, 2 threads");
    let mut table = Table::new(title, bench.rivals());
    bench.turns(|side| {
        let server = bench.start(side, &setup)?;
        disturb(&server, side, &mut table)
    })?;
    table.print();
    Ok(())
}

fn disturb(server: &Server, side: Side, table: &mut Table) -> anyhow::Result<()> {
    let mut number = 0;
    let alone = server.complete(fresh(&mut number, PROMPT), 4)?.first_ms();
    let stream = server.generate(&Job::new(fresh(&mut number, 12), 1900))?;
    stream.wait(96)?;
    let prompt = server.complete(fresh(&mut number, PROMPT), 1)?;
    let beside = prompt.first_ms();
    let (from, to) = (prompt.began, prompt.began + Duration::from_secs_f64(beside / 1e3));
    // The gap that is open now is to be closed.
    stream.wait(stream.tokens() + 2)?;
    let written = stream.cancel()?;
    let own = median(&written.gaps_ms(written.began, from));
    let gaps = written.gaps_ms(from, to);
    let worst = gaps.iter().copied().fold(0.0, f64::max);
    let mut put = |label: &str, goal, figure| table.put(label, goal, (side, figure));
    put("worst gap, ms", Goal::RatioTo(0.1), worst);
    put("median gap meanwhile, ms", Goal::Open, median(&gaps));
    put("median gap before, ms", Goal::Open, own);
    put("worst gap / median gap before", Goal::OursBelow(10.0), worst / own);
    put("the prompt's first token, alone, ms", Goal::Open, alone);
    put("the prompt's first token, beside it, ms", Goal::Open, beside);
    put("  beside / alone", Goal::Open, beside / alone);
    Ok(())
}
