//! What is wrong with a file in a folder.

/// Something wrong with a file, in words for its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file or folder, beneath the root it was found in.
    pub path: String,
    /// Line of the file, counted from 1, when it is known.
    pub line: Option<usize>,
    /// What was found and what was expected.
    pub reason: String,
    /// Whether the entry can be used all the same.
    pub weight: Weight,
}

/// How much a [`Problem`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// A key is left out or replaced by its default; the entry works.
    Odd,
    /// The entry cannot be read; its last good version is kept when there was one.
    Broken,
}

impl Problem {
    /// A problem that makes the entry unusable.
    pub fn broken(path: impl Into<String>, line: Option<usize>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), line, reason: reason.into(), weight: Weight::Broken }
    }

    /// A problem that the entry survives.
    pub fn odd(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, reason: reason.into(), weight: Weight::Odd }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.reason),
            None => write!(f, "{}: {}", self.path, self.reason),
        }
    }
}
