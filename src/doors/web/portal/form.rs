//! Small forms, `application/x-www-form-urlencoded`.

use std::time::Duration;

use axum::body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::{StatusCode, header::CONTENT_TYPE, http::request::Parts};
use tokio::time::timeout;

use crate::doors::web::exchange::Problem;

/// A name and a password, with room to spare.
const MOST_BYTES: usize = 16 << 10;

/// The fields of a form, as they came.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a form that is the body of a request.
    ///
    /// # Errors
    /// When it is another kind of body, is too long, or does not come in time.
    pub(super) async fn read(head: &Parts, body: Body, time: Duration) -> Result<Self, Problem> {
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let media = kind.split(';').next().unwrap_or_default().trim();
        if !media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the form has another type than that of the page",
            ));
        }
        let read = timeout(time, Limited::new(body, MOST_BYTES).collect()).await;
        let read = read.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the form came too slowly").closing())?;
        let bytes = read
            .map_err(|_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the form was cut, or is too long").closing())?;
        Ok(Self(form_urlencoded::parse(&bytes.to_bytes()).into_owned().collect()))
    }

    /// The value of a field; empty where it is missing or stands twice.
    pub(super) fn value(&self, name: &str) -> &str {
        let mut values = self.0.iter().filter(|(key, _)| key == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => value,
            _ => "",
        }
    }
}
