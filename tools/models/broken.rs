//! Files that are no models: hostile, torn, foreign, empty.
//!
//! Each one has to give a clear error when it is loaded and leave everything else as it was.

use super::gguf::{Gguf, Tensor, Type, Value, put_text};
use super::{Kind, build};

/// A file and what is wrong with it.
pub(crate) struct Broken {
    /// File name without `.gguf`.
    pub(crate) name: &'static str,
    /// Its content.
    pub(crate) bytes: Vec<u8>,
}

/// More than any machine has.
const HUGE: u64 = 1 << 60;

/// All of them.
pub(crate) fn files() -> Vec<Broken> {
    let mut all = foreign();
    all.extend(lying_counts());
    all.extend(torn());
    all.extend(wrong_tables());
    all.extend(wrong_models());
    all
}

fn named(name: &'static str, bytes: Vec<u8>) -> Broken {
    Broken { name, bytes }
}

/// Files of other kinds and versions.
fn foreign() -> Vec<Broken> {
    let version = |number: [u8; 4]| {
        let mut bytes = build(Kind::Micro).to_bytes();
        bytes[4..8].copy_from_slice(&number);
        bytes
    };
    vec![
        named("empty", vec![]),
        named("magic_only", b"GGUF".to_vec()),
        named("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".repeat(40)),
        named("text", b"version https://git-lfs.github.com/spec/v1\nsize 133000000\n".to_vec()),
        named("zip", b"PK\x03\x04archive/data.pkl".repeat(30)),
        named("ggml_of_2023", b"lmgg\x01\0\0\0\0\x7d\0\0".repeat(30)),
        named("zeros", vec![0; 4096]),
        named("version_1", version([1, 0, 0, 0])),
        named("version_99", version([99, 0, 0, 0])),
        named("big_endian", version([0, 0, 0, 3])),
    ]
}

/// Counts and lengths far beyond the file.
fn lying_counts() -> Vec<Broken> {
    let head = |n_tensors: u64, n_entries: u64| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend_from_slice(&n_tensors.to_le_bytes());
        bytes.extend_from_slice(&n_entries.to_le_bytes());
        bytes
    };
    let entry = |code: u32, rest: &[u8]| {
        let mut bytes = head(0, 1);
        put_text(&mut bytes, "general.name");
        bytes.extend_from_slice(&code.to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes
    };
    let array = |element: u32, len: u64| {
        let mut rest = element.to_le_bytes().to_vec();
        rest.extend_from_slice(&len.to_le_bytes());
        rest
    };
    let mut long_key = head(0, 1);
    long_key.extend_from_slice(&HUGE.to_le_bytes());
    // Arrays of one array each, 50,000 deep.
    let nested = [array(9, 1)].concat().repeat(50_000);
    vec![
        named("tensor_count_2_60", head(HUGE, 0)),
        named("entry_count_2_60", head(0, HUGE)),
        named("key_length_2_60", long_key),
        named("text_length_2_60", entry(8, &HUGE.to_le_bytes())),
        named("array_length_2_60", entry(9, &array(4, HUGE))),
        named("array_length_overflows", entry(9, &array(12, u64::MAX / 4))),
        named("arrays_nested", entry(9, &nested)),
        named("unknown_value_type", entry(77, &[0; 64])),
        named("no_entries", head(0, 0)),
    ]
}

/// Files that end too early.
fn torn() -> Vec<Broken> {
    let whole = build(Kind::Micro).to_bytes();
    let cut = |len: usize| whole[..len].to_vec();
    vec![
        named("torn_in_metadata", cut(300)),
        named("torn_in_vocabulary", cut(4000)),
        named("torn_in_data", cut(whole.len() / 2)),
        named("torn_at_the_end", cut(whole.len() - 64)),
    ]
}

