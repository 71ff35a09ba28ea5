//! `GET /v1/out/`: receipts, the notice, and what lies for the partner.

use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::Services;
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
