//! Names and directories: CWD, PWD, MKD, RMD, DELE, RNFR, RNTO. The inner server is asked, with absolute paths.

use crate::doors::ftp::{
    logged_in::LoggedIn,
    paths::{changed, looked_at, quoted},
    reply::Reply,
};

impl LoggedIn<'_> {
    pub(in crate::doors::ftp) async fn change_directory(&mut self, given: &str) -> Reply {
        let path = looked_at(&self.directory, given);
        let reply = self.ask(&format!("CWD {path}")).await;
        if reply.code != 250 {
            return reply;
        }
        self.directory = path;
        Reply::new(250, format!("{} is the current directory", quoted(&self.directory)))
    }

    pub(in crate::doors::ftp) fn current_directory(&self) -> Reply {
        Reply::new(257, format!("{} is the current directory", quoted(&self.directory)))
    }

    pub(in crate::doors::ftp) async fn make_directory(&mut self, given: &str) -> Reply {
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
