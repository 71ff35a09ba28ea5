//! The announcement as a SOAP fault.
//!
//! The status stays 503, although SOAP over HTTP would have 500: who keeps to HTTP alone sees what it is, and
//! `Retry-After` has its meaning.

use super::{
    announcement::{Announcement, HEADLINE},
    escape::Escaped,
};

const NAMESPACE: &str = "urn:forebay:unavailable";

/// SOAP 1.1, as `text/xml`: a fault of the server, so that the same message may be sent again.
pub(super) fn version_1_1(announcement: &Announcement) -> String {
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?>
<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">
  <soap:Body>
    <soap:Fault>
      <faultcode>soap:Server</faultcode>
      <faultstring xml:lang="en">{HEADLINE}: {message}</faultstring>
      <detail>{detail}</detail>
    </soap:Fault>
  </soap:Body>
</soap:Envelope>
"#,
        message = Escaped(&announcement.message),
        detail = detail(announcement),
    )
}

/// SOAP 1.2, as `application/soap+xml`.
pub(super) fn version_1_2(announcement: &Announcement) -> String {
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?>
<env:Envelope xmlns:env="http://www.w3.org/2003/05/soap-envelope">
  <env:Body>
    <env:Fault>
      <env:Code><env:Value>env:Receiver</env:Value></env:Code>
      <env:Reason><env:Text xml:lang="en">{HEADLINE}: {message}</env:Text></env:Reason>
      <env:Detail>{detail}</env:Detail>
    </env:Fault>
  </env:Body>
</env:Envelope>
"#,
        message = Escaped(&announcement.message),
        detail = detail(announcement),
    )
}

fn detail(announcement: &Announcement) -> String {
    let mut inner = String::new();
    if let Some((name, reason)) = &announcement.occasion {
        inner.push_str(&format!("<window>{}</window><reason>{}</reason>", Escaped(name), Escaped(reason)));
    }
    if let Some(end) = &announcement.end {
        let (until, local) = (Escaped(&end.rfc3339), Escaped(&end.local));
        inner.push_str(&format!("<until>{until}</until><untilLocal>{local}</untilLocal>"));
    }
    let seconds = announcement.retry_after;
    format!("<unavailable xmlns=\"{NAMESPACE}\">{inner}<retryAfterSeconds>{seconds}</retryAfterSeconds></unavailable>")
}

#[cfg(test)]
mod tests {
    use super::super::announcement::tests::hostile;
    use super::*;

    #[test]
    fn hostile_words_stay_words() {
        for fault in [version_1_1(&hostile()), version_1_2(&hostile())] {
            assert!(!fault.contains("<script") && !fault.contains("]]>") && !fault.contains('\u{1b}'), "{fault}");
            let opened = fault.matches('<').count() - 1;
            let closed = fault.matches("</").count();
            assert_eq!(opened, 2 * closed, "every element is closed: {fault}");
            assert!(fault.contains("<until>2026-04-24T22:00:00-05:00</until>"));
        }
    }
}
