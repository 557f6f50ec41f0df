//! Makes test models: `cargo run --example make-model -- KIND OUT.gguf`.
//!
//! KIND is `chain`, `context`, `context-chat`, `context-fill`, `encoder`, `ranker`, `micro` or `bench`.
//! `broken DIR` fills a folder with files that are no models; `chain --expect` prints what the chain model says, as JSON.

#[path = "models/mod.rs"]
mod models;

use std::path::Path;
use std::process::ExitCode;

use models::chain::Then;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["chain", "--expect"] => {
            print_expected();
            Ok(())
        }
        ["broken", dir] => write_broken(Path::new(dir)),
        [kind, out] => match models::KINDS.iter().find(|(name, _)| name == kind) {
            Some((_, kind)) => models::write(*kind, Path::new(out)),
            None => return usage(),
        },
        _ => return usage(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("make-model: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    let kinds: Vec<&str> = models::KINDS.iter().map(|(name, _)| *name).collect();
    eprintln!("usage: make-model {} OUT.gguf", kinds.join("|"));
    eprintln!("       make-model broken DIR");
    eprintln!("       make-model chain --expect");
    ExitCode::from(2)
}

fn write_broken(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for file in models::broken::files() {
        std::fs::write(dir.join(format!("{}.gguf", file.name)), file.bytes)?;
    }
    Ok(())
}

/// One object: by last character of the prompt (`other` for all without a path of their own), the
/// bytes of each token and whether they go round.
#[expect(clippy::print_stdout, reason = "the output of a command")]
fn print_expected() {
    let mut all = serde_json::Map::new();
    for completion in models::chain::completions() {
        let after = completion.after.map_or("other".into(), String::from);
        let loops = completion.then == Then::Again;
        let text = String::from_utf8_lossy(&completion.bytes(completion.tokens.len())).into_owned();
        let entry =
            serde_json::json!({ "tokens": completion.tokens, "loops": loops, "text": text });
        all.insert(after, entry);
    }
    println!("{}", serde_json::Value::Object(all));
}
