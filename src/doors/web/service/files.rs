//! `GET /v1/files` and `/v1/files/{id}`: what became of the files that were sent, over any door.

use axum::extract::{Path, State};
use hyper::{StatusCode, Uri};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Services, refusals::Refusals};
use crate::{
    doors::web::{
        answer::{self, Answer},
        exchange::{FileBody, Login, Problem, ProblemBody, query},
    },
    ingest::{FileId, Refusal},
};

/// Files in one piece of a listing, unless fewer are asked for, and the most that can be asked for.
const PAGE: usize = 100;
const MOST: usize = 1000;

/// A piece of a listing.
#[derive(Serialize, ToSchema)]
#[schema(as = Files)]
pub(super) struct PageBody {
    /// Newest first.
    files: Vec<FileBody>,
    /// The cursor for the next piece; none at the end.
    next: Option<String>,
}

/// Lists the files that were sent, newest first.
#[utoipa::path(
    get,
    path = "/v1/files",
    operation_id = "listFiles",
    tag = "files",
    params(
        ("after" = Option<String>, Query, description = "the cursor of the piece before", min_length = 1),
        ("limit" = Option<usize>, Query, description = "the most files of a piece", minimum = 1, maximum = 1000),
    ),
    responses(
        (status = 200, description = "a piece of the listing; it may have fewer files than the limit although more come", body = PageBody,
            links(("state" = (operation_id = "fileState", parameters(("id" = "$response.body#/files/0/id")))))),
        Refusals,
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
    operation_id = "fileState",
    tag = "files",
    params(("id" = String, Path, format = "uuid", description = "the id that the receipt of the upload has")),
    responses(
        (status = 200, description = "the file", body = FileBody),
        (status = 404, description = "no such file of this partner", body = ProblemBody, content_type = "application/problem+json"),
        Refusals,
    ),
    security(("basic" = []), ("bearer" = []), ("certificate" = [])),
)]
pub(super) async fn one(_: State<Services>, login: Login, id: Option<Path<String>>) -> Result<Answer, Problem> {
    let id = id.and_then(|Path(id)| id.parse::<FileId>().ok()).ok_or(Refusal::NotFound)?;
    let sent = login.partner.files.sent_file(id).await?;
    Ok(answer::json_of(StatusCode::OK, &FileBody::from(sent)))
}
