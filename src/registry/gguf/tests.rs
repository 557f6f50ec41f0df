//! Hand-made headers, whole and damaged in every way.

use std::io::Cursor;

use proptest::prelude::*;

use crate::registry::gguf::{Summary, read_from};

#[derive(Default)]
struct Maker {
    pairs: Vec<Vec<u8>>,
    tensors: Vec<u8>,
    tensor_count: u64,
    data: usize,
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

impl Maker {
    fn pair(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.pairs.push([&text(key)[..], &kind.to_le_bytes(), value].concat());
        self
    }

    fn number(self, key: &str, number: u32) -> Self {
        self.pair(key, 4, &number.to_le_bytes())
    }

    fn words(self, key: &str, words: &[&str]) -> Self {
        let mut value = 8_u32.to_le_bytes().to_vec();
        value.extend((words.len() as u64).to_le_bytes());
        value.extend(words.iter().flat_map(|word| text(word)));
        self.pair(key, 9, &value)
    }

    fn tensor(mut self, name: &str, sides: &[u64], (kind, offset): (u32, u64)) -> Self {
        self.tensors.extend(text(name));
        self.tensors.extend(u32::try_from(sides.len()).unwrap().to_le_bytes());
        self.tensors.extend(sides.iter().flat_map(|side| side.to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    fn data(mut self, bytes: usize) -> Self {
        self.data = bytes;
        self
    }

    fn build(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend((self.pairs.len() as u64).to_le_bytes());
        bytes.extend(self.pairs.concat());
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32) + self.data, 0);
        bytes
    }
}

fn llama() -> Maker {
    Maker::default()
        .pair("general.architecture", 8, &text("llama"))
        .pair("general.name", 8, &text("Tiny"))
        .number("llama.context_length", 2048)
        .number("llama.block_count", 2)
        .number("llama.embedding_length", 64)
        .number("llama.attention.head_count", 4)
        .number("llama.attention.head_count_kv", 2)
        .pair("general.flag", 7, &[1])
        .words("tokenizer.ggml.tokens", &["<s>", "</s>", "a"])
        .pair("tokenizer.chat_template", 8, &text("{{ messages }}"))
        .tensor("token_embd.weight", &[64, 3], (0, 0))
        .tensor("output.weight", &[64, 3], (8, 768))
        .data(768 + 204)
}

fn read(bytes: &[u8]) -> Result<Summary, String> {
    let length = bytes.len() as u64;
    read_from(Cursor::new(bytes), length).map_err(|error| error.to_string())
}

fn refusal(bytes: &[u8]) -> String {
    read(bytes).unwrap_err()
}

#[test]
fn a_whole_header_is_summed_up() {
    let bytes = llama().build();
    let summary = read(&bytes).unwrap();
    let expected = Summary {
        architecture: "llama".into(),
        name: "Tiny".into(),
        parameters: 384,
        context_length: 2048,
        n_layers: 2,
        n_embd: 64,
        kv_heads: 4,
        kv_bytes_per_token: 4 * (16 + 16) * 2,
        vocabulary: 3,
        chat_template: true,
        file_size: bytes.len() as u64,
        split_count: 1,
    };
    assert_eq!(summary, expected);
}

#[test]
fn heads_may_differ_from_layer_to_layer() {
    let mut value = 5_u32.to_le_bytes().to_vec();
    value.extend(3_u64.to_le_bytes());
    value.extend([2_u32, 0, 4].iter().flat_map(|heads| heads.to_le_bytes()));
    let maker = Maker::default().pair("general.architecture", 8, &text("mixed")).pair(
        "mixed.attention.head_count_kv",
        9,
        &value,
    );
    assert_eq!(read(&maker.build()).unwrap().kv_heads, 6);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = llama().build();
    for length in 0..bytes.len() {
        let error = refusal(&bytes[..length]);
        let named = ["cut short", "empty", "at most", "needs"];
        assert!(named.iter().any(|word| error.contains(word)), "{length}: {error}");
    }
    let error = refusal(&bytes[..bytes.len() - 1]);
    let expected = format!(
        "the file ends at byte {}, within the data of tensor `output.weight`",
        bytes.len() - 1
    );
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn other_files_are_named_for_what_they_are() {
    let seems = |bytes: &[u8]| refusal(bytes);
    assert!(seems(b"").contains("0 bytes"));
    assert!(seems(b"GG").contains("within the magic bytes"));
    assert!(seems(b"PK\x03\x04 and more").contains("ZIP"));
    assert!(seems(b"version https://git-lfs").contains("Git LFS"));
    assert!(seems(b"<!DOCTYPE html>").contains("web page"));
    assert!(seems(b"\x40\0\0\0\0\0\0\0{\"a\":1}").contains("safetensors"));
    assert!(seems(b"tjgg\x01\0\0\0\0").contains("August 2023"));
    assert!(seems(b"hello, this is a text").contains("something else"));
    let mut old = llama().build();
    old[4] = 1;
    assert!(seems(&old).contains("GGUF version 1 at byte 4"));
    old[4..8].copy_from_slice(&3_u32.to_be_bytes());
    assert!(seems(&old).contains("big-endian"));
}

#[test]
fn declared_sizes_are_checked_before_they_are_used() {
    let mut bytes = llama().build();
    bytes[8..16].copy_from_slice(&(1_u64 << 60).to_le_bytes());
    assert!(refusal(&bytes).contains("1152921504606846976 tensors"));
    let mut bytes = llama().build();
    bytes[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refusal(&bytes).contains("key-value pairs"));
    let array = |kind: u32, count: u64| {
        let value = [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
        refusal(&Maker::default().pair("a", 9, &value).data(64).build())
    };
    assert!(array(8, 1 << 60).contains("an array of 1152921504606846976 elements"));
    assert!(array(9, 1).contains("array of value type 9"));
    let huge = [&u64::MAX.to_le_bytes()[..], b"abc"].concat();
    assert!(refusal(&Maker::default().pair("a", 8, &huge).build()).contains("cut short"));
    let kind = Maker::default().pair("a", 13, &[0; 8]).data(64);
    assert!(refusal(&kind.build()).contains("value type 13 of `a`"));
}

#[test]
fn impossible_tensors_are_refused() {
    let with = |sides: &[u64], kind: u32, offset: u64| {
        let maker = Maker::default().pair("general.architecture", 8, &text("x"));
        refusal(&maker.tensor("t", sides, (kind, offset)).data(4096).build())
    };
    assert!(with(&[1; 5], 0, 0).contains("5 dimensions of tensor `t`"));
    assert!(with(&[1 << 40, 1 << 40], 0, 0).contains("below 2^63 elements"));
    assert!(with(&[32], 99, 0).contains("data type 99"));
    assert!(with(&[33], 8, 0).contains("a multiple of 32"));
    assert!(with(&[32], 8, 7).contains("data offset 7"));
    assert!(with(&[32], 0, u64::MAX - 31).contains("an end below 2^64"));
    assert!(with(&[1 << 30], 0, 0).contains("cut short"));
    let odd = llama().number("general.alignment", 48);
    assert!(refusal(&odd.build()).contains("a power of two"));
    assert!(refusal(&Maker::default().data(64).build()).contains("`general.architecture`"));
}

proptest! {
    #[test]
    fn damaged_headers_never_panic(
        flips in prop::collection::vec((any::<usize>(), any::<u8>()), 1..20),
        cut in any::<usize>(),
    ) {
        let mut bytes = llama().build();
        let length = bytes.len();
        for (at, value) in flips {
            bytes[at % length] = value;
        }
        bytes.truncate(1 + cut % length);
        let _either = read(&bytes);
    }

    #[test]
    fn noise_behind_the_magic_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let bytes = [&b"GGUF\x03\0\0\0"[..], &noise].concat();
        prop_assert!(read(&bytes).is_err() || !noise.is_empty());
    }
}

#[test]
fn a_large_vocabulary_is_gone_over_without_being_kept() {
    let words: Vec<String> = (0..150_000).map(|number| format!("token{number}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let bytes = llama().words("tokenizer.ggml.merges", &words).build();
    assert!(bytes.len() > 2_000_000);
    assert_eq!(read(&bytes).unwrap().vocabulary, 3);
}
