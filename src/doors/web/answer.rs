//! Which answer a request gets.

use axum::body::Body;
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, VARY},
};
use serde::Serialize;

use super::{announcement::Announcement, dialect::Dialect, pages, problem, soap, status::Status};
use crate::{
    http::{Assets, guard_data, guard_page},
    units::text::visible_json,
};

/// What is said, before it is sent.
pub(super) type Answer = Response<Body>;

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Whether the process is alive.
    Health,
    /// Whether files can be taken in.
    Readiness,
    /// The windows as a calendar.
    Calendar,
    /// A file that pages are made of.
    Asset,
    /// Anything else.
    Other,
}

impl Asked {
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Readiness,
            "/maintenance.ics" | "/calendar.ics" => Self::Calendar,
            path if Assets::is_below(path) => Self::Asset,
            _ => Self::Other,
        }
    }
}

/// 503 with the announcement, whatever was asked.
pub(super) fn unavailable(announcement: &Announcement, dialect: Dialect) -> Answer {
    let (kind, body) = match dialect {
        Dialect::Html => (HTML, pages::unavailable(announcement)),
        Dialect::Json => (PROBLEM, problem::problem(announcement)),
        Dialect::Soap11 => ("text/xml; charset=utf-8", soap::version_1_1(announcement)),
        Dialect::Soap12 => ("application/soap+xml; charset=utf-8", soap::version_1_2(announcement)),
        Dialect::Text => (TEXT, announcement.text()),
    };
    let mut answer = answer(StatusCode::SERVICE_UNAVAILABLE, kind, body);
    answer.headers_mut().insert(RETRY_AFTER, announcement.retry_after.into());
    answer
}

/// The status while the gate is open.
pub(super) fn status(status: &Status, dialect: Dialect) -> Answer {
    let (kind, body) = match dialect {
        Dialect::Html => (HTML, pages::rendered(&pages::Open { status, sign_in: pages::SignInOffer::None })),
        Dialect::Json => (JSON, json(status)),
        _ => (TEXT, status.text()),
    };
    answer(StatusCode::OK, kind, body)
}

/// The calendar.
pub(super) fn calendar(feed: String) -> Answer {
    answer(StatusCode::OK, "text/calendar; charset=utf-8", feed)
}

/// The process answers, so it is alive.
pub(super) fn health(dialect: Dialect) -> Answer {
    match dialect {
        Dialect::Json => answer(StatusCode::OK, JSON, json(&serde_json::json!({ "alive": true }))),
        _ => answer(StatusCode::OK, TEXT, "alive\n".to_owned()),
    }
}

/// 200 when there is no fault, else 503 with each of them.
pub(super) fn readiness(faults: &[String], dialect: Dialect) -> Answer {
    let status = if faults.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if dialect == Dialect::Json {
        let body = json(&serde_json::json!({ "ready": faults.is_empty(), "reasons": faults }));
        return answer(status, JSON, body);
    }
    let mut text = if faults.is_empty() { "ready\n".to_owned() } else { "not ready\n".to_owned() };
    for fault in faults {
        text.push_str(&format!("- {}\n", fault.replace(char::is_control, " ")));
    }
    answer(status, TEXT, text)
}

/// The request is none.
pub(super) fn bad_request(dialect: Dialect) -> Answer {
    plain(StatusCode::BAD_REQUEST, "Bad Request", dialect)
}

/// The Host is another server's. (RFC 9110, 15.5.20)
pub(super) fn misdirected(dialect: Dialect) -> Answer {
    plain(StatusCode::MISDIRECTED_REQUEST, "Misdirected Request", dialect)
}

/// Nothing is here.
pub(super) fn not_found(dialect: Dialect) -> Answer {
    plain(StatusCode::NOT_FOUND, "Not Found", dialect)
}

/// Another method is possible here: the router says which.
pub(super) fn method_not_allowed(dialect: Dialect) -> Answer {
    plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", dialect)
}

/// The figures of the server. What keeps answers does so by what was accepted.
pub(super) fn figures(kind: &'static str, figures: String) -> Answer {
    let mut answer = answer(StatusCode::OK, kind, figures);
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    answer
}

/// Some value as JSON.
pub(super) fn json_of(status: StatusCode, value: &impl Serialize) -> Answer {
    json_text(status, json(value))
}

/// A text that is JSON.
pub(super) fn json_text(status: StatusCode, text: String) -> Answer {
    answer(status, JSON, text)
}

/// A problem.
pub(super) fn problem(status: StatusCode, value: &impl Serialize) -> Answer {
    answer(status, PROBLEM, json(value))
}

/// Only looking is possible here.
pub(super) fn not_allowed(dialect: Dialect) -> Answer {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", dialect);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

fn plain(status: StatusCode, title: &str, dialect: Dialect) -> Answer {
    if dialect == Dialect::Json {
        let body = json(&serde_json::json!({ "type": "about:blank", "title": title, "status": status.as_u16() }));
        return answer(status, PROBLEM, body);
    }
    if dialect == Dialect::Html {
        let detail = "There is no such page, or nothing that can be done with it.";
        return html(status, pages::rendered(&pages::Refused { title, detail }));
    }
    answer(status, TEXT, format!("{title}\n"))
}

/// Whether the method only looks.
pub(super) fn looks(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Whether the caller waits to be told before it sends its body (RFC 9110 10.1.1).
pub(super) fn expects_go_ahead(headers: &HeaderMap) -> bool {
    headers.contains_key(hyper::header::EXPECT)
}

/// With a line end behind it, for those who look with curl.
pub(super) fn json(value: &impl Serialize) -> String {
    // Plain structs of text and numbers cannot fail.
    let mut text = visible_json(&serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned()));
    text.push('\n');
    text
}

/// A page.
pub(super) fn html(status: StatusCode, page: String) -> Answer {
    answer(status, HTML, page)
}

/// The browser is to look at another page (RFC 9110, 15.4.4).
pub(super) fn see_other(place: HeaderValue) -> Answer {
    let mut answer = answer(StatusCode::SEE_OTHER, TEXT, "see the other page\n".to_owned());
    answer.headers_mut().insert(LOCATION, place);
    answer
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    match kind {
        HTML => guard_page(headers),
        _ => guard_data(headers),
    }
    answer
}
