//! What a refusal is in FTP.

use unftp_core::storage::{Error, ErrorKind};

use crate::ingest::Refusal;

/// The error whose kind libunftp turns into the reply's code.
pub(super) fn error(refusal: Refusal) -> Error {
    let kind = match refusal {
        Refusal::BadName(_) => ErrorKind::FileNameNotAllowedError,
        Refusal::Quota | Refusal::TooLarge => ErrorKind::ExceededStorageAllocationError,
        Refusal::Full => ErrorKind::InsufficientStorageSpaceError,
        Refusal::Cut(_) => ErrorKind::ConnectionClosed,
        Refusal::Busy => ErrorKind::TransientFileNotAvailable,
        Refusal::NotFound | Refusal::Exists => ErrorKind::PermanentFileNotAvailable,
        Refusal::Denied(_) => ErrorKind::PermissionDenied,
        Refusal::Stopped(_) | Refusal::Internal(_) => ErrorKind::LocalError,
    };
    Error::new(kind, refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_their_codes() {
        for (refusal, code) in [
            (Refusal::Full, "452"),
            (Refusal::Quota, "552"),
            (Refusal::TooLarge, "552"),
            (Refusal::BadName("x".into()), "553"),
            (Refusal::Cut("x".into()), "426"),
            (Refusal::Stopped("x".into()), "451"),
            (Refusal::Internal("x".into()), "451"),
            (Refusal::Busy, "450"),
            (Refusal::NotFound, "550"),
            (Refusal::Denied("x".into()), "550"),
        ] {
            assert!(error(refusal.clone()).kind().to_string().starts_with(code), "{refusal:?}");
        }
    }
}
