//! `GET /v1/out/`: receipts, the notice, and what lies for the partner.

use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{
        ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, IF_RANGE,
        LAST_MODIFIED, RANGE,
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Services,
    login::Login,
    problem::{Problem, ProblemBody},
    sending::Sending,
};
use crate::{
    doors::{
        core::paths,
        web::answer::{self, Answer},
    },
    http::{Part, guard},
    ingest::{Listed, OUT, OpenFile, Stat},
};

/// The most names that a listing gives; who has more deletes receipts that were read, or asks for files one by one.
const MOST_NAMES: usize = 10_000;

/// A name in a folder.
#[derive(Serialize, ToSchema)]
#[schema(as = Name)]
pub(super) struct NameBody {
    name: String,
    /// Whether it is a folder.
    folder: bool,
    /// Length in bytes.
    bytes: u64,
    #[schema(value_type = String, format = DateTime)]
    modified: DateTime<Utc>,
}

/// The names in a folder.
#[derive(Serialize, ToSchema)]
#[schema(as = Names)]
pub(super) struct NamesBody {
    names: Vec<NameBody>,
    /// False: there are more names than are given.
    complete: bool,
}

impl From<Listed> for NameBody {
    fn from(Listed { name, stat }: Listed) -> Self {
        Self { name, folder: stat.is_folder(), bytes: stat.size_bytes, modified: stat.modified }
    }
}

/// Lists what lies in `out/`.
#[utoipa::path(
    get,
    path = "/v1/out/",
    tag = "out",
    responses(
        (status = 200, description = "the names", body = NamesBody),
        (status = 401, description = "no login", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "not allowed", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "too many failed logins or sessions", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "maintenance", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("basic" = []), ("bearer" = []), ("certificate" = [])),
)]
pub(super) async fn list(_: State<Services>, login: Login) -> Result<Answer, Problem> {
    names(&login, &format!("/{OUT}")).await
}

async fn names(login: &Login, path: &str) -> Result<Answer, Problem> {
    let mut listing = login.partner.files.list(path).await?;
    let (mut names, mut complete) = (Vec::new(), true);
    while let Some(page) = listing.next().await? {
        names.extend(page.into_iter().map(NameBody::from));
        if names.len() > MOST_NAMES {
            names.truncate(MOST_NAMES);
            complete = false;
            break;
        }
    }
    Ok(answer::json_of(StatusCode::OK, &NamesBody { names, complete }))
}

/// Gives a file of `out/`, or a part of it; of a folder its names.
#[utoipa::path(
    get,
    path = "/v1/out/{name}",
    tag = "out",
    params(
        ("name" = String, Path, description = "the path below out/"),
        ("Range" = Option<String>, Header, description = "one range of bytes (RFC 9110, 14.2)"),
    ),
    responses(
        (status = 200, description = "the file, or the names of a folder", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "the part that was asked for", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 400, description = "no name of a file", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "no login", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "the account may not download", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "no such file", body = ProblemBody, content_type = "application/problem+json"),
        (status = 416, description = "the file has no such part", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "too many failed logins or sessions", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "maintenance", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("basic" = []), ("bearer" = []), ("certificate" = [])),
)]
pub(super) async fn one(
    _: State<Services>,
    login: Login,
    name: Option<Path<String>>,
    headers: HeaderMap,
) -> Result<Answer, Problem> {
    let bad = || Problem::bad("is no name of a file below out/").of("name");
    let Path(name) = name.ok_or_else(bad)?;
    let path = paths::changed(&format!("/{OUT}"), name.trim_start_matches('/')).ok_or_else(bad)?;
    if login.partner.files.stat(&path).await?.is_folder() {
        return names(&login, &path).await;
    }
    let file = login.partner.files.open(&path).await?;
    send(&login, file, &path, &headers)
}

/// The same for a name within a folder.
pub(super) async fn deeper(
    services: State<Services>,
    login: Login,
    Path((folder, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Answer, Problem> {
    one(services, login, Some(Path(format!("{folder}/{name}"))), headers).await
}

fn send(login: &Login, file: OpenFile, path: &str, headers: &HeaderMap) -> Result<Answer, Problem> {
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
    guard(told, "");
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
