//! `GET /v1/out/`: receipts, the notice, and what lies for the partner.

use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Services, openapi::Content, refusals::Refusals};
use crate::{
    doors::{
        core::paths,
        web::{
            answer::{self, Answer},
            exchange::{Login, Problem, ProblemBody, download},
        },
    },
    ingest::{Listed, OUT},
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
    operation_id = "listOut",
    tag = "out",
    responses(
        (status = 200, description = "the names", body = NamesBody,
            links(("content" = (operation_id = "fetchOut", parameters(("name" = "$response.body#/names/0/name")))))),
        Refusals,
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
    operation_id = "fetchOut",
    tag = "out",
    params(
        ("name" = String, Path, description = "the path below out/", min_length = 1, example = "NOTICE.txt"),
        ("Range" = Option<String>, Header, description = "one range of bytes (RFC 9110, 14.2); what is none is ignored", example = "bytes=0-99"),
    ),
    responses(
        (status = 200, description = "the file, in the type that its name tells; or the names of a folder", content(
            (Content = "application/octet-stream"), (String = "text/plain"), (serde_json::Value = "application/json"))),
        (status = 206, description = "the part that was asked for, in the type of the whole", headers(
            ("Content-Range" = String, description = "which part it is"))),
        (status = 404, description = "no such file", body = ProblemBody, content_type = "application/problem+json"),
        (status = 416, description = "the file has no such part", body = ProblemBody, content_type = "application/problem+json", headers(
            ("Content-Range" = String, description = "how long it is"))),
        Refusals,
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
    download::send(&login, file, &path, &headers)
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
