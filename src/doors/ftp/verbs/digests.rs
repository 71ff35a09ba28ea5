//! Digests of files: HASH, XSHA256 and their like.

use std::sync::Arc;

use crate::doors::ftp::{
    digest::{self, Algorithm},
    login::Login,
    paths::looked_at,
    reply::Reply,
    session::Session,
};

impl Session {
    pub(in crate::doors::ftp) async fn hash(&mut self, argument: &str, login: &Arc<Login>) -> Reply {
        let path = looked_at(&self.directory, argument);
        match self.digest_of(&path, self.hash, login).await {
            Ok((hex, bytes)) => {
                Reply::new(213, format!("{} 0-{} {hex} {argument}", self.hash, bytes.saturating_sub(1)))
            }
            Err(reply) => reply,
        }
    }

    pub(in crate::doors::ftp) async fn digest(
        &mut self,
        argument: &str,
        algorithm: Algorithm,
        login: &Arc<Login>,
    ) -> Reply {
        // Some clients put the name in quotes, as it may be followed by a range.
        let name = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(argument);
        if name.is_empty() {
            return Reply::new(501, "A name is needed");
        }
        let path = looked_at(&self.directory, name);
        match self.digest_of(&path, algorithm, login).await {
            Ok((hex, _)) => Reply::new(250, hex.to_ascii_uppercase()),
            Err(reply) => reply,
        }
    }

    /// Reads the whole file, which may take its time.
    async fn digest_of(&mut self, path: &str, algorithm: Algorithm, login: &Login) -> Result<(String, u64), Reply> {
        login.ticket.doing(format!("{algorithm} {path}"));
        let digest = self.while_present(digest::of(&login.files, path, algorithm)).await;
        login.ticket.doing("");
        digest.ok_or_else(Reply::interrupted)?.map_err(|refusal| Reply::from(&refusal))
    }
}
