//! A body on its way to `ingest`.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use hyper::StatusCode;

use super::{Login, Problem};
use crate::{
    doors::core::{EndRequests, Shutdown, TransferTime, words},
    http::ContentDigest,
    ingest::Refusal,
    partners::MemoryPermit,
};

/// Bytes that go on together.
const PIECE_BYTES: usize = 256 << 10;
/// The same where the partner has no more memory.
const SCARCE_PIECE_BYTES: usize = 32 << 10;
/// As many pieces as storage gathers in two of its batches, and those on their way.
const PIECES: usize = 12;

/// The bytes of a body as they come.
pub(super) type Frames = Pin<Box<dyn Stream<Item = Result<Bytes, axum::Error>> + Send>>;

/// A body that is being read: within the bounds of its session's transfers, and held against its Content-Digest.
pub(super) struct Receiving<'a> {
    login: &'a Login,
    frames: Frames,
    digest: ContentDigest,
    time: TransferTime,
    came: u64,
    ends: EndRequests,
    permit: Option<MemoryPermit>,
}

impl<'a> Receiving<'a> {
    /// Its time runs from now on.
    pub(super) fn new(login: &'a Login, frames: Frames, digest: ContentDigest) -> Self {
        let mut ends = EndRequests::of(&login.caller.link);
        ends.logged_in(&login.partner);
        let time = login.partner.transfers.begin();
        Self { login, frames, digest, time, came: 0, ends, permit: None }
    }

    /// The next bytes; none at the end of a body that is whole.
    ///
    /// # Errors
    /// When it is cut, stands still, takes too long, or the session has to end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let partner = &self.login.partner;
        let step = partner.transfers.step(&self.time, self.came, self.frames.next());
        let came = tokio::select! {
            biased;
            why = told_to_end(&mut self.ends) => return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).closing()),
            came = step => came,
        };
        let frame = came
            .map_err(|overdue| Problem::new(StatusCode::REQUEST_TIMEOUT, words::upload_overdue(overdue)).closing())?;
        let Some(frame) = frame else { return Ok(None) };
        let bytes = frame.map_err(|error| Problem::from(Refusal::Cut(error.to_string())).closing())?;
        self.came += bytes.len() as u64;
        self.digest.update(&bytes);
        partner.ticket.add_bytes(bytes.len() as u64);
        Ok(Some(bytes))
    }

    /// Waits until what came is within the partner's bandwidth.
    pub(super) async fn throttle(&mut self, bytes: usize) {
        self.login.partner.throttle(bytes as u64).await;
    }

    /// How many bytes are to go on together, by the memory that the partner has.
    pub(super) fn piece_bytes(&mut self) -> usize {
        if self.permit.is_none() && self.came > SCARCE_PIECE_BYTES as u64 {
            self.permit = self.login.partner.ticket.memory().try_take_for_long(PIECES * PIECE_BYTES);
        }
        if self.permit.is_some() { PIECE_BYTES } else { SCARCE_PIECE_BYTES }
    }

    /// Reads to the end what is no file any more, and holds all that came against the Content-Digest.
    ///
    /// # Errors
    /// When it is another content, or cut.
    pub(super) async fn check(mut self) -> Result<(), Problem> {
        while self.next().await?.is_some() {}
        match self.digest.is_right() {
            true => Ok(()),
            false => Err(Problem::bad("the content has another digest: nothing of it is kept").of("Content-Digest")),
        }
    }
}

/// Waits until the session is to end at once, and returns why. What is to end in its own time goes on.
async fn told_to_end(ends: &mut EndRequests) -> &'static str {
    loop {
        if let Shutdown::Now(why) = ends.latest() {
            return why;
        }
        ends.changed().await;
    }
}

/// Bytes that are gathered until they are worth a write.
#[derive(Debug, Default)]
pub(super) struct Gathered(BytesMut);

impl Gathered {
    /// Adds bytes, and gives all that there are when they are `enough`.
    pub(super) fn add(&mut self, bytes: &Bytes, enough: usize) -> Option<Bytes> {
        self.0.extend_from_slice(bytes);
        (self.0.len() >= enough).then(|| self.0.split().freeze())
    }

    /// What is left, if anything is.
    pub(super) fn rest(mut self) -> Option<Bytes> {
        (!self.0.is_empty()).then(|| self.0.split().freeze())
    }
}
