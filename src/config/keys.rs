//! The keys of the configuration, in one table: read, shown and documented from here.

use serde_json::{Value, json};

use crate::config::settings::{Host, MIN_KEY_LENGTH, PersonalitiesTree, Secret, Settings};
use crate::config::value;
use crate::domain::sampling::Sampling;

/// One key.
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// Other names that LoLLMs used for it.
    pub(super) aliases: &'static [&'static str],
    /// Who may change it.
    pub(super) access: Access,
    /// What fits, in words.
    pub(super) expected: &'static str,
    /// Takes a value; `None` when it does not fit.
    pub(super) set: fn(&mut Settings, &Value) -> Option<()>,
    /// Shows the value; secrets as `***`.
    pub(super) get: fn(&Settings) -> Value,
}

/// Who may change a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Clients may, through the server.
    Client,
    /// Files, variables and flags only: addresses, keys, limits, paths, and what has events of its own.
    Operator,
}

/// The key with this name, old names included.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name || key.aliases.contains(&name))
}

impl Key {
    /// Whether its value is a list, so that a variable may hold several values with commas.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.name, "listen" | "allowed_hosts" | "allowed_origins" | "personalities")
    }

    /// Whether its value must not be shown.
    pub(super) fn is_secret(&self) -> bool {
        self.name == "api_key"
    }
}

macro_rules! key {
    ($name:literal $($alias:literal)*, $access:ident, $expected:literal, $set:expr, $get:expr) => {
        Key {
            name: $name,
            aliases: &[$($alias),*],
            access: Access::$access,
            expected: $expected,
            set: $set,
            get: $get,
        }
    };
}

/// Takes a value into a field through a typed reading.
macro_rules! take {
    ($($field:ident).+, $reading:expr) => {
        |settings, value| {
            settings.$($field).+ = $reading(value)?;
            Some(())
        }
    };
}

/// Takes a sampling setting, whose range `domain` checks.
macro_rules! sampling {
    ($field:ident, $reading:expr) => {
        |settings, value| {
            let changed = Sampling { $field: $reading(value)?, ..settings.sampling };
            settings.sampling = changed.checked().ok()?;
            Some(())
        }
    };
}

fn plain_i32(value: &Value) -> Option<i32> {
    i32::try_from(value::whole(value, i64::from(i32::MIN)..=i64::from(i32::MAX))?).ok()
}

/// A name, or an empty text for nothing, as LoLLMs' files hold `null` or an empty text.
fn name_or_nothing(value: &Value) -> Option<String> {
    if value.is_null() { Some(String::new()) } else { value::text(value) }
}

/// Takes a name into an optional field.
fn put(field: &mut Option<String>, value: &Value) -> Option<()> {
    let name = name_or_nothing(value)?;
    *field = Some(name).filter(|name| !name.is_empty());
    Some(())
}

fn host_text(host: Host) -> String {
    match host {
        Host::Localhost => "localhost".into(),
        Host::Address(address) => address.to_string(),
    }
}

