//! Refusals as SFTP has them: the one place where a refusal of `ingest` gets a status code.
//!
//! Version 3 knows few codes (draft-ietf-secsh-filexfer-02, 7). Requests that fail for a reason of
//! the protocol itself name their `Code` where they are served.

use crate::{doors::core::words, ingest::Refusal};

use super::packet::Code;

/// A code, and the reason in words: version 3 has few codes, and clients show the words.
pub(super) type Status = (Code, String);

/// The status of a refusal.
pub(super) fn status(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::NotFound => Code::NoSuchFile,
        Refusal::Denied(_) => Code::PermissionDenied,
        Refusal::BadName(_)
        | Refusal::Quota
        | Refusal::TooLarge
        | Refusal::TooManyNames(_)
        | Refusal::TooFast
        | Refusal::Full
        | Refusal::Stopped(_)
        | Refusal::Cut(_)
        | Refusal::Busy
        | Refusal::NoBeginning
        | Refusal::CannotResume { .. }
        | Refusal::Exists
        | Refusal::Internal(_) => Code::Failure,
    };
    (code, words::refusal(refusal))
}

/// The status when a folder cannot be removed because it is a folder or not empty: OpenSSH's server answers FAILURE
/// then, and PERMISSION_DENIED only for want of a right.
pub(super) fn wrong_kind(refusal: &Refusal) -> Status {
    match status(refusal) {
        (Code::PermissionDenied, text) => (Code::Failure, text),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_and_what_failed_inside_is_not() {
        assert_eq!(status(&Refusal::NotFound).0, Code::NoSuchFile);
        assert!(status(&Refusal::Quota).1.contains("quota"));
        assert!(!status(&Refusal::Internal("/srv/secret".into())).1.contains("secret"));
    }

    #[test]
    fn folders_that_stay_are_failures_as_openssh_has_them() {
        let full = Refusal::Denied("directory is not empty".to_owned());
        assert_eq!(wrong_kind(&full), (Code::Failure, "directory is not empty".to_owned()));
        assert_eq!(wrong_kind(&Refusal::NotFound).0, Code::NoSuchFile);
        assert_eq!(status(&full).0, Code::PermissionDenied);
    }

    #[test]
    fn limits_of_names_are_failures_with_their_reason() {
        for refusal in [Refusal::TooManyNames(5), Refusal::TooFast] {
            assert_eq!(status(&refusal), (Code::Failure, refusal.to_string()));
        }
    }
}
