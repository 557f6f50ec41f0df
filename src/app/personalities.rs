//! Personalities: list them, mount them, activate one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::app::models::Adopt;
use crate::app::selection::{MAX_MOUNTED, Mounted};
use crate::app::session::Session;
use crate::app::{App, blocking};
use crate::domain::error::{ErrorCode, Failure};
use crate::domain::name::Name;
use crate::domain::personality::Personality;
use crate::registry::personalities::FindError;

impl App {
    /// All personalities by category.
    ///
    /// # Errors
    /// `Internal` when the server fails while reading.
    pub async fn list_personalities(
        &self,
    ) -> Result<BTreeMap<String, Vec<Arc<Personality>>>, Failure> {
        let app = self.clone();
        blocking(move || app.parts.personalities.by_category()).await
    }

    /// Languages that the personalities are written in, sorted.
    ///
    /// # Errors
    /// `Internal` when the server fails while reading.
    pub async fn list_languages(&self) -> Result<Vec<String>, Failure> {
        let tree = self.list_personalities().await?;
        let languages: BTreeSet<String> =
            tree.values().flatten().map(|personality| personality.language.clone()).collect();
        Ok(languages.into_iter().collect())
    }

    /// Categories, sorted.
    ///
    /// # Errors
    /// `Internal` when the server fails while reading.
    pub async fn list_categories(&self) -> Result<Vec<String>, Failure> {
        let app = self.clone();
        blocking(move || app.parts.personalities.list_categories()).await
    }

    /// Folder names of a category, sorted.
    ///
    /// # Errors
    /// `InvalidRequest` when `category` is no name, `NotFound` when there is none called so.
    pub async fn list_names(&self, category: &str) -> Result<Vec<String>, Failure> {
        let name = Name::parse(category)
            .map_err(|error| Failure::new(ErrorCode::InvalidRequest, error.to_string()))?;
        let app = self.clone();
        let wanted = name.clone();
        blocking(move || app.parts.personalities.list_names(&wanted)).await?.ok_or_else(|| {
            Failure::new(ErrorCode::NotFound, format!("there is no category `{name}`"))
        })
    }

    /// Mounts a personality at the end of the session's list and returns its index; the list becomes the
    /// default and is saved. The same one may be mounted twice, as LoLLMs allows.
    ///
    /// # Errors
    /// `InvalidRequest` when `path` is no path, `NotFound` when nothing usable is there, `Conflict`
    /// when too many are mounted, `Internal` when the configuration cannot be saved.
    pub async fn add_personality(
        &self,
        session: &mut Session,
        path: &str,
    ) -> Result<(usize, String), Failure> {
        if session.selection.mounted.len() >= MAX_MOUNTED {
            let message = format!("{MAX_MOUNTED} personalities are mounted; no more are allowed");
            return Err(Failure::new(ErrorCode::Conflict, message));
        }
        let app = self.clone();
        let wanted = path.to_owned();
        let personality = blocking(move || app.parts.personalities.find_path(&wanted))
            .await?
            .map_err(|error| not_found(&error))?;
        let mut selection = session.selection.clone();
        let name = personality.name.clone();
        selection.mounted.push(Mounted { path: path.to_owned(), personality });
        self.save_personalities(&selection).await?;
        session.selection = selection;
        self.adopt(&session.selection, Adopt::Personalities);
        Ok((session.selection.mounted.len() - 1, name))
    }

    /// Makes a mounted personality the active one and returns its name; saved as the default.
    ///
    /// # Errors
    /// `NotFound` when no personality has this index; `Internal` when the configuration cannot be saved.
    pub async fn activate_personality(
        &self,
        session: &mut Session,
        index: i64,
    ) -> Result<(usize, String), Failure> {
        let found = usize::try_from(index).ok().and_then(|index| {
            let mounted = session.selection.mounted.get(index)?;
            Some((index, mounted.personality.name.clone()))
        });
        // Clients of LoLLMs know this sentence.
        let (index, name) =
            found.ok_or_else(|| Failure::new(ErrorCode::NotFound, "Personality ID not valid"))?;
        let mut selection = session.selection.clone();
        selection.active = index;
        self.save_personalities(&selection).await?;
        session.selection = selection;
        self.adopt(&session.selection, Adopt::Personalities);
        Ok((index, name))
    }

    /// Names of the personalities that the session has mounted, in the order of their indexes.
    pub fn list_mounted(&self, session: &Session) -> Vec<String> {
        session.selection.mounted.iter().map(|mounted| mounted.personality.name.clone()).collect()
    }

    /// Paths of the personalities that are mounted by default.
    pub fn list_mounted_by_default(&self) -> Vec<String> {
        self.default_selection().mounted.into_iter().map(|mounted| mounted.path).collect()
    }
}

fn not_found(error: &FindError) -> Failure {
    let code = match error {
        FindError::NotAPath { .. } => ErrorCode::InvalidRequest,
        FindError::Missing(_) | FindError::Broken { .. } => ErrorCode::NotFound,
    };
    Failure::new(code, error.to_string())
}
