//! Names that say a file is not finished yet.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

/// Globs that are held against every component of a path, ignoring case.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct TemporaryNames {
    patterns: Vec<String>,
    globs: GlobSet,
}

impl TemporaryNames {
    /// Takes the patterns; none at all means that no name is temporary.
    ///
    /// # Errors
    /// When one is no glob.
    pub fn new(patterns: Vec<String>) -> Result<Self, globset::Error> {
        let mut globs = GlobSetBuilder::new();
        for pattern in &patterns {
            globs.add(GlobBuilder::new(pattern).case_insensitive(true).build()?);
        }
        Ok(Self { globs: globs.build()?, patterns })
    }

    /// Returns true if any component of `path` is a temporary name. `.` and `..` are none.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        path.split('/').filter(|part| !matches!(*part, "" | "." | "..")).any(|part| self.globs.is_match(part))
    }

    /// The globs as they were written.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

impl Default for TemporaryNames {
    #[allow(clippy::expect_used, reason = "the patterns stand here, and a test builds them")]
    fn default() -> Self {
        Self::new(["*.tmp", "*.part", "*.filepart", ".*"].map(str::to_owned).to_vec()).expect("four good globs")
    }
}

impl PartialEq for TemporaryNames {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl TryFrom<Vec<String>> for TemporaryNames {
    type Error = globset::Error;

    fn try_from(patterns: Vec<String>) -> Result<Self, globset::Error> {
        Self::new(patterns)
    }
}

impl From<TemporaryNames> for Vec<String> {
    fn from(names: TemporaryNames) -> Self {
        names.patterns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_component_may_be_temporary() {
        let names = TemporaryNames::default();
        for path in ["a.tmp", "A.TMP", "/in/a.filepart", "x.part/a.hl7", ".a.hl7", "in/.hidden/a", "/.in.a"] {
            assert!(names.matches(path), "{path}");
        }
        for path in ["a.hl7", "/in/a.hl7", "tmp", "a.tmp.hl7", "./a", "../a", "in/./a", "", "/", "part"] {
            assert!(!names.matches(path), "{path}");
        }
        assert!(!TemporaryNames::new(vec![]).unwrap().matches("a.tmp"));
        assert!(TemporaryNames::new(vec!["a{".into()]).is_err());
    }
}
