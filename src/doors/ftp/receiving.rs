//! An upload's bytes on their way from the data connection to `ingest`.
//!
//! Reading and writing overlap: while one buffer is hashed and written, the next is filled from the socket. Storage
//! bounds how many pieces it holds, so memory is bounded however large the file is.

use std::{io, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    doors::core::{PartnerSession, TransferTime, words},
    ingest::{Intake, Refusal},
    partners::{MemoryPermit, PartnerMemory},
};

use super::transfer::{Rest, Transfer};

const BUFFER_BYTES: usize = 256 << 10;
/// As many as storage gathers in two of its batches, and those on their way.
const BUFFERS: usize = 12;
/// Most files are small: what a file that fits in here costs is not 256 KiB.
const FIRST_BUFFER_BYTES: usize = 32 << 10;
/// The buffers of an upload whose partner has no more memory.
const SCARCE_BUFFER_BYTES: usize = 32 << 10;
/// Bytes that are read and dropped after a refusal, so that the client gets to read the reply instead of a reset.
const DRAIN_BYTES: u64 = 4 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// The time for the last bytes of a client that has gone: they are here already, or will not come.
const LAST_BYTES: Duration = Duration::from_millis(200);

/// The end of the data.
pub(super) enum Ending {
    /// At its end, as far as this connection tells.
    Closed { close_notify_missing: bool },
    /// It cannot be whole.
    Cut(String),
}

/// Moves bytes until the data ends. Everything that was read has been written when this returns an ending.
///
/// Memory is bounded: one piece is being filled, one is in the channel, and storage bounds how many
/// it holds. Not cancel safe: what was read and not yet written would be lost.
///
/// # Errors
/// The refusal of `ingest`, as soon as it comes. Bytes that are still to come are not read then.
pub(super) async fn pump<R>(
    partner: &PartnerSession,
    intake: &mut Intake,
    input: &mut R,
    transfer: &Transfer,
) -> Result<Ending, Refusal>
where
    R: AsyncRead + Send + Unpin,
{
    let (give, take) = mpsc::channel(1);
    let (time, buffers) = (partner.transfers.begin(), Buffers::new(partner.ticket.memory().clone()));
    let reading = Reader { partner, transfer, input, give, time, came: 0, buffers }.run();
    let writing = write_all(partner, intake, take);
    tokio::pin!(reading, writing);
    tokio::select! {
        // The reader is done, and what it has sent is still to be written: an ending means "all is
        // written".
        ending = &mut reading => {
            writing.await?;
            Ok(ending)
        }
        // The reader holds the other end until it is done, so this is a refusal.
        stopped = &mut writing => {
            stopped?;
            Ok(Ending::Cut("the upload stopped".to_owned()))
        }
    }
}

/// Bytes count for the session's ticket and its statistics when `ingest` has them, not when they
/// came.
async fn write_all(
    partner: &PartnerSession,
    intake: &mut Intake,
    mut take: mpsc::Receiver<Bytes>,
) -> Result<(), Refusal> {
    while let Some(chunk) = take.recv().await {
        let bytes = chunk.len() as u64;
        intake.write(chunk).await?;
        partner.ticket.add_bytes(bytes);
    }
    Ok(())
}

/// The reading half of an upload.
struct Reader<'a, R> {
    partner: &'a PartnerSession,
    transfer: &'a Transfer,
    input: &'a mut R,
    give: mpsc::Sender<Bytes>,
    time: TransferTime,
    came: u64,
    buffers: Buffers,
}

impl<R: AsyncRead + Send + Unpin> Reader<'_, R> {
    /// Reads buffer after buffer until the data ends.
    async fn run(mut self) -> Ending {
        loop {
            let (mut buffer, room) = self.buffers.next();
            let mut ending = self.fill_or_cancel(&mut buffer, room).await;
            self.came += buffer.len() as u64;
            // Bytes that were cut are not paid for in bandwidth: nobody waits for them.
            if !matches!(ending, Some(Ending::Cut(_))) {
                ending = self.throttle(buffer.len()).await.or(ending);
            }
            if !buffer.is_empty() && self.give.send(self.buffers.filled(buffer)).await.is_err() {
                return Ending::Cut("the upload was refused".to_owned());
            }
            if let Some(ending) = ending {
                return ending;
            }
        }
    }

    async fn fill_or_cancel(&mut self, buffer: &mut BytesMut, room: usize) -> Option<Ending> {
        let transfer = self.transfer;
        tokio::select! {
            biased;
            // Data before the cancel: what is in the socket already came before it.
            ending = self.fill(buffer, room) => ending,
            (why, rest) = transfer.cancelled() => {
                if rest == Rest::Kept {
                    self.keep_last(buffer).await;
                }
                Some(Ending::Cut(why))
            }
        }
    }

    /// Fills the buffer; how the data ended, if it did. A client that sends a byte now and then never stalls: the whole
    /// transfer has its time too.
    async fn fill(&mut self, buffer: &mut BytesMut, room: usize) -> Option<Ending> {
        while buffer.len() < room {
            let left = room - buffer.len();
            let mut rest = (&mut *buffer).limit(left);
            let read = self.input.read_buf(&mut rest);
            match self.partner.transfers.step(&self.time, self.came, read).await {
                Ok(Ok(0)) => return Some(Ending::Closed { close_notify_missing: false }),
                Ok(Ok(_)) => {}
                // rustls says so when the connection ends without close_notify; a plain one has no such error.
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Some(Ending::Closed { close_notify_missing: true });
                }
                Ok(Err(error)) => return Some(Ending::Cut(format!("the data connection failed: {error}"))),
                Err(overdue) => return Some(Ending::Cut(words::upload_overdue(overdue).to_owned())),
            }
        }
        None
    }

    /// Waits for the partner's bandwidth. What has come stands, and ends the transfer like any other moment when it is
    /// cancelled meanwhile.
    async fn throttle(&self, bytes: usize) -> Option<Ending> {
        tokio::select! {
            biased;
            () = self.partner.throttle(bytes as u64) => None,
            (why, _) = self.transfer.cancelled() => Some(Ending::Cut(why)),
        }
    }

    /// Takes what a sender that has gone had sent, in pieces that are written while the next comes.
    async fn keep_last(&mut self, buffer: &mut BytesMut) {
        let end = Instant::now() + DRAIN_TIME;
        while let Ok(Ok(Ok(1..))) = timeout_at(end, timeout(LAST_BYTES, self.input.read_buf(buffer))).await {
            if buffer.len() >= BUFFER_BYTES && self.give.send(buffer.split().freeze()).await.is_err() {
                return;
            }
        }
    }
}

