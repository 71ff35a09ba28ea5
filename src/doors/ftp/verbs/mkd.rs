//! Names made and removed: MKD, RMD, DELE. The inner server is asked, with absolute paths.

use crate::doors::ftp::{
    logged_in::LoggedIn,
    paths::{changed, quoted},
    reply::Reply,
};

impl LoggedIn<'_> {
    /// MKD (RFC 959, 4.1.3, and appendix II for the quotes).
    pub(in crate::doors::ftp) async fn make_directory(&mut self, given: &str) -> Reply {
        // A name with `..` is refused here: what changes something is named exactly.
        let path = match changed(&self.directory, given) {
            Ok(path) => path,
            Err(reply) => return reply,
        };
        match self.ask(&format!("MKD {path}")).await {
            made if made.code == 257 => Reply::new(257, format!("{} created", quoted(&path))),
            other => other,
        }
    }

    /// RMD or DELE.
    pub(in crate::doors::ftp) async fn remove(&mut self, verb: &str, given: &str) -> Reply {
        match changed(&self.directory, given) {
            Ok(path) => self.ask(&format!("{verb} {path}")).await,
            Err(reply) => reply,
        }
    }
}
