//! Everything that can be set, within its ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::domain::sampling::Sampling;

/// Ports of the two listeners that LoLLMs clients expect: web UI and REST, core Socket.IO.
pub const DEFAULT_PORTS: [u16; 2] = [9600, 9601];
/// Fewest characters of a key that clients show.
pub const MIN_KEY_LENGTH: usize = 8;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Addresses to listen on; empty means those of `host` and `port`. See [`Settings::listeners`].
    pub listen: Vec<SocketAddr>,
    /// LoLLMs' `host`.
    pub host: Host,
    /// LoLLMs' `port`; 9600 stands for both default ports.
    pub port: Option<u16>,
    /// Host names, besides the loopback ones, that requests may be sent to.
    pub allowed_hosts: Vec<String>,
    /// Origins, besides our own, whose pages may use the server; exact texts.
    pub allowed_origins: Vec<String>,
    /// Keys that open the server, of `api_key` and `api_key_file`.
    pub api_keys: Vec<Secret>,
    /// File with a key on each line.
    pub api_key_file: Option<PathBuf>,
    /// The selected binding.
    pub binding_name: Option<String>,
    /// The selected model.
    pub model_name: Option<String>,
    /// Tokens of one chat.
    pub ctx_size: u32,
    /// Generations of one model that run at the same time.
    pub slots: u32,
    /// Most tokens of one decode step.
    pub n_batch: u32,
    /// Threads of a decode step; 0 lets the worker choose.
    pub n_threads: u32,
    /// Layers held on GPUs; −1 means all.
    pub gpu_layers: i32,
    /// Type of the KV cache: `f32`, `f16` or `q8_0`.
    pub kv_type: String,
    /// Reads every tensor's data at load and refuses broken ones.
    pub check_tensors: bool,
    /// Tokens of earlier chats that stay in the KV cache while others are answered.
    pub idle_cells: u32,
    /// Memory for earlier chats that left the KV cache, in MiB; 0 turns that off.
    pub cache_ram: u32,
    /// A step that reads prompts while others are answered may always last this long, in milliseconds.
    pub step_ms: u32,
    /// Most generations that wait.
    pub queue_length: u32,
    /// Most generations of one client that wait.
    pub queue_per_client: u32,
    /// Most tokens of a completion that does not say; `None` means as many as the context holds.
    pub n_predict: Option<u32>,
    /// How completions that do not say are sampled.
    pub sampling: Sampling,
    /// Mounted personalities, as `category/name` or `category/name:language`.
    pub personalities: Vec<String>,
    /// Index of the active one.
    pub active_personality_id: usize,
    /// Levels of the tree of `/get_all_personalities`.
    pub personalities_tree: PersonalitiesTree,
    /// Whether the configuration's sampling goes before a personality's.
    pub override_personality_model_parameters: bool,
    /// What LoLLMs puts before each message.
    pub discussion_prompt_separator: String,
    /// What the user is called.
    pub user_name: String,
    /// Seconds without a step after which a worker that has work is ended.
    pub hang_timeout_s: u32,
    /// Most connections.
    pub max_connections: u32,
    /// Most connections of one address that is not loopback.
    pub max_connections_per_address: u32,
    /// Keys of LoLLMs that mean nothing here; handed back by `/get_config`.
    pub extra: Map<String, Value>,
}

/// Where LoLLMs' `host` points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Both loopback addresses.
    Localhost,
    /// One address.
    Address(IpAddr),
}

/// How the tree of personalities is shown to LoLLMs' web UI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersonalitiesTree {
    /// `category/name`.
    Category,
    /// `language/category/name`, for the UI of July 2023.
    Language,
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for comparing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            host: Host::Localhost,
            port: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            api_keys: Vec::new(),
            api_key_file: None,
            binding_name: None,
            model_name: None,
            ctx_size: 4096,
            slots: 4,
            n_batch: 512,
            n_threads: 0,
            gpu_layers: -1,
            kv_type: "f16".into(),
            check_tensors: false,
            idle_cells: 1024,
            cache_ram: 1024,
            step_ms: 20,
            queue_length: 64,
            queue_per_client: 16,
            n_predict: Some(1024),
            sampling: Sampling::default(),
            personalities: vec!["generic/lollms".into()],
            active_personality_id: 0,
            personalities_tree: PersonalitiesTree::Category,
            override_personality_model_parameters: false,
            discussion_prompt_separator: "!@>".into(),
            user_name: "user".into(),
            hang_timeout_s: 120,
            max_connections: 2000,
            max_connections_per_address: 100,
            extra: Map::new(),
        }
    }
}

impl Settings {
    /// Addresses to listen on.
    ///
    /// `listen` as it is, else `host` with `port`; without a port, or with LoLLMs' 9600, both
    /// default ports.
    pub fn listeners(&self) -> Vec<SocketAddr> {
        if !self.listen.is_empty() {
            return self.listen.clone();
        }
        let hosts = match self.host {
            Host::Localhost => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Host::Address(address) => vec![address],
        };
        let ports = match self.port {
            None | Some(9600) => DEFAULT_PORTS.to_vec(),
            Some(port) => vec![port],
        };
        let of_port = |port: u16| hosts.iter().map(move |host| SocketAddr::new(*host, port));
        ports.into_iter().flat_map(of_port).collect()
    }

    /// Whether every listener is a loopback address, so that no key is needed.
    pub fn is_loopback_only(&self) -> bool {
        self.listeners().iter().all(|address| address.ip().is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(settings: &Settings) -> Vec<String> {
        settings.listeners().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn listeners_are_loopback_on_both_ports_unless_told_otherwise() {
        let mut settings = Settings::default();
        let both = ["127.0.0.1:9600", "[::1]:9600", "127.0.0.1:9601", "[::1]:9601"];
        assert_eq!(shown(&settings), both);
        settings.port = Some(9600);
        assert_eq!(shown(&settings), both);
        assert!(settings.is_loopback_only());
        settings.port = Some(8000);
        settings.host = Host::Address("192.168.1.5".parse().unwrap());
        assert_eq!(shown(&settings), ["192.168.1.5:8000"]);
        assert!(!settings.is_loopback_only());
    }

    #[test]
    fn a_key_is_never_shown() {
        let settings = Settings { api_keys: vec![Secret::new("geheim")], ..Settings::default() };
        assert!(!format!("{settings:?}").contains("geheim"));
    }
}
