//! What the sides run with, and whether they write the same.

use crate::models::Kind;
use crate::prompts::words;
use crate::running::Job;
use crate::side::{Bench, Server, Setup};

const N_TOKENS: u32 = 48;

/// Prints a few lines about each side.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    let setup = Setup::new(&bench.model(Kind::Bench)?, 4, 1024);
    let version = env!("CARGO_PKG_VERSION");
    println!(
        "ours: lollmsd {version}, batch 512, f16 cache in one unified piece, no flash attention, no OpenMP"
    );
    let mut texts = vec![];
    for side in bench.sides() {
        let server = bench.start(side, &setup)?;
        if let Server::Theirs(theirs) = &server {
            println!("theirs: {:?}", bench.arguments.rivals[texts.len() - 1]);
            theirs.said.iter().for_each(|line| println!("  {line}"));
        }
        let made = server.complete(words(1, 99), N_TOKENS)?;
        println!("  a prompt of {} tokens, {} came", made.prompt_tokens, made.tokens);
        texts.push(made.text);
        let again = server.generate(&Job::new(words(1, 99), 1))?.join()?;
        println!("  sent again: {} of them cached", again.cached_tokens);
    }
    for text in texts.iter().skip(1) {
        let same = text.bytes().zip(texts[0].bytes()).take_while(|(a, b)| a == b).count();
        println!("the first {same} of {} bytes are the same", text.len());
    }
    Ok(())
}
