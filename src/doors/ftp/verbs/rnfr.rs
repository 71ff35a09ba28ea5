//! Another name: RNFR, RNTO.

use crate::doors::ftp::{logged_in::LoggedIn, paths::changed, reply::Reply};

impl LoggedIn<'_> {
    /// RNFR (RFC 959, 4.1.3). RNTO has to follow at once.
    pub(in crate::doors::ftp) async fn rename_from(&mut self, given: &str) -> Reply {
        let path = match changed(&self.directory, given) {
            Ok(path) => path,
            Err(reply) => return reply,
        };
        let reply = self.ask(&format!("RNFR {path}")).await;
        if reply.code == 350 {
            self.rename_from = Some(path);
        }
        reply
    }

    /// RNTO. The inner session may be another than RNFR was asked of: both are sent.
    pub(in crate::doors::ftp) async fn rename_to(&mut self, from: Option<String>, given: &str) -> Reply {
        let Some(from) = from else { return Reply::new(503, "Send RNFR first") };
        let to = match changed(&self.directory, given) {
            Ok(path) => path,
            Err(reply) => return reply,
        };
        match self.ask(&format!("RNFR {from}")).await {
            known if known.code == 350 => self.ask(&format!("RNTO {to}")).await,
            unknown => unknown,
        }
    }
}