/// All keys. Within one layer they are read in this order, so `listen` goes before `host` and `port`.
pub(super) const KEYS: &[Key] = &[
    key!(
        "host",
        Operator,
        "`localhost` or an IP address",
        |s, v| {
            s.host = value::host(v)?;
            s.listen.clear();
            Some(())
        },
        |s| json!(host_text(s.host))
    ),
    key!(
        "port",
        Operator,
        "a port from 0 to 65535",
        |s, v| {
            s.port = u16::try_from(value::whole(v, 0..=65_535)?).ok();
            s.listen.clear();
            Some(())
        },
        |s| json!(
            s.port
                .unwrap_or_else(|| s.listeners().first().map_or(9600, std::net::SocketAddr::port))
        )
    ),
    key!(
        "listen",
        Operator,
        "a list of `address:port`",
        take!(listen, value::addresses),
        |s| json!(s.listeners().iter().map(ToString::to_string).collect::<Vec<_>>())
    ),
    key!(
        "allowed_hosts",
        Operator,
        "a list of host names without scheme or path",
        take!(allowed_hosts, value::host_names),
        |s| json!(s.allowed_hosts)
    ),
    key!(
        "allowed_origins",
        Operator,
        "a list of exact origins such as `https://chat.example.org`; `*` is not allowed",
        take!(allowed_origins, value::origins),
        |s| json!(s.allowed_origins)
    ),
    key!(
        "api_key",
        Operator,
        "a text of 8 to 4096 characters",
        |s, v| {
            s.api_keys =
                vec![Secret::new(value::text(v).filter(|key| key.len() >= MIN_KEY_LENGTH)?)];
            Some(())
        },
        |s| if s.api_keys.is_empty() { Value::Null } else { json!("***") }
    ),
    key!(
        "api_key_file",
        Operator,
        "the path of a file",
        |s, v| {
            s.api_key_file = Some(name_or_nothing(v)?).filter(|f| !f.is_empty()).map(Into::into);
            Some(())
        },
        |s| if s.api_key_file.is_none() { Value::Null } else { json!("***") }
    ),
    key!("binding_name" "binding" "backend", Client, "the name of a binding, or null",
        |s, v| put(&mut s.binding_name, v), |s| json!(s.binding_name)),
    key!("model_name" "model", Client, "the name of a model, or null",
        |s, v| put(&mut s.model_name, v), |s| json!(s.model_name)),
    key!(
        "ctx_size",
        Client,
        "a whole number of tokens from 64 to 4194304",
        take!(ctx_size, |v| value::count(v, 64..=4_194_304)),
        |s| json!(s.ctx_size)
    ),
    key!(
        "slots",
        Operator,
        "a whole number from 1 to 256",
        take!(slots, |v| value::count(v, 1..=256)),
        |s| json!(s.slots)
    ),
    key!(
        "n_batch",
        Operator,
        "a whole number of tokens from 1 to 65536",
        take!(n_batch, |v| value::count(v, 1..=65_536)),
        |s| json!(s.n_batch)
    ),
    key!(
        "n_threads",
        Operator,
        "a whole number from 0 (automatic) to 1024",
        take!(n_threads, |v| value::count(v, 0..=1_024)),
        |s| json!(s.n_threads)
    ),
    key!("gpu_layers" "n_gpu_layers", Operator, "a whole number from -1 (all) to 100000",
        |s, v| { s.gpu_layers = plain_i32(v).filter(|n| (-1..=100_000).contains(n))?; Some(()) },
        |s| json!(s.gpu_layers)),
    key!(
        "kv_type",
        Operator,
        "`f32`, `f16` or `q8_0`",
        take!(kv_type, |v| value::text(v).filter(|t| matches!(t.as_str(), "f32" | "f16" | "q8_0"))),
        |s| json!(s.kv_type)
    ),
    key!("check_tensors", Operator, "true or false", take!(check_tensors, value::flag), |s| json!(
        s.check_tensors
    )),
    key!(
        "idle_cells",
        Operator,
        "a whole number of tokens from 0 to 4194304",
        take!(idle_cells, |v| value::count(v, 0..=4_194_304)),
        |s| json!(s.idle_cells)
    ),
    key!(
        "cache_ram",
        Operator,
        "a whole number of MiB from 0 (off) to 1048576",
        take!(cache_ram, |v| value::count(v, 0..=1_048_576)),
        |s| json!(s.cache_ram)
    ),
    key!(
        "step_ms",
        Operator,
        "a whole number of milliseconds from 1 to 10000",
        take!(step_ms, |v| value::count(v, 1..=10_000)),
        |s| json!(s.step_ms)
    ),
    key!(
        "queue_length",
        Operator,
        "a whole number from 0 to 100000",
        take!(queue_length, |v| value::count(v, 0..=100_000)),
        |s| json!(s.queue_length)
    ),
    key!(
        "queue_per_client",
        Operator,
        "a whole number from 1 to 100000",
        take!(queue_per_client, |v| value::count(v, 1..=100_000)),
        |s| json!(s.queue_per_client)
    ),
    key!("n_predict" "max_n_predict", Client, "a whole number from 1 to 1000000, or -1 for as many as the context holds",
        |s, v| { let n = value::whole(v, -1..=1_000_000).filter(|n| *n != 0)?; s.n_predict = u32::try_from(n).ok(); Some(()) },
        |s| s.n_predict.map_or(json!(-1), Into::into)),
    key!(
        "temperature",
        Client,
        "a number from 0 to 100",
        sampling!(temperature, value::number),
        |s| single(s.sampling.temperature)
    ),
    key!(
        "top_k",
        Client,
        "a whole number from 0 to 1000000",
        sampling!(top_k, plain_i32),
        |s| json!(s.sampling.top_k)
    ),
    key!("top_p", Client, "a number from 0 to 1", sampling!(top_p, value::number), |s| single(
        s.sampling.top_p
    )),
    key!("min_p", Client, "a number from 0 to 1", sampling!(min_p, value::number), |s| single(
        s.sampling.min_p
    )),
    key!("typical_p", Client, "a number from 0 to 1", sampling!(typical_p, value::number), |s| {
        single(s.sampling.typical_p)
    }),
    key!(
        "repeat_penalty",
        Client,
        "a number from 0.01 to 100",
        sampling!(repeat_penalty, value::number),
        |s| single(s.sampling.repeat_penalty)
    ),
    key!(
        "repeat_last_n",
        Client,
        "a whole number from -1 to 1000000",
        sampling!(repeat_last_n, plain_i32),
        |s| json!(s.sampling.repeat_last_n)
    ),
    key!(
        "presence_penalty",
        Client,
        "a number from -100 to 100",
        sampling!(presence_penalty, value::number),
        |s| single(s.sampling.presence_penalty)
    ),
    key!(
        "frequency_penalty",
        Client,
        "a number from -100 to 100",
        sampling!(frequency_penalty, value::number),
        |s| single(s.sampling.frequency_penalty)
    ),
    key!(
        "seed",
        Client,
        "a whole number from 0 to 4294967295, or -1 for a fresh one each time",
        |s, v| {
            s.sampling.seed = u32::try_from(value::whole(v, -1..=i64::from(u32::MAX))?).ok();
            Some(())
        },
        |s| s.sampling.seed.map_or(json!(-1), Into::into)
    ),
    key!(
        "personalities",
        Operator,
        "a list of `category/name`",
        take!(personalities, value::texts),
        |s| json!(s.personalities)
    ),
    key!("active_personality_id" "default_personality_id", Operator, "the index of a mounted personality, from 0",
        |s, v| { s.active_personality_id = usize::try_from(value::whole(v, -1..=1_000)?).unwrap_or(0); Some(()) },
        |s| json!(s.active_personality_id)),
    key!(
        "personalities_tree",
        Operator,
        "`category` or `language`",
        |s, v| {
            s.personalities_tree = match value::text(v)?.as_str() {
                "category" => PersonalitiesTree::Category,
                "language" => PersonalitiesTree::Language,
                _ => return None,
            };
            Some(())
        },
        |s| match s.personalities_tree {
            PersonalitiesTree::Category => json!("category"),
            PersonalitiesTree::Language => json!("language"),
        }
    ),
    key!(
        "override_personality_model_parameters",
        Client,
        "true or false",
        take!(override_personality_model_parameters, value::flag),
        |s| json!(s.override_personality_model_parameters)
    ),
    key!(
        "discussion_prompt_separator",
        Client,
        "a text",
        take!(discussion_prompt_separator, value::text),
        |s| json!(s.discussion_prompt_separator)
    ),
    key!("user_name", Client, "a text", take!(user_name, value::text), |s| json!(s.user_name)),
    key!(
        "hang_timeout_s",
        Operator,
        "a whole number of seconds from 1 to 86400",
        take!(hang_timeout_s, |v| value::count(v, 1..=86_400)),
        |s| json!(s.hang_timeout_s)
    ),
    key!(
        "max_connections",
        Operator,
        "a whole number from 1 to 1000000",
        take!(max_connections, |v| value::count(v, 1..=1_000_000)),
        |s| json!(s.max_connections)
    ),
    key!(
        "max_connections_per_address",
        Operator,
        "a whole number from 1 to 1000000",
        take!(max_connections_per_address, |v| value::count(v, 1..=1_000_000)),
        |s| json!(s.max_connections_per_address)
    ),
];

