//! The personalities of a root: lists, look-ups, and the pictures beside them.
//!
//! Two levels (`category/name`), and three (`language/category/name`) as zoos had until August 2023.
//! A first-level folder counts as a language when none of its folders has a manifest and one of
//! their folders does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::domain::name::{Name, NameError, PersonalityId};
use crate::domain::personality::Personality;
use crate::registry::beneath::{Folder, Kind, ReadError};
use crate::registry::catalogue::{Catalogue, Manifest, Snapshot};
use crate::registry::image::{Image, ImageError, read_image};
use crate::registry::personality::{MANIFEST, Place, load};
use crate::registry::problem::Problem;

/// The personalities of a root, kept up to date.
pub type Personalities = Catalogue<Personality>;

/// Why a personality was not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The path is no `category/name`.
    #[error("`{path}` is no personality; expected `category/name`")]
    NotAPath {
        /// What was asked for.
        path: String,
        /// Which part is wrong.
        #[source]
        source: NameError,
    },
    /// Nothing there.
    #[error("there is no personality `{0}`")]
    Missing(String),
    /// It is there, its manifest cannot be used.
    #[error("personality `{path}` cannot be used: {problem}")]
    Broken {
        /// What was asked for.
        path: String,
        /// What is wrong with it.
        problem: Problem,
    },
}

impl Manifest for Personality {
    type Place = PlaceOf;

    fn places(root: &Folder) -> Result<(Vec<PlaceOf>, Vec<Problem>), ReadError> {
        let mut found = Found::default();
        for category in found.folders(root, "")? {
            let names = found.folders(root, &category)?;
            let has_manifest = |path: &str| root.is_there(&format!("{path}/{MANIFEST}"));
            let (whole, rest): (Vec<_>, Vec<_>) =
                names.into_iter().partition(|name| has_manifest(&format!("{category}/{name}")));
            let deeper = if whole.is_empty() { found.deeper(root, &category, &rest)? } else { 0 };
            for name in &whole {
                found.add(None, &category, name);
            }
            if deeper == 0 {
                for name in rest {
                    let path = format!("{category}/{name}");
                    let reason = format!("the folder has no `{MANIFEST}`");
                    found.problems.push(Problem::broken(path, None, reason));
                }
            }
        }
        Ok((found.places, found.problems))
    }

    fn path(place: &PlaceOf) -> String {
        place.0.path()
    }

    fn watched(place: &PlaceOf) -> Vec<String> {
        let path = place.0.path();
        let beside = [MANIFEST, "assets", "scripts", "languages"];
        let beside = beside.iter().map(|name| format!("{path}/{name}"));
        std::iter::once(path.clone()).chain(beside).collect()
    }

    fn load(root: &Folder, place: &PlaceOf) -> Result<(Self, Vec<Problem>), Problem> {
        load(root, &place.0, None)
    }
}

/// Where a personality was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceOf(Place);

#[derive(Default)]
struct Found {
    places: Vec<PlaceOf>,
    problems: Vec<Problem>,
}

impl Found {
    /// Folders of `path` whose names can be asked for; the others become problems.
    fn folders(&mut self, root: &Folder, path: &str) -> Result<Vec<String>, ReadError> {
        let folder = root.folder(if path.is_empty() { "." } else { path })?;
        let mut names = Vec::new();
        for entry in folder.entries()? {
            if entry.name.starts_with('.') || entry.name == "__pycache__" {
                continue;
            }
            let shown =
                if path.is_empty() { entry.name.clone() } else { format!("{path}/{}", entry.name) };
            match (entry.kind, Name::parse(&entry.name)) {
                (Kind::Folder, Ok(_)) => names.push(entry.name),
                (Kind::Folder, Err(error)) => {
                    self.problems.push(Problem::broken(shown, None, error.to_string()));
                }
                (Kind::Link, _) => {
                    let reason = "it is a symbolic link; links are not followed here";
                    self.problems.push(Problem::broken(shown, None, reason));
                }
                (Kind::File | Kind::Other, _) => {}
            }
        }
        Ok(names)
    }

    /// Adds the personalities of a language folder; says how many there were.
    fn deeper(
        &mut self,
        root: &Folder,
        language: &str,
        categories: &[String],
    ) -> Result<usize, ReadError> {
        let before = self.places.len();
        for category in categories {
            let path = format!("{language}/{category}");
            for name in root.folder(&path)?.subfolders()? {
                if root.is_there(&format!("{path}/{name}/{MANIFEST}")) {
                    self.add(Some(language), category, &name);
                }
            }
        }
        Ok(self.places.len() - before)
    }

    fn add(&mut self, language: Option<&str>, category: &str, name: &str) {
        if let (Ok(category), Ok(name)) = (Name::parse(category), Name::parse(name)) {
            let id = PersonalityId { category, name };
            let language_folder = language.map(str::to_owned);
            self.places.push(PlaceOf(Place { id, language_folder }));
        }
    }
}

impl Catalogue<Personality> {
    /// Categories, sorted.
    pub fn list_categories(&self) -> Vec<String> {
        let snapshot = self.snapshot();
        let categories: BTreeSet<&str> =
            snapshot.entries.values().map(|entry| entry.id.category.as_str()).collect();
        categories.into_iter().map(str::to_owned).collect()
    }

    /// Folder names of a category, sorted; `None` when there is no such category.
    pub fn list_names(&self, category: &Name) -> Option<Vec<String>> {
        let snapshot = self.snapshot();
        let names: BTreeSet<&str> = snapshot
            .entries
            .values()
            .filter(|entry| entry.id.category == *category)
            .map(|entry| entry.id.name.as_str())
            .collect();
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        if names.is_empty() { None } else { Some(names) }
    }

