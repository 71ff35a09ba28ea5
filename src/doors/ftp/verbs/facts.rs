//! Facts of a file or directory: SIZE, MDTM, MLST.

use crate::doors::ftp::{logged_in::LoggedIn, paths::looked_at, reply::Reply};

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
}
