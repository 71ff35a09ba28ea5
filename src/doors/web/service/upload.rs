//! `POST /v1/files`: a file comes in.

use axum::{
    body::Body,
    extract::{Request, State},
};
use chrono::{DateTime, Utc};
use hyper::{
    HeaderMap, StatusCode,
    body::Body as _,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Services,
    login::Login,
    problem::{Problem, ProblemBody},
    query,
    receiving::{Gathered, Receiving},
    taking::{Key, Taking},
};
use crate::{
    doors::{
        core::PartnerSession,
        web::answer::{self, Answer},
    },
    http::{ContentDigest, Event, Multipart},
    ingest::{Accepted, Kept},
};

/// The header with the sentence about deferral.
const NOTICE: HeaderName = HeaderName::from_static("forebay-notice");
const FORM: &str = "multipart/form-data";

/// The receipt of an upload: what holds of the file for ever.
#[derive(Serialize, ToSchema)]
#[schema(as = Receipt)]
pub(super) struct ReceiptBody<'a> {
    version: u8,
    /// The id that the file is known by, here and to operators.
    #[schema(value_type = String, format = "uuid")]
    id: String,
    /// The path that it has, relative to the login directory.
    name: &'a str,
    /// Length in bytes.
    bytes: u64,
    /// Hexadecimal.
    sha256: String,
    #[schema(value_type = String, format = DateTime)]
    received: DateTime<Utc>,
    /// `ready`, or `unfinished` under a temporary name, or `held` until an operator has looked at it.
    state: &'static str,
    /// The same in a sentence.
    text: String,
}

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
/// stable storage, and in the queue. On any other answer nothing of it is kept. While processing is deferred the header
/// `Forebay-Notice` says until when.
#[utoipa::path(
    post,
    path = "/v1/files",
    tag = "files",
    params(
        ("name" = Option<String>, Query, description = "the path of the file, relative to the login directory; of a form by default the name of its file", max_length = 1024),
        ("Idempotency-Key" = Option<String>, Header, description = "names the upload for a day: sent again, the same file is not taken twice and has the same answer"),
        ("Content-Digest" = Option<String>, Header, description = "digests of the body (RFC 9530); sha-256 and sha-512 are checked"),
    ),
    request_body(content((Vec<u8> = "application/octet-stream"), (Form = "multipart/form-data"))),
    responses(
        (status = 201, description = "the file is kept", body = ReceiptBody, headers(
            ("Location" = String, description = "where its state is told"),
            ("Forebay-Notice" = String, description = "until when processing is deferred, if it is"))),
        (status = 400, description = "the request is none, its body was cut, or has another digest", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "no login", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "not allowed, or the quota is spent", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "the folder of that name is not there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "the body came too slowly", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "another upload of that name, or with that key, is under way", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "larger than the partner may send", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "the body has a content coding", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "the key was used for another file", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "too many failed logins, sessions or changes", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "maintenance (type about:blank), or nothing can be taken in at the moment (another type)", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("basic" = []), ("bearer" = []), ("certificate" = [])),
)]
pub(super) async fn upload(
    State(services): State<Services>,
    login: Login,
    request: Request,
) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    no_coding(&head.headers)?;
    let digests = head.headers.get_all("content-digest").iter().map(HeaderValue::as_bytes);
    let digest = ContentDigest::parse(digests).map_err(|error| Problem::bad(error.to_string()).of("Content-Digest"))?;
    let name = query::parameter(&head.uri, "name")?;
    let kind = text(&head.headers, &CONTENT_TYPE)?;
    let key = Key::claim(&login.partner, &head.headers).await?;
    let _transfer = login.caller.transfers.begin();
    let is_form = kind.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case(FORM));
    let accepted = match is_form {
        true => {
            let form = Multipart::new(kind).map_err(|error| Problem::bad(error.to_string()).of("Content-Type"))?;
            from_form(&login, name, form, body, digest, key).await?
        }
        false => {
            let name = name.ok_or_else(|| Problem::bad("is missing: it names the file").of("name"))?;
            raw(&login, &name, body, digest, key).await?
        }
    };
    Ok(created(&services, &login.partner, &accepted))
}

/// A body in a coding is another content than the file, and a part of one is no file.
fn no_coding(headers: &HeaderMap) -> Result<(), Problem> {
    if text(headers, &CONTENT_ENCODING)?.split(',').any(|coding| !is_identity(coding)) {
        let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the file as it is, in no content coding");
        let identity = HeaderValue::from_static("identity");
        return Err(problem.of("Content-Encoding").with(ACCEPT_ENCODING, identity));
    }
    match headers.contains_key(CONTENT_RANGE) {
        true => Err(Problem::bad("a file is sent whole").of("Content-Range")),
        false => Ok(()),
    }
}

