//! The time that a file shows: MFMT.

use chrono::NaiveDateTime;

use crate::doors::ftp::{logged_in::LoggedIn, paths::changed, reply::Reply};

impl LoggedIn<'_> {
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