/// Buffers whose memory is used again when what was sent of them has been written.
struct Buffers {
    spare: [BytesMut; BUFFERS],
    turn: usize,
    memory: PartnerMemory,
    /// For all of them, from the second on.
    permit: Option<MemoryPermit>,
}

impl Buffers {
    fn new(memory: PartnerMemory) -> Self {
        Self { spare: Default::default(), turn: 0, memory, permit: None }
    }

    fn next(&mut self) -> (BytesMut, usize) {
        if self.turn > 0 && self.permit.is_none() {
            // From the second buffer on, and asked once more for each while there was none: a file
            // of one small buffer costs no budget, and a long one gets its share as soon as some is
            // free.
            self.permit = self.memory.try_take_for_long(BUFFERS * BUFFER_BYTES);
        }
        let room = match (self.turn, &self.permit) {
            (0, _) => FIRST_BUFFER_BYTES,
            (_, Some(_)) => BUFFER_BYTES,
            (_, None) => SCARCE_BUFFER_BYTES,
        };
        let mut buffer = std::mem::take(&mut self.spare[self.turn % BUFFERS]);
        buffer.reserve(room);
        (buffer, room)
    }

    fn filled(&mut self, mut buffer: BytesMut) -> Bytes {
        let bytes = buffer.split().freeze();
        self.spare[self.turn % BUFFERS] = buffer;
        self.turn += 1;
        bytes
    }
}

/// Reads and drops what comes after a refusal, up to 4 MiB or two seconds. Then the socket can be
/// closed without a reset that would overtake the reply.
pub(super) async fn drain<R: AsyncRead + Send + Unpin>(input: &mut R) {
    let mut input = input.take(DRAIN_BYTES);
    // Whatever comes of it, the reply is the same.
    let _ = timeout(DRAIN_TIME, tokio::io::copy(&mut input, &mut tokio::io::sink())).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::partners::{Credentials, Limits, Partner, Partners, Policies, Policy};

    /// The memory of a partner that may have so much.
    fn memory(bytes: u64) -> PartnerMemory {
        let data = tempfile::tempdir().unwrap();
        let limits = Limits { memory_per_partner: bytes, ..Limits::default() };
        let policies = Policies::new(Policy::default(), &[]);
        let partners = Partners::open(data.path(), limits, policies, std::sync::Arc::new(SystemClock::new())).unwrap();
        let peer = "192.0.2.1:1".parse().unwrap();
        let (name, policy) = ("demo".parse().unwrap(), partners.policy("demo"));
        partners.add(&name, "secret", "").unwrap();
        let partner = Partner { name, policy, credentials: Credentials::default() };
        let ticket = partners.open_session(&partner, "ftp", peer).unwrap();
        ticket.memory().clone()
    }

    #[test]
    fn uploads_of_a_partner_without_memory_have_small_buffers() {
        let memory = memory(8 << 20);
        let mut uploads: Vec<_> = (0..4).map(|_| Buffers::new(memory.clone())).collect();
        let mut rooms = || {
            uploads.iter_mut().for_each(|buffers| buffers.turn = 1);
            uploads.iter_mut().map(|buffers| buffers.next().1).collect::<Vec<_>>()
        };
        assert_eq!(rooms(), [BUFFER_BYTES, BUFFER_BYTES, SCARCE_BUFFER_BYTES, SCARCE_BUFFER_BYTES]);
        uploads.remove(0);
        let last = uploads.last_mut().unwrap();
        assert_eq!(last.next().1, BUFFER_BYTES, "as soon as there is some");
    }

    #[test]
    fn buffers_are_used_again() {
        let mut buffers = Buffers::new(memory(8 << 20));
        let mut seen = std::collections::HashSet::new();
        for turn in 0..5 * BUFFERS {
            let (mut buffer, room) = buffers.next();
            buffer.put_bytes(7, room);
            let bytes = buffers.filled(buffer);
            if turn > BUFFERS {
                seen.insert(bytes.as_ptr());
            }
            drop(bytes);
        }
        assert!(seen.len() <= BUFFERS, "{} buffers were made", seen.len());
    }
}
