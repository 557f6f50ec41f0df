//! A personality's folder as a [`Personality`].

use serde_json::{Map, Value};

use crate::domain::name::PersonalityId;
use crate::domain::personality::{Personality, PersonalityCommand, SamplingDefaults, line_breaks};
use crate::domain::prompt::PlainFormat;
use crate::domain::sampling::MAX_STOP_BYTES;
use crate::registry::beneath::{Folder, Kind, ReadError};
use crate::registry::loose::{Keys, scalar};
use crate::registry::problem::Problem;
use crate::registry::yaml;

/// The file that makes a folder a personality.
pub(crate) const MANIFEST: &str = "config.yaml";
/// Most anti-prompts of a personality; a generation takes 64 stop strings in all.
const MAX_ANTI_PROMPTS: usize = 48;
/// Logos in the order LoLLMs looks for them.
const LOGOS: [&str; 6] = ["gif", "webp", "png", "jpg", "jpeg", "bmp"];
/// Told to models by manifests that say nothing themselves.
const CONDITIONING: &str = "You are a helpful assistant. Answer clearly and truthfully.";

/// Where a personality was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: PersonalityId,
    pub(crate) language_folder: Option<String>,
}

impl Place {
    /// Its path beneath the root.
    pub(crate) fn path(&self) -> String {
        match &self.language_folder {
            Some(language) => format!("{language}/{}", self.id),
            None => self.id.to_string(),
        }
    }
}

/// Reads a manifest, with the texts of `languages/<language>.yaml` over it when one is asked for.
///
/// # Errors
/// The problem that makes it unusable.
pub(crate) fn load(
    root: &Folder,
    place: &Place,
    language: Option<&str>,
) -> Result<(Personality, Vec<Problem>), Problem> {
    let path = place.path();
    let folder = root.folder(&path).map_err(|e| Problem::broken(&path, None, e.to_string()))?;
    let manifest = format!("{path}/{MANIFEST}");
    let mut map = read_mapping(&folder, MANIFEST, &manifest)?;
    if let Some(language) = language {
        let file = format!("languages/{language}.yaml");
        map.extend(read_mapping(&folder, &file, &format!("{path}/{file}"))?);
    }
    Ok(build(&folder, place, &manifest, &map))
}

/// Reads a YAML file that must be a mapping; `shown` is its path in problems.
pub(crate) fn read_mapping(
    folder: &Folder,
    file: &str,
    shown: &str,
) -> Result<Map<String, Value>, Problem> {
    let bytes = folder
        .read(file, yaml::MAX_BYTES)
        .map_err(|error| Problem::broken(shown, None, error.to_string()))?;
    yaml::parse_mapping(&bytes).map_err(|error| Problem::broken(shown, error.line, error.reason))
}

fn build(
    folder: &Folder,
    place: &Place,
    manifest: &str,
    map: &Map<String, Value>,
) -> (Personality, Vec<Problem>) {
    let mut keys = Keys::new(manifest, map);
    let standard = PlainFormat::default();
    let mut text = |names: &[&'static str], default: &str| {
        keys.text(names).unwrap_or_else(|| default.to_owned())
    };
    let mut personality = Personality {
        id: place.id.clone(),
        folder: place.path(),
        language_folder: place.language_folder.clone(),
        name: text(&["name"], place.id.name.as_str()),
        author: text(&["author"], "unknown"),
        version: text(&["version"], "1.0.0"),
        description: text(&["personality_description", "description"], ""),
        category: text(&["category"], place.id.category.as_str()),
        language: text(&["language"], place.language_folder.as_deref().unwrap_or("english")),
        conditioning: text(&["personality_conditioning"], CONDITIONING),
        welcome_message: text(&["welcome_message"], ""),
        user_name: text(&["user_name"], "user"),
        user_message_prefix: line_breaks(&text(&["user_message_prefix"], &standard.user_prefix)),
        ai_message_prefix: line_breaks(&text(&["ai_message_prefix"], &standard.ai_prefix)),
        link_text: line_breaks(&text(&["link_text"], &standard.link_text)),
        disclaimer: text(&["disclaimer"], ""),
        help: text(&["help"], ""),
        include_welcome_message: true,
        anti_prompts: Vec::new(),
        dependencies: Vec::new(),
        commands: Vec::new(),
        prompts: Vec::new(),
        sampling: SamplingDefaults::default(),
        has_scripts: folder.has_file("scripts/processor.py"),
        has_logo: false,
        avatar: None,
        assets: files(folder, "assets"),
        languages: Vec::new(),
    };
    personality.include_welcome_message = keys.flag(
        // The first spelling is LoLLMs' own until April 2024.
        &["include_welcome_message_in_disucssion", "include_welcome_message_in_discussion"],
        true,
    );
    personality.anti_prompts = anti_prompts(&mut keys, manifest);
    personality.dependencies = keys.texts(&["dependencies"]);
    personality.prompts = keys.texts(&["prompts_list"]);
    personality.commands = keys.mappings(&["commands"]).into_iter().filter_map(command).collect();
    personality.sampling = sampling(&mut keys);
    let odd = keys.odd;
    look_around(folder, &mut personality);
    (personality, odd)
}

