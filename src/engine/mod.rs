//! Drives llama.cpp inside a worker process.
