//! The file in the body of a request: the body itself, or the one file of a form.

use axum::{body::Body, extract::Request};
use hyper::{
    HeaderMap, StatusCode,
    body::Body as _,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue},
};

use super::{
    Login, Problem, query,
    receiving::{Gathered, Receiving},
    taking::{Key, Taking},
};
use crate::{
    http::{ContentDigest, Event, Multipart},
    ingest::Accepted,
};

const FORM: &str = "multipart/form-data";

/// Takes the file that a request has, whatever its Content-Type is, or that of its form.
///
/// # Errors
/// When nothing of it is kept.
pub(in crate::doors::web) async fn take(login: &Login, request: Request) -> Result<Accepted, Problem> {
    let (head, body) = request.into_parts();
    no_coding(&head.headers)?;
    let digests = head.headers.get_all("content-digest").iter().map(HeaderValue::as_bytes);
    let digest = ContentDigest::parse(digests).map_err(|error| Problem::bad(error.to_string()).of("Content-Digest"))?;
    let name = query::parameter(&head.uri, "name")?;
    let kind = text(&head.headers, &CONTENT_TYPE)?;
    let key = Key::claim(&login.partner, &head.headers).await?;
    let _transfer = login.caller.transfers.begin();
    let is_form = kind.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case(FORM));
    match is_form {
        true => {
            let form = Multipart::new(kind).map_err(|error| Problem::bad(error.to_string()).of("Content-Type"))?;
            from_form(login, name, form, body, digest, key).await
        }
        false => {
            let name = name.ok_or_else(|| Problem::bad("is missing: it names the file").of("name"))?;
            raw(login, &name, body, digest, key).await
        }
    }
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
