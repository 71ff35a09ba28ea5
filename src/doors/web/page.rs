//! The pages: small, of themselves alone, for light and dark, readable without style.

use super::{
    announcement::{Announcement, FILES, HEADLINE},
    escape::Escaped,
    status::Status,
};

/// The one style sheet. It is allowed by the answer's nonce and by nothing else.
const STYLE: &str = include_str!("page.css");

/// The mark: a gate in water. Decoration, so it is hidden from screen readers.
const CLOSED: &str = r#"<svg class="mark" viewBox="0 0 64 64" aria-hidden="true" focusable="false"><path class="frame" d="M14 8v44M50 8v44M9 8h46"/><path class="leaf" d="M18 20h28v24H18z"/><path class="line" d="M18 28h28M18 36h28"/><path class="water" d="M4 54q7-6 14 0t14 0 14 0 14 0"/></svg>"#;
const OPEN: &str = r#"<svg class="mark" viewBox="0 0 64 64" aria-hidden="true" focusable="false"><path class="frame" d="M14 8v44M50 8v44M9 8h46"/><path class="leaf" d="M18 12h28v10H18z"/><path class="water" d="M4 38q7-6 14 0t14 0 14 0 14 0M4 46q7-6 14 0t14 0 14 0 14 0M4 54q7-6 14 0t14 0 14 0 14 0"/></svg>"#;

/// The announcement, for a browser.
pub(super) fn unavailable(announcement: &Announcement, nonce: &str) -> String {
    let mut body = format!("{CLOSED}\n<h1>{HEADLINE}</h1>\n<p class=\"lead\">{}</p>\n", Escaped(&announcement.message));
    let mut facts = String::new();
    if let Some((name, reason)) = &announcement.occasion {
        facts.push_str(&fact("Maintenance", &Escaped(name).to_string()));
        if !reason.trim().is_empty() {
            facts.push_str(&fact("Reason", &Escaped(reason).to_string()));
        }
    }
    facts.push_str(&match &announcement.end {
        Some(end) => fact("Expected end", &time(&end.rfc3339, &end.local)),
        None => fact("Expected end", "not known yet"),
    });
    body.push_str(&format!("<dl>\n{facts}</dl>\n"));
    body.push_str(&format!("<section>\n<h2>If you submit files</h2>\n<p>{FILES}</p>\n</section>\n"));
    body.push_str(
        "<section>\n<h2>If you use the web service</h2>\n<p>Requests are answered with status 503 until the end. \
         Please send them again afterwards.</p>\n</section>\n",
    );
    document(HEADLINE, nonce, &body)
}

/// The status, for a browser.
pub(super) fn open(status: &Status, nonce: &str) -> String {
    let mut body = format!("{OPEN}\n<h1>Forebay</h1>\n<p class=\"lead\">The gate is open. {}</p>\n", status.sentence());
    match &status.next_window {
        Some(next) => {
            let mut facts = fact("Next maintenance", &Escaped(&next.name).to_string());
            if !next.reason.trim().is_empty() {
                facts.push_str(&fact("Reason", &Escaped(&next.reason).to_string()));
            }
            facts.push_str(&fact("From", &time(&next.start, &next.start_local)));
            facts.push_str(&fact("To", &time(&next.end, &next.end_local)));
            body.push_str(&format!("<dl>\n{facts}</dl>\n"));
        }
        None => body.push_str("<dl>\n<div><dt>Next maintenance</dt><dd>none is planned</dd></div>\n</dl>\n"),
    }
    body.push_str("<p class=\"foot\"><a href=\"/calendar.ics\">Calendar of maintenance windows</a></p>\n");
    document("Forebay", nonce, &body)
}

/// `value` is markup already.
fn fact(term: &str, value: &str) -> String {
    format!("<div><dt>{term}</dt><dd>{value}</dd></div>\n")
}

fn time(rfc3339: &str, local: &str) -> String {
    let (machine, people) = (Escaped(rfc3339), Escaped(local));
    format!("<time datetime=\"{machine}\">{people}</time> <small>{machine}</small>")
}

fn document(title: &str, nonce: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style nonce=\"{nonce}\">\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::announcement::tests::hostile;
    use super::*;

    #[test]
    fn hostile_words_stay_words() {
        let page = unavailable(&hostile(), "0123");
        assert!(!page.contains("<script") && !page.contains("</p></fault") && !page.contains('\u{1b}'), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;"));
    }

    #[test]
    fn nothing_is_fetched_and_nothing_runs() {
        let page = unavailable(&hostile(), "0123");
        for word in ["src=", "href=", "url(", "@import", "style=\"", "onclick"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("<html lang=\"en\">") && page.contains("<h1>Service Unavailable</h1>"));
        assert!(page.contains("There is no need to resubmit data."));
    }
}