/// Fills in what the folder says beside its manifest.
fn look_around(folder: &Folder, personality: &mut Personality) {
    let has = |kind: &str| personality.assets.iter().any(|asset| *asset == format!("logo.{kind}"));
    personality.has_logo = has("png") || has("gif");
    let logo = LOGOS.into_iter().find(|kind| has(kind));
    personality.avatar = logo.map(|kind| format!("assets/logo.{kind}"));
    let languages = files(folder, "languages").into_iter();
    personality.languages =
        languages.filter_map(|file| Some(file.strip_suffix(".yaml")?.to_owned())).collect();
}

fn files(folder: &Folder, path: &str) -> Vec<String> {
    let entries = folder.folder(path).and_then(|folder| folder.entries());
    let is_file = |entry: &crate::registry::beneath::Entry| entry.kind == Kind::File;
    let names = |entries: Vec<_>| entries.into_iter().filter(is_file).map(|e| e.name).collect();
    entries.map_or_else(|_: ReadError| Vec::new(), names)
}

fn anti_prompts(keys: &mut Keys<'_>, manifest: &str) -> Vec<String> {
    let mut texts = keys.texts(&["anti_prompts"]);
    let written = texts.len();
    texts.retain(|text| !text.trim().is_empty() && text.len() <= MAX_STOP_BYTES);
    texts.truncate(MAX_ANTI_PROMPTS);
    if texts.len() < written {
        let reason = format!(
            "`anti_prompts`: {} of {written} are used; expected at most {MAX_ANTI_PROMPTS}, \
             none empty or over {MAX_STOP_BYTES} bytes",
            texts.len()
        );
        keys.odd.push(Problem::odd(manifest, reason));
    }
    texts
}

fn command(map: &Map<String, Value>) -> Option<PersonalityCommand> {
    let get = |key: &str| map.get(key).and_then(scalar).unwrap_or_default();
    let name = map.get("name").and_then(scalar)?;
    Some(PersonalityCommand { name, value: get("value"), help: get("help") })
}

#[expect(clippy::cast_possible_truncation, reason = "each range fits the type it is cast to")]
#[expect(clippy::cast_sign_loss, reason = "the range begins at 1")]
fn sampling(keys: &mut Keys<'_>) -> SamplingDefaults {
    SamplingDefaults {
        temperature: keys.number("model_temperature", (0.0, 100.0)).map(|n| n as f32),
        top_k: keys.number("model_top_k", (0.0, 1e6)).map(|n| n as i32),
        top_p: keys.number("model_top_p", (0.0, 1.0)).map(|n| n as f32),
        repeat_penalty: keys.number("model_repeat_penalty", (0.01, 100.0)).map(|n| n as f32),
        repeat_last_n: keys.number("model_repeat_last_n", (-1.0, 1e6)).map(|n| n as i32),
        n_predict: keys.number("model_n_predicts", (1.0, 1e6)).map(|n| n as u32),
    }
}
