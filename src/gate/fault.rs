//! The faults of a schedule, with their places in the file.

use std::fmt;

use serde::Serialize;

/// One fault of a schedule file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file's name, for people.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, where it helps.
    pub column: Option<usize>,
    /// The key path, such as `window[0].end`; empty when the file as a whole is meant.
    pub key: String,
    /// The fault, as a sentence.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        if self.key.is_empty() {
            write!(f, ": {}", self.message)
        } else {
            write!(f, ": {}: {}", self.key, self.message)
        }
    }
}
