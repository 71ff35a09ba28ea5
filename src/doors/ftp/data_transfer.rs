//! The transfers of a session: a file received, a file sent, a listing sent.
//!
//! Each goes on in a task of its own, so that the control connection is heard all the time, and so that what has begun
//! to be kept is kept or taken back also when the client goes.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use tracing::warn;

use crate::{
    doors::core::{PartnerSession, words},
    ingest::Refusal,
};

use super::{
    confirmation::AcceptedFile,
    data::Opened,
    data_channel::{DataChannel, uncontested},
    data_handover::DataHandover,
    inner::Inner,
    listable::Listable,
    reply::Reply,
    upload::PendingUpload,
    wire::Wire,
};

/// The time for the inner server to begin.
const BEGIN_TIME: Duration = Duration::from_secs(10);
/// The time between two looks at whether it has.
const BEGIN_STEP: Duration = Duration::from_millis(50);

/// The end of a transfer, sent once to the control connection.
pub(super) enum Outcome {
    Stored(Box<AcceptedFile>),
    /// A download or listing was sent, with this many bytes.
    Sent(u64),
    Refused(Refusal),
    /// Refused before the client's connection was taken. It has to stay until the client has been told why: what it has
    /// sent is unread, and closing it now would be a reset, which some clients hear of first.
    Untaken(Refusal, Untaken),
    /// Nothing was transferred, and this is the reply.
    Told(Reply),
}

/// A data connection that nobody has taken; dropped, it is closed.
pub(super) struct Untaken {
    _opening: Box<dyn Send>,
}

/// Receives a file. The inner server has no part in it: the name has been looked at, and only `ingest` decides the
/// rest.
pub(super) async fn receive_file(
    partner: Arc<PartnerSession>,
    channel: DataChannel,
    file: PendingUpload,
    tell: oneshot::Sender<Outcome>,
) {
    let (transfer, link) = (channel.transfer.clone(), channel.link.clone());
    match channel.open().await {
        Ok(Opened { wire, port, .. }) => {
            // Nothing drops this future: the transfer goes on to its outcome also when the session
            // is gone.
            uncontested(port, &transfer, file.run(&partner, wire, &link, &transfer, tell)).await;
        }
        Err(reply) => {
            partner.ticket.doing("");
            file.intake.cut(&reply.text).await;
            let _ = tell.send(Outcome::Told(reply));
        }
    }
}

/// A download: libunftp opens the file and sends it over the client's data connection.
pub(super) struct Download {
    pub(super) partner: Arc<PartnerSession>,
    pub(super) channel: DataChannel,
    pub(super) path: String,
    pub(super) start: u64,
    /// Told when it is time for 150.
    pub(super) opened: oneshot::Sender<u64>,
}

impl Download {
    /// Sends the file, tells the outcome, and gives the inner session back if it is as it should be.
    ///
    /// The inner session is returned for the next command. It is `None` after a failure: then the
    /// next command opens a new one.
    pub(super) async fn run(self, inner: Option<Inner>, tell: oneshot::Sender<Outcome>) -> Option<Inner> {
        let partner = self.partner.clone();
        let (outcome, inner) = match self.send(inner).await {
            Ok((outcome, inner)) => (outcome, Some(inner)),
            Err(error) => {
                warn!(partner = %partner.info.partner, %error, "the inner server failed");
                (Outcome::Refused(Refusal::Internal(error.to_string())), None)
            }
        };
        partner.ticket.doing("");
        // The guard may have gone with the client.
        let _ = tell.send(outcome);
        let mut inner = inner?;
        // After the outcome was sent: the client need not wait for libunftp's own end of the
        // transfer.
        inner.triggered().await.is_ok().then_some(inner)
    }

    async fn send(self, inner: Option<Inner>) -> io::Result<(Outcome, Inner)> {
        let Self { partner, channel, path, start, opened } = self;
        let mut inner = ready(inner, &partner).await?;
        let ((give, wire), (done, sent)) = (oneshot::channel(), oneshot::channel());
        let handover = DataHandover { transfer: channel.transfer.clone(), start, opened, wire, done };
        begin(&mut inner, handover, &format!("RETR {path}")).await?;
        Ok((hand_over(channel, give, sent).await, inner))
    }
}

