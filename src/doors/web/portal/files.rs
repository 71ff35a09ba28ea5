//! The files that a partner has sent, over any door.

use axum::extract::{Path, Request, State};
use hyper::{
    StatusCode, Uri,
    header::{CONTENT_DISPOSITION, HeaderValue},
};

use super::{Portal, Visit, sign_in};
use crate::{
    doors::web::{
        answer::{self, Answer},
        context::Caller,
        dialect::Dialect,
        exchange::{FileBody, Problem, query},
        pages::{File, FilePage, FilesPage, Place, rendered},
    },
    ingest::{FileId, Refusal, Sent},
};

/// Files on a page.
const PAGE: usize = 25;
/// How often an empty piece of the list is gone over before the page shows what there is.
const MOST_PIECES: usize = 40;
const TITLE: &str = "Not possible";

/// The list for a partner, and the status with the form to sign in for anybody else.
pub(super) async fn home(State(portal): State<Portal>, request: Request) -> Answer {
    let (head, _) = request.into_parts();
    let dialect = Dialect::of_request(&head);
    if dialect != Dialect::Html {
        return portal.faces.status_in(dialect);
    }
    let page = match Visit::of(&portal, &head) {
        Ok(Some(visit)) => list(&portal, &visit, &head.uri).await,
        Ok(None) => Caller::of(&head).map(|caller| sign_in::page(&portal, &caller, None)),
        Err(problem) => Err(problem),
    };
    page.map_or_else(|problem| problem.told(dialect, TITLE), |page| answer::html(StatusCode::OK, page))
}

async fn list(portal: &Portal, visit: &Visit, uri: &Uri) -> Result<String, Problem> {
    let mut after = query::parameter(uri, "after")?;
    let is_first = after.is_none();
    let mut files = Vec::new();
    // A piece may have no file of the partner's although more come.
    for _ in 0..MOST_PIECES {
        let page = visit.login.partner.files.sent(after.as_deref(), PAGE - files.len()).await?;
        let page = page.ok_or_else(|| Problem::bad("is no place in this list").of("after"))?;
        files.extend(page.files);
        after = page.next;
        if files.len() >= PAGE || after.is_none() {
            break;
        }
    }
    let zone = portal.common.gate.zone();
    let files = files.into_iter().map(|sent| File::new(sent, zone)).collect();
    let largest = portal.common.partners.policy(visit.login.partner.info.partner.as_str()).max_file_bytes;
    Ok(rendered(&FilesPage { around: visit.around(portal, Place::Files), files, is_first, next: after, largest }))
}

/// One file.
pub(super) async fn one(State(portal): State<Portal>, visit: Visit, id: Option<Path<String>>, uri: Uri) -> Answer {
    match sent(&visit, id).await {
        Ok(sent) => page(&portal, &visit, sent, StatusCode::OK, uri.query() == Some("kept")),
        Err(problem) => problem.told(Dialect::Html, TITLE),
    }
}

/// The page of a file.
pub(super) fn page(portal: &Portal, visit: &Visit, sent: Sent, status: StatusCode, is_new: bool) -> Answer {
    let file = File::new(sent, portal.common.gate.zone());
    answer::html(status, rendered(&FilePage { around: visit.around(portal, Place::Files), file, is_new }))
}

/// Its receipt as it stands, for programs.
pub(super) async fn receipt(visit: Visit, id: Option<Path<String>>) -> Answer {
    match sent(&visit, id).await {
        Ok(sent) => {
            let mut answer = answer::json_of(StatusCode::OK, &FileBody::from(sent));
            answer.headers_mut().insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
            answer
        }
        Err(problem) => problem.told(Dialect::Html, TITLE),
    }
}

async fn sent(visit: &Visit, id: Option<Path<String>>) -> Result<Sent, Problem> {
    let id = id.and_then(|Path(id)| id.parse::<FileId>().ok()).ok_or(Refusal::NotFound)?;
    Ok(visit.login.partner.files.sent_file(id).await?)
}
