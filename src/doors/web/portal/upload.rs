//! A file comes in from a page: by its script, which asks for JSON, or by its form.

use axum::extract::{Request, State};
use hyper::{StatusCode, header::HeaderValue};

use super::{Portal, Visit, files};
use crate::{
    doors::web::{
        answer::{self, Answer},
        dialect::Dialect,
        exchange::{body, receipt},
    },
    ingest::Accepted,
};

/// The title of whatever is told when an upload fails.
pub(super) const NOT_KEPT: &str = "Not kept";

/// Takes a file.
pub(super) async fn upload(State(portal): State<Portal>, visit: Visit, request: Request) -> Answer {
    let (head, body) = request.into_parts();
    let dialect = Dialect::of_request(&head);
    match body::take(&visit.login, Request::from_parts(head, body)).await {
        Ok(accepted) if dialect == Dialect::Html => kept(&portal, &visit, &accepted).await,
        Ok(accepted) => receipt::created(&portal.common, &visit.login.partner, &accepted, "/files"),
        Err(problem) => problem.told(dialect, NOT_KEPT),
    }
}

/// The file's page; told at once where the gate may be closed before another request could be answered.
async fn kept(portal: &Portal, visit: &Visit, accepted: &Accepted) -> Answer {
    let place = format!("/files/{}?kept", accepted.id);
    match (portal.faces.may_be_closed_next(), HeaderValue::from_str(&place)) {
        (false, Ok(place)) => answer::see_other(place),
        _ => match visit.login.partner.files.sent_file(accepted.id).await {
            Ok(sent) => files::page(portal, visit, sent, StatusCode::CREATED, true),
            // It is kept whatever can be read now.
            Err(_) => receipt::created(&portal.common, &visit.login.partner, accepted, "/files"),
        },
    }
}
