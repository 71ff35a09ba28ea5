//! A download on the client's own data connection, which the guard hands over to the backend.
//!
//! Bytes are copied once, from `ingest` to the client: libunftp opens the file and says when, but
//! its own data connection to the guard stays empty. Uploads and listings do not come this way.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{doors::core::PartnerSession, ingest::Refusal};

use super::{download, transfer::Transfer, wire::Wire};

/// The client's data connection, and what the guard wants to know of the download.
pub(super) struct DataHandover {
    pub(super) transfer: Arc<Transfer>,
    /// The first byte that is sent.
    pub(super) start: u64,
    /// Told when the file is open, with the bytes that will come: the time for 150.
    pub(super) opened: oneshot::Sender<u64>,
    /// The client's connection. None comes when the client did not.
    pub(super) wire: oneshot::Receiver<Wire>,
    pub(super) done: oneshot::Sender<Result<u64, Refusal>>,
}

impl DataHandover {
    /// Sends the file over it.
    pub(super) async fn send(self, partner: &PartnerSession, path: &str) -> Result<u64, Refusal> {
        let Self { transfer, start, opened, wire, done } = self;
        let sent = tokio::select! {
            sent = send(partner, path, start, opened, wire) => sent,
            (why, _) = transfer.cancelled() => Err(Refusal::Cut(why)),
        };
        // The guard may have gone; the inner server is told all the same.
        let _ = done.send(sent.clone());
        sent
    }
}

async fn send(
    partner: &PartnerSession,
    path: &str,
    start: u64,
    opened: oneshot::Sender<u64>,
    wire: oneshot::Receiver<Wire>,
) -> Result<u64, Refusal> {
    let file = download::open(partner, path, start).await?;
    // Gone: nobody asks any more.
    // Before the connection is awaited: 150 tells the client that the file exists, and many clients
    // finish TLS on the data connection only then.
    let _ = opened.send(file.stat().size_bytes - start);
    let mut wire = wire.await.map_err(|_| Refusal::Cut("there was no data connection".to_owned()))?;
    let sent = download::send(partner, &file, start, &mut wire).await?;
    wire.finish().await;
    Ok(sent)
}
