//! The sentences that partners are told, the same through each door. A door puts them into its wire form: FTP with a
//! code and a capital letter, SFTP with a status.
//!
//! One sentence for all doors: a partner that changes its protocol reads the same. What failed
//! inside is never in them. Tests compare many of these texts, and partners' scripts may.

use crate::ingest::{Accepted, Kept, Refusal};

use super::transfer_clock::Overdue;

/// The end of a session by an operator. The reason stands in the audit trail.
pub(in crate::doors) const KICKED: &str = "an operator has ended this session";
/// The end of all sessions: the server stops, and an upload can be gone on with when it is back.
pub(in crate::doors) const STOPPING: &str = "the server is stopping";
/// The end of a session whose account an operator has disabled.
pub(in crate::doors) const DISABLED: &str = "your account is disabled";
/// The end of a connection on which nobody has logged in.
pub(in crate::doors) const NO_LOGIN: &str = "no login in time";
/// The end of a session that does nothing.
pub(in crate::doors) const IDLE: &str = "idle for too long";
/// A failure that is the server's own: what it was is for the log.
pub(in crate::doors) const INTERNAL: &str = "internal error, try again later";
/// The end of a transfer that takes longer than its size allows.
pub(in crate::doors) const TOO_LONG: &str = "the transfer took too long";

/// The reason why a request was refused.
pub(in crate::doors) fn refusal(refusal: &Refusal) -> String {
    match refusal {
        // What failed inside is for the log.
        Refusal::Stopped(_) => "the server takes no files at the moment, try again later".to_owned(),
        Refusal::Internal(_) => INTERNAL.to_owned(),
        told => told.to_string(),
    }
}

/// Returns the sentence about a file that was accepted: id, size, digest, and how it stands. The
/// deferral of its route is in it while that is closed.
pub(in crate::doors) fn accepted(accepted: &Accepted, deferral_of: impl Fn(&str) -> Option<String>) -> String {
    let Accepted { id, size_bytes, sha256, .. } = accepted;
    let standing = match accepted.kept() {
        Kept::Queued { route } => deferral_of(&route),
        Kept::Unfinished => Some("it waits for its final name".to_owned()),
        Kept::Held { reason } => Some(format!("held: {reason}")),
    };
    let standing = standing.map(|standing| format!("; {standing}")).unwrap_or_default();
    let beside = accepted.beside.map(|state| format!("; a new file, for the earlier one is {state}"));
    let beside = beside.unwrap_or_default();
    format!("Received {id}; {size_bytes} bytes, sha256 {sha256}{beside}{standing}")
}

/// The part of a greeting that tells of maintenance.
pub(in crate::doors) fn welcome(notice: &str) -> String {
    format!("uploads are kept, {notice}")
}

/// The reason why an upload was ended by its clock.
pub(in crate::doors) fn upload_overdue(overdue: Overdue) -> &'static str {
    match overdue {
        Overdue::Stalled => "no data came for too long",
        Overdue::TooLong => TOO_LONG,
    }
}

/// The reason why a download or listing was ended by its clock.
pub(in crate::doors) fn download_overdue(overdue: Overdue) -> &'static str {
    match overdue {
        Overdue::Stalled => "the client takes no data",
        Overdue::TooLong => TOO_LONG,
    }
}

/// A sentence with a capital letter.
pub(in crate::doors) fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_and_what_failed_inside_is_not() {
        assert!(refusal(&Refusal::Quota).contains("quota"));
        for inside in [Refusal::Internal("/srv/secret".into()), Refusal::Stopped("/srv/secret".into())] {
            let told = refusal(&inside);
            assert!(!told.contains("secret") && told.contains("try again"), "{told}");
        }
    }

    #[test]
    fn sentences_get_a_capital_letter() {
        assert_eq!(
            (capitalised(KICKED).as_str(), capitalised("").as_str()),
            ("An operator has ended this session", "")
        );
    }
}
