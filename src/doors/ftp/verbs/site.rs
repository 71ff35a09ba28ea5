//! SITE HELP and SITE STATUS.

use crate::doors::ftp::{logged_in::LoggedIn, reply::Reply};

impl LoggedIn<'_> {
    /// SITE (RFC 959, 4.1.3): what only this server has.
    pub(in crate::doors::ftp) async fn site(&mut self, argument: &str) -> Reply {
        match argument.split(' ').next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "HELP" | "" => site_help(),
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
}

fn site_help() -> Reply {
    let lines = ["SITE commands:", "HELP    this text", "STATUS  your files and where they stand"];
    Reply::lines(214, lines.map(str::to_owned).to_vec(), "End")
}
