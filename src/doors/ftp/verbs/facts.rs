//! Facts of a file or directory: SIZE, MDTM, MLST, STAT, MFMT.

use chrono::NaiveDateTime;

use crate::doors::ftp::{
    logged_in::LoggedIn,
    paths::{changed, looked_at},
    reply::Reply,
};

impl LoggedIn<'_> {
    /// SIZE. A client that goes on with an upload asks so where.
    pub(in crate::doors::ftp) async fn size(&mut self, given: &str) -> Reply {
        let path = looked_at(&self.directory, given);
        let partner = &self.partner;
        if let Ok(Some(bytes)) = partner.ingest.resumable(&partner.info, &path).await {
            return Reply::new(213, bytes.to_string());
        }
        match partner.files.stat(&path).await {
            Ok(there) if there.is_folder() => Reply::new(550, "A directory has no size"),
            _ => self.ask(&format!("SIZE {path}")).await,
        }
    }

    /// MDTM or MLST.
    pub(in crate::doors::ftp) async fn facts(&mut self, verb: &str, given: &str) -> Reply {
        self.ask(&format!("{verb} {}", looked_at(&self.directory, given))).await
    }

    /// STAT of a path: 213 for a file and 212 for a directory, with their lines between the first and the last.
    pub(in crate::doors::ftp) async fn status_of(&mut self, given: &str) -> Reply {
        let path = looked_at(&self.directory, given);
        let code = match self.partner.files.stat(&path).await {
            Ok(there) if there.is_folder() => 212,
            Ok(_) => 213,
            Err(refusal) => return Reply::from(&refusal),
        };
        match self.ask(&format!("STAT {path}")).await {
            reply if reply.is_positive() => Reply { code, ..reply },
            refused => refused,
        }
    }

    /// MFMT (draft-somers-ftp-mfxx): the time that a file shows. What is known of the accepted bytes stays.
    pub(in crate::doors::ftp) async fn set_time(&mut self, argument: &str) -> Reply {
        let Some((time, name)) = argument.split_once(' ').filter(|(_, name)| !name.is_empty()) else {
            return Reply::new(501, "MFMT needs a time and a name");
        };
        let Ok(at) = NaiveDateTime::parse_from_str(time, "%Y%m%d%H%M%S%.f") else {
            return Reply::new(501, "MFMT needs a time as YYYYMMDDHHMMSS");
        };
        match changed(&self.directory, name) {
            Ok(path) => match self.partner.files.set_time(&path, at.and_utc()).await {
                Ok(()) => Reply::new(213, format!("Modify={}; {path}", at.format("%Y%m%d%H%M%S"))),
                Err(refusal) => Reply::from(&refusal),
            },
            Err(reply) => reply,
        }
    }
}
