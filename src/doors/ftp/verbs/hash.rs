//! Digests of files: HASH, XSHA256 and their like.
//!
//! A digest of a large file takes long: the session shows what it does, and ends when its client
//! goes.

use crate::doors::ftp::{
    digest::{self, Algorithm},
    logged_in::LoggedIn,
    paths::looked_at,
    reply::Reply,
};

impl LoggedIn<'_> {
    /// HASH (draft-bryan-ftpext-hash), with the algorithm that OPTS has chosen.
    pub(in crate::doors::ftp) async fn hash(&mut self, given: &str) -> Reply {
        let (path, algorithm) = (looked_at(&self.directory, given), self.client.hash);
        match self.digest_of(&path, algorithm).await {
            Ok((hex, bytes)) => Reply::new(213, format!("{algorithm} 0-{} {hex} {given}", bytes.saturating_sub(1))),
            Err(reply) => reply,
        }
    }

    /// XSHA256, XCRC and their like, which no document defines: a digest in hexadecimal, as most servers give it.
    pub(in crate::doors::ftp) async fn digest(&mut self, given: &str, algorithm: Algorithm) -> Reply {
        // Some clients put the name in quotes, as it may be followed by a range.
        let name = given.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(given);
        if name.is_empty() {
            return Reply::new(501, "A name is needed");
        }
        let path = looked_at(&self.directory, name);
        match self.digest_of(&path, algorithm).await {
            Ok((hex, _)) => Reply::new(250, hex.to_ascii_uppercase()),
            Err(reply) => reply,
        }
    }

    /// Reads the whole file, which may take its time.
    async fn digest_of(&mut self, path: &str, algorithm: Algorithm) -> Result<(String, u64), Reply> {
        let partner = self.partner.clone();
        partner.ticket.doing(format!("{algorithm} {path}"));
        let digest = self.client.while_present(digest::of(&partner.files, path, algorithm)).await;
        partner.ticket.doing("");
        digest.ok_or_else(Reply::interrupted)?.map_err(|refusal| Reply::from(&refusal))
    }
}