/// Tensor tables that lie.
fn wrong_tables() -> Vec<Broken> {
    let with = |change: &dyn Fn(&mut Gguf)| {
        let mut gguf = build(Kind::Micro);
        change(&mut gguf);
        gguf.to_bytes()
    };
    let head_with = |dims: Vec<u64>| {
        let mut gguf = build(Kind::Micro);
        gguf.tensors[0].dims = dims;
        gguf
    };
    let table_only = |gguf: &Gguf| {
        let mut bytes = vec![];
        gguf.write_head(&mut bytes).expect("a vector takes every byte");
        bytes.resize(bytes.len() + 4096, 0);
        bytes
    };
    let patched = |offset_of: &str, at: usize, value: &[u8]| {
        let mut bytes = build(Kind::Micro).to_bytes();
        let found = bytes.windows(offset_of.len()).position(|part| part == offset_of.as_bytes());
        let place = found.expect("every model has this tensor") + offset_of.len() + at;
        bytes[place..place + value.len()].copy_from_slice(value);
        bytes
    };
    // After a name: dimensions (4), one size (8), type (4), offset (8) for a vector.
    let norm = "output_norm.weight";
    vec![
        named("nine_dimensions", patched(norm, 0, &9_u32.to_le_bytes())),
        named("size_zero", patched(norm, 4, &0_u64.to_le_bytes())),
        named("size_negative", patched(norm, 4, &u64::MAX.to_le_bytes())),
        named("unknown_tensor_type", patched(norm, 12, &200_u32.to_le_bytes())),
        named("offset_beyond_the_file", patched(norm, 16, &(HUGE & !31).to_le_bytes())),
        named("offset_not_aligned", patched(norm, 16, &7_u64.to_le_bytes())),
        named("sizes_overflow", table_only(&head_with(vec![1 << 32, 1 << 32]))),
        named("larger_than_the_file", table_only(&head_with(vec![32, 1 << 40]))),
        named(
            "two_of_one_name",
            with(&|gguf| {
                let first = gguf.tensors[1].name.clone();
                gguf.tensors[6].name = first;
            }),
        ),
        named("alignment_3", with(&|gguf| gguf.set("general.alignment", Value::U32(3)))),
        named("alignment_0", with(&|gguf| gguf.set("general.alignment", Value::U32(0)))),
    ]
}

/// Files whose form is right and whose model is not.
fn wrong_models() -> Vec<Broken> {
    let with = |change: &dyn Fn(&mut Gguf)| {
        let mut gguf = build(Kind::Micro);
        change(&mut gguf);
        gguf.to_bytes()
    };
    let set = |key: &'static str, value: Value| {
        with(&move |gguf: &mut Gguf| {
            gguf.metadata.retain(|(name, _)| name != key);
            gguf.set(key, value.clone());
        })
    };
    let without = |prefix: &'static str| {
        with(&move |gguf: &mut Gguf| gguf.metadata.retain(|(name, _)| !name.starts_with(prefix)))
    };
    let lost = |tensor: &'static str| {
        with(&move |gguf: &mut Gguf| gguf.tensors.retain(|kept| kept.name != tensor))
    };
    vec![
        named("no_architecture", without("general.architecture")),
        named(
            "unknown_architecture",
            set("general.architecture", Value::Text("perceptron".into())),
        ),
        named("architecture_is_a_number", set("general.architecture", Value::U32(7))),
        named("no_vocabulary", without("tokenizer.")),
        named("no_heads", set("llama.attention.head_count", Value::U32(0))),
        named("no_width", set("llama.embedding_length", Value::U32(0))),
        named("a_million_blocks", set("llama.block_count", Value::U32(1_000_000))),
        named(
            "two_tokens_of_one_text",
            with(&|gguf| {
                for (key, value) in &mut gguf.metadata {
                    if let ("tokenizer.ggml.tokens", Value::Texts(texts)) = (key.as_str(), value) {
                        texts[300] = texts[301].clone();
                    }
                }
            }),
        ),
        named("no_norm", lost("output_norm.weight")),
        named("no_attention", lost("blk.0.attn_k.weight")),
        named(
            "wrong_shape",
            with(&|gguf| {
                let data = Box::new(|| vec![0; 4 * 16]);
                let name = gguf.tensors[1].name.clone();
                gguf.tensors[1] = Tensor { name, dims: vec![16], kind: Type::F32, data };
            }),
        ),
    ]
}
