//! Bytes on their way to a client, as fast as it takes them and the partner may fetch.

use std::{io, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tracing::debug;

use super::Login;
use crate::{
    doors::core::{EndRequests, PartnerSession, Shutdown, words},
    http::Transfer,
    ingest::OpenFile,
};

/// Bytes that are read at a time. A client must take so many before it counts as stalled.
const PIECE_BYTES: usize = 64 << 10;

/// A transfer to a client, with its session as long as it lasts.
pub(super) struct Sending {
    partner: Arc<PartnerSession>,
    ends: EndRequests,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    _transfer: Transfer,
}

impl Sending {
    /// Begins a transfer, and gives the body that its client reads.
    pub(super) fn begin(login: &Login) -> (Self, Body) {
        let (pieces, taken) = mpsc::channel(1);
        let mut ends = EndRequests::of(&login.caller.link);
        ends.logged_in(&login.partner);
        let transfer = login.caller.transfers.begin();
        let sending = Self { partner: Arc::clone(&login.partner), ends, pieces, _transfer: transfer };
        let body = stream::unfold(taken, |mut taken| async { Some((taken.recv().await?, taken)) });
        (sending, Body::from_stream(body))
    }

    /// Sends these bytes of a file, on a task of its own. Where it fails the body ends early, and the client sees that.
    pub(super) fn file(mut self, file: OpenFile, from: u64, length: u64) {
        tokio::spawn(async move {
            let work = self.pieces_of(file, from, length);
            if let Err(why) = work.await {
                self.cut(&why).await;
            }
        });
    }

    async fn pieces_of(&mut self, file: OpenFile, from: u64, length: u64) -> Result<(), String> {
        let (time, mut sent) = (self.partner.transfers.begin(), 0);
        while sent < length {
            let most = usize::try_from(length - sent).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let piece = file.read(from + sent, most).await.map_err(|refusal| refusal.to_string())?;
            if piece.is_empty() {
                return Err("the file is shorter than it was".to_owned());
            }
            let bytes = piece.len() as u64;
            self.piece(piece, &time, sent).await?;
            sent += bytes;
        }
        Ok(())
    }

    /// Sends one piece.
    async fn piece(&mut self, piece: Bytes, time: &crate::doors::core::TransferTime, sent: u64) -> Result<(), String> {
        let bytes = piece.len() as u64;
        if let Shutdown::Now(why) = self.ends.latest() {
            return Err(why.to_owned());
        }
        let step = self.partner.transfers.step(time, sent, self.pieces.send(Ok(piece)));
        step.await
            .map_err(|overdue| words::download_overdue(overdue).to_owned())?
            .map_err(|_| "the client is gone".to_owned())?;
        self.partner.ticket.add_bytes(bytes);
        self.partner.throttle(bytes).await;
        Ok(())
    }

    async fn cut(&self, why: &str) {
        debug!(partner = %self.partner.ticket.partner(), why, "a download ended early");
        // Who does not take it has gone.
        let _ = self.pieces.try_send(Err(io::Error::other(why.to_owned())));
    }
}