/// A single-precision number as it was written: 0.9, not 0.8999999761581421.
fn single(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Into::into)
}

/// Keys of LoLLMs' own configuration files, all eras, that mean nothing here: kept without a warning,
/// so that a file of LoLLMs can be used as it is.
pub(super) fn is_lollms_key(name: &str) -> bool {
    LOLLMS_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || LOLLMS_KEYS.split_whitespace().any(|key| key == name)
}

const LOLLMS_PREFIXES: &[&str] = &[
    "activate_",
    "active_",
    "app_",
    "audio_",
    "auto_",
    "comfyui_",
    "data_",
    "debug",
    "elastic_",
    "enable_",
    "end_",
    "internet_",
    "last_viewed_",
    "lollms_",
    "motion_",
    "ollama_",
    "petals_",
    "rag_",
    "sd_",
    "show_",
    "skills_",
    "smart_",
    "start_",
    "stt_",
    "tts_",
    "turn_on_",
    "use_",
    "user_",
    "vllm_",
    "voice",
    "xtts_",
    "whisper_",
];

const LOLLMS_KEYS: &str = "config contextual_summary copy_to_clipboard_add_all_details current_language \
    current_voice datalakes db_path discussion_db_name extensions force_accept_remote_access \
    force_output_language_to_be fun_mode hardware_mode headless_server_mode keep_thoughts language \
    max_summary_size media_on min_n_predict model_type model_variant mounted_function_calls \
    nb_messages_to_remember negative_boost num_experts_per_token pdf_latex_path personality \
    personality_category personality_language positive_boost restore_model_after_smart_routing \
    separator_template silenceTimer summerize_discussion system_message_template think_first_mode \
    thinking_prompt version";
