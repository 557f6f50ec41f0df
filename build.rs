//! Compiles the C++ shim between the engine and llama.cpp.
//!
//! llama-cpp-sys-2 exports no include folder, but where it built ggml; the build's cache beside that
//! names the source folder of llama.cpp.

use std::path::{Path, PathBuf};

const SHIM: &str = "src/engine/llama";
const SHIM_FILES: [&str; 6] =
    ["shim.cpp", "sampling.cpp", "samplers.cpp", "classifier.cpp", "shim.h", "samplers.h"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for file in SHIM_FILES {
        println!("cargo:rerun-if-changed={SHIM}/{file}");
    }
    // rust-embed does not notice files that are added.
    for shipped in ["bindings", "personalities", "configs", "models/llama_cpp/lollmsd-demo.gguf"] {
        println!("cargo:rerun-if-changed={shipped}");
    }
    if std::env::var_os("CARGO_FEATURE_LLAMA").is_none() {
        return;
    }
    let cmake = std::env::var("DEP_LLAMA_GGML_CMAKE_DIR")
        .expect("llama-cpp-sys-2 says where it built ggml (DEP_LLAMA_GGML_CMAKE_DIR)");
    let source = llama_source(Path::new(&cmake));
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .files(SHIM_FILES.iter().filter(|f| f.ends_with("cpp")).map(|f| format!("{SHIM}/{f}")))
        .includes(["include", "ggml/include", "common", "vendor"].map(|part| source.join(part)))
        .opt_level(3)
        .debug(false)
        .warnings(false)
        .compile("lollmsd_shim");
}

/// The source folder of the llama.cpp that was built.
fn llama_source(cmake: &Path) -> PathBuf {
    let cache = cmake.join("../../build/CMakeCache.txt");
    let text = std::fs::read_to_string(&cache)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", cache.display()));
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="))
        .unwrap_or_else(|| panic!("{} has no CMAKE_HOME_DIRECTORY", cache.display()));
    PathBuf::from(line)
}
