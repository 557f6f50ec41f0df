//! Names that come from clients: one path component, never a path.

/// Longest name, in Unicode characters.
pub const MAX_NAME_CHARS: usize = 100;

/// Name of a category, a personality, a binding or a model: one path component.
///
/// 1 to 100 characters; no `/`, `\`, NUL or control character; not `.` or `..`.
/// `c++ specialist` and `le_poète_délirant` are good names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name is empty; it needs 1 to {MAX_NAME_CHARS} characters")]
    Empty,
    /// Over [`MAX_NAME_CHARS`].
    #[error("a name has {0} characters; at most {MAX_NAME_CHARS} are allowed")]
    TooLong(usize),
    /// It would leave its folder.
    #[error("`{0}` is not a name: `/`, `\\`, control characters, `.` and `..` are not allowed")]
    Forbidden(String),
}

impl Name {
    /// Reads a name.
    ///
    /// # Errors
    /// [`NameError`] when `text` is empty, too long or more than one path component.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let chars = text.chars().count();
        if chars == 0 {
            return Err(NameError::Empty);
        }
        if chars > MAX_NAME_CHARS {
            return Err(NameError::TooLong(chars));
        }
        let forbidden = |c: char| c == '/' || c == '\\' || c.is_control();
        if text == "." || text == ".." || text.contains(forbidden) {
            return Err(NameError::Forbidden(text.escape_debug().to_string()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which personality: its folder's place beneath `personalities/`, as `category/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonalityId {
    /// The folder that groups it.
    pub category: Name,
    /// Its own folder.
    pub name: Name,
}

impl PersonalityId {
    /// Reads `category/name`; a leading or trailing `/` is not accepted.
    ///
    /// # Errors
    /// [`NameError`] when there are not exactly two components or one of them is no [`Name`].
    pub fn parse(path: &str) -> Result<Self, NameError> {
        let (category, name) = path
            .split_once('/')
            .ok_or_else(|| NameError::Forbidden(path.escape_debug().to_string()))?;
        Ok(Self { category: Name::parse(category)?, name: Name::parse(name)? })
    }
}

impl std::fmt::Display for PersonalityId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.category, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_real_zoos_are_names() {
        for good in ["c++ specialist", "le_poète_délirant", "a", "générique", "..a", "model.gguf"]
        {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn what_leaves_a_folder_is_no_name() {
        for bad in ["", ".", "..", "a/b", "/etc", "a\\b", "a\0b", "a\nb", &"x".repeat(101)] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_personality_id_has_two_components() {
        assert_eq!(PersonalityId::parse("generic/lollms").unwrap().to_string(), "generic/lollms");
        for bad in ["generic", "/generic/lollms", "generic/", "../x", "a/b/c", "a/.."] {
            assert!(PersonalityId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
