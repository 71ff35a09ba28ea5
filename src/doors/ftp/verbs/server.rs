//! The server and the session as they tell of themselves: SITE, STAT, FEAT, HELP.

use crate::doors::ftp::{
    client::Client,
    logged_in::LoggedIn,
    protection::DataProtection,
    reply::Reply,
    speech::{self, Abilities},
};

impl LoggedIn<'_> {
    pub(in crate::doors::ftp) async fn site(&mut self, argument: &str) -> Reply {
        match argument.split(' ').next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "HELP" | "" => speech::site_help(),
            "STATUS" => self.standing().await,
            _ => Reply::new(504, "Unknown SITE command; try SITE HELP"),
        }
    }

    /// The partner's own files, in words.
    async fn standing(&self) -> Reply {
        let counts = match self.partner.ingest.standing_of(&self.partner.info).await {
            Ok(counts) => counts,
            Err(refusal) => return Reply::from(&refusal),
        };
        let mut lines = vec![format!("Files of {}:", self.partner.info.partner)];
        lines.extend(counts.iter().map(|(state, count)| format!("{state}: {count}")));
        if counts.is_empty() {
            lines.push("none".to_owned());
        }
        let notice = self.client.context.common.notice();
        Reply::lines(211, lines, notice.unwrap_or_else(|| "Files are processed as they come".to_owned()))
    }

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
}

impl Client {
    pub(in crate::doors::ftp) fn abilities(&self) -> Abilities {
        Abilities { tls: self.context.tls.is_on(), active: self.context.options.active, hash: self.hash }
    }
}
