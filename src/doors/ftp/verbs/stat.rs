//! How things stand: STAT of the session, and STAT of a path.

use crate::doors::ftp::{
    client::Client, logged_in::LoggedIn, paths::looked_at, protection::DataProtection, reply::Reply,
};

impl LoggedIn<'_> {
    /// STAT without a path (RFC 959, 4.1.3).
    pub(in crate::doors::ftp) fn status(&self) -> Reply {
        let secure = |on: bool| if on { "TLS" } else { "clear" };
        let Client { control, protection, .. } = &*self.client;
        let (control_is, data_is) = (secure(control.is_secure()), secure(protection.data == DataProtection::Private));
        let lines = vec![
            "Forebay".to_owned(),
            format!("Logged in as {} from {}", self.partner.info.partner, control.link.peer.ip()),
            format!("Control connection: {control_is}; data connections: {data_is}"),
            format!("Directory: {}", self.directory),
        ];
        Reply::lines(211, lines, "No transfer is under way")
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
}
