//! The server and the session as they tell of themselves: SITE, STAT, and what FEAT and HELP depend on.

use std::sync::Arc;

use crate::doors::ftp::{
    login::Login,
    reply::Reply,
    session::Session,
    speech::{self, Abilities},
};

impl Session {
    pub(in crate::doors::ftp) async fn site(&mut self, argument: &str, login: &Arc<Login>) -> Reply {
        match argument.split(' ').next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "HELP" | "" => speech::site_help(),
            "STATUS" => self.standing(login).await,
            _ => Reply::new(504, "Unknown SITE command; try SITE HELP"),
        }
    }

    /// The partner's own files, in words.
    async fn standing(&self, login: &Arc<Login>) -> Reply {
        let counts = match login.ingest.standing_of(&login.session).await {
            Ok(counts) => counts,
            Err(refusal) => return Reply::from(&refusal),
        };
        let mut lines = vec![format!("Files of {}:", login.session.partner)];
        lines.extend(counts.iter().map(|(state, count)| format!("{state}: {count}")));
        if counts.is_empty() {
            lines.push("none".to_owned());
        }
        Reply::lines(211, lines, self.context.notice().unwrap_or_else(|| "Files are processed as they come".to_owned()))
    }

    pub(in crate::doors::ftp) fn status(&self, login: &Arc<Login>) -> Reply {
        let secure = |on: bool| if on { "TLS" } else { "clear" };
        let lines = vec![
            "Forebay".to_owned(),
            format!("Logged in as {} from {}", login.session.partner, self.link.peer.ip()),
            format!("Control connection: {}; data connections: {}", secure(self.is_secure()), secure(self.protected)),
            format!("Directory: {}", self.directory),
        ];
        Reply::lines(211, lines, "No transfer is under way")
    }

    pub(in crate::doors::ftp) fn abilities(&self) -> Abilities {
        Abilities { tls: self.context.tls().is_some(), active: self.context.options.active, hash: self.hash }
    }
}
