//! Why a request could not be done, by what the operator does about it.
//!
//! Other modules have errors of their own by what happened; here they are put into five kinds,
//! which are the command line's exit codes and the `cause` of the JSON output. Both are stable:
//! scripts depend on them. A new error of another module becomes a [`Problem`] by a `From` beside
//! the verb that meets it, with the command in its sentence that helps.

use forebay_queue::QueueError;
use forebay_storage::StorageError;
use serde::{Deserialize, Serialize};

/// A result of this module.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// Why a request could not be done, in a sentence that says what to do next.
/// It is serialized over the admin socket as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Problem {
    /// The kind of problem.
    pub cause: Cause,
    /// The sentence.
    pub text: String,
}

/// The kind of a problem; the CLI's exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It was tried and failed, or the state of things does not allow it.
    Failed,
    /// The request makes no sense.
    Usage,
    /// The named object does not exist.
    NotFound,
    /// It needs the running server.
    NeedsServer,
    /// The one who asked is gone.
    Gone,
}

impl Problem {
    /// It was tried and failed.
    pub fn failed(text: impl Into<String>) -> Self {
        Self { cause: Cause::Failed, text: text.into() }
    }

    /// The request makes no sense.
    pub fn usage(text: impl Into<String>) -> Self {
        Self { cause: Cause::Usage, text: text.into() }
    }

    /// A problem because the named object does not exist.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self { cause: Cause::NotFound, text: text.into() }
    }

    /// It needs the running server.
    pub fn needs_server(text: impl Into<String>) -> Self {
        Self { cause: Cause::NeedsServer, text: text.into() }
    }

    /// The one who asked is gone.
    #[must_use]
    pub fn gone() -> Self {
        Self { cause: Cause::Gone, text: "the one who asked is gone".to_owned() }
    }

    /// The exit code of the command line.
    /// Scripts depend on these numbers. 0 is success, and no problem has it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.cause {
            Cause::Failed | Cause::Gone => 1,
            Cause::Usage => 2,
            Cause::NotFound => 3,
            Cause::NeedsServer => 4,
        }
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        let cause = match error {
            QueueError::NotFound(_) | QueueError::NoMatch(_) => Cause::NotFound,
            QueueError::Ambiguous { .. } => Cause::Usage,
            _ => Cause::Failed,
        };
        Self { cause, text: error.to_string() }
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        let cause = match error {
            StorageError::NotFound(_) => Cause::NotFound,
            _ => Cause::Failed,
        };
        Self { cause, text: error.to_string() }
    }
}
