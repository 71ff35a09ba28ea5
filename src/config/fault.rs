//! The faults of a configuration, with their keys.
//!
//! Modules report faults of their own options as pairs of key and sentence, below their section;
//! here file and line are put to them. Shown as `FILE:LINE: KEY: SENTENCE`, which editors can jump
//! to.

use std::{fmt, path::PathBuf};

use serde::Serialize;

/// One fault. All faults of a configuration are found, not only the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, where that is known.
    pub line: Option<usize>,
    /// The key's path, such as `route[0].paths[1]`; empty for the file as a whole.
    pub key: String,
    /// The fault, as a sentence.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.what)
    }
}