/// Returns an inner session with its data connection ready: the given one if it still works.
async fn ready(inner: Option<Inner>, partner: &Arc<PartnerSession>) -> io::Result<Inner> {
    if let Some(mut inner) = inner
        && inner.prepare().await.is_ok()
    {
        return Ok(inner);
    }
    let mut inner = Inner::open(partner).await?;
    inner.prepare().await?;
    Ok(inner)
}

/// Leaves the handover for libunftp, and waits until its backend has taken it.
///
/// # Errors
/// When that does not happen within `BEGIN_TIME`. The handover is taken back first, so that no
/// later command of the inner session can find it.
async fn begin(inner: &mut Inner, handover: DataHandover, line: &str) -> io::Result<()> {
    let state = inner.state().clone();
    state.hand_over(handover);
    let end = Instant::now() + BEGIN_TIME;
    if let Ok(Ok(())) = timeout(BEGIN_TIME, inner.trigger(line)).await {
        while state.has_handover() && Instant::now() < end {
            let _ = timeout(BEGIN_STEP, state.handover_taken()).await;
        }
    }
    match state.take_handover() {
        None => Ok(()),
        Some(_) => Err(io::Error::other("the inner server does not begin")),
    }
}

/// Gives the backend the client's connection when it comes, and waits until the file is sent.
///
/// A refusal (no such file) may come before the client's connection. Then the connection stays as
/// it is in [`Outcome::Untaken`] until the reply is written.
async fn hand_over(
    channel: DataChannel,
    give: oneshot::Sender<Wire>,
    mut sent: oneshot::Receiver<Result<u64, Refusal>>,
) -> Outcome {
    let transfer = channel.transfer.clone();
    let mut opening = Box::pin(channel.open());
    let sent = tokio::select! {
        biased;
        sent = &mut sent => match sent {
            Ok(Err(refused)) if !matches!(refused, Refusal::Cut(_)) => {
                return Outcome::Untaken(refused, Untaken { _opening: Box::new(opening) });
            }
            sent => sent,
        },
        wire = &mut opening => match wire {
            Ok(Opened { wire, port, .. }) => {
                // It may have been refused meanwhile.
                let _ = give.send(wire);
                uncontested(port, &transfer, sent).await
            }
            Err(reply) => {
                // Before the wait: the backend waits for the connection, and learns by this that
                // none comes.
                drop(give);
                let _ = sent.await;
                return Outcome::Told(reply);
            }
        },
    };
    match sent {
        Ok(sent) => sent.map_or_else(not_sent, Outcome::Sent),
        Err(_) => Outcome::Refused(Refusal::Internal("the inner server has dropped a download".to_owned())),
    }
}

/// Sends a listing. The inner server has no part in it.
pub(super) async fn send_listing(
    partner: Arc<PartnerSession>,
    channel: DataChannel,
    listable: Listable,
    tell: oneshot::Sender<Outcome>,
) {
    let outcome = listed(&partner, channel, listable).await;
    partner.ticket.doing("");
    let _ = tell.send(outcome);
}

async fn listed(partner: &PartnerSession, channel: DataChannel, listable: Listable) -> Outcome {
    let transfer = channel.transfer.clone();
    let Opened { mut wire, port, .. } = match channel.open().await {
        Ok(opened) => opened,
        Err(reply) => return Outcome::Told(reply),
    };
    let sending = async {
        tokio::select! {
            sent = listable.send(partner, &mut wire) => sent,
            (why, _) = transfer.cancelled() => Err(Refusal::Cut(why)),
        }
    };
    match uncontested(port, &transfer, sending).await {
        Ok(bytes) => {
            wire.finish().await;
            Outcome::Sent(bytes)
        }
        Err(refusal) => not_sent(refusal),
    }
}

/// The outcome of a download or listing that failed: what was cut there is no upload to be gone on with.
fn not_sent(refusal: Refusal) -> Outcome {
    match refusal {
        Refusal::Cut(why) => Outcome::Told(Reply::new(426, words::capitalised(&why))),
        refused => Outcome::Refused(refused),
    }
}
