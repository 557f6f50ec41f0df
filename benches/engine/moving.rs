//! A chat that goes on after another one ran: from the cache, from the host's memory, or read again.

use crate::models::Kind;
use crate::prompts::{fresh, words};
use crate::side::{Bench, Server, Setup, Side};
use crate::table::{Goal, Table};

const SIZES: [usize; 3] = [500, 1000, 2000];

/// Prints the table.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    let usual = Setup::new(&bench.model(Kind::Bench)?, 1, 4096);
    let stays = Setup { slots: 2, idle_cells: Some(8192), ..usual.clone() };
    let leaves = Setup { idle_cells: Some(0), ..usual.clone() };
    let goes = Setup { idle_cells: Some(0), cache_ram: Some(0), ..usual };
    let title = "a chat that goes on after another one, bench model, 2 threads, ms";
    let mut table = Table::new(title, bench.rivals());
    for size in SIZES {
        let ways = [("stays", &stays), ("leaves for the host", &leaves), ("read again", &goes)];
        bench.turns(|side| {
            for (way, setup) in ways {
                let server = bench.start(side, setup)?;
                go_on(&server, &format!("{size} tokens, {way}"), size, (side, &mut table))?;
            }
            Ok(())
        })?;
    }
    table.print();
    Ok(())
}

fn go_on(
    server: &Server,
    label: &str,
    n_tokens: usize,
    (side, table): (Side, &mut Table),
) -> anyhow::Result<()> {
    let mut number = 0;
    server.complete(words(0, 4), 8)?;
    let chat = fresh(&mut number, n_tokens);
    server.complete(chat.clone(), 4)?;
    let other = server.complete(fresh(&mut number, 12), 32)?;
    let back = server.complete(format!("{chat}{}", fresh(&mut number, 9)), 4)?;
    table.put(&format!("{label}: first token"), Goal::Open, (side, back.first_ms()));
    table.put(&format!("{label}: the other chat"), Goal::Open, (side, other.total_ms()));
    Ok(())
}
