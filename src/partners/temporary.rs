//! Names that say a file is not finished yet.

use serde::{Deserialize, Serialize};

use crate::units::{
    glob::{Glob, GlobError},
    text::folded,
};

/// What programs write while they upload, by the names of those who are known to: rclone (`.partial`, behind a random
/// part), Spring Integration (`.writing`), WinSCP and Core FTP (`.filepart`), browsers (`.crdownload`), editors (`.swp`,
/// `*~`), Office (`~$*`), and everything that begins with a dot (lftp, rsync, `.~*`).
const DEFAULT: [&str; 15] = [
    "*.writing",
    "*.partial",
    "*.part",
    "*.filepart",
    "*.tmp",
    "*.temp",
    "*.inprogress",
    "*.incomplete",
    "*.uploading",
    "*.transferring",
    "*.crdownload",
    "*.swp",
    "*~",
    "~*",
    ".*",
];

/// Globs that are held against every component of a path, ignoring case.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct TemporaryNames {
    patterns: Vec<String>,
    globs: Vec<Glob>,
}

/// Why one of the patterns is no glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no glob: it {fault}")]
pub struct BadPattern {
    pattern: String,
    fault: GlobError,
}

impl TemporaryNames {
    /// Takes the patterns; none at all means that no name is temporary.
    ///
    /// # Errors
    /// When one is no glob.
    pub fn new(patterns: Vec<String>) -> Result<Self, BadPattern> {
        let compiled =
            |pattern: &String| Glob::new(pattern).map_err(|fault| BadPattern { pattern: pattern.clone(), fault });
        let globs = patterns.iter().map(compiled).collect::<Result<_, _>>()?;
        Ok(Self { globs, patterns })
    }

    /// Returns true if any component of `path` is a temporary name. `.` and `..` are none.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let path = folded(path);
        let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
        parts.any(|part| self.globs.iter().any(|glob| glob.matches_folded(part)))
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
        Self::new(DEFAULT.map(str::to_owned).to_vec()).expect("good globs")
    }
}

impl PartialEq for TemporaryNames {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl TryFrom<Vec<String>> for TemporaryNames {
    type Error = BadPattern;

    fn try_from(patterns: Vec<String>) -> Result<Self, BadPattern> {
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
        for name in [
            "lab.hl7.writing",
            "lab.hl7.1a2b3c4d.partial",
            "lab.HL7.PARTIAL",
            "lab.hl7.temp",
            "lab.inprogress",
            "lab.hl7.incomplete",
            "lab.uploading",
            "lab.transferring",
            "lab.crdownload",
            ".lab.hl7.swp",
            "lab.hl7~",
            "~lab.hl7",
            "~$lab.docx",
            ".~lab.hl7",
        ] {
            assert!(names.matches(name), "{name}");
        }
        for path in ["a.hl7", "/in/a.hl7", "tmp", "a.tmp.hl7", "./a", "../a", "in/./a", "", "/", "part", "a~b.hl7"] {
            assert!(!names.matches(path), "{path}");
        }
        assert!(!TemporaryNames::new(vec![]).unwrap().matches("a.tmp"));
        assert!(TemporaryNames::new(vec!["a{".into()]).unwrap_err().to_string().contains("a{"));
        let written = TemporaryNames::new(vec!["*.GRÖẞE".into()]).unwrap();
        assert!(written.matches("a.gro\u{308}ße"), "letter case and the form of accents do not count");
    }
}
