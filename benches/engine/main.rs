//! Figures of the worker against llama.cpp's own server:
//! `cargo bench --bench engine -- [PART…] [--llama-server [NAME=]PATH]… [--rounds N]`.
//!
//! Parts: `used` (what each runs with), `throughput`, `micro`, `first_token`, `gaps`, `prefill`, `memory`,
//! `moving` (chats that leave the cache and come back). Without a part all of them run.
//! The worker is driven over its pipes, a `llama-server` over HTTP with streaming, both with the same file,
//! threads, contexts and prompts. They run in turns: one after the other, each in a fresh process, round
//! after round. The figures are medians of the rounds with the lowest and the highest.
//! `--llama-server` may be given more than once, for instance for builds with and without OpenMP;
//! without it the worker's figures stand alone. `--flags "-fa auto"` adds flags for all of them.
//! Nothing here passes or fails: goals stand beside the figures.

#![expect(clippy::print_stdout, reason = "printing is what a bench is for")]

mod arguments;
#[expect(dead_code, reason = "shared with the bench of the whole server")]
#[path = "../server/client.rs"]
mod client;
mod first_token;
mod gaps;
mod http;
mod memory;
#[expect(dead_code, reason = "a bench needs no broken files")]
#[path = "../../tools/models/mod.rs"]
mod models;
mod moving;
mod ours;
mod prefill;
#[expect(dead_code, reason = "shared with the bench of the whole server")]
#[path = "../server/process.rs"]
mod process;
mod prompts;
mod running;
mod side;
mod table;
mod theirs;
mod throughput;
mod used;

use arguments::Arguments;
use side::Bench;

type Part = fn(&Bench) -> anyhow::Result<()>;

const PARTS: &[(&str, Part)] = &[
    ("used", used::run),
    ("throughput", throughput::run),
    ("micro", throughput::run_micro),
    ("first_token", first_token::run),
    ("gaps", gaps::run),
    ("prefill", prefill::run),
    ("memory", memory::run),
    ("moving", moving::run),
];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let known = |wanted: &&String| PARTS.iter().any(|(name, _)| name == wanted);
    if let Some(unknown) = arguments.parts.iter().find(|wanted| !known(wanted)) {
        anyhow::bail!("there is no part `{unknown}`");
    }
    let bench = Bench::new(arguments)?;
    let wanted = &bench.arguments.parts;
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            let load = std::fs::read_to_string("/proc/loadavg")?;
            println!("\n# {name} (load average before it: {})", load.trim());
            part(&bench)?;
        }
    }
    Ok(())
}
