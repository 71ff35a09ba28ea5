//! What was refused, as a problem in JSON (RFC 9457), and the status of each refusal.

use std::time::Duration;

use axum::response::IntoResponse;
use hyper::{
    HeaderMap, StatusCode,
    header::{CONNECTION, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    doors::{
        core::words,
        web::{
            answer::{self, Answer},
            dialect::Dialect,
            pages::{Refused, rendered},
        },
    },
    ingest::Refusal,
    partners::Denied,
};

/// How soon to come again where there is no telling.
const SOON: Duration = Duration::from_secs(1);
/// How soon to come again when a person has to act first, or other partners' files to be processed.
const LATER: Duration = Duration::from_secs(60);

/// A refusal on its way to its caller.
#[derive(Debug)]
pub(in crate::doors::web) struct Problem {
    pub(in crate::doors::web) status: StatusCode,
    kind: &'static str,
    detail: String,
    field: Option<&'static str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A refusal, as RFC 9457 has it.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(in crate::doors::web) struct ProblemBody<'a> {
    /// `about:blank`, unless a caller can do something about it that the status does not tell: `urn:forebay:storage-full`,
    /// `urn:forebay:stopped`, `urn:forebay:internal`.
    r#type: &'a str,
    title: &'a str,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// A sentence for people.
    detail: &'a str,
    /// The parameter or header that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Problem {
    pub(in crate::doors::web) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, kind: "about:blank", detail: detail.into(), field: None, headers: Vec::new() }
    }

    /// 400.
    pub(in crate::doors::web) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// It is about this parameter or header.
    pub(in crate::doors::web) fn of(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    /// The same with a header.
    pub(in crate::doors::web) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The caller may come again after this time.
    pub(in crate::doors::web) fn after(self, wait: Duration) -> Self {
        self.with(RETRY_AFTER, wait.as_secs().max(1).into())
    }

    /// The connection ends with it.
    pub(in crate::doors::web) fn closing(self) -> Self {
        self.with(CONNECTION, HeaderValue::from_static("close"))
    }

    /// The refusal in the form that its caller reads; a page has this title.
    pub(in crate::doors::web) fn told(self, dialect: Dialect, title: &str) -> Answer {
        if dialect != Dialect::Html {
            return self.into_response();
        }
        // What is said of a field alone has no subject.
        let subject = self.field.filter(|_| self.detail.starts_with("is ") || self.detail.starts_with("stands "));
        let detail = subject.map_or_else(|| self.detail.clone(), |field| format!("{field} {}", self.detail));
        let detail = words::capitalised(&format!("{detail}."));
        let mut answer = answer::html(self.status, rendered(&Refused { title, detail: &detail }));
        self.add_headers(answer.headers_mut());
        answer
    }

    /// Adds its headers to an answer that tells of it in another way; without the question for a password, which pages
    /// ask themselves.
    pub(in crate::doors::web) fn add_headers(self, headers: &mut HeaderMap) {
        headers.extend(self.headers.into_iter().filter(|(name, _)| *name != WWW_AUTHENTICATE));
    }

    fn unavailable(kind: &'static str, refusal: &Refusal, wait: Duration) -> Self {
        Self { kind, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, words::refusal(refusal)).after(wait) }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::Full => return Self::unavailable("urn:forebay:storage-full", &refusal, LATER),
            Refusal::Stopped(_) => return Self::unavailable("urn:forebay:stopped", &refusal, LATER),
            Refusal::Internal(_) => return Self::unavailable("urn:forebay:internal", &refusal, LATER),
            Refusal::TooFast => return Self::new(StatusCode::TOO_MANY_REQUESTS, words::refusal(&refusal)).after(SOON),
            Refusal::BadName(_) => return Self::bad(words::refusal(&refusal)).of("name"),
            Refusal::Cut(_) => StatusCode::BAD_REQUEST,
            // The partner's share is spent, not the server's room: 507 would say that. (RFC 4918, 11.5)
            Refusal::Quota | Refusal::TooManyNames(_) | Refusal::Denied(_) => StatusCode::FORBIDDEN,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::NotFound => StatusCode::NOT_FOUND,
            Refusal::Busy | Refusal::Exists | Refusal::CannotResume { .. } | Refusal::NoBeginning => {
                StatusCode::CONFLICT
            }
        };
        Self::new(status, words::refusal(&refusal))
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let status = match &denied {
            Denied::Wrong | Denied::Expired => {
                let challenge = HeaderValue::from_static("Basic realm=\"Forebay\", charset=\"UTF-8\"");
                return Self::new(StatusCode::UNAUTHORIZED, denied.to_string()).with(WWW_AUTHENTICATE, challenge);
            }
            Denied::Wait(wait) => {
                // Rounded up, so that a client that waits so long is not refused again.
                let wait = *wait + Duration::from_millis(999);
                return Self::new(StatusCode::TOO_MANY_REQUESTS, denied.to_string()).after(wait);
            }
            Denied::TooManySessions | Denied::TooManyConnections | Denied::TooManyFromAddress => {
                return Self::new(StatusCode::TOO_MANY_REQUESTS, denied.to_string()).after(SOON);
            }
            Denied::KeyWanted | Denied::PasswordWanted | Denied::Address => StatusCode::FORBIDDEN,
            Denied::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, denied.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Answer {
        let Self { status, kind, detail, field, headers } = self;
        let title = status.canonical_reason().unwrap_or("Problem");
        let body = ProblemBody { r#type: kind, title, status: status.as_u16(), detail: &detail, field };
        let mut answer = answer::problem(status, &body);
        answer.headers_mut().extend(headers);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_their_status() {
        for (refusal, status) in [
            (Refusal::BadName("x".into()), 400),
            (Refusal::Cut("x".into()), 400),
            (Refusal::Quota, 403),
            (Refusal::TooManyNames(1), 403),
            (Refusal::Denied("x".into()), 403),
            (Refusal::NotFound, 404),
            (Refusal::Busy, 409),
            (Refusal::TooLarge, 413),
            (Refusal::TooFast, 429),
            (Refusal::Full, 503),
            (Refusal::Stopped("x".into()), 503),
            (Refusal::Internal("x".into()), 503),
        ] {
            assert_eq!(Problem::from(refusal.clone()).status.as_u16(), status, "{refusal:?}");
        }
        let full = Problem::from(Refusal::Full);
        assert_ne!(full.kind, "about:blank", "it is not the gate");
    }
}
