//! A file's bytes on their way to the client.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    time::{Instant, timeout},
};
use unftp_core::storage::{Metadata, StorageBackend};
use unftp_sbe_fs::Meta;

use crate::{doors::lasting::most_time, ingest::Refusal};

use super::{inner::User, login::Login, transfer::Transfer, wire::Wire};

const BUFFER_BYTES: usize = 64 << 10;

/// What is needed to send a file.
pub(super) struct Download {
    pub(super) login: Arc<Login>,
    pub(super) transfer: Arc<Transfer>,
    /// The first byte that is sent.
    pub(super) start: u64,
    /// Told when the file is open, with the bytes that will come: the time for 150.
    pub(super) opened: oneshot::Sender<u64>,
    /// The client's connection. None comes when the client did not.
    pub(super) wire: oneshot::Receiver<Wire>,
    pub(super) done: oneshot::Sender<Result<u64, Refusal>>,
}

impl Download {
    pub(super) async fn run(self, user: &User, path: &Path) -> Result<u64, Refusal> {
        let Self { login, transfer, start, opened, wire, done } = self;
        let cancelled = transfer.clone();
        let sent = tokio::select! {
            sent = serve(&login, user, path, start, opened, wire) => sent,
            (why, _) = cancelled.cancelled() => Err(Refusal::Cut(why)),
        };
        login.ticket.doing("");
        // The guard may have gone; the inner server is told all the same.
        let _ = done.send(sent.clone());
        sent
    }
}

async fn serve(
    login: &Login,
    user: &User,
    path: &Path,
    start: u64,
    opened: oneshot::Sender<u64>,
    wire: oneshot::Receiver<Wire>,
) -> Result<u64, Refusal> {
    let there: Meta = login.view.metadata(user, path.to_owned()).await.map_err(|_| Refusal::NotFound)?;
    if !there.is_file() {
        return Err(Refusal::Denied("is not a file".to_owned()));
    }
    if start > there.len() {
        return Err(Refusal::CannotResume { at: start, have: there.len() });
    }
    let file = StorageBackend::<User>::get(&login.view, user, path.to_owned(), start).await;
    let mut file = file.map_err(|_| Refusal::NotFound)?;
    // Gone: nobody asks any more.
    let _ = opened.send(there.len() - start);
    let mut wire = wire.await.map_err(|_| Refusal::Cut("there was no data connection".to_owned()))?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (began, mut paced, mut sent) = (Instant::now(), Duration::ZERO, 0);
    loop {
        let count = file.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        within(login.stalled, wire.write_all(&buffer[..count])).await?;
        sent += count as u64;
        login.ticket.add_bytes(count as u64);
        let before = Instant::now();
        login.ticket.pace(count as u64).await;
        paced += before.elapsed();
        if began.elapsed().saturating_sub(paced) > most_time(login.longest_per_gib, sent) {
            return Err(Refusal::Cut("the transfer took too long".to_owned()));
        }
    }
    within(login.stalled, wire.flush()).await?;
    wire.finish().await;
    Ok(sent)
}

/// Waits for the client to take data.
pub(super) async fn within(patience: Duration, work: impl Future<Output = std::io::Result<()>>) -> Result<(), Refusal> {
    match timeout(patience, work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Refusal::Cut(format!("the data connection failed: {error}"))),
        Err(_) => Err(Refusal::Cut("the client takes no data".to_owned())),
    }
}
