//! The announcement as a problem in JSON (RFC 9457).

use serde::Serialize;

use super::announcement::{Announcement, FILES, HEADLINE};

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    until: Option<&'a str>,
    until_local: Option<&'a str>,
    retry_after_seconds: u64,
    files: &'static str,
}

/// As `application/problem+json`.
pub(super) fn problem(announcement: &Announcement) -> String {
    let problem = Problem {
        r#type: "about:blank",
        title: HEADLINE,
        status: 503,
        detail: &announcement.message,
        window: announcement.occasion.as_ref().map(|(name, _)| name.as_str()),
        reason: announcement.occasion.as_ref().map(|(_, reason)| reason.as_str()),
        until: announcement.end.as_ref().map(|end| end.rfc3339.as_str()),
        until_local: announcement.end.as_ref().map(|end| end.local.as_str()),
        retry_after_seconds: announcement.retry_after,
        files: FILES,
    };
    super::answer::json(&problem)
}

#[cfg(test)]
mod tests {
    use super::super::announcement::tests::hostile;
    use super::*;

    #[test]
    fn it_reads_back_whatever_it_says() {
        let told = hostile();
        let read: serde_json::Value = serde_json::from_str(&problem(&told)).unwrap();
        assert_eq!(read["detail"], told.message);
        assert_eq!((&read["status"], &read["type"]), (&503.into(), &"about:blank".into()));
        assert_eq!(read["until"], "2026-04-24T22:00:00-05:00");
        assert_eq!(read["retry_after_seconds"], 60);
        let endless = Announcement { end: None, occasion: None, ..told };
        let read: serde_json::Value = serde_json::from_str(&problem(&endless)).unwrap();
        assert!(read["until"].is_null() && read.get("window").is_none());
    }
}
