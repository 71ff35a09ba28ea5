//! The receipt of a file: when it is kept, and as it stands later.

use chrono::{DateTime, Utc};
use hyper::{
    StatusCode,
    header::{HeaderName, HeaderValue, LOCATION},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    doors::{
        core::{DoorContext, PartnerSession},
        web::answer::{self, Answer},
    },
    ingest::{Accepted, Kept, Sent},
};

/// The header with the sentence about deferral.
const NOTICE: HeaderName = HeaderName::from_static("forebay-notice");

/// The receipt of an upload: what holds of the file for ever.
#[derive(Serialize, ToSchema)]
#[schema(as = Receipt)]
pub(in crate::doors::web) struct ReceiptBody<'a> {
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

/// A file as its partner is told of it: its receipt as it stands.
#[derive(Serialize, ToSchema)]
#[schema(as = File)]
pub(in crate::doors::web) struct FileBody {
    version: u8,
    #[schema(value_type = String, format = "uuid")]
    id: String,
    /// The path that it has, relative to the login directory.
    name: String,
    /// The door that it came through.
    door: String,
    /// Length in bytes.
    bytes: u64,
    /// Hexadecimal.
    sha256: String,
    #[schema(value_type = String, format = DateTime)]
    received: DateTime<Utc>,
    /// One of `unfinished`, `ready`, `active`, `retrying`, `held`, `done`, `quarantined`, `dead`, `cancelled`, `duplicate`,
    /// `superseded`.
    state: &'static str,
    /// Whether it waits for the end of maintenance.
    deferred: bool,
    /// When that ends, if it is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    resumes: Option<DateTime<Utc>>,
    /// What became of it and what is to be done, in a sentence.
    text: String,
    #[schema(value_type = String, format = DateTime)]
    updated: DateTime<Utc>,
}

impl From<Sent> for FileBody {
    fn from(sent: Sent) -> Self {
        Self {
            version: 1,
            id: sent.id.to_string(),
            name: sent.name,
            door: sent.door,
            bytes: sent.size_bytes,
            sha256: sent.sha256.to_string(),
            received: sent.received_at,
            state: sent.state,
            deferred: sent.is_deferred,
            resumes: sent.resumes_at,
            text: sent.text,
            updated: sent.updated_at,
        }
    }
}

/// 201, with the receipt. Its body is the same each time it is told. `files` is the path below which the state of files is
/// told.
pub(in crate::doors::web) fn created(
    context: &DoorContext,
    partner: &PartnerSession,
    accepted: &Accepted,
    files: &str,
) -> Answer {
    partner.ticket.doing("");
    let (state, text, deferral) = match accepted.kept() {
        Kept::Queued { route } => ("ready", "accepted".to_owned(), context.gate.deferral(&route)),
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
    let location = format!("{files}/{}", accepted.id);
    let told = [(LOCATION, Some(location)), (NOTICE, deferral)];
    for (name, value) in told.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        // Ids and times are a header's text.
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}