fn is_identity(coding: &str) -> bool {
    coding.trim().is_empty() || coding.trim().eq_ignore_ascii_case("identity")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Problem> {
    let field = if *name == CONTENT_TYPE { "Content-Type" } else { "Content-Encoding" };
    let value = headers.get(name).map(HeaderValue::to_str).transpose();
    Ok(value.map_err(|_| Problem::bad("is no text").of(field))?.unwrap_or_default())
}

/// The body is the file.
async fn raw(login: &Login, name: &str, body: Body, digest: ContentDigest, key: Key) -> Result<Accepted, Problem> {
    let declared = body.size_hint().exact();
    let mut taking = Taking::begin(&login.partner, name, declared, key).await?;
    let mut receiving = Receiving::new(login, Box::pin(body.into_data_stream()), digest);
    match take_raw(&mut receiving, &mut taking).await {
        Ok(()) => finish(taking, receiving).await,
        Err(problem) => Err(discarded(taking, problem).await),
    }
}

async fn take_raw(receiving: &mut Receiving<'_>, taking: &mut Taking) -> Result<(), Problem> {
    let mut gathered = Gathered::default();
    while let Some(bytes) = receiving.next().await? {
        write(receiving, taking, &mut gathered, &bytes).await?;
    }
    write_rest(receiving, taking, gathered).await
}

async fn write(
    receiving: &mut Receiving<'_>,
    taking: &mut Taking,
    gathered: &mut Gathered,
    bytes: &bytes::Bytes,
) -> Result<(), Problem> {
    if let Some(piece) = gathered.add(bytes, receiving.piece_bytes()) {
        receiving.throttle(piece.len()).await;
        taking.write(piece).await?;
    }
    Ok(())
}

async fn write_rest(receiving: &mut Receiving<'_>, taking: &mut Taking, gathered: Gathered) -> Result<(), Problem> {
    if let Some(piece) = gathered.rest() {
        receiving.throttle(piece.len()).await;
        taking.write(piece).await?;
    }
    Ok(())
}

/// The one file of a form. Nothing is begun before its head is there, and nothing finished before the form is over.
async fn from_form(
    login: &Login,
    name: Option<String>,
    mut form: Multipart,
    body: Body,
    digest: ContentDigest,
    key: Key,
) -> Result<Accepted, Problem> {
    let mut receiving = Receiving::new(login, Box::pin(body.into_data_stream()), digest);
    let name = match (first_file(&mut receiving, &mut form).await?, name) {
        (_, Some(name)) | (name, None) => name,
    };
    let mut taking = Taking::begin(&login.partner, &name, None, key).await?;
    match take_form(&mut receiving, &mut form, &mut taking).await {
        Ok(()) => finish(taking, receiving).await,
        Err(problem) => Err(discarded(taking, problem).await),
    }
}

/// Reads up to the content of the file, and returns its name.
async fn first_file(receiving: &mut Receiving<'_>, form: &mut Multipart) -> Result<String, Problem> {
    let Event::Part(part) = event(receiving, form).await? else { return Err(not_one_file()) };
    if !part.is_plain {
        let what = "send the file as it is, in no transfer encoding";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, what).of("Content-Transfer-Encoding"));
    }
    part.file_name.ok_or_else(not_one_file)
}

async fn take_form(receiving: &mut Receiving<'_>, form: &mut Multipart, taking: &mut Taking) -> Result<(), Problem> {
    let mut gathered = Gathered::default();
    loop {
        match event(receiving, form).await? {
            Event::Content(bytes) => write(receiving, taking, &mut gathered, &bytes).await?,
            Event::PartOver => {}
            Event::Over => return write_rest(receiving, taking, gathered).await,
            Event::Part(_) | Event::Starved => return Err(not_one_file()),
        }
    }
}

fn not_one_file() -> Problem {
    Problem::bad("the form has to have exactly one file, and nothing else").of("file")
}

/// The next event of a form; its body must not end before its last boundary.
async fn event(receiving: &mut Receiving<'_>, form: &mut Multipart) -> Result<Event, Problem> {
    loop {
        match form.next_event().map_err(|error| Problem::bad(error.to_string()).of("file"))? {
            Event::Starved => match receiving.next().await? {
                Some(bytes) => form.push(&bytes),
                None => return Err(Problem::bad("the form ends before its last boundary").of("file")),
            },
            event => return Ok(event),
        }
    }
}

async fn finish(taking: Taking, receiving: Receiving<'_>) -> Result<Accepted, Problem> {
    match receiving.check().await {
        Ok(()) => taking.finish().await,
        Err(problem) => Err(discarded(taking, problem).await),
    }
}

async fn discarded(taking: Taking, problem: Problem) -> Problem {
    taking.discard().await;
    problem
}

/// 201, with the receipt. Its body is the same each time it is told.
fn created(services: &Services, partner: &PartnerSession, accepted: &Accepted) -> Answer {
    partner.ticket.doing("");
    let (state, text, deferral) = match accepted.kept() {
        Kept::Queued { route } => ("ready", "accepted".to_owned(), services.gate.deferral(&route)),
        Kept::Unfinished => ("unfinished", "accepted, it waits for its final name".to_owned(), None),
        Kept::Held { reason } => ("held", format!("accepted and held: {reason}"), None),
    };
    let receipt = ReceiptBody {
        version: 1,
        id: accepted.id.to_string(),
        name: accepted.name(),
        bytes: accepted.size_bytes,
        sha256: accepted.sha256.to_string(),
        received: accepted.received_at,
        state,
        text,
    };
    let mut answer = answer::json_of(StatusCode::CREATED, &receipt);
    let location = format!("/v1/files/{}", accepted.id);
    let told = [(LOCATION, Some(location)), (NOTICE, deferral)];
    for (name, value) in told.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        // Ids and times are a header's text.
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}