    /// All personalities by category, each list sorted by folder.
    pub fn by_category(&self) -> BTreeMap<String, Vec<Arc<Personality>>> {
        let mut tree: BTreeMap<String, Vec<Arc<Personality>>> = BTreeMap::new();
        for entry in self.snapshot().entries.values() {
            tree.entry(entry.id.category.to_string()).or_default().push(Arc::clone(entry));
        }
        tree
    }

    /// The personality with this id; of several languages English comes first.
    pub fn find(&self, id: &PersonalityId) -> Option<Arc<Personality>> {
        find_in(&self.snapshot(), id)
    }

    /// The personality that a client or a configuration names: `category/name` or
    /// `language/category/name`, either with `:french` for the texts of `languages/french.yaml`.
    ///
    /// # Errors
    /// [`FindError`] when the path is no path, or nothing usable is there.
    pub fn find_path(&self, path: &str) -> Result<Arc<Personality>, FindError> {
        let snapshot = self.snapshot();
        match find_whole(&snapshot, path) {
            Err(error) => {
                // A folder's name may hold a colon, so the whole path is tried first.
                let Some((folder, language)) = path.rsplit_once(':') else { return Err(error) };
                let entry = find_whole(&snapshot, folder)?;
                self.with_language(&entry, language)
            }
            found => found,
        }
    }

    fn with_language(
        &self,
        entry: &Personality,
        language: &str,
    ) -> Result<Arc<Personality>, FindError> {
        let path = format!("{}:{language}", entry.folder);
        let broken = |problem| FindError::Broken { path: path.clone(), problem };
        let language = Name::parse(language)
            .map_err(|source| FindError::NotAPath { path: path.clone(), source })?;
        let root = Folder::open(self.root())
            .map_err(|error| broken(Problem::broken(&entry.folder, None, error.to_string())))?;
        let place = Place { id: entry.id.clone(), language_folder: entry.language_folder.clone() };
        load(&root, &place, Some(language.as_str()))
            .map(|(entry, _)| Arc::new(entry))
            .map_err(broken)
    }

    /// A picture of a personality: a file of its `assets/`.
    ///
    /// # Errors
    /// [`ImageError`] when it is missing, too large or no picture of an allowed kind.
    pub fn asset(&self, personality: &Personality, file: &Name) -> Result<Image, ImageError> {
        let root = Folder::open(self.root())?;
        read_image(&root, &format!("{}/assets/{file}", personality.folder))
    }

    /// A personality's logo.
    ///
    /// # Errors
    /// As [`Self::asset`]; missing when it has none.
    pub fn logo(&self, personality: &Personality) -> Result<Image, ImageError> {
        let avatar = personality.avatar.as_deref().ok_or(ImageError::Read(ReadError::Missing))?;
        let root = Folder::open(self.root())?;
        read_image(&root, &format!("{}/{avatar}", personality.folder))
    }
}

fn find_in(snapshot: &Snapshot<Personality>, id: &PersonalityId) -> Option<Arc<Personality>> {
    let of_language = |language: &str| snapshot.entries.get(&format!("{language}/{id}"));
    let first = || snapshot.entries.values().find(|entry| entry.id == *id);
    let found = snapshot.entries.get(&id.to_string());
    found.or_else(|| of_language("english")).or_else(first).cloned()
}

fn find_whole(snapshot: &Snapshot<Personality>, path: &str) -> Result<Arc<Personality>, FindError> {
    let wrong = |source| FindError::NotAPath { path: path.escape_debug().to_string(), source };
    let parts: Result<Vec<Name>, NameError> = path.split('/').map(Name::parse).collect();
    let parts = parts.map_err(wrong)?;
    let found = match parts.as_slice() {
        [category, name] => {
            let id = PersonalityId { category: category.clone(), name: name.clone() };
            find_in(snapshot, &id)
        }
        // A configuration of June 2023 on a zoo of August: the language level is gone.
        [_, category, name] => snapshot.entries.get(path).cloned().or_else(|| {
            let id = PersonalityId { category: category.clone(), name: name.clone() };
            find_in(snapshot, &id)
        }),
        _ => return Err(wrong(NameError::Forbidden(path.escape_debug().to_string()))),
    };
    found.ok_or_else(|| {
        let beneath = |problem: &&Problem| {
            problem.path == path || problem.path.starts_with(&format!("{path}/"))
        };
        match snapshot.problems.iter().find(beneath) {
            Some(problem) => FindError::Broken { path: path.to_owned(), problem: problem.clone() },
            None => FindError::Missing(path.to_owned()),
        }
    })
}

/// Reads one personality's folder wherever it lies, as `personalities check` does.
///
/// # Errors
/// The problem that makes it unusable.
pub fn check_folder(folder: &Path) -> Result<(Personality, Vec<Problem>), Problem> {
    let shown = folder.to_string_lossy();
    let broken = |reason: String| Problem::broken(shown.clone(), None, reason);
    let whole = folder.canonicalize().map_err(|error| broken(error.to_string()))?;
    let component = |path: Option<&Path>| {
        let name = path.and_then(Path::file_name).and_then(|name| name.to_str());
        Name::parse(name.unwrap_or_default()).map_err(|error| broken(error.to_string()))
    };
    let name = component(Some(&whole))?;
    let category = component(whole.parent())?;
    let root = whole.ancestors().nth(2).ok_or_else(|| broken("it has no category".into()))?;
    let root = Folder::open(root).map_err(|error| broken(error.to_string()))?;
    load(&root, &Place { id: PersonalityId { category, name }, language_folder: None }, None)
}
