//! The pages: of files of our own alone, for light and dark, readable without style and usable without script.
//!
//! Each is a template beside this file. Whatever a template shows is escaped by [`Markup`](super::escape::Markup), whoever wrote
//! it.

use std::sync::LazyLock;

use askama::Template;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{
    announcement::{Announcement, FILES},
    local_time::LocalTime,
    status::Status,
};
use crate::{
    http::{Asset, Assets},
    ingest::Sent,
    units::{format_bytes, text::visible},
};

/// The files that pages are made of.
pub(super) static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    Assets::new(&[
        Asset::new("page.css", "text/css; charset=utf-8", include_bytes!("page.css")),
        Asset::new("session.js", "text/javascript; charset=utf-8", include_bytes!("session.js")),
        Asset::new("portal.js", "text/javascript; charset=utf-8", include_bytes!("portal.js")),
        Asset::new("mark.svg", "image/svg+xml", include_bytes!("mark.svg")),
    ])
});

/// What templates call.
#[expect(unreachable_pub, reason = "the macro writes a type as public as it likes")]
mod filters {
    use askama::Values;

    /// The address of a file that pages are made of.
    #[askama::filter_fn]
    pub(super) fn asset(name: &str, _: &dyn Values) -> askama::Result<String> {
        Ok(super::ASSETS.url(name))
    }
}

/// The announcement while the gate is closed.
#[derive(Template)]
#[template(path = "unavailable.html")]
struct Unavailable<'a> {
    message: &'a str,
    occasion: Option<(&'a str, &'a str)>,
    end: Option<&'a LocalTime>,
    files: &'static str,
}

/// The page for those who have not signed in.
#[derive(Template)]
#[template(path = "open.html")]
pub(super) struct Open<'a> {
    pub(super) status: &'a Status,
    pub(super) sign_in: SignInOffer<'a>,
}

/// How a partner may sign in on the page.
pub(super) enum SignInOffer<'a> {
    /// Not at all.
    None,
    /// Not over this connection: others can read it.
    NotPrivate,
    /// By name and password.
    Form {
        /// Why the last one failed.
        failure: Option<&'a str>,
        /// The name that was given.
        name: &'a str,
        /// Whether the browser has shown a certificate that is enough.
        certificate: bool,
    },
}

/// What stands around a partner's page.
pub(super) struct Around {
    pub(super) partner: String,
    pub(super) notice: Option<String>,
    pub(super) place: Place,
    /// How long the session may be idle.
    pub(super) idle_seconds: u64,
}

/// Where in the portal a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Files,
    Out,
}

/// A partner's files.
#[derive(Template)]
#[template(path = "files.html")]
pub(super) struct FilesPage {
    pub(super) around: Around,
    pub(super) files: Vec<File>,
    /// Whether it is the first page of the list, with the form for uploads.
    pub(super) is_first: bool,
    pub(super) next: Option<String>,
    /// Most bytes of one file.
    pub(super) largest: Option<u64>,
}

/// One file.
#[derive(Template)]
#[template(path = "file.html")]
pub(super) struct FilePage {
    pub(super) around: Around,
    pub(super) file: File,
    /// Whether it was sent just now.
    pub(super) is_new: bool,
}

/// What lies for a partner.
#[derive(Template)]
#[template(path = "out.html")]
pub(super) struct OutPage {
    pub(super) around: Around,
    pub(super) path: String,
    pub(super) up: Option<String>,
    pub(super) names: Vec<Name>,
    pub(super) is_complete: bool,
    pub(super) is_without_receipts: bool,
}

/// A refusal.
#[derive(Template)]
#[template(path = "refused.html")]
pub(super) struct Refused<'a> {
    pub(super) title: &'a str,
    pub(super) detail: &'a str,
}

/// A file as a page shows it.
pub(super) struct File {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) door: String,
    pub(super) bytes: u64,
    pub(super) size: String,
    pub(super) sha256: String,
    pub(super) received: LocalTime,
    pub(super) updated: LocalTime,
    pub(super) resumes: Option<LocalTime>,
    pub(super) state: &'static str,
    pub(super) tone: &'static str,
    /// Whether nobody has to do anything for it.
    pub(super) goes_on: bool,
    pub(super) text: String,
}

/// A name in `out/`.
pub(super) struct Name {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) is_folder: bool,
    pub(super) size: String,
    pub(super) modified: LocalTime,
}

impl File {
    /// A file, with its times in this zone.
    pub(super) fn new(sent: Sent, zone: Tz) -> Self {
        let at = |at: DateTime<Utc>| LocalTime::new(at, zone);
        Self {
            id: sent.id.to_string(),
            name: visible(&sent.name),
            door: sent.door,
            bytes: sent.size_bytes,
            size: format_bytes(sent.size_bytes),
            sha256: sent.sha256.to_string(),
            received: at(sent.received_at),
            updated: at(sent.updated_at),
            resumes: sent.resumes_at.map(at),
            tone: tone(sent.state),
            goes_on: matches!(sent.state, "ready" | "active" | "retrying" | "done"),
            state: sent.state,
            text: sent.text,
        }
    }
}

/// How a state is coloured. Its word stands beside it: nobody has to see colours.
fn tone(state: &str) -> &'static str {
    match state {
        "done" => "good",
        "held" | "quarantined" | "unfinished" => "warn",
        "dead" | "cancelled" => "bad",
        _ => "wait",
    }
}

/// The announcement, for a browser.
pub(super) fn unavailable(announcement: &Announcement) -> String {
    let occasion = announcement.occasion.as_ref().map(|(name, reason)| (name.as_str(), reason.as_str()));
    let Announcement { message, end, .. } = announcement;
    rendered(&Unavailable { message, occasion, end: end.as_ref(), files: FILES })
}

/// A page as text.
pub(super) fn rendered(page: &impl Template) -> String {
    // Writing into a string does not fail, and no filter of ours does.
    page.render().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::announcement::tests::hostile;
    use super::*;

    #[test]
    fn hostile_words_stay_words() {
        let page = unavailable(&hostile());
        assert!(!page.contains("<script") && !page.contains("</p></fault") && !page.contains('\u{1b}'), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;"));
    }

    #[test]
    fn nothing_stands_in_a_page_that_runs_or_comes_from_elsewhere() {
        let page = unavailable(&hostile());
        for word in ["src=", "url(", "@import", "style=\"", "<style", "onclick"] {
            assert!(!page.contains(word), "{word}");
        }
        assert_eq!(page.matches("href=\"/assets/").count(), page.matches("href=").count());
        assert!(page.contains("<html lang=\"en\">") && page.contains("<h1>Service Unavailable</h1>"));
        assert!(page.contains("There is no need to resubmit data."));
    }

    #[test]
    fn every_file_that_a_template_names_is_there() {
        for template in [include_str!("frame.html"), include_str!("signed_in.html"), include_str!("files.html")] {
            for name in
                template.split("{{ \"").skip(1).filter_map(|rest| rest.split_once("\"|asset").map(|(name, _)| name))
            {
                assert!(ASSETS.url(name).contains("?v="), "{name}");
            }
        }
    }
}
