//! Figures of the whole server: `cargo bench --bench server -- [PART…]`.
//!
//! Parts: `speed` (tokens per second through Socket.IO against the bare decode loop of the same build,
//! in turns), `micro` (CPU of front and worker per token), `start`, `idle` (memory), `endurance` (load and
//! unload rounds, many generations). Without a part all of them run. Nothing here passes or fails: it
//! prints what it saw, with the machine's load.

#![expect(clippy::print_stdout, reason = "printing is what a bench is for")]

mod bare;
mod client;
mod endurance;
mod idle;
mod micro;
#[expect(dead_code, reason = "a bench needs no broken files")]
#[path = "../../tools/models/mod.rs"]
mod models;
mod process;
mod speed;
mod start;

use std::path::{Path, PathBuf};

use models::Kind;

/// Test models in a folder of this run.
struct Models {
    folder: PathBuf,
}

impl Models {
    /// The file of a model, made at its first use.
    fn file(&self, kind: Kind) -> anyhow::Result<PathBuf> {
        let name = models::KINDS
            .iter()
            .find(|(_, known)| *known == kind)
            .map_or("model", |(name, _)| name);
        let path = self.folder.join(format!("{name}.gguf"));
        if !path.exists() {
            models::write(kind, &path)?;
        }
        Ok(path)
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        // What is left lies in the system's temporary folder.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn main() -> anyhow::Result<()> {
    let parts: Vec<String> =
        std::env::args().skip(1).filter(|part| !part.starts_with("--")).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|named| named == part);
    let folder = std::env::temp_dir().join(format!("lollmsd-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let models = Models { folder };
    process::raise_descriptors()?;
    let load = std::fs::read_to_string(Path::new("/proc/loadavg"))?;
    println!("load average at the start: {}", load.trim());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if wanted("start") {
            start::run().await?;
        }
        if wanted("idle") {
            idle::run(&models).await?;
        }
        if wanted("micro") {
            micro::run(&models).await?;
        }
        if wanted("speed") {
            speed::run(&models).await?;
        }
        if wanted("endurance") {
            endurance::run(&models).await?;
        }
        Ok(())
    })
}
