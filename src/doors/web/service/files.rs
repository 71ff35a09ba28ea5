//! `GET /v1/files` and `/v1/files/{id}`: what became of the files that were sent, over any door.

use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use hyper::{StatusCode, Uri};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Services,
    login::Login,
    problem::{Problem, ProblemBody},
    query,
};
use crate::{
    doors::web::answer::{self, Answer},
    ingest::{FileId, Refusal, Sent},
};

/// Files in one piece of a listing, unless fewer are asked for, and the most that can be asked for.
const PAGE: usize = 100;
const MOST: usize = 1000;

/// A file as its partner is told of it: its receipt as it stands.
#[derive(Serialize, ToSchema)]
#[schema(as = File)]
pub(super) struct FileBody {
    version: u8,
    #[schema(value_type = String, format = "uuid")]
    id: String,
    /// The path that it has, relative to the login directory.
    name: String,
    /// The door that it came through.
    door: String,
    /// Length in bytes.
    bytes: u64,
    /// Hexadecimal.
    sha256: String,
    #[schema(value_type = String, format = DateTime)]
    received: DateTime<Utc>,
    /// One of `unfinished`, `ready`, `active`, `retrying`, `held`, `done`, `quarantined`, `dead`, `cancelled`, `duplicate`,
    /// `superseded`.
    state: &'static str,
    /// Whether it waits for the end of maintenance.
    deferred: bool,
    /// When that ends, if it is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    resumes: Option<DateTime<Utc>>,
    /// What became of it and what is to be done, in a sentence.
    text: String,
    #[schema(value_type = String, format = DateTime)]
    updated: DateTime<Utc>,
}

/// A piece of a listing.
#[derive(Serialize, ToSchema)]
#[schema(as = Files)]
pub(super) struct PageBody {
    /// Newest first.
    files: Vec<FileBody>,
    /// The cursor for the next piece; none at the end.
    next: Option<String>,
}

impl From<Sent> for FileBody {
    fn from(sent: Sent) -> Self {
        Self {
            version: 1,
            id: sent.id.to_string(),
            name: sent.name,
            door: sent.door,
            bytes: sent.size_bytes,
            sha256: sent.sha256.to_string(),
            received: sent.received_at,
            state: sent.state,
            deferred: sent.is_deferred,
            resumes: sent.resumes_at,
            text: sent.text,
            updated: sent.updated_at,
        }
    }
}

/// Lists the files that were sent, newest first.
#[utoipa::path(
    get,
    path = "/v1/files",
    tag = "files",
    params(
        ("after" = Option<String>, Query, description = "the cursor of the piece before"),
        ("limit" = Option<usize>, Query, description = "the most files of a piece", minimum = 1, maximum = 1000),
    ),
    responses(
        (status = 200, description = "a piece of the listing; it may have fewer files than the limit although more come", body = PageBody),
        (status = 400, description = "the cursor is none of ours, or the limit is none", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "no login", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "not allowed", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "too many failed logins or sessions", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "maintenance", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("basic" = []), ("bearer" = []), ("certificate" = [])),
)]
pub(super) async fn list(login: Login, uri: Uri) -> Result<Answer, Problem> {
    let after = query::parameter(&uri, "after")?;
    let limit = match query::parameter(&uri, "limit")? {
        None => PAGE,
        Some(limit) => limit
            .parse()
            .ok()
            .filter(|limit| (1..=MOST).contains(limit))
            .ok_or_else(|| Problem::bad(format!("is no number from 1 to {MOST}")).of("limit"))?,
    };
    let page = login.partner.files.sent(after.as_deref(), limit).await?;
    let page = page.ok_or_else(|| Problem::bad("is no cursor of this listing").of("after"))?;
    let files = page.files.into_iter().map(FileBody::from).collect();
    Ok(answer::json_of(StatusCode::OK, &PageBody { files, next: page.next }))
}

/// Tells the state of one file.
#[utoipa::path(
    get,
    path = "/v1/files/{id}",
    tag = "files",
    params(("id" = String, Path, description = "the id that the receipt of the upload has")),
    responses(
        (status = 200, description = "the file", body = FileBody),
        (status = 401, description = "no login", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "not allowed", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "no such file of this partner", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "too many failed logins or sessions", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "maintenance", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("basic" = []), ("bearer" = []), ("certificate" = [])),
)]
pub(super) async fn one(_: State<Services>, login: Login, id: Option<Path<String>>) -> Result<Answer, Problem> {
    let id = id.and_then(|Path(id)| id.parse::<FileId>().ok()).ok_or(Refusal::NotFound)?;
    let sent = login.partner.files.sent_file(id).await?;
    Ok(answer::json_of(StatusCode::OK, &FileBody::from(sent)))
}
