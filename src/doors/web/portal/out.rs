//! What lies for the partner in `out/`.

use axum::extract::{Path, State};
use hyper::{HeaderMap, StatusCode, Uri};

use super::{Portal, Visit};
use crate::{
    doors::{
        core::paths,
        web::{
            answer::{self, Answer},
            dialect::Dialect,
            exchange::{Problem, download},
            local_time::LocalTime,
            pages::{Name, OutPage, Place, rendered},
        },
    },
    ingest::{Listed, OUT},
    units::{format_bytes, text::visible},
};

/// The most names on a page.
const MOST_NAMES: usize = 1_000;

/// The names in `out/`.
pub(super) async fn top(State(portal): State<Portal>, visit: Visit, uri: Uri) -> Answer {
    told(names(&portal, &visit, &format!("/{OUT}"), &uri).await)
}

/// A file of it; of a folder its names.
pub(super) async fn one(
    State(portal): State<Portal>,
    visit: Visit,
    name: Option<Path<String>>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    told(file_or_names(&portal, &visit, name, &uri, &headers).await)
}

fn told(answer: Result<Answer, Problem>) -> Answer {
    answer.unwrap_or_else(|problem| problem.told(Dialect::Html, "Not possible"))
}

async fn file_or_names(
    portal: &Portal,
    visit: &Visit,
    name: Option<Path<String>>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Answer, Problem> {
    let bad = || Problem::bad("this is no name of a file");
    let Path(name) = name.ok_or_else(bad)?;
    let path = paths::changed(&format!("/{OUT}"), name.trim_start_matches('/')).ok_or_else(bad)?;
    let files = &visit.login.partner.files;
    match files.stat(&path).await?.is_folder() {
        true => names(portal, visit, &path, uri).await,
        false => download::send(&visit.login, files.open(&path).await?, &path, headers),
    }
}

async fn names(portal: &Portal, visit: &Visit, path: &str, uri: &Uri) -> Result<Answer, Problem> {
    // Each receipt is on the page of its file.
    let is_without_receipts = path == format!("/{OUT}") && uri.query() != Some("receipts");
    let files = &visit.login.partner.files;
    let mut listing = match is_without_receipts {
        true => files.list_out_without_receipts().await,
        false => files.list(path).await?,
    };
    let (mut names, mut is_complete) = (Vec::new(), true);
    while let Some(page) = listing.next().await? {
        names.extend(page.into_iter().map(|listed| name(portal, path, listed)));
        if names.len() > MOST_NAMES {
            names.truncate(MOST_NAMES);
            is_complete = false;
            break;
        }
    }
    let up = path.rsplit_once('/').map(|(up, _)| up).filter(|up| !up.is_empty()).map(|up| format!("{up}/"));
    let page = OutPage {
        around: visit.around(portal, Place::Out),
        path: visible(path),
        up,
        names,
        is_complete,
        is_without_receipts,
    };
    Ok(answer::html(StatusCode::OK, rendered(&page)))
}

fn name(portal: &Portal, path: &str, Listed { name, stat }: Listed) -> Name {
    let is_folder = stat.is_folder();
    Name {
        url: format!("{path}/{name}{}", if is_folder { "/" } else { "" }),
        name: visible(&name),
        is_folder,
        size: format_bytes(stat.size_bytes),
        modified: LocalTime::new(stat.modified, portal.common.gate.zone()),
    }
}
