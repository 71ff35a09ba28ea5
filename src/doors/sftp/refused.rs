//! What a refusal is in SFTP.

use crate::ingest::Refusal;

use super::packet::Code;

/// The code, and the reason in words: version 3 has few codes, and clients show the words.
pub(super) fn status(refusal: &Refusal) -> (Code, String) {
    let code = match refusal {
        Refusal::NotFound => Code::NoSuchFile,
        Refusal::Denied(_) => Code::PermissionDenied,
        Refusal::BadName(_)
        | Refusal::Quota
        | Refusal::TooLarge
        | Refusal::Full
        | Refusal::Stopped(_)
        | Refusal::Cut(_)
        | Refusal::Busy
        | Refusal::CannotResume { .. }
        | Refusal::Exists
        | Refusal::Internal(_) => Code::Failure,
    };
    let text = match refusal {
        // What failed inside is for the log.
        Refusal::Stopped(_) => "the server takes no files at the moment, try again later".to_owned(),
        Refusal::Internal(_) => "internal error, try again later".to_owned(),
        told => told.to_string(),
    };
    (code, text)
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
}
