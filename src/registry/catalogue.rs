//! What a root folder holds, kept up to date: folders with manifests become entries.
//!
//! A catalogue looks at its folders when it is asked, at most every [`QUIET`], and reads again only the
//! manifests whose stamps changed; so a folder that is dropped in is there at the next question. An
//! entry whose manifest no longer parses stays as it was last, with its [`Problem`] shown: a folder
//! that is being copied or edited shows up half-written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::registry::beneath::{Folder, ReadError, Stamp};
use crate::registry::problem::{Problem, Weight};

/// How long an answer is good before the folders are looked at again.
pub const QUIET: Duration = Duration::from_millis(300);
/// A file changed this recently may change again under the same time stamp, so it is read once more.
/// Coarse file systems count in steps of up to 2 s.
const UNSETTLED_NS: i128 = 2_000_000_000;

/// What can be read from a folder with a manifest.
pub trait Manifest: Sized {
    /// Where an entry lies.
    type Place;

    /// All places beneath the root, with what is wrong about the folders themselves.
    ///
    /// # Errors
    /// When the root itself cannot be listed.
    fn places(root: &Folder) -> Result<(Vec<Self::Place>, Vec<Problem>), ReadError>;

    /// Path of a place beneath the root; the entry's key.
    fn path(place: &Self::Place) -> String;

    /// Files and folders beneath the root whose stamps tell whether an entry changed.
    fn watched(place: &Self::Place) -> Vec<String>;

    /// Reads an entry, with what is odd about it.
    ///
    /// # Errors
    /// The problem that makes it unusable.
    fn load(root: &Folder, place: &Self::Place) -> Result<(Self, Vec<Problem>), Problem>;
}

/// What a root held when it was last looked at.
#[derive(Debug)]
pub struct Snapshot<T> {
    /// Entries by their path beneath the root.
    pub entries: BTreeMap<String, Arc<T>>,
    /// What is wrong, in the order of the folders.
    pub problems: Vec<Problem>,
}

impl<T> Default for Snapshot<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), problems: Vec::new() }
    }
}

/// A root folder's entries, kept up to date. Share it by reference or in an `Arc`.
#[derive(Debug)]
pub struct Catalogue<T> {
    root: PathBuf,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    snapshot: Arc<Snapshot<T>>,
    known: BTreeMap<String, Known<T>>,
    looked_at: Option<Instant>,
}

#[derive(Debug)]
struct Known<T> {
    stamps: Vec<Option<Stamp>>,
    read_at_ns: i128,
    entry: Option<Arc<T>>,
    problems: Vec<Problem>,
}

impl<T: Manifest> Catalogue<T> {
    /// A catalogue of the folders in `root`; nothing is read yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let state = State { snapshot: Arc::default(), known: BTreeMap::new(), looked_at: None };
        Self { root: root.into(), state: Mutex::new(state) }
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the root holds, at most [`QUIET`] old.
    pub fn snapshot(&self) -> Arc<Snapshot<T>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked_at.is_none_or(|at| at.elapsed() >= QUIET) {
            self.refresh(&mut state);
        }
        Arc::clone(&state.snapshot)
    }

    /// What the root holds now, however recently it was looked at.
    pub fn fresh(&self) -> Arc<Snapshot<T>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut state);
        Arc::clone(&state.snapshot)
    }

    fn refresh(&self, state: &mut State<T>) {
        let mut known = std::mem::take(&mut state.known);
        let looked = Folder::open(&self.root)
            .and_then(|folder| T::places(&folder).map(|(places, odd)| (folder, places, odd)));
        let (folder, places, mut problems) = match looked {
            Ok(found) => found,
            Err(error) => {
                let problem = Problem::broken(self.root.to_string_lossy(), None, error.to_string());
                state.snapshot =
                    Arc::new(Snapshot { entries: BTreeMap::new(), problems: vec![problem] });
                state.looked_at = Some(Instant::now());
                return;
            }
        };
        let mut entries = BTreeMap::new();
        for place in &places {
            let path = T::path(place);
            let fresh = read_if_changed(&folder, place, known.remove(&path));
            problems.extend(fresh.problems.iter().cloned());
            if let Some(entry) = &fresh.entry {
                entries.insert(path.clone(), Arc::clone(entry));
            }
            state.known.insert(path, fresh);
        }
        self.report(&state.snapshot.problems, &problems);
        state.snapshot = Arc::new(Snapshot { entries, problems });
        state.looked_at = Some(Instant::now());
    }

    /// Logs each problem once, when it appears.
    fn report(&self, before: &[Problem], now: &[Problem]) {
        for problem in now.iter().filter(|problem| !before.contains(problem)) {
            let root = self.root.display();
            match problem.weight {
                Weight::Broken => tracing::warn!("A folder cannot be used: {root}/{problem}"),
                Weight::Odd => tracing::info!("A folder is odd: {root}/{problem}"),
            }
        }
    }
}

fn read_if_changed<T: Manifest>(
    folder: &Folder,
    place: &T::Place,
    known: Option<Known<T>>,
) -> Known<T> {
    let stamps: Vec<Option<Stamp>> =
        T::watched(place).iter().map(|path| folder.stamp(path)).collect();
    let former = match known {
        Some(known) if known.stamps == stamps && known.is_settled() => return known,
        other => other.and_then(|known| known.entry),
    };
    let read_at_ns = now_ns();
    match T::load(folder, place) {
        Ok((entry, problems)) => {
            Known { stamps, read_at_ns, entry: Some(Arc::new(entry)), problems }
        }
        Err(mut problem) => {
            if former.is_some() {
                problem.reason.push_str("; its last good version stays in use");
            }
            Known { stamps, read_at_ns, entry: former, problems: vec![problem] }
        }
    }
}

impl<T> Known<T> {
    fn is_settled(&self) -> bool {
        let newest = self.stamps.iter().flatten().map(|stamp| stamp.modified_ns).max();
        newest.is_none_or(|newest| newest < self.read_at_ns - UNSETTLED_NS)
    }
}

fn now_ns() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
}
