//! Facts of a file or directory: SIZE, MDTM, MLST.
//!
//! SIZE answers for uploads first: resuming clients ask it and then send REST with what they hear
//! (RFC 3659, 4 and 5).

use crate::doors::ftp::{logged_in::LoggedIn, paths::looked_at, reply::Reply};

impl LoggedIn<'_> {
    /// SIZE. A client that goes on with an upload asks so where.
    pub(in crate::doors::ftp) async fn size(&mut self, given: &str) -> Reply {
        let path = looked_at(&self.directory, given);
        let partner = &self.partner;
        // Before the catalogue: of a name that has both, the partial is what an upload goes on
        // with.
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
