//! The working directory: CWD, CDUP, PWD.

use crate::doors::ftp::{
    logged_in::LoggedIn,
    paths::{looked_at, quoted},
    reply::Reply,
};

impl LoggedIn<'_> {
    /// CWD and CDUP (RFC 959, 4.1.1). The inner server says whether there is such a directory.
    pub(in crate::doors::ftp) async fn change_directory(&mut self, given: &str) -> Reply {
        let path = looked_at(&self.directory, given);
        let reply = self.ask(&format!("CWD {path}")).await;
        if reply.code != 250 {
            return reply;
        }
        self.directory = path;
        Reply::new(250, format!("{} is the current directory", quoted(&self.directory)))
    }

    /// PWD (RFC 959, appendix II).
    pub(in crate::doors::ftp) fn current_directory(&self) -> Reply {
        Reply::new(257, format!("{} is the current directory", quoted(&self.directory)))
    }
}
