//! Requests that change names: REMOVE and RENAME (draft-ietf-secsh-filexfer-02, 6.5), MKDIR and
//! RMDIR (6.6).

use bytes::Bytes;

use crate::ingest::Name;

use super::{
    answer::Answer,
    named_requests::to_change,
    refused::{self, Status},
    service::Service,
    sftp_session::SftpSession,
};

/// Removes a file. A folder is none.
pub(super) async fn remove(session: &SftpSession, path: &str) -> Result<(), Status> {
    let Err(refusal) = session.files.remove(path).await else { return Ok(()) };
    let is_folder = session.files.stat(path).await.is_ok_and(|stat| stat.is_folder());
    Err(if is_folder { refused::wrong_kind(&refusal) } else { refused::status(&refusal) })
}

/// Makes a folder.
pub(super) async fn make_folder(session: &SftpSession, path: &str) -> Result<(), Status> {
    session.files.make_folder(path).await.map_err(|refusal| refused::status(&refusal))
}

/// Removes an empty folder.
pub(super) async fn remove_folder(session: &SftpSession, path: &str) -> Result<(), Status> {
    let Err(refusal) = session.files.remove_folder(path).await else { return Ok(()) };
    // Of the partner's own folders nothing is denied but to remove one that is not empty.
    let is_own = Name::parse(path).is_ok_and(|name| !name.is_in_out());
    Err(if is_own { refused::wrong_kind(&refusal) } else { refused::status(&refusal) })
}

impl Service {
    /// Renames a file or folder, behind all earlier requests for both names.
    pub(super) async fn rename(&self, from: &Bytes, to: &Bytes, answer: Answer) {
        let (from, to) = match (to_change(from), to_change(to)) {
            (Ok(from), Ok(to)) => (from, to),
            (Err(refusal), _) | (_, Err(refusal)) => return answer.refuse(&refusal),
        };
        self.in_turn(vec![from.clone(), to.clone()], |service| async move {
            match service.session.files.rename(&from, &to).await {
                Ok(_) => answer.ok(),
                Err(refusal) => answer.refuse(&refusal),
            }
        })
        .await;
    }
}
