//! A file on its way to a client: whole, or the range that it asks for.

use hyper::{
    HeaderMap, Response, StatusCode,
    header::{
        ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, IF_RANGE,
        LAST_MODIFIED, RANGE,
    },
};

use super::{Login, Problem, sending::Sending};
use crate::{
    doors::web::answer::Answer,
    http::{Part, guard_data},
    ingest::{OpenFile, Stat},
};

/// Sends a file.
///
/// # Errors
/// When it has no such range.
pub(in crate::doors::web) fn send(
    login: &Login,
    file: OpenFile,
    path: &str,
    headers: &HeaderMap,
) -> Result<Answer, Problem> {
    let stat = file.stat();
    let (size, tag) = (stat.size_bytes, etag(&stat));
    // A part of another content than the client has the rest of is of no use to it.
    let is_current = headers.get(IF_RANGE).is_none_or(|given| given.as_bytes() == tag.as_bytes());
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok()).filter(|_| is_current);
    let (status, first, length) = match Part::of(range, size) {
        Part::Whole => (StatusCode::OK, 0, size),
        Part::Bytes { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Part::Unsatisfiable => {
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("the file has {size} bytes"));
            return Err(problem.of("Range").with(CONTENT_RANGE, value(format!("bytes */{size}"))));
        }
    };
    let (sending, body) = Sending::begin(login);
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let told = answer.headers_mut();
    guard_data(told);
    told.insert(CONTENT_TYPE, HeaderValue::from_static(kind(path)));
    told.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    told.insert(CONTENT_LENGTH, length.into());
    told.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    told.insert(ETAG, value(tag));
    told.insert(LAST_MODIFIED, value(stat.modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string()));
    if status == StatusCode::PARTIAL_CONTENT {
        told.insert(CONTENT_RANGE, value(format!("bytes {first}-{}/{size}", first + length - 1)));
    }
    sending.file(file, first, length);
    Ok(answer)
}

/// Of a name's ending alone: what is in a file is not looked at, and browsers are told not to guess.
fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// What lies in `out/` changes with its time or its length.
fn etag(stat: &Stat) -> String {
    format!("\"{:x}-{:x}\"", stat.modified.timestamp_micros(), stat.size_bytes)
}

/// A text of digits, dates and the like, which is always a header's.
fn value(text: String) -> HeaderValue {
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}
