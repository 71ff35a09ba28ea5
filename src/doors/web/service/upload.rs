//! `POST /v1/files`: a file comes in.

use axum::extract::{Request, State};
use utoipa::ToSchema;

use super::{Services, openapi::Content, refusals::Refusals};
use crate::doors::web::{
    answer::Answer,
    exchange::{Login, Problem, ProblemBody, ReceiptBody, body, receipt},
};

/// The form of an upload from a browser.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read piece by piece")]
pub(super) struct Form {
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// Takes a file.
///
/// The body is the file, whatever its Content-Type is, or a form with exactly one file. 201 means that it is kept: on
/// stable storage, and in the queue. On any other answer nothing of it is kept; only with
/// `urn:forebay:stopped` that is not known before the server runs again. While processing is deferred the header
/// `Forebay-Notice` says until when.
#[utoipa::path(
    post,
    path = "/v1/files",
    operation_id = "upload",
    tag = "files",
    params(
        ("name" = Option<String>, Query, description = "the path of the file, relative to the login directory; of a form by default the name of its file", min_length = 1, max_length = 1024, example = "batch.hl7"),
        ("Idempotency-Key" = Option<String>, Header, description = "names the upload for a day: sent again, the same file is not taken twice and has the same answer", pattern = r#"^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-+\--:<-~]{1,255})$"#, example = "\"batch-1\""),
        ("Content-Digest" = Option<String>, Header, description = "digests of the body (RFC 9530); sha-256 and sha-512 are checked", pattern = r"^[a-z0-9_.*-]+=:[A-Za-z0-9+/]*={0,2}:(, ?[a-z0-9_.*-]+=:[A-Za-z0-9+/]*={0,2}:)*$"),
    ),
    request_body(content((Content = "application/octet-stream"), (Form = "multipart/form-data"))),
    responses(
        (status = 201, description = "the file is kept", body = ReceiptBody, headers(
            ("Location" = String, description = "where its state is told"),
            ("Forebay-Notice" = String, description = "until when processing is deferred, if it is")),
            links(("state" = (operation_id = "fileState", parameters(("id" = "$response.body#/id")))))),
        (status = 404, description = "the folder of that name is not there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "the body came too slowly", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "another upload of that name, or with that key, is under way", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "larger than the partner may send", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "the body has a content coding", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "the key was used for another file", body = ProblemBody, content_type = "application/problem+json"),
        Refusals,
    ),
    security(("basic" = []), ("bearer" = []), ("certificate" = [])),
)]
pub(super) async fn upload(
    State(services): State<Services>,
    login: Login,
    request: Request,
) -> Result<Answer, Problem> {
    let accepted = body::take(&login, request).await?;
    Ok(receipt::created(&services, &login.partner, &accepted, "/v1/files"))
}
