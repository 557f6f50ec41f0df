//! Time to the first token: of a fresh prompt, of a second turn, of chats that begin alike.

use crate::models::Kind;
use crate::prompts::{fresh, words};
use crate::running::{Completion, Job};
use crate::side::{Bench, Server, Setup, Side};
use crate::table::{Goal, Table};

const SLOTS: u32 = 4;
const FRESH: usize = 600;
const ANSWER: u32 = 48;
const QUESTION: usize = 40;
const SHARED: usize = 1000;
/// New chats with the shared beginning.
const CHATS: usize = 5;
/// Tokens of a prompt of the chats between them.
const OTHERS: usize = 160;

/// Prints the table.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    let setup = Setup::new(&bench.model(Kind::Bench)?, SLOTS, 2048);
    let title = format!("time to the first token, bench model, 2 threads, {SLOTS} slots, ms");
    let mut table = Table::new(title, bench.rivals());
    bench.turns(|side| {
        let server = bench.start(side, &setup)?;
        server.complete(words(0, 20), 8)?;
        chat(&server, side, &mut table)?;
        drop(server);
        let server = bench.start(side, &setup)?;
        server.complete(words(0, 20), 8)?;
        begin_alike(&server, side, &mut table)
    })?;
    table.print();
    Ok(())
}

fn chat(server: &Server, side: Side, table: &mut Table) -> anyhow::Result<()> {
    let mut number = 0;
    // One token each, so that the answer is cut into the same tokens when it comes back.
    let only: Vec<String> = (1000..1040).map(|number| words(number, 1)).collect();
    for _ in 0..2 {
        let prompt = fresh(&mut number, FRESH);
        let job = Job { prompt: prompt.clone(), n_tokens: ANSWER, only: only.clone() };
        let made = server.generate(&job)?.join()?;
        let label = format!("fresh prompt of {FRESH} tokens");
        table.put(&label, Goal::RatioTo(1.0), (side, made.first_ms()));
        let next = format!("{prompt}{}{}", made.text, fresh(&mut number, QUESTION + 1));
        let second = server.complete(next, 8)?;
        let label = format!("second turn, {QUESTION} new tokens");
        table.put(&label, Goal::RatioTo(0.8), (side, second.first_ms()));
        let read = f64::from(second.prompt_tokens - second.cached_tokens);
        table.put("  tokens read for the second turn", Goal::Open, (side, read));
    }
    Ok(())
}

fn begin_alike(server: &Server, side: Side, table: &mut Table) -> anyhow::Result<()> {
    let mut number = 100;
    let shared = fresh(&mut number, SHARED);
    for chat in 0..CHATS {
        let made = server.complete(format!("{shared}{}", fresh(&mut number, 30)), 8)?;
        if chat > 0 {
            let label = format!("new chat, {SHARED} shared tokens, later");
            table.put(&label, Goal::RatioTo(0.1), (side, made.first_ms()));
            let read = f64::from(made.prompt_tokens - made.cached_tokens);
            table.put("  tokens read for the new chat", Goal::Open, (side, read));
        }
        let others: Vec<Job> =
            (0..SLOTS).map(|_| Job::new(fresh(&mut number, OTHERS), 4)).collect();
        server.complete_all(&others)?;
    }
    let shared = fresh(&mut number, SHARED);
    let burst: Vec<Job> =
        (0..SLOTS).map(|_| Job::new(format!("{shared}{}", fresh(&mut number, 30)), 4)).collect();
    let made = server.complete_all(&burst)?;
    let last = made.iter().map(Completion::first_ms).fold(0.0, f64::max);
    let label = format!("{SLOTS} such chats at once, the last one");
    table.put(&label, Goal::Open, (side, last));
    Ok(())
}
